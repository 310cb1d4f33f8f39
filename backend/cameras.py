"""Orbit cameras, in numpy, shared by the optimiser, the built-in world and the Blender add-on.

World (Blender's): Z up, the asset's front faces -Y. Azimuth 0 looks at the front (camera at -Y) and grows
counter-clockwise seen from above, so azimuth 90 stands at +X; elevation grows upwards. Degrees throughout.
Cameras are OpenCV world-to-camera matrices: x right, y down, z forward; pixel centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

WORLD_UP = np.array([0.0, 0.0, 1.0])
ORIGIN = np.zeros(3)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        viewmat: [4, 4] float64, world to camera, OpenCV axes.
        K: [3, 3] float64, pixels.
        width, height: image size in pixels.
    """

    viewmat: np.ndarray
    K: np.ndarray
    width: int
    height: int

    @property
    def position(self) -> np.ndarray:
        """[3] the camera's centre in world coordinates."""
        return -self.viewmat[:3, :3].T @ self.viewmat[:3, 3]


def orbit_position(azimuth: float, elevation: float, distance: float) -> np.ndarray:
    """[3] the point at these angles (degrees) and distance from the origin."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return distance * np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])


def look_at(position: np.ndarray, target: np.ndarray = ORIGIN) -> np.ndarray:
    """[4, 4] world-to-camera matrix of a camera at `position` that looks at `target`, Z up.

    Straight above or below, where "up" is undefined, the image's up is +Y (the view that azimuth 0 tends to).
    """
    forward = np.asarray(target, dtype=np.float64) - np.asarray(position, dtype=np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, WORLD_UP)
    if np.linalg.norm(right) < 1e-9:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    viewmat = np.eye(4)
    viewmat[:3, :3] = np.stack([right, down, forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ position
    return viewmat


def intrinsics(fov: float, width: int, height: int) -> np.ndarray:
    """[3, 3] pinhole matrix with vertical field of view `fov` (degrees) and square pixels."""
    focal = 0.5 * height / np.tan(np.radians(fov) / 2)
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def orbit_viewmats(azimuths: ArrayLike, elevations: ArrayLike, distances: ArrayLike) -> np.ndarray:
    """[..., 4, 4] world-to-camera matrices of cameras at these angles (degrees) and distances, [...] each, that look at the origin, Z up.

    `look_at` in closed form. Straight above or below the image keeps the azimuth's "up", the limit of what is seen on the way there.
    """
    a, e, distances = np.broadcast_arrays(np.radians(azimuths), np.radians(elevations), distances)
    sin_a, cos_a, sin_e, cos_e = np.sin(a), np.cos(a), np.sin(e), np.cos(e)
    viewmats = np.zeros((*a.shape, 4, 4))
    viewmats[..., 0, 0], viewmats[..., 0, 1] = cos_a, sin_a
    viewmats[..., 1, 0], viewmats[..., 1, 1], viewmats[..., 1, 2] = sin_e * sin_a, -sin_e * cos_a, -cos_e
    viewmats[..., 2, 0], viewmats[..., 2, 1], viewmats[..., 2, 2] = -cos_e * sin_a, cos_e * cos_a, -sin_e
    viewmats[..., 2, 3], viewmats[..., 3, 3] = distances, 1.0
    return viewmats


def orbit_camera(azimuth: float, elevation: float, distance: float, fov: float, width: int, height: int | None = None) -> Camera:
    """The camera at these angles (degrees) that looks at the origin."""
    height = width if height is None else height
    return Camera(orbit_viewmats(azimuth, elevation, distance), intrinsics(fov, width, height), width, height)
