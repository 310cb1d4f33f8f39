"""Robot and snowman."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .animals import SIDES
from .builder import Builder


def robot(b: Builder) -> None:
    """A tin robot with lights on its chest and a pack on its back."""
    b.box("primary", (0, 0, 0.98), (0.86, 0.56, 0.80), rounding=0.09)
    b.box("primary", (0, 0, 1.76), (0.70, 0.56, 0.56), rounding=0.10)
    b.cylinder("grey", (0, 0, 1.43), 0.16, 0.16)
    b.cylinder("grey", (0, 0, 2.14), 0.03, 0.26)
    b.sphere("red", (0, 0, 2.30), 0.085, detail=2)
    b.box("dark", (0, -0.265, 1.82), (0.56, 0.06, 0.25), rounding=0.025)
    b.box("dark", (0, -0.27, 1.58), (0.36, 0.05, 0.08), rounding=0.02)
    for x in (-0.12, -0.04, 0.04, 0.12):
        b.box("white", (x, -0.285, 1.58), (0.05, 0.04, 0.05))
    b.box("white", (0, -0.27, 1.02), (0.56, 0.06, 0.44), rounding=0.025)
    b.cylinder("sky", (-0.12, -0.30, 1.06), 0.11, 0.06, (90, 0, 0), bevel=0.015)
    b.box("red", (-0.09, -0.33, 1.09), (0.02, 0.03, 0.11), (0, 35, 0))
    for z, paint in ((1.15, "red"), (1.02, "yellow"), (0.89, "green")):
        b.sphere(paint, (0.16, -0.30, z), 0.05, detail=2)
    b.box("steel", (0, 0.36, 1.02), (0.56, 0.24, 0.58), rounding=0.05)
    for s in SIDES:
        b.sphere("yellow", (0.145 * s, -0.28, 1.82), (0.10, 0.06, 0.10), detail=2)
        b.sphere("dark", (0.145 * s, -0.335, 1.82), (0.035, 0.02, 0.035), detail=1)
        b.cylinder("grey", (0.39 * s, 0, 1.78), 0.11, 0.10, (0, 90, 0), bevel=0.02)
        b.sphere("shade", (0.50 * s, 0, 1.24), 0.14)
        b.tube("grey", [(0.52 * s, 0, 1.22), (0.62 * s, -0.02, 0.92), (0.62 * s, -0.16, 0.68)], 0.085)
        b.sphere("primary", (0.62 * s, -0.20, 0.60), (0.14, 0.15, 0.14))
        b.cylinder("grey", (0.22 * s, 0, 0.42), 0.12, 0.40)
        b.box("primary", (0.23 * s, -0.07, 0.13), (0.34, 0.52, 0.26), rounding=0.08)
        b.cylinder("red", (0.15 * s, 0.44, 0.68), 0.09, 0.14, bevel=0.03)


def snowman(b: Builder) -> None:
    """Three balls, top hat, scarf and a carrot."""
    b.sphere("primary", (0, 0, 0.50), (0.58, 0.58, 0.52))
    b.sphere("primary", (0, 0, 1.18), (0.43, 0.43, 0.40))
    b.sphere("primary", (0, 0, 1.74), 0.33)
    b.cylinder("dark", (0, 0.03, 1.98), 0.40, 0.06, (-5, 0, 0), bevel=0.025)
    b.cylinder("dark", (0, 0.045, 2.18), 0.26, 0.38, (-5, 0, 0), bevel=0.03)
    b.cylinder("red", (0, 0.036, 2.06), 0.268, 0.09, (-5, 0, 0))
    b.cone("orange", (0, -0.28, 1.72), 0.085, 0.46, (86, 0, 0), tip=0.015)
    b.torus("red", (0, 0, 1.50), 0.29, 0.09)
    b.tube("red", [(0.16, -0.30, 1.46), (0.20, -0.44, 1.28), (0.20, -0.47, 1.02)], [0.08, 0.09, 0.095], sections=12)
    for angle in np.radians((-32, -16, 0, 16, 32)):
        b.sphere(
            "dark",
            (0.24 * np.sin(angle) * 1.25, -0.305 + 0.05 * np.abs(np.sin(angle)), 1.66 - 0.09 * np.cos(angle) - 0.02),
            0.027,
            detail=1,
        )
    for z, y in ((1.30, -0.41), (1.12, -0.425), (0.72, -0.525)):
        b.sphere("dark", (0, y, z), 0.055, detail=2)
    for s in SIDES:
        b.sphere("dark", (0.125 * s, -0.29, 1.83), 0.052, detail=2)
        b.tube("brown", [(0.36 * s, 0, 1.26), (0.62 * s, -0.04, 1.40), (0.86 * s, -0.08, 1.62)], [0.045, 0.04, 0.03], sections=8)
        b.tube("brown", [(0.70 * s, -0.05, 1.47), (0.90 * s, -0.12, 1.46)], [0.03, 0.022], sections=8)
        b.tube("brown", [(0.74 * s, -0.06, 1.52), (0.76 * s, -0.04, 1.70)], [0.028, 0.02], sections=8)


FIGURES: dict[str, Callable[[Builder], None]] = {"robot": robot, "snowman": snowman}
