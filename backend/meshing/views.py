"""Where the Gaussians are looked at from when they become a mesh, and what such a look returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numba
import numpy as np

from ..cameras import Camera, intrinsics, look_at, orbit_position

if TYPE_CHECKING:
    from ..gaussians.model import GaussianModel

Render = Callable[[Sequence[Camera]], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Renders some cameras of one size: rgb [C, H, W, 3] on white, alpha [C, H, W], expected depth [C, H, W]; all float32."""

LOWEST_ELEVATION = -60.0
"""Degrees. The optimisation looks little from below, yet a closed mesh has an underside that needs a shape and a colour."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def sphere_cameras(count: int, center: np.ndarray, radius: float, size: int, fov: float = 40.0, turn: float = 0.0) -> list[Camera]:
    """`count` square cameras, evenly spread over all directions above `LOWEST_ELEVATION`, that each see a whole ball.

    The directions are a Fibonacci lattice on the spherical zone, so every part of it gets the same density of views.

    Args:
        count: how many.
        center, radius: [3] the ball that fills the image.
        size: pixels along an edge.
        fov: vertical field of view, degrees; the distance follows from it.
        turn: degrees by which the lattice is turned about Z, so that two sets differ.
    """
    distance = 1.02 * radius / np.sin(np.radians(fov) / 2)
    lowest = np.sin(np.radians(LOWEST_ELEVATION))
    golden_angle = 180.0 * (3.0 - np.sqrt(5.0))
    cameras = []
    for i in range(count):
        elevation = np.degrees(np.arcsin(lowest + (1.0 - lowest) * (i + 0.5) / count))
        position = center + orbit_position(turn + golden_angle * i, elevation, distance)
        cameras.append(Camera(look_at(position, center), intrinsics(fov, size, size), size, size))
    return cameras


def stacked(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """viewmats [C, 4, 4] and Ks [C, 3, 3], float64."""
    return np.stack([c.viewmat for c in cameras]), np.stack([c.K for c in cameras])


def render_in_batches(render: Render, cameras: Sequence[Camera], batch: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`render`, a few cameras at a time, so that its memory does not grow with their number."""
    parts = [render(cameras[i : i + batch]) for i in range(0, len(cameras), batch)]
    rgb, alpha, depth = (np.concatenate([np.asarray(part[k], dtype=np.float32) for part in parts]) for k in range(3))
    return rgb, alpha, depth


def gaussian_render(model: GaussianModel, implementation: str = "auto") -> Render:
    """The Gaussians as a `Render`, without gradients, drawn by an implementation of `rasterization`."""
    from ..gaussians.rendering import render_cameras

    def render(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rgb, alpha, depth = (values.cpu().numpy() for values in render_cameras(model, cameras, implementation=implementation))
        return rgb, alpha[..., 0], depth[..., 0]

    return render


def with_pixel_blur(model: GaussianModel, fov: float, distance: float, size: int) -> GaussianModel:
    """A copy whose Gaussians have the width that the optimisation saw, at whatever size they are rendered later.

    The rasteriser widens every splat by a variance of 0.3 square pixels (its `eps2d`), and the optimisation makes the Gaussians
    narrower to compensate. At 64 pixels that is a good part of a chair's leg, which is missing from larger renders. Here the
    variance is made part of the Gaussians, as Mip-Splatting's 3D filter does (Yu et al. 2024, section 4.1; there with less opacity
    instead, as it is there while optimising).

    Args:
        model: as optimised.
        fov, distance, size: the optimisation's cameras: vertical field of view (degrees), distance of the asset, pixels along an edge.
    """
    from ..gaussians.model import GaussianModel

    groups = dict(model.state_dict())
    groups["scales"] = 0.5 * ((2.0 * groups["scales"]).exp() + pixel_blur(fov, distance, size)).log()
    return GaussianModel(groups)


def pixel_blur(fov: float, distance: float, size: int) -> float:
    """The variance, in square world units, by which the rasteriser widens what stands at that distance.

    Args:
        fov, distance, size: the camera's vertical field of view (degrees), how far away it looks, its pixels along an edge.
    """
    from ..gaussians.rasterize.conventions import EPS2D

    return EPS2D * (2.0 * distance * float(np.tan(np.radians(fov) / 2.0)) / size) ** 2


def in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """`function` of each item, in order, on as many threads as numba is allowed; for kernels that release the GIL.

    Threads of our own rather than numba's parallel loops: its fallback threading layer aborts the process when two
    Python threads enter it, and a worker has more than one.
    """
    with ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS) as pool:  # type: ignore[attr-defined]  # numba sets it while loading
        return list(pool.map(function, items))
