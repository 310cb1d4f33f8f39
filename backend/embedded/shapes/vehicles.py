"""Car, bus, train, airplane and boat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .animals import SIDES
from .builder import Builder

Corner = tuple[float, float, float]


def wheel(b: Builder, x: float, y: float, radius: float, width: float = 0.2) -> None:
    """A tyre with a hub on its outer side, standing on z = 0."""
    b.cylinder("dark", (x, y, radius), radius, width, (0, 90, 0), bevel=0.25 * width)
    b.cylinder("grey", (x + 0.3 * width * np.sign(x), y, radius), 0.55 * radius, 0.6 * width, (0, 90, 0), bevel=0.03)


def strut(b: Builder, paint: str, start: Corner, end: Corner, radius: float) -> None:
    """A straight post."""
    b.tube(paint, [start, end], radius, sections=8)


def car(b: Builder) -> None:
    """A small saloon."""
    b.box("primary", (0, 0, 0.50), (1.10, 2.20, 0.40), rounding=0.14)
    b.hull("sky", [(0.48 * s, y, 0.66) for s in SIDES for y in (-0.52, 0.84)] + [(0.39 * s, y, 1.08) for s in SIDES for y in (-0.18, 0.52)])
    b.hull("slate", [(0.42 * s, y, 0.68) for s in SIDES for y in (0.50, 0.865)] + [(0.34 * s, 0.54, 1.06) for s in SIDES])
    b.box("primary", (0, 0.17, 1.09), (0.86, 0.82, 0.10), rounding=0.045)
    b.box("dark", (0, -1.085, 0.56), (0.52, 0.06, 0.13), rounding=0.02)
    b.box("grey", (0, -1.09, 0.38), (1.02, 0.10, 0.11), rounding=0.04)
    b.box("grey", (0, 1.09, 0.38), (1.02, 0.10, 0.11), rounding=0.04)
    b.box("white", (0, 1.10, 0.53), (0.36, 0.04, 0.13))
    for s in SIDES:
        strut(b, "primary", (0.48 * s, -0.52, 0.66), (0.40 * s, -0.18, 1.07), 0.045)
        strut(b, "primary", (0.48 * s, 0.84, 0.66), (0.40 * s, 0.52, 1.07), 0.055)
        strut(b, "primary", (0.475 * s, 0.16, 0.66), (0.40 * s, 0.16, 1.07), 0.045)
        b.sphere("yellow", (0.41 * s, -1.06, 0.56), (0.115, 0.07, 0.11), detail=2)
        b.box("red", (0.42 * s, 1.085, 0.56), (0.20, 0.06, 0.15), rounding=0.02)
        b.sphere("shade", (0.60 * s, -0.42, 0.76), (0.08, 0.05, 0.06), detail=2)
        for y in (-0.68, 0.68):
            wheel(b, 0.49 * s, y, 0.28, 0.22)


def bus(b: Builder) -> None:
    """A city bus."""
    b.box("primary", (0, 0, 0.80), (1.0, 2.40, 1.16), rounding=0.12)
    b.box("pale", (0, 0, 1.37), (0.88, 2.26, 0.10), rounding=0.045)
    b.box("white", (0, 0.50, 1.45), (0.56, 0.70, 0.12), rounding=0.04)
    b.box("steel", (0, -0.55, 1.43), (0.34, 0.34, 0.06), rounding=0.02)
    b.box("sky", (0, -1.175, 0.98), (0.84, 0.08, 0.52), rounding=0.03)
    b.box("dark", (0, -1.18, 1.29), (0.60, 0.07, 0.11))
    b.box("yellow", (0, -1.20, 1.29), (0.44, 0.05, 0.06))
    b.box("dark", (0, -1.19, 0.50), (0.40, 0.05, 0.12), rounding=0.02)
    b.box("grey", (0, -1.19, 0.30), (0.96, 0.10, 0.10), rounding=0.04)
    b.box("grey", (0, 1.19, 0.30), (0.96, 0.10, 0.10), rounding=0.04)
    b.box("slate", (0, 1.18, 1.06), (0.60, 0.06, 0.28), rounding=0.02)
    for z in (0.50, 0.60, 0.70):
        b.box("dark", (0, 1.185, z), (0.50, 0.05, 0.05))
    for s in SIDES:
        b.sphere("yellow", (0.36 * s, -1.19, 0.50), (0.095, 0.05, 0.095), detail=2)
        b.box("red", (0.39 * s, 1.185, 0.60), (0.12, 0.06, 0.24), rounding=0.02)
        b.box("shade", (0.49 * s, 0, 0.52), (0.05, 2.1, 0.10))
        for y in (-0.38, 0.04, 0.46, 0.88):
            b.box("sky", (0.485 * s, y, 1.02), (0.07, 0.34, 0.40), rounding=0.03)
        for y in (-0.72, 0.72):
            wheel(b, 0.44 * s, y, 0.25, 0.18)
        b.tube("dark", [(0.50 * s, -1.12, 1.22), (0.60 * s, -1.22, 1.14)], 0.03, sections=8)
        b.box("dark", (0.61 * s, -1.23, 1.04), (0.09, 0.05, 0.20), rounding=0.02)
    b.box("slate", (0.485, -0.82, 0.82), (0.07, 0.36, 0.84), rounding=0.03)
    b.box("sky", (-0.485, -0.82, 1.02), (0.07, 0.34, 0.40), rounding=0.03)


def train(b: Builder) -> None:
    """A steam locomotive."""
    b.box("steel", (0, 0.05, 0.40), (0.74, 2.10, 0.16), rounding=0.04)
    b.cylinder("primary", (0, -0.28, 0.84), 0.38, 1.30, (90, 0, 0))
    b.cylinder("steel", (0, -0.97, 0.84), 0.40, 0.14, (90, 0, 0), bevel=0.04)
    b.cylinder("dark", (0, -1.05, 0.84), 0.28, 0.06, (90, 0, 0), bevel=0.02)
    b.sphere("yellow", (0, -1.08, 0.90), (0.12, 0.08, 0.12), detail=2)
    for y in (-0.55, 0.05):
        b.cylinder("yellow", (0, y, 0.84), 0.39, 0.06, (90, 0, 0))
    b.lathe("dark", [(0, 0), (0.13, 0), (0.12, 0.30), (0.20, 0.46), (0.20, 0.54), (0, 0.54)], (0, -0.76, 1.16))
    b.lathe("yellow", [(0, 0), (0.16, 0), (0.16, 0.10), (0.11, 0.20), (0, 0.23)], (0, -0.22, 1.17), smooth=False)
    b.box("primary", (0, 0.72, 0.92), (0.82, 0.70, 1.00), rounding=0.04)
    b.box("shade", (0, 0.72, 1.47), (0.98, 0.92, 0.09), rounding=0.04)
    b.box("dark", (0, 1.06, 1.06), (0.52, 0.06, 0.52), rounding=0.02)
    b.box("red", (0, 1.10, 0.40), (0.80, 0.08, 0.14), rounding=0.02)
    b.hull(
        "red", [(-0.42, -1.02, 0.34), (0.42, -1.02, 0.34), (-0.42, -1.02, 0.06), (0.42, -1.02, 0.06), (0, -1.36, 0.06), (0, -1.16, 0.32)]
    )
    for s in SIDES:
        b.box("sky", (0.40 * s, 0.72, 1.16), (0.06, 0.40, 0.32), rounding=0.02)
        b.cylinder("sky", (0.27 * s, 0.36, 1.26), 0.09, 0.06, (90, 0, 0))
        b.sphere("yellow", (0.28 * s, 1.12, 0.58), (0.07, 0.05, 0.07), detail=2)
        for y, radius in ((-0.72, 0.20), (-0.22, 0.27), (0.36, 0.27), (0.86, 0.20)):
            b.cylinder("red", (0.41 * s, y, radius), radius, 0.12, (0, 90, 0), bevel=0.03)
            b.cylinder("grey", (0.46 * s, y, radius), 0.45 * radius, 0.08, (0, 90, 0))
        b.box("grey", (0.51 * s, 0.05, 0.27), (0.05, 0.72, 0.07), rounding=0.02)


def airplane(b: Builder) -> None:
    """A propeller plane."""
    b.tube(
        "primary",
        [(0, -0.98, 0), (0, -0.55, 0.02), (0, 0.1, 0.06), (0, 0.8, 0.14), (0, 1.18, 0.2)],
        [0.21, 0.29, 0.28, 0.16, 0.08],
        sections=24,
    )
    b.cylinder("steel", (0, -1.10, 0), 0.225, 0.14, (90, 0, 0), bevel=0.05)
    b.cone("yellow", (0, -1.14, 0), 0.10, 0.22, (90, 0, 0), tip=0.02)
    for angle in (25, 145, 265):
        r = np.radians(angle)
        b.sphere("dark", (0.25 * np.sin(r), -1.24, 0.25 * np.cos(r)), (0.06, 0.02, 0.27), (0, angle, 0), detail=2)
    b.sphere("sky", (0, -0.34, 0.26), (0.20, 0.34, 0.20))
    b.box("primary", (0, -0.14, 0.36), (0.36, 0.06, 0.22), rounding=0.025)
    b.hull(
        "shade",
        [(0, 1.02, 0.16), (0, 1.24, 0.20), (0, 1.30, 0.74), (0, 1.12, 0.76)]
        + [(x, 1.12, 0.40) for x in (-0.045, 0.045)]
        + [(x, 0.66, 0.2) for x in (-0.02, 0.02)],
    )
    b.box("red", (0, 1.235, 0.62), (0.075, 0.14, 0.16), rounding=0.02)
    for s in SIDES:
        b.hull(
            "primary",
            [(0.10 * s, -0.62, z) for z in (-0.12, -0.02)]
            + [(0.10 * s, 0.14, z) for z in (-0.09, -0.04)]
            + [(1.28 * s, -0.42, z) for z in (0.06, 0.11)]
            + [(1.28 * s, 0.02, z) for z in (0.07, 0.10)],
        )
        b.hull("red", [(x * s, y, z) for x, dz in ((1.12, 0.0), (1.32, 0.018)) for y in (-0.46, 0.04) for z in (0.035 + dz, 0.105 + dz)])
        b.hull(
            "shade",
            [(0.04 * s, 0.86, z) for z in (0.15, 0.20)]
            + [(0.04 * s, 1.18, 0.18)]
            + [(0.54 * s, 1.02, z) for z in (0.17, 0.21)]
            + [(0.54 * s, 1.22, 0.19)],
        )
        b.tube("grey", [(0.20 * s, -0.40, -0.14), (0.36 * s, -0.44, -0.40)], 0.035, sections=8)
        b.cylinder("dark", (0.37 * s, -0.44, -0.44), 0.13, 0.09, (0, 90, 0), bevel=0.03)
        for y in (0.14, 0.36):
            b.sphere("sky", (0.255 * s - 0.06 * s * (y - 0.1), y, 0.14), (0.03, 0.07, 0.07), detail=2)


def boat(b: Builder) -> None:
    """A tugboat."""
    outline = [(0.0, -1.22), (0.30, -0.86), (0.46, -0.35), (0.48, 0.30), (0.42, 0.90), (0.0, 0.98)]
    loop = [(s * x, y) for x, y in outline for s in SIDES]
    sheer = {-1.22: 0.30, -0.86: 0.18, -0.35: 0.06, 0.30: 0.0, 0.90: 0.02, 0.98: 0.02}
    b.hull("primary", [(x, y, 0.58 + sheer[y]) for x, y in loop] + [(0.62 * x, 0.84 * y, 0.10) for x, y in loop])
    b.hull("brick", [(0.72 * x, 0.885 * y, 0.20) for x, y in loop] + [(0.5 * x, 0.8 * y, 0.0) for x, y in loop])
    b.hull("brown", [(0.88 * x, 0.9 * y, 0.60 + 0.95 * sheer[y]) for x, y in loop] + [(0.8 * x, 0.8 * y, 0.5) for x, y in loop])
    for s in SIDES:
        b.tube("white", [(s * x, y, 0.60 + sheer[y]) for x, y in outline], 0.045, sections=10)
    b.box("white", (0, 0.02, 0.84), (0.60, 0.76, 0.50), rounding=0.05)
    b.box("white", (0, -0.12, 1.20), (0.48, 0.42, 0.32), rounding=0.04)
    b.box("primary", (0, -0.12, 1.38), (0.60, 0.56, 0.07), rounding=0.03)
    b.box("slate", (0, -0.325, 1.23), (0.38, 0.04, 0.17), rounding=0.015)
    b.box("brown", (0, 0.39, 0.82), (0.24, 0.05, 0.42), rounding=0.015)
    b.cylinder("red", (0, 0.26, 1.30), 0.15, 0.60)
    b.cylinder("dark", (0, 0.26, 1.64), 0.16, 0.14, bevel=0.02)
    b.torus("orange", (0, -0.40, 0.88), 0.12, 0.05, (90, 0, 0))
    strut(b, "brown", (0, -0.66, 0.60), (0, -0.66, 1.30), 0.035)
    b.hull("red", [(0, -0.66, 1.30), (0, -0.66, 1.10), (0.02, -0.36, 1.20), (-0.02, -0.36, 1.20), (0.015, -0.6, 1.2), (-0.015, -0.6, 1.2)])
    for s in SIDES:
        b.box("slate", (0.235 * s, -0.12, 1.23), (0.04, 0.28, 0.17), rounding=0.015)
        for y in (-0.18, 0.16):
            b.cylinder("sky", (0.30 * s, y, 0.88), 0.09, 0.05, (0, 90, 0))
        b.torus("dark", (0.485 * s, 0.42, 0.42), 0.10, 0.05, (0, 90, 0))


VEHICLES: dict[str, Callable[[Builder], None]] = {"car": car, "bus": bus, "train": train, "airplane": airplane, "boat": boat}
