"""A few vertices of an imported mesh, remembered: by them it is found how the mesh was moved inside its object, as *Apply Scale* and
*Set Origin* do. No bpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

COUNT = 8
"""Four give the affine map; the others tell it from an edit that moved some vertices and not others."""

TOLERANCE = 1e-3
"""Of the anchors' extent, between where they are and where one affine map would have put them all. Blender's coordinates have 24 bits."""

ROUNDING = 1e-6
"""Of the anchors' extent: what Blender's single precision makes of the coordinates."""

FLATTEST = 1e4
"""Ratio of the largest to the smallest stretch of a map that counts as invertible."""

Anchors = dict[str, Any]


def choose(vertices: np.ndarray) -> Anchors:
    """Vertices far from one another, of [V, 3] in the object's own frame: each the farthest from those before."""
    points = np.asarray(vertices, dtype=np.float64)
    indices = [int(np.argmax(np.square(points - points.mean(axis=0)).sum(axis=1)))]
    nearest = np.full(len(points), np.inf)
    for _ in range(min(COUNT, len(points)) - 1):
        nearest = np.minimum(nearest, np.square(points - points[indices[-1]]).sum(axis=1))
        indices.append(int(np.argmax(nearest)))
    return {"vertices": len(points), "indices": indices, "points": points[indices].ravel().tolist()}


def moved(then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """[4, 4] the affine map that took points [N, 3] from `then` to `now`; the identity where no invertible one took them all."""
    then, now = np.asarray(then, dtype=np.float64), np.asarray(now, dtype=np.float64)
    extent = float(np.ptp(now, axis=0).max(initial=0.0))
    if np.abs(now - then).max(initial=0.0) <= ROUNDING * extent:
        return np.eye(4)  # the usual case, at every redraw
    if extent <= ROUNDING * np.abs(now).max(initial=0.0):
        return np.eye(4)  # shrunk to a point
    homogeneous = np.column_stack([then, np.ones(len(then))])
    solution, _, rank, _ = np.linalg.lstsq(homogeneous, now, rcond=None)
    matrix = np.eye(4)
    if rank < 4 or np.abs(homogeneous @ solution - now).max() > TOLERANCE * extent:
        return matrix
    matrix[:3] = solution.T
    return matrix if np.linalg.cond(matrix[:3, :3]) < FLATTEST else np.eye(4)
