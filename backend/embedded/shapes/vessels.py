"""Mug and teapot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .builder import Builder


def mug(b: Builder) -> None:
    """A coffee mug with a heart on its front and the handle at the right."""
    wall = [(0, 0), (0.54, 0), (0.60, 0.05), (0.62, 0.20), (0.62, 1.30), (0.60, 1.36), (0.55, 1.36), (0.53, 1.30), (0.53, 0.12), (0, 0.10)]
    b.lathe("primary", wall, sections=56)
    b.cylinder("brown", (0, 0, 1.10), 0.535, 0.06)
    b.tube("primary", [(0.56, 0, 1.10), (0.86, 0, 1.12), (1.04, 0, 0.86), (0.98, 0, 0.52), (0.72, 0, 0.30), (0.56, 0, 0.30)], 0.095)
    _on_wall(b, "white", [(0.36 * np.cos(a), 0.36 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40, endpoint=False)], 0.62, 0.70, 0.03)
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    heart = np.stack([16 * np.sin(t) ** 3, 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t) + 2], axis=1) * 0.0155
    _on_wall(b, "red", heart, 0.62, 0.70, 0.05)


def _on_wall(
    b: Builder, paint: str, outline: np.ndarray | list[tuple[float, float]], radius: float, height: float, thickness: float
) -> None:
    """A badge with a star-shaped outline [(x, z), ...], bent around the front of a cylinder."""
    edge = np.asarray(outline, dtype=np.float64)
    rings = np.concatenate([edge * share for share in (1.0, 0.75, 0.5, 0.25, 0.01)])
    angle, z = rings[:, 0] / radius, rings[:, 1] + height

    def bent(r: float) -> np.ndarray:
        return np.stack([r * np.sin(angle), -r * np.cos(angle), z], axis=1)

    count = len(edge)
    outside, inside = bent(radius + thickness), bent(radius - thickness)
    vertices = np.concatenate([outside, inside])
    i, j = np.meshgrid(np.arange(4), np.arange(count), indexing="ij")
    a, c = i * count + j, i * count + (j + 1) % count
    front = np.concatenate([np.stack([a, c, a + count], -1).reshape(-1, 3), np.stack([c, c + count, a + count], -1).reshape(-1, 3)])
    middle = np.stack([np.full(count - 2, 4 * count), np.arange(1, count - 1) + 4 * count, np.arange(2, count) + 4 * count], axis=1)
    front = np.concatenate([front, middle])
    rim = np.arange(count)
    following = (rim + 1) % count
    back = len(outside)
    side = np.concatenate([np.stack([rim, rim + back, following], 1), np.stack([following, rim + back, following + back], 1)])
    b.mesh(paint, vertices, np.concatenate([front, front[:, ::-1] + back, side]))


def teapot(b: Builder) -> None:
    """The spout points to the front, the handle to the back."""
    b.lathe(
        "primary", [(0, 0.06), (0.42, 0.08), (0.70, 0.36), (0.72, 0.68), (0.56, 0.98), (0.36, 1.10), (0, 1.11)], smooth=True, sections=48
    )
    b.lathe("shade", [(0, 0), (0.46, 0), (0.46, 0.06), (0.38, 0.12), (0, 0.12)], sections=48)
    b.lathe("shade", [(0, 0), (0.42, 0), (0.42, 0.05), (0.30, 0.14), (0, 0.20)], (0, 0, 1.07), sections=48)
    b.sphere("yellow", (0, 0, 1.36), 0.115)
    b.tube("primary", [(0, -0.55, 0.42), (0, -0.88, 0.58), (0, -1.02, 0.88), (0, -1.22, 1.08)], [0.20, 0.15, 0.105, 0.09])
    b.torus("yellow", (0, -1.20, 1.06), 0.085, 0.035, (52, 0, 0))
    b.sphere("dark", (0, -1.255, 1.12), (0.075, 0.03, 0.075), (-38, 0, 0), detail=2)
    b.tube("shade", [(0, 0.55, 0.96), (0, 0.94, 1.02), (0, 1.14, 0.72), (0, 0.98, 0.42), (0, 0.60, 0.34)], 0.085)
    for angle in np.radians((-76, -54, -32, 32, 54, 76)):
        b.sphere("white", (0.715 * np.sin(angle), -0.715 * np.cos(angle), 0.62), 0.075, detail=2)


VESSELS: dict[str, Callable[[Builder], None]] = {"mug": mug, "teapot": teapot}
