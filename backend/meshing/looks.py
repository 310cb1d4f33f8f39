"""What the texture is baked from: the Gaussians' renders, and what of the mesh is to be seen in each of them.

A look at a megapixel takes a hundred megabytes, so no more than a few exist at once, however many are wanted: they are made anew whenever
they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numba import njit

from ..cameras import Camera
from .mesh import Unwrapped
from .views import Render, in_threads
from .zbuffer import rasterize_mesh, supersampled

FINE = 2
"""Mesh samples along a pixel's edge: visibility is decided, and the texture fitted, at this multiple of the renders' size."""

LEAST_COSINE = np.float32(0.25)
"""Between a surface's normal and the way to the camera. What is seen at a flatter angle than that counts as not seen."""

MOST_AT_ONCE, PIXELS_AT_ONCE = 8, 1 << 22
"""The most views that are looked at together, and the most pixels that these may have, unless one alone has more."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class View:
    """One render and the mesh's visibility in it, at `FINE` times its size.

    Attributes:
        camera: of the render.
        color: [H, W, 3] float32, display space, not premultiplied; meaningless where `alpha` is 0.
        alpha: [H, W] float32.
        face_index, barycentric, depth: [H * FINE, W * FINE, ...], see `rasterize_mesh`.
        margin: [H * FINE, W * FINE] float32 in 0..1: 0 outside the mesh, small next to silhouettes and occlusions.
    """

    camera: Camera
    color: np.ndarray
    alpha: np.ndarray
    face_index: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray
    margin: np.ndarray

    def without_faces(self) -> View:
        """The same less half of its memory: `face_index` and `barycentric` are empty."""
        return replace(self, face_index=np.empty(0, np.int32), barycentric=np.empty((0, 3), np.float32))


@dataclass(frozen=True)
class Looks:
    """All views of a mesh, none of which is kept.

    Attributes:
        mesh: what is looked at.
        render: the Gaussians.
        cameras: of the views, all of one size.
    """

    mesh: Unwrapped
    render: Render
    cameras: Sequence[Camera]

    def map(self, function: Callable[[int, View], _Result], chosen: Sequence[int]) -> Iterator[tuple[int, _Result]]:
        """Each of the `chosen` views' index and `function` of index and view, in order; some are made ahead, in threads."""
        if not chosen:
            return
        first = self.cameras[chosen[0]]
        batch = min(max(PIXELS_AT_ONCE // (first.width * first.height), 1), MOST_AT_ONCE)
        for start in range(0, len(chosen), batch):
            yield from self._batch(function, chosen[start : start + batch])

    def _batch(self, function: Callable[[int, View], _Result], chosen: Sequence[int]) -> list[tuple[int, _Result]]:
        rgb, alpha, _ = self.render([self.cameras[i] for i in chosen])

        def one(k: int) -> tuple[int, _Result]:
            i = chosen[k]
            return i, function(i, look(self.mesh, self.cameras[i], rgb[k], alpha[k]))

        return in_threads(one, range(len(chosen)))


def look(mesh: Unwrapped, camera: Camera, rgb: np.ndarray, alpha: np.ndarray) -> View:
    """The `View` of a render on white, rgb [H, W, 3] and alpha [H, W]."""
    rgb, alpha = np.asarray(rgb, dtype=np.float32), np.ascontiguousarray(alpha, dtype=np.float32)
    fine = supersampled(camera, FINE)
    face_index, barycentric, depth = rasterize_mesh(mesh.vertices, mesh.faces, fine.viewmat, fine.K, fine.width, fine.height)
    # In place: fresh memory costs more than the arithmetic.
    color = rgb - (1.0 - alpha[..., None])
    color /= np.maximum(alpha[..., None], 1e-3)
    np.clip(color, 0.0, 1.0, out=color)
    margin = np.zeros(depth.shape, dtype=np.float32)
    jump = 0.02 * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    _fill_margin(depth, FINE, np.float32(jump), np.float32(3.0 / fine.K[0, 0]), margin)
    return View(camera, color, alpha, face_index, barycentric, depth, margin)


@njit(cache=True, nogil=True)
def _fill_margin(depth, reach, jump, slope, margin):
    """Set `margin` [H, W] where there is a surface: 1 if it continues for `reach` pixels all round, else nearly nothing.

    It continues if depth there (inf: none) varies by no more than `jump` and what a surface seen at up to 70 degrees does
    (`slope`, its rise per pixel and unit of depth).
    """
    height, width = depth.shape
    for v in range(height):
        for u in range(width):
            here = depth[v, u]
            if not np.isfinite(here):
                continue
            nearest, farthest = here, here
            for y in range(max(v - reach, 0), min(v + reach + 1, height)):
                for x in range(max(u - reach, 0), min(u + reach + 1, width)):
                    nearest = min(nearest, depth[y, x])
                    farthest = max(farthest, depth[y, x])
            steady = farthest - nearest < jump + slope * (2 * reach + 1) * here
            margin[v, u] = np.float32(1.0) if steady else np.float32(0.02)
