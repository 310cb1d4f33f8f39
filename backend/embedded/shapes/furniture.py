"""Things that stand in a room: chair and television."""

from __future__ import annotations

from collections.abc import Callable

from .animals import SIDES
from .builder import Builder


def chair(b: Builder) -> None:
    """A kitchen chair with a cushion."""
    b.box("primary", (0, 0, 0.74), (1.0, 0.98, 0.12), rounding=0.05)
    b.box("cream", (0, -0.05, 0.83), (0.82, 0.78, 0.12), rounding=0.055)
    b.box("primary", (0, 0.50, 1.74), (0.94, 0.11, 0.24), (-6, 0, 0), rounding=0.05)
    b.box("primary", (0, 0.44, 1.06), (0.84, 0.08, 0.12), (-6, 0, 0), rounding=0.035)
    for x in (-0.22, 0.0, 0.22):
        b.tube("primary", [(x, 0.445, 1.0), (x, 0.495, 1.70)], 0.045, sections=10)
    for s in SIDES:
        b.tube("primary", [(0.43 * s, 0.42, 0.72), (0.43 * s, 0.51, 1.82)], [0.075, 0.065])
        b.tube("brown", [(0.41 * s, -0.39, 0.72), (0.45 * s, -0.44, 0.04)], [0.075, 0.05])
        b.tube("brown", [(0.41 * s, 0.40, 0.72), (0.45 * s, 0.50, 0.04)], [0.075, 0.05])
        b.tube("brown", [(0.43 * s, -0.41, 0.36), (0.43 * s, 0.45, 0.36)], 0.04, sections=10)
    b.tube("brown", [(-0.43, -0.415, 0.42), (0.43, -0.415, 0.42)], 0.04, sections=10)


def television(b: Builder) -> None:
    """An old set with a picture tube and an aerial."""
    b.box("primary", (0, -0.06, 0.82), (1.50, 0.62, 1.04), rounding=0.09)
    b.box("shade", (0, 0.30, 0.80), (1.20, 0.40, 0.80), rounding=0.09)
    b.box("steel", (0, 0.52, 0.80), (0.70, 0.22, 0.50), rounding=0.06)
    for z in (0.66, 0.80, 0.94):
        b.box("dark", (0, 0.625, z), (0.50, 0.04, 0.05))
    b.box("dark", (-0.17, -0.365, 0.84), (1.02, 0.06, 0.82), rounding=0.025)
    b.sphere("sky", (-0.17, -0.36, 0.84), (0.455, 0.085, 0.36))
    b.sphere("white", (-0.33, -0.425, 0.99), (0.11, 0.02, 0.06), (0, 25, 0), detail=2)
    for z, paint in ((1.10, "yellow"), (0.88, "red")):
        b.cylinder(paint, (0.53, -0.39, z), 0.085, 0.10, (90, 0, 0), bevel=0.02)
    for z in (0.50, 0.58, 0.66):
        b.box("dark", (0.53, -0.365, z), (0.24, 0.03, 0.035))
    b.sphere("dark", (0, 0, 1.34), (0.20, 0.14, 0.10), detail=2)
    for s in SIDES:
        b.tube("steel", [(0.05 * s, 0, 1.38), (0.52 * s, 0.06, 1.92)], 0.028, sections=8)
        b.sphere("red", (0.53 * s, 0.06, 1.94), 0.055, detail=2)
        for y in (-0.24, 0.18):
            b.tube("brown", [(0.50 * s, y, 0.34), (0.58 * s, y * 1.2, 0.05)], [0.07, 0.045], sections=10)


FURNITURE: dict[str, Callable[[Builder], None]] = {"chair": chair, "television": television}
