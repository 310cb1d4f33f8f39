"""Text in panels."""

import textwrap

import bpy

_LETTER_WIDTH = 6.2
"""Pixels of an average letter of the interface's font at scale 1."""


def draw_paragraph(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, *, icon: str = "NONE") -> None:
    """A text of any length, broken into lines as wide as the region: a label alone would be cut in its middle."""
    letter = (context.preferences.system.ui_scale or 1.0) * _LETTER_WIDTH  # 0 without a screen
    letters = max(20, int((context.region.width if context.region else 400) / letter) - (10 if icon == "NONE" else 13))
    column = layout.column(align=True)
    for index, line in enumerate(textwrap.wrap(text, letters, break_long_words=True) or [""]):
        column.label(text=line, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"))
