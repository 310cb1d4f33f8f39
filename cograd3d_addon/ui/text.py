"""Text in panels."""

import textwrap
import unicodedata

import bpy

_LETTER_WIDTH = 6.2
"""Pixels of an average letter of the interface's font at scale 1."""

_FILLER = "\0"
"""Stands beside a letter that is as wide as two while a text is broken into lines."""


def draw_paragraph(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, *, icon: str = "NONE", width: int = 0) -> None:
    """A text of any length, broken into lines: a label alone would be cut in its middle.

    Args:
        width: of the dialog that it is for, as `invoke_props_dialog` was given it: in a dialog the context has the region that it was
            opened from. 0: as wide as the region.
    """
    scale = context.preferences.system.ui_scale or 1.0  # 0 without a screen
    pixels = width * scale or (context.region.width if context.region else 400)
    letters = max(20, int(pixels / (scale * _LETTER_WIDTH)) - (10 if icon == "NONE" else 13))
    column = layout.column(align=True)
    for index, line in enumerate(_lines(text, letters) or [""]):
        column.label(text=line, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


def _lines(text: str, letters: int) -> list[str]:
    """A text broken into lines of at most so many letters; Chinese, Japanese and Korean ones count as two."""
    spread = "".join(letter + _FILLER if unicodedata.east_asian_width(letter) in "FW" else letter for letter in text)
    return [line.replace(_FILLER, "") for line in textwrap.wrap(spread, letters, break_long_words=True)]
