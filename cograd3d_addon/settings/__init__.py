"""What the panel's choices mean for a run, as plain values. No bpy.

`controls` says which settings there are and how each is shown; `overrides` holds those the user changed and what is in effect; `models` and
`methods` say which of these there are, `consent` what may be fetched; `choices` turns the whole panel into a request and back; `words`
helps with prompts, `history` remembers them, `remedies` says what can be done about an error, `wording` how numbers and long texts are
shown.
"""
