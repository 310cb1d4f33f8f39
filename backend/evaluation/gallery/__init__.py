"""The gallery: every method, or every ablation, on a fixed list of prompts of the built-in world, measured against the truth.

`prompts` and `variants` say what is run, `runs` plans and does it, `measures` measures a result, `records` keeps the figures,
`statistics` compares them and `report` writes them up. The command is `command`.
"""
