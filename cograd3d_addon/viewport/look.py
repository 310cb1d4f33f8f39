"""Looking through a region's camera: how a viewport has to stand for that. No bpy.

Blender's viewport without a camera has a sensor of 72 mm along the longer of its two sides (twice its default 36 mm). A region's picture is
square; it stands in the middle of the viewport, so large that panels do not cover it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SENSOR = 72.0
"""Millimetres along the longer side of a viewport."""

LENSES = (1.0, 250.0)
"""What `SpaceView3D.lens` can be."""


@dataclass(frozen=True)
class ViewpointState:
    """A viewport's viewpoint, in the terms of `RegionView3D` and `SpaceView3D`.

    Attributes:
        location: the point that the view turns around.
        rotation: quaternion (w, x, y, z) of the view's camera.
        distance: from the camera to that point.
        lens: millimetres.
        perspective: PERSP, ORTHO or CAMERA.
        camera_zoom, camera_offset: where the camera's frame is, in a camera view.
        is_along_axis: whether it is one of Blender's views along an axis, which have their own name and grid.
    """

    location: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    distance: float
    lens: float
    perspective: str = "PERSP"
    camera_zoom: float = 0.0
    camera_offset: tuple[float, float] = (0.0, 0.0)
    is_along_axis: bool = False


def viewpoint(camera: np.ndarray, centre: np.ndarray, fov: float, size: tuple[int, int], side: float) -> ViewpointState:
    """The viewpoint of a viewport that sees what a region's camera sees.

    Args:
        camera: [4, 4] camera to scene, Blender's axes, looking at `centre`.
        centre: [3] scene point, the one the view then turns around.
        fov: of the square picture, degrees.
        size: width and height of the viewport, pixels.
        side: how large the picture is to be in it, pixels.
    """
    position = camera[:3, 3]
    return ViewpointState(
        location=(float(centre[0]), float(centre[1]), float(centre[2])),
        rotation=quaternion(camera[:3, :3]),
        distance=float(np.linalg.norm(position - centre)),
        lens=lens_for(fov, size, side),
    )


def camera_at(location: Sequence[float], rotation: Sequence[Sequence[float]], distance: float) -> np.ndarray:
    """[4, 4] camera to scene of a viewport that looks at `location` from `distance`, turned by a [3, 3] matrix."""
    camera = np.eye(4)
    camera[:3, :3] = rotation
    camera[:3, 3] = np.asarray(location) + distance * camera[:3, 2]
    return camera


def picture_side(size: tuple[int, int], free: tuple[float, float, float, float]) -> float:
    """Pixels of the largest square in the middle of a viewport that nothing covers; at least half of what the viewport has room for.

    Args:
        size: width and height of the viewport.
        free: left, bottom, right and top of the part of it that no panel covers.
    """
    x, y = size[0] / 2, size[1] / 2
    left, bottom, right, top = free
    return max(2 * min(x - left, right - x, y - bottom, top - y), 0.5 * min(size))


def lens_for(fov: float, size: tuple[int, int], side: float) -> float:
    """The focal length (mm) at which `side` pixels in the middle of a viewport span `fov` degrees, as near as Blender allows."""
    long_side = math.tan(math.radians(fov) / 2) * max(size) / side
    return min(max(SENSOR / 2 / long_side, LENSES[0]), LENSES[1])


def picture_rectangle(fov: float, lens: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of the square picture in region pixels, for a viewport that looks through a region."""
    half = math.tan(math.radians(fov) / 2) * lens / (SENSOR / 2) * max(size) / 2
    return size[0] / 2 - half, size[1] / 2 - half, size[0] / 2 + half, size[1] / 2 + half


def looks_through(view_matrix: np.ndarray, camera: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether a viewport (`RegionView3D.view_matrix`, scene to view) still stands where this camera does."""
    relative = view_matrix @ camera
    scale = max(1e-9, float(np.abs(view_matrix[:3, 3]).max()))
    return bool(np.abs(relative[:3, :3] - np.eye(3)).max() < tolerance and np.abs(relative[:3, 3]).max() < tolerance * scale)


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """(w, x, y, z), w not negative, of a [3, 3] rotation matrix."""
    m = rotation
    # The largest of the four squares is the one to divide by (Shepperd's method): never a small number.
    squares = np.array([1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
                        1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]])  # fmt: skip
    k = int(np.argmax(squares))
    r = math.sqrt(squares[k])
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    q = np.array([(r * r, wx, wy, wz), (wx, r * r, xy, xz), (wy, xy, r * r, yz), (wz, xz, yz, r * r)][k]) / (2 * r)
    w, x, y, z = (float(v) for v in (q if q[0] >= 0 else -q))
    return w, x, y, z
