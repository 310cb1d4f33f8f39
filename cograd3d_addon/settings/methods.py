"""The methods that can be chosen, in words. No bpy."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache

from ...backend import settings

NAMES = {
    "cograd3d": ("CoGrad3D", 0),
    "cograd3d-literal": ("CoGrad3D, to the Letter", 1),
    "annealed-only": ("Plain", 2),
    "dreamfusion": ("DreamFusion", 3),
    "perpneg": ("Perp-Neg", 4),
    "hifa": ("HiFA", 5),
    "textmesh": ("TextMesh", 6),
    "gaussiandreamer": ("GaussianDreamer", 7),
    "luciddreamer": ("LucidDreamer", 8),
    "consistent3d": ("Consistent3D", 9),
    "scaledreamer": ("ScaleDreamer", 10),
}
"""The presets by the names that people know, in the order of the menu, each with the number that .blend files know it by: a number is never
changed and never given again. Presets that are not here come after them by the names of their files.
"""


@dataclass(frozen=True)
class Method:
    """A method as the panel shows it.

    Attributes:
        name: of its preset.
        label: its name in the menu.
        number: what .blend files know it by.
        description: one line.
        details: where it comes from, and what is otherwise here; empty where it says nothing.
    """

    name: str
    label: str
    number: int
    description: str
    details: tuple[str, ...]


@cache
def methods() -> dict[str, Method]:
    """All methods by the names of their presets, in the order of the menu."""
    described = settings.presets("method")
    first = [name for name in NAMES if name in described]
    return {name: _method(name) for name in [*first, *(name for name in described if name not in NAMES)]}


def _method(name: str) -> Method:
    told = settings.method_information(name)
    details = (told.source and f"From: {told.source}.", told.approximates and f"Otherwise here: {told.approximates}")
    label, number = NAMES.get(name) or (name, _number_of_stranger(name))
    return Method(name, label, number, told.description, tuple(text for text in details if text))


def _number_of_stranger(name: str) -> int:
    """A number that depends on the name alone, far above those that are given out: a file that somebody added is to keep its own."""
    return 2**24 + zlib.crc32(name.encode()) % 2**24
