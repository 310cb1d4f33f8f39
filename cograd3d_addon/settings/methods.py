"""The methods that can be chosen, in words. No bpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ...backend import settings

NAMES = {
    "cograd3d": "CoGrad3D",
    "cograd3d-literal": "CoGrad3D, to the Letter",
    "annealed-only": "Plain",
    "dreamfusion": "DreamFusion",
    "perpneg": "Perp-Neg",
    "hifa": "HiFA",
    "textmesh": "TextMesh",
    "gaussiandreamer": "GaussianDreamer",
    "luciddreamer": "LucidDreamer",
    "consistent3d": "Consistent3D",
    "scaledreamer": "ScaleDreamer",
}
"""The presets by the names that people know, in the order of the menu; others come after them by the names of their files."""


@dataclass(frozen=True)
class Method:
    """A method as the panel shows it.

    Attributes:
        name: of its preset.
        label: its name in the menu.
        description: one line.
        details: where it comes from, and what is otherwise here; empty where it says nothing.
    """

    name: str
    label: str
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
    return Method(name, NAMES.get(name, name), told.description, tuple(text for text in details if text))
