"""Which glyph is below the mouse. No bpy."""

from __future__ import annotations

import numpy as np

TOLERANCE = 7.0
"""Pixels, at an interface scale of 1, from the middle of a glyph within which it is hit however small it appears."""

NEAR = 4.0
"""A glyph nearer to the viewer than so many halves of its height is in the way rather than in the picture: not drawn, and not hit."""

_TRIANGLES = np.array([[1, 2, 3], [1, 3, 4], [0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]])
"""Faces of a pyramid whose tip is corner 0."""


def project(points: np.ndarray, perspective: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """([..., 2] region pixels, y up; [...] depth, positive in front of the viewer) of [..., 3] scene points.

    Args:
        perspective: [4, 4] scene to clip coordinates, `RegionView3D.perspective_matrix`.
        width, height: of the region. Pixels of points behind the viewer mean nothing.
    """
    clip = points @ perspective[:3, :3].T + perspective[:3, 3]
    w = points @ perspective[3, :3] + perspective[3, 3]
    safe = np.where(w > 1e-9, w, 1.0)
    pixels = (clip[..., :2] / safe[..., None] * 0.5 + 0.5) * np.array([width, height])
    # An orthographic view has w = 1 everywhere: what is nearer has the smaller z.
    depth = np.where(w > 1e-9, clip[..., 2] if np.allclose(perspective[3], (0, 0, 0, 1)) else w, -np.inf)
    return pixels, depth


def in_the_way(hulls: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """[N] whether [N, 5, 3] pyramids are around the viewer or right before it.

    Args:
        eye: [3] where the viewer of a perspective view is.
    """
    half = 0.5 * np.linalg.norm(hulls[:, 1] - hulls[:, 2], axis=1)
    return np.linalg.norm(hulls[:, 1:].mean(axis=1) - eye, axis=1) < NEAR * half


def pick(
    hulls: np.ndarray, perspective: np.ndarray, width: int, height: int, mouse: tuple[float, float], eye: np.ndarray | None = None,
    scale: float = 1.0,
) -> int:  # fmt: skip
    """The region whose pyramid is below the mouse, the nearest to the viewer if there are several; -1 for none.

    Args:
        hulls: [N, 5, 3] corners, as `frustums.hulls` gives them.
        mouse: region pixels.
        eye: [3] where the viewer of a perspective view is; None in an orthographic one.
        scale: pixels a unit of the interface.
    """
    if not len(hulls):
        return -1
    pixels, depth = project(hulls, perspective, width, height)
    visible = np.isfinite(depth).all(axis=1)
    if eye is not None:
        visible &= ~in_the_way(hulls, eye)
    relative = pixels - np.asarray(mouse, dtype=np.float64)
    middle = depth.mean(axis=1)
    inside = _origin_inside(relative[:, _TRIANGLES]).any(axis=1) & visible
    if inside.any():
        return int(np.argmin(np.where(inside, middle, np.inf)))
    off = np.linalg.norm(relative[:, 1:].mean(axis=1), axis=1)
    near = (off <= TOLERANCE * scale) & visible
    return int(np.argmin(np.where(near, off, np.inf))) if near.any() else -1


def _origin_inside(triangles: np.ndarray) -> np.ndarray:
    """[...] whether the origin lies in [..., 3, 2] triangles of either orientation; those without area contain nothing."""
    a, b = triangles, np.roll(triangles, -1, axis=-2)
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return (np.all(cross >= 0, axis=-1) | np.all(cross <= 0, axis=-1)) & (np.abs(cross.sum(axis=-1)) > 1e-9)
