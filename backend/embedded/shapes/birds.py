"""Owl, penguin and duck."""

from __future__ import annotations

from collections.abc import Callable

from .animals import SIDES, button_eye, round_eye
from .builder import Builder


def owl(b: Builder) -> None:
    """Perches, great yellow eyes ahead."""
    b.lathe(
        "primary",
        [(0, 0.05), (0.34, 0.10), (0.48, 0.45), (0.47, 0.85), (0.44, 1.20), (0.34, 1.48), (0, 1.60)],
        scale=(1, 0.86, 1),
        smooth=True,
    )
    b.sphere("pale", (0, -0.20, 0.56), (0.34, 0.25, 0.42))
    for row, (z, count) in enumerate(((0.78, 3), (0.62, 4), (0.46, 3), (0.30, 2))):
        for k in range(count):
            x = 0.15 * (k - (count - 1) / 2)
            b.sphere("shade", (x, -0.415 - 0.03 * (row in (1, 2)) + 0.35 * x * x, z), (0.05, 0.03, 0.035), detail=1)
    b.hull("orange", [(-0.075, -0.40, 1.20), (0.075, -0.40, 1.20), (0, -0.36, 1.24), (0, -0.56, 1.12), (0, -0.46, 0.98)])
    for s in SIDES:
        b.sphere("pale", (0.20 * s, -0.30, 1.22), (0.225, 0.12, 0.235))
        b.sphere("yellow", (0.19 * s, -0.37, 1.23), (0.15, 0.075, 0.15), detail=2)
        b.sphere("dark", (0.185 * s, -0.425, 1.23), (0.085, 0.04, 0.085), detail=2)
        b.sphere("white", (0.16 * s, -0.46, 1.265), 0.026, detail=1)
        b.hull(
            "primary",
            [(0.14 * s, -0.22, 1.48), (0.14 * s, -0.06, 1.50), (0.40 * s, -0.18, 1.34), (0.40 * s, -0.04, 1.34), (0.42 * s, -0.16, 1.78)],
        )
        b.sphere("shade", (0.47 * s, 0.03, 0.70), (0.12, 0.30, 0.46), (-8, -6 * s, 0))
        for toe in (-0.08, 0.0, 0.08):
            b.tube("orange", [(0.18 * s, -0.20, 0.06), (0.18 * s + toe, -0.42, 0.03)], [0.05, 0.035], sections=8)
    b.sphere("shade", (0, 0.42, 0.16), (0.22, 0.10, 0.26), (38, 0, 0))


def penguin(b: Builder) -> None:
    """Stands upright, flippers out."""
    b.lathe("primary", [(0, 0.06), (0.34, 0.09), (0.48, 0.45), (0.42, 0.90), (0.28, 1.16), (0, 1.26)], scale=(1, 0.9, 1), smooth=True)
    b.sphere("white", (0, -0.15, 0.58), (0.385, 0.31, 0.50))
    b.sphere("primary", (0, -0.03, 1.36), (0.35, 0.33, 0.32))
    b.sphere("orange", (0, -0.42, 1.28), (0.10, 0.20, 0.06))
    for s in SIDES:
        b.sphere("white", (0.14 * s, -0.20, 1.34), (0.16, 0.14, 0.19))
        button_eye(b, 0.14 * s, -0.34, 1.40, 0.05)
        b.sphere("primary", (0.53 * s, 0.02, 0.76), (0.08, 0.18, 0.42), (0, -24 * s, 0))
        b.sphere("orange", (0.20 * s, -0.22, 0.06), (0.16, 0.28, 0.06), (0, 0, 12 * s))
    b.hull("primary", [(-0.14, 0.36, 0.22), (0.14, 0.36, 0.22), (-0.12, 0.34, 0.06), (0.12, 0.34, 0.06), (0, 0.62, 0.05)])
    b.torus("red", (0, -0.02, 1.12), 0.29, 0.06)
    b.tube("red", [(0.17, -0.30, 1.10), (0.20, -0.42, 0.92), (0.20, -0.45, 0.74)], [0.06, 0.065, 0.07], sections=10)


def duck(b: Builder) -> None:
    """A bath duck, tail up."""
    b.sphere("primary", (0, 0.06, 0.48), (0.58, 0.78, 0.46))
    b.tube("primary", [(0, 0.50, 0.56), (0, 0.82, 0.74), (0, 0.98, 1.02)], [0.32, 0.20, 0.06])
    b.tube("primary", [(0, -0.20, 0.52), (0, -0.38, 0.80), (0, -0.45, 1.12)], [0.46, 0.33, 0.27])
    b.sphere("primary", (0, -0.46, 1.28), (0.40, 0.40, 0.38))
    b.sphere("orange", (0, -0.92, 1.22), (0.19, 0.22, 0.055), (8, 0, 0))
    b.sphere("orange", (0, -0.88, 1.15), (0.15, 0.17, 0.05), (-6, 0, 0))
    for s in SIDES:
        round_eye(b, 0.20 * s, -0.75, 1.42, 0.095)
        b.sphere("shade", (0.53 * s, 0.16, 0.60), (0.12, 0.50, 0.27), (16, 0, -6 * s))


BIRDS: dict[str, Callable[[Builder], None]] = {"owl": owl, "penguin": penguin, "duck": duck}
