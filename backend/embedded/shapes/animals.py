"""Four-legged friends, and a frog and a monkey."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from .builder import Builder

SIDES = (-1, 1)


def button_eye(b: Builder, x: float, y: float, z: float, radius: float) -> None:
    """A dark eye with a glint."""
    b.sphere("dark", (x, y, z), radius, detail=2)
    b.sphere("white", (x - 0.3 * radius, y - 0.8 * radius, z + 0.45 * radius), 0.3 * radius, detail=1)


def round_eye(b: Builder, x: float, y: float, z: float, radius: float) -> None:
    """A white eye with a large pupil that looks ahead."""
    b.sphere("white", (x, y, z), radius, detail=2)
    b.sphere("dark", (x, y - 0.62 * radius, z), (0.55 * radius, 0.45 * radius, 0.6 * radius), detail=2)
    b.sphere("white", (x - 0.2 * radius, y - 1.0 * radius, z + 0.3 * radius), 0.17 * radius, detail=1)


def cat(b: Builder) -> None:
    """Sits, tail around its side."""
    b.lathe(
        "primary", [(0, 0), (0.36, 0.03), (0.46, 0.25), (0.40, 0.62), (0.29, 0.98), (0, 1.15)], (0, 0.1, 0), (0.92, 1.0, 1), smooth=True
    )
    b.sphere("white", (0, -0.20, 0.72), (0.22, 0.17, 0.30))
    b.sphere("primary", (0, -0.06, 1.36), (0.46, 0.39, 0.37))
    b.torus("red", (0, 0.0, 1.06), 0.27, 0.05)
    b.sphere("yellow", (0, -0.30, 1.01), 0.07, detail=2)
    b.sphere("pink", (0, -0.53, 1.31), (0.055, 0.04, 0.042), detail=2)
    for s in SIDES:
        b.sphere("white", (0.09 * s, -0.42, 1.23), (0.13, 0.11, 0.10))
        b.sphere("green", (0.18 * s, -0.37, 1.43), (0.115, 0.07, 0.115), detail=2)
        b.sphere("dark", (0.18 * s, -0.428, 1.43), (0.042, 0.03, 0.09), detail=2)
        b.hull(
            "primary",
            [(0.12 * s, -0.08, 1.62), (0.12 * s, 0.06, 1.62), (0.44 * s, -0.06, 1.46), (0.44 * s, 0.06, 1.46), (0.38 * s, -0.02, 1.95)],
        )
        b.hull(
            "pink",
            [(0.18 * s, -0.10, 1.64), (0.18 * s, -0.02, 1.62), (0.40 * s, -0.09, 1.55), (0.40 * s, -0.02, 1.55), (0.36 * s, -0.05, 1.85)],
        )
        b.tube("primary", [(0.18 * s, -0.22, 0.80), (0.19 * s, -0.34, 0.4), (0.18 * s, -0.38, 0.10)], [0.14, 0.12, 0.11])
        b.sphere("white", (0.18 * s, -0.45, 0.08), (0.13, 0.17, 0.09))
        b.sphere("primary", (0.36 * s, 0.12, 0.28), (0.18, 0.34, 0.29))
        b.sphere("white", (0.40 * s, -0.20, 0.08), (0.12, 0.19, 0.085))
    b.tube(
        "primary",
        [(0.0, 0.5, 0.12), (0.4, 0.72, 0.12), (0.72, 0.55, 0.2), (0.80, 0.42, 0.55), (0.68, 0.4, 0.78)],
        [0.10, 0.10, 0.095, 0.09, 0.085],
    )
    b.sphere("white", (0.665, 0.4, 0.80), (0.10, 0.10, 0.12), detail=2)


def dog(b: Builder) -> None:
    """Stands, floppy ears, tongue out."""
    b.tube("primary", [(0, -0.35, 0.86), (0, 0.15, 0.82), (0, 0.62, 0.84)], [0.36, 0.33, 0.31])
    b.tube("primary", [(0, -0.42, 0.95), (0, -0.58, 1.3)], [0.29, 0.25])
    b.sphere("white", (0, -0.60, 0.86), (0.22, 0.14, 0.27))
    b.torus("red", (0, -0.53, 1.14), 0.27, 0.055, turn=(24, 0, 0))
    b.sphere("primary", (0, -0.66, 1.48), (0.37, 0.36, 0.34))
    b.tube("white", [(0, -0.88, 1.37), (0, -1.12, 1.33)], [0.19, 0.16])
    b.sphere("dark", (0, -1.27, 1.41), (0.085, 0.06, 0.07), detail=2)
    b.sphere("pink", (0, -1.12, 1.17), (0.075, 0.12, 0.05), (30, 0, 0), detail=2)
    for s in SIDES:
        button_eye(b, 0.16 * s, -0.96, 1.58, 0.065)
        b.sphere("shade", (0.39 * s, -0.60, 1.38), (0.10, 0.19, 0.34), (0, -10 * s, 0))
        for y in (-0.42, 0.60):
            b.tube("primary", [(0.20 * s, y, 0.75), (0.21 * s, y, 0.12)], [0.16, 0.115])
            b.sphere("white", (0.21 * s, y - 0.06, 0.08), (0.13, 0.18, 0.09))
    b.tube("shade", [(0, 0.85, 0.95), (0, 1.1, 1.15), (0, 1.15, 1.5)], [0.10, 0.09, 0.06])


def bear(b: Builder) -> None:
    """A teddy bear, sitting, with a bow tie."""
    b.sphere("primary", (0, 0.02, 0.60), (0.50, 0.43, 0.56))
    b.sphere("pale", (0, -0.16, 0.58), (0.36, 0.30, 0.40))
    b.sphere("primary", (0, -0.04, 1.43), (0.48, 0.42, 0.43))
    b.sphere("pale", (0, -0.38, 1.31), (0.21, 0.17, 0.165))
    b.sphere("dark", (0, -0.54, 1.38), (0.085, 0.05, 0.06), detail=2)
    b.sphere("dark", (0, -0.54, 1.27), (0.018, 0.03, 0.06), detail=2)
    for s in SIDES:
        button_eye(b, 0.19 * s, -0.41, 1.53, 0.062)
        b.sphere("primary", (0.39 * s, 0.02, 1.79), (0.19, 0.11, 0.19))
        b.sphere("pale", (0.39 * s, -0.06, 1.78), (0.12, 0.07, 0.12))
        b.tube("primary", [(0.40 * s, 0.0, 0.96), (0.64 * s, -0.10, 0.78), (0.72 * s, -0.32, 0.62)], [0.17, 0.17, 0.155])
        b.tube("primary", [(0.26 * s, -0.15, 0.22), (0.40 * s, -0.62, 0.22)], [0.22, 0.20])
        b.sphere("pale", (0.425 * s, -0.76, 0.23), (0.145, 0.08, 0.155), (0, 0, 14 * s))
        b.sphere("red", (0.15 * s, -0.40, 1.03), (0.15, 0.07, 0.10), (0, -12 * s, 0), detail=2)
    b.sphere("red", (0, -0.44, 1.03), 0.065, detail=2)
    b.sphere("primary", (0, 0.44, 0.22), 0.14)


def rabbit(b: Builder) -> None:
    """Sits up, ears high, puffy tail."""
    b.lathe("primary", [(0, 0), (0.34, 0.03), (0.46, 0.28), (0.40, 0.62), (0.26, 0.92), (0, 1.05)], (0, 0.08, 0), smooth=True)
    b.sphere("pale", (0, -0.22, 0.50), (0.29, 0.22, 0.36))
    b.sphere("primary", (0, -0.08, 1.20), (0.37, 0.35, 0.33))
    b.sphere("pink", (0, -0.45, 1.19), (0.055, 0.04, 0.04), detail=2)
    b.box("white", (0, -0.39, 1.0), (0.11, 0.04, 0.11))
    for s in SIDES:
        b.sphere("pale", (0.10 * s, -0.37, 1.10), (0.125, 0.10, 0.095))
        button_eye(b, 0.19 * s, -0.36, 1.31, 0.07)
        b.tube("primary", [(0.13 * s, 0.0, 1.42), (0.20 * s, 0.04, 1.80), (0.24 * s, 0.06, 2.12)], [0.10, 0.135, 0.08])
        b.tube("pink", [(0.135 * s, -0.075, 1.50), (0.20 * s, -0.065, 1.80), (0.24 * s, -0.01, 2.08)], [0.04, 0.085, 0.035])
        b.tube("primary", [(0.24 * s, -0.25, 0.72), (0.15 * s, -0.45, 0.56)], [0.11, 0.10])
        b.sphere("primary", (0.36 * s, 0.05, 0.25), (0.17, 0.32, 0.26))
        b.sphere("pale", (0.29 * s, -0.40, 0.09), (0.13, 0.28, 0.095))
    b.sphere("white", (0, 0.54, 0.28), 0.20)


def pig(b: Builder) -> None:
    """Stands, snout ahead, curly tail."""
    b.sphere("primary", (0, 0.16, 0.70), (0.50, 0.72, 0.47))
    b.sphere("primary", (0, -0.56, 0.88), (0.42, 0.38, 0.40))
    b.cylinder("pale", (0, -0.95, 0.80), 0.20, 0.24, (90, 0, 0), bevel=0.05)
    for s in SIDES:
        b.sphere("dark", (0.075 * s, -1.065, 0.81), (0.035, 0.02, 0.06), detail=2)
        button_eye(b, 0.19 * s, -0.88, 1.04, 0.06)
        b.hull(
            "primary",
            [(0.13 * s, -0.60, 1.20), (0.15 * s, -0.48, 1.22), (0.42 * s, -0.58, 1.06), (0.42 * s, -0.46, 1.08), (0.38 * s, -0.72, 1.42)],
        )
        b.hull(
            "shade",
            [(0.18 * s, -0.63, 1.20), (0.20 * s, -0.56, 1.22), (0.39 * s, -0.62, 1.10), (0.39 * s, -0.55, 1.10), (0.355 * s, -0.73, 1.37)],
        )
        for y in (-0.32, 0.58):
            b.tube("primary", [(0.26 * s, y, 0.5), (0.27 * s, y, 0.18)], [0.18, 0.15])
            b.cylinder("shade", (0.27 * s, y, 0.07), 0.15, 0.14, bevel=0.03)
    turn = np.linspace(0, 4.2 * np.pi, 22)
    b.tube("shade", [(0.11 * np.cos(t), 0.88 + 0.016 * t, 0.84 + 0.11 * np.sin(t)) for t in turn], 0.04, sections=10)


def lion(b: Builder) -> None:
    """Stands, in a great mane."""
    b.tube("primary", [(0, -0.15, 0.86), (0, 0.3, 0.84), (0, 0.78, 0.84)], [0.36, 0.33, 0.31])
    for ring, radius, y, size in ((13, 0.47, -0.38, 0.17), (11, 0.42, -0.16, 0.20)):
        for k in range(ring):
            angle = 2 * np.pi * (k + 0.5) / ring
            b.sphere("brown", (radius * np.sin(angle), y, 1.24 + radius * np.cos(angle)), (size, size, size), detail=2)
    b.sphere("brown", (0, -0.20, 1.22), (0.50, 0.26, 0.52))
    b.sphere("brown", (0, -0.38, 0.80), (0.30, 0.20, 0.34))
    b.sphere("primary", (0, -0.48, 1.26), (0.38, 0.30, 0.38))
    b.tube("primary", [(0, -0.62, 1.36), (0, -0.84, 1.22)], [0.13, 0.11])
    b.sphere("dark", (0, -0.96, 1.23), (0.095, 0.05, 0.06), detail=2)
    for s in SIDES:
        b.sphere("white", (0.10 * s, -0.82, 1.10), (0.14, 0.12, 0.11))
        round_eye(b, 0.18 * s, -0.73, 1.41, 0.085)
        b.sphere("primary", (0.33 * s, -0.42, 1.63), (0.14, 0.09, 0.14))
        b.sphere("pale", (0.33 * s, -0.49, 1.62), (0.085, 0.05, 0.085), detail=2)
        for y in (-0.20, 0.80):
            b.tube("primary", [(0.22 * s, y, 0.75), (0.23 * s, y, 0.12)], [0.17, 0.12])
            b.sphere("pale", (0.23 * s, y - 0.07, 0.09), (0.15, 0.20, 0.10))
    b.tube("primary", [(0, 1.02, 0.92), (0, 1.28, 0.75), (0, 1.42, 0.95), (0, 1.45, 1.22)], [0.07, 0.06, 0.055, 0.05], sections=12)
    b.sphere("brown", (0, 1.45, 1.32), (0.12, 0.12, 0.17), detail=2)


def elephant(b: Builder) -> None:
    """Stands, ears spread, trunk curling forward."""
    b.sphere("primary", (0, 0.30, 0.98), (0.56, 0.74, 0.54))
    b.sphere("primary", (0, -0.46, 1.24), (0.42, 0.40, 0.44))
    b.tube(
        "primary",
        [(0, -0.72, 1.22), (0, -0.98, 0.92), (0, -1.04, 0.52), (0, -1.20, 0.26), (0, -1.44, 0.30)],
        [0.20, 0.17, 0.135, 0.115, 0.10],
    )
    for s in SIDES:
        b.sphere("primary", (0.62 * s, -0.34, 1.28), (0.40, 0.07, 0.46), (0, 8 * s, 22 * s))
        b.sphere("pink", (0.61 * s, -0.38, 1.27), (0.31, 0.06, 0.36), (0, 8 * s, 22 * s))
        button_eye(b, 0.24 * s, -0.77, 1.40, 0.06)
        b.tube("white", [(0.20 * s, -0.76, 1.02), (0.25 * s, -1.0, 0.88), (0.25 * s, -1.22, 0.94)], [0.075, 0.065, 0.03], sections=12)
        for y in (-0.10, 0.72):
            b.cylinder("primary", (0.29 * s, y, 0.36), 0.20, 0.72, bevel=0.05)
            for x in (-0.10, 0.0, 0.10):
                b.sphere("cream", (0.29 * s + x, y - 0.185 + 0.25 * abs(x), 0.07), (0.05, 0.035, 0.06), detail=1)
    b.tube("primary", [(0, 1.02, 1.15), (0, 1.16, 0.95), (0, 1.18, 0.66)], [0.06, 0.045, 0.035], sections=10)
    b.sphere("dark", (0, 1.18, 0.60), (0.06, 0.06, 0.11), detail=2)


def monkey(b: Builder) -> None:
    """Blender's own monkey head, with a pale muzzle."""
    data = load_file(Path(__file__).with_name("suzanne.safetensors"))
    vertices, faces, eyes = data["vertices"].astype(np.float64), data["faces"].astype(np.int64), data["eyes"].astype(bool)
    b.mesh("white", vertices, faces[eyes])
    vertices, head = _split(vertices, faces[~eyes], _muzzle)
    pale = _muzzle(vertices[head].mean(axis=1)) < 0
    b.mesh("pale", vertices, head[pale])
    b.mesh("primary", vertices, head[~pale])
    for s in SIDES:
        b.sphere("dark", (0.352 * s, -0.795, 0.246), (0.10, 0.055, 0.10), detail=2)
        b.sphere("white", (0.352 * s - 0.035, -0.84, 0.29), 0.028, detail=1)


def _muzzle(points: np.ndarray) -> np.ndarray:
    """Negative at the points [N, 3] of the monkey's head that belong to its muzzle."""
    x, y, z = points.T
    return np.sqrt((x / 0.50) ** 2 + ((y + 0.80) / 0.62) ** 2 + ((z + 0.56) / 0.50) ** 2) - 1


def _split(vertices: np.ndarray, faces: np.ndarray, level: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Cuts triangles along the zero set of `level`, so that a patch of paint has a smooth edge."""
    value = level(vertices)
    above = value[faces] > 0
    mixed = above.any(axis=1) & ~above.all(axis=1)
    cut = faces[mixed]
    # Turn each cut triangle so that its first corner is the one that lies alone.
    side = above[mixed]
    lone = (side == (side.sum(axis=1, keepdims=True) == 1)).argmax(axis=1)
    a, p, q = (cut[np.arange(len(cut)), (lone + k) % 3] for k in range(3))
    along_p, along_q = (value[a] / (value[a] - value[other]) for other in (p, q))
    on_p = vertices[a] + along_p[:, None] * (vertices[p] - vertices[a])
    on_q = vertices[a] + along_q[:, None] * (vertices[q] - vertices[a])
    first = len(vertices) + np.arange(len(cut))
    second = first + len(cut)
    pieces = [np.stack(corners, axis=1) for corners in ((a, first, second), (first, p, q), (first, q, second))]
    return np.concatenate([vertices, on_p, on_q]), np.concatenate([faces[~mixed], *pieces])


def frog(b: Builder) -> None:
    """Squats, eyes on top, wide mouth."""
    b.sphere("primary", (0, 0.10, 0.48), (0.58, 0.66, 0.42), (14, 0, 0))
    b.sphere("pale", (0, -0.16, 0.36), (0.44, 0.42, 0.32))
    b.sphere("primary", (0, -0.26, 0.72), (0.52, 0.40, 0.28))
    arc = np.radians(np.linspace(-68, 68, 9))
    b.tube("dark", [(0.52 * np.sin(a), -0.26 - 0.405 * np.cos(a), 0.66 + 0.07 * np.sin(a) ** 2) for a in arc], 0.024, sections=8)
    for s in SIDES:
        b.sphere("primary", (0.29 * s, -0.26, 0.98), 0.20)
        round_eye(b, 0.30 * s, -0.34, 1.01, 0.155)
        b.sphere("shade", (0.06 * s, -0.655, 0.80), 0.022, detail=1)
        b.tube("primary", [(0.36 * s, -0.28, 0.42), (0.50 * s, -0.40, 0.22), (0.42 * s, -0.52, 0.07)], [0.13, 0.10, 0.08])
        b.tube("shade", [(0.46 * s, 0.20, 0.30), (0.74 * s, -0.02, 0.44), (0.72 * s, 0.36, 0.14)], [0.22, 0.17, 0.10])
        for spread in (-0.14, 0.0, 0.14):
            b.tube("shade", [(0.42 * s, -0.50, 0.06), (0.44 * s + spread, -0.68 + abs(spread) * 0.4, 0.04)], [0.05, 0.045], sections=8)
            b.tube("shade", [(0.72 * s, 0.30, 0.08), (0.82 * s + spread, -0.08 + abs(spread) * 0.4, 0.04)], [0.07, 0.05], sections=8)


ANIMALS: dict[str, Callable[[Builder], None]] = {
    "cat": cat,
    "dog": dog,
    "bear": bear,
    "rabbit": rabbit,
    "pig": pig,
    "lion": lion,
    "elephant": elephant,
    "monkey": monkey,
    "frog": frog,
}
