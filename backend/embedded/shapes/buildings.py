"""The house."""

from __future__ import annotations

from collections.abc import Callable

from .animals import SIDES
from .builder import Builder


def _window(b: Builder, x: float, y: float, z: float, width: float, height: float, depth: float = 0.05) -> None:
    """A framed window with a cross in the wall that faces along y."""
    b.box("white", (x, y, z), (width + 0.09, depth, height + 0.09))
    b.box("sky", (x, y, z), (width, depth + 0.02, height))
    b.box("white", (x, y, z), (0.035, depth + 0.04, height))
    b.box("white", (x, y, z), (width, depth + 0.04, 0.035))


def house(b: Builder) -> None:
    """A cottage: door, porch and two windows in front, a bare wall with one small window behind."""
    b.slab("primary", [(-0.70, 0.0), (0.70, 0.0), (0.70, 1.0), (0.0, 1.62), (-0.70, 1.0)], 1.20)
    for s in SIDES:
        slope = [(0.0, 1.62), (0.0, 1.76), (0.90 * s, 0.86), (0.90 * s, 0.98)]
        b.slab("brick", slope, 1.48)
    b.box("steel", (0.42, 0.22, 1.52), (0.24, 0.24, 0.52))
    b.box("brick", (0.42, 0.22, 1.80), (0.30, 0.30, 0.07))
    b.box("grey", (0, 0, 0.05), (1.50, 1.30, 0.10))
    b.box("brown", (0, -0.61, 0.42), (0.36, 0.08, 0.72))
    b.box("white", (0, -0.605, 0.44), (0.46, 0.06, 0.78))
    b.sphere("yellow", (0.11, -0.67, 0.42), 0.04, detail=2)
    b.box("grey", (0, -0.78, 0.05), (0.56, 0.34, 0.10))
    b.slab("brick", [(-0.34, 0.86), (0.34, 0.86), (0.0, 1.08)], 0.40, (0, -0.74, 0))
    for s in SIDES:
        b.tube("white", [(0.27 * s, -0.88, 0.10), (0.27 * s, -0.88, 0.88)], 0.035, sections=10)
        _window(b, 0.47 * s, -0.60, 0.60, 0.24, 0.34)
        b.box("white", (0.70 * s, 0.0, 0.60), (0.05, 0.47, 0.43))
        b.box("sky", (0.70 * s, 0.0, 0.60), (0.07, 0.38, 0.34))
        b.box("white", (0.70 * s, 0.0, 0.60), (0.09, 0.035, 0.34))
        b.box("green", (0.52 * s, -0.72, 0.16), (0.36, 0.16, 0.18), rounding=0.07)
    b.cylinder("sky", (0, -0.60, 1.26), 0.13, 0.06, (90, 0, 0))
    b.torus("white", (0, -0.62, 1.26), 0.13, 0.03, (90, 0, 0))
    _window(b, 0, 0.60, 0.66, 0.26, 0.26)


BUILDINGS: dict[str, Callable[[Builder], None]] = {"house": house}
