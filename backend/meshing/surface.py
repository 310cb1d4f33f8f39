"""Gaussians to a closed surface: silhouettes carve a visual hull, depth carves its concavities, marching cubes meshes what is left.

The expected depth of Gaussians is blurred: at silhouettes it mixes near and far, inside translucent parts it lies
behind the visible surface, and thin translucent parts have it in their middle. Their silhouettes are sharp and right
by comparison. So the outline is taken from the silhouettes (visual hull, Laurentini 1994) and depth decides only what
silhouettes cannot show (truncated signed distances, Curless and Levoy 1996), after its penetration has been measured
against the hull. Where it carves the outline away it is the depth of a fog, and less of it is believed. What neither says
anything about counts as solid, so the result is always closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from ..config import SurfaceConfig
from ..errors import SurfaceError
from .pieces import connect_pieces, restore_thin_parts
from .views import Render, in_threads, render_in_batches, sphere_cameras, stacked
from .zbuffer import rasterize_mesh

SOLID_ALPHA = 0.5
"""Opacity from which a pixel belongs to the silhouette."""

LOWEST_DEPTH_ELEVATION = -35.0
"""Degrees. From further below only silhouettes count: the unsupervised underside may be open, and depth would hollow the asset out."""

PENETRATED, PENETRATED_FOG = 0.1, 0.25
"""Share of the pixels whose depth lies nearest to the hull's: what it is at most there is how far light enters. In a fog that differs."""

LOST = 0.01
"""Share of the silhouettes that depth may carve away before it is the depth of a fog."""

THICKENING, WALL = 1.0, 2.5
"""Samples by which depth is doubted where what is solid is nowhere deeper than a wall (in a fog: everywhere): one as thin as the noise of
depth, seen from both sides, would else be perforated. Outlines keep their place, since the hull bounds them."""


@dataclass(frozen=True)
class Grid:
    """A block of cubic voxels, sampled at their corners.

    Attributes:
        origin: [3] position of sample (0, 0, 0).
        spacing: distance between two samples.
        shape: samples along x, y, z.
    """

    origin: np.ndarray
    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray, resolution: int) -> Grid:
        """The box from `low` to `high` and two samples more all round, with `resolution` samples along the longest edge of all that."""
        spacing = float(np.max(high - low)) / (resolution - 5)
        shape = np.ceil((high - low) / spacing).astype(int) + 5
        center = (low + high) / 2
        return cls(center - spacing * (shape - 1) / 2, spacing, (int(shape[0]), int(shape[1]), int(shape[2])))


def extract_surface(
    render: Render, config: SurfaceConfig, progress: Callable[[float], None] = lambda share: None
) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface of what `render` shows.

    Args:
        render: the Gaussians.
        config: resolution and number of views.
        progress: told the share that is done, 0..1.

    Returns:
        vertices [V, 3] float32 and faces [F, 3] int32, closed, counter-clockwise from outside.

    Raises:
        SurfaceError: nothing is opaque enough to be seen as solid.
    """
    center, radius = find_bounds(render)
    progress(0.1)
    cameras = sphere_cameras(config.views, center, radius, config.image_size)
    _, alpha, depth = render_in_batches(render, cameras)
    progress(0.6)
    viewmats, Ks = stacked(cameras)

    silhouettes = np.stack(in_threads(silhouette_distance, list(alpha)))
    coarse = Grid.around(center - radius, center + radius, 48)
    low, high = _solid_bounds(carve_hull(coarse, silhouettes, viewmats, Ks), coarse)
    grid = Grid.around(low, high, config.resolution)
    hull = carve_hull(grid, silhouettes, viewmats, Ks)
    progress(0.75)

    elevation = np.degrees(np.arcsin(np.clip(-viewmats[:, 2, 2], -1.0, 1.0)))  # the viewing direction is the matrix's third row
    trusted = elevation >= LOWEST_DEPTH_ELEVATION
    gap = penetration_depths(depth, silhouettes, mesh_field(hull, grid), viewmats, Ks)

    def carved(share: float, doubted: Callable[[np.ndarray, np.ndarray, float], np.ndarray]) -> np.ndarray:
        """[X, Y, Z] the field, with depth brought forward by what this share of its pixels shows at most, and then `doubted`."""
        surface_depth = depth - np.float32(max(0.0, float(np.quantile(gap, share))) if gap.size else 0.0)
        confidence, cosine = depth_confidence(surface_depth, alpha, silhouettes, Ks)
        confidence[~trusted] = 0.0
        distance = fuse_depth(grid, hull, surface_depth, confidence, cosine, viewmats, Ks)
        field = restore_thin_parts(doubted(hull, ndimage.gaussian_filter(distance, 1.0), grid.spacing), hull)
        return connect_pieces(field, grid.spacing)

    field = carved(PENETRATED, thicken_walls)
    progress(0.9)
    surface = mesh_field(field, grid) if (field < 0).any() else None
    if surface is None or lost_outline(surface, silhouettes, viewmats, Ks) > LOST:
        surface = mesh_field(carved(PENETRATED_FOG, thicken), grid)
    progress(1.0)
    return surface


def find_bounds(render: Render) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of a ball around everything solid, from a few small views.

    Raises:
        SurfaceError: there is nothing solid inside the unit ball.
    """
    cameras = sphere_cameras(16, np.zeros(3), 1.1, 96)
    _, alpha, _ = render_in_batches(render, cameras)
    grid = Grid.around(np.full(3, -1.1), np.full(3, 1.1), 64)
    silhouettes = np.stack([silhouette_distance(a) for a in alpha])
    low, high = _solid_bounds(carve_hull(grid, silhouettes, *stacked(cameras)), grid)
    return (low + high) / 2, float(np.linalg.norm(high - low) / 2)


def silhouette_distance(alpha: np.ndarray) -> np.ndarray:
    """[H, W] float32: signed distance in pixels to the silhouette's edge, positive inside, with sub-pixel precision.

    Pinholes smaller than 1/2500 of the image are closed first: they are translucent spots, and each would drill a tunnel.
    """
    solid = np.nan_to_num(alpha) >= SOLID_ALPHA
    labels, count = ndimage.label(~solid)
    if count > 1:
        areas = np.bincount(labels.ravel())
        solid |= (areas < alpha.size / 2500)[labels] & (labels > 0)
    far = float(sum(alpha.shape))
    if not solid.any():
        return np.full(alpha.shape, -far, dtype=np.float32)
    if solid.all():
        return np.full(alpha.shape, far, dtype=np.float32)
    inside = np.pad(solid, 1, mode="edge")
    edge = (inside[:-2, 1:-1] != solid) | (inside[2:, 1:-1] != solid) | (inside[1:-1, :-2] != solid) | (inside[1:-1, 2:] != solid)
    # At the edge alpha crosses the threshold; its slope says how far from the pixel's centre. Closed pinholes have no edge.
    rise_y, rise_x = np.gradient(alpha)
    slope = np.maximum(np.hypot(rise_x, rise_y), 1e-3)
    at_edge = np.clip((alpha - SOLID_ALPHA) / slope, -1.0, 1.0)
    away, (row, column) = ndimage.distance_transform_edt(~edge, return_indices=True)
    return (np.where(solid, away, -away) + at_edge[row, column]).astype(np.float32)


def carve_hull(grid: Grid, silhouettes: np.ndarray, viewmats: np.ndarray, Ks: np.ndarray) -> np.ndarray:
    """[X, Y, Z] float32: signed distance to the visual hull, negative inside, exact near its surface.

    A point is carved away once two views put it outside their silhouettes: a single view may be wrong. One that some view does not show at
    all is outside, since every camera frames all that is solid.

    Args:
        grid: where to sample.
        silhouettes: [C, H, W] signed distances in pixels (`silhouette_distance`).
        viewmats, Ks: [C, 4, 4], [C, 3, 3].
    """
    field = np.empty(grid.shape, dtype=np.float32)
    views = np.ascontiguousarray(viewmats, np.float32), np.ascontiguousarray(Ks, np.float32)
    origin = grid.origin.astype(np.float32)

    def carve(x: int) -> None:
        _carve_slice(origin, np.float32(grid.spacing), x, silhouettes, *views, field)

    in_threads(carve, range(grid.shape[0]))
    return field


def mesh_field(field: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes at zero of a field that is negative inside; the border counts as outside, so the surface is closed.

    Raises:
        SurfaceError: the field is negative nowhere.
    """
    from skimage.measure import marching_cubes  # slow to import, and the z-buffer's users do not need it

    if not (field < 0).any():
        raise nothing_solid()
    # A sample exactly at zero makes triangles without area.
    padded = np.pad(field, 1, constant_values=grid.spacing)
    padded[np.abs(padded) < 1e-4 * grid.spacing] = 1e-4 * grid.spacing
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="descent")
    vertices = (vertices - 1.0) * grid.spacing + grid.origin
    return vertices.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32)


def penetration_depths(
    depth: np.ndarray, silhouettes: np.ndarray, hull: tuple[np.ndarray, np.ndarray], viewmats: np.ndarray, Ks: np.ndarray
) -> np.ndarray:
    """[P] how far behind the hull depth lies, over all pixels well inside their silhouettes.

    No visible surface lies in front of the hull, and on convex parts, seen by enough views, it lies on it; flat sides lie behind it,
    since few views look along them. So the least of these are what translucency adds to depth.
    """
    gaps = []
    for i in range(0, len(depth), 3):
        _, _, front = rasterize_mesh(*hull, viewmats[i], Ks[i], depth.shape[2], depth.shape[1])
        inside = np.isfinite(front) & (silhouettes[i] > 3.0)
        gaps.append((depth[i] - front)[inside])
    return np.concatenate(gaps)


def lost_outline(surface: tuple[np.ndarray, np.ndarray], silhouettes: np.ndarray, viewmats: np.ndarray, Ks: np.ndarray) -> float:
    """Share of the silhouettes, but for their outermost pixel, that a surface (vertices, faces) leaves empty."""
    inside = lost = 0
    for i in range(0, len(silhouettes), 3):
        face_index, _, _ = rasterize_mesh(*surface, viewmats[i], Ks[i], silhouettes.shape[2], silhouettes.shape[1])
        wanted = silhouettes[i] > 1.0
        inside += int(wanted.sum())
        lost += int((wanted & (face_index < 0)).sum())
    return lost / max(inside, 1)


def depth_confidence(depth: np.ndarray, alpha: np.ndarray, silhouettes: np.ndarray, Ks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel's depth can be trusted.

    Returns:
        confidence: [C, H, W] float32 in 0..1; 0 where alpha is at most one half. Low at silhouettes and at grazing angles.
        cosine: [C, H, W] float32, between the ray and the surface's normal: depth differences times this are distances.
    """
    focal = Ks[:, 0, 0][:, None, None]
    rise_y, rise_x = np.gradient(depth, axis=(1, 2))
    slope = np.hypot(rise_x, rise_y) * focal / np.maximum(depth, 1e-6)
    cosine = 1.0 / np.sqrt(1.0 + slope**2)
    opaque = np.clip((alpha - SOLID_ALPHA) / 0.4, 0.0, 1.0)
    interior = np.clip(silhouettes / 3.0, 0.0, 1.0)
    return (opaque * interior * cosine).astype(np.float32), cosine.astype(np.float32)


def fuse_depth(
    grid: Grid, hull: np.ndarray, depth: np.ndarray, confidence: np.ndarray, cosine: np.ndarray, viewmats: np.ndarray, Ks: np.ndarray
) -> np.ndarray:
    """[X, Y, Z] float32: mean of the views' truncated signed distances, negative inside; samples that no view sees are inside.

    Args:
        grid: where to sample.
        hull: [X, Y, Z] `carve_hull`; samples well outside it are not looked at.
        depth, confidence, cosine: [C, H, W], see `depth_confidence`.
        viewmats, Ks: [C, 4, 4], [C, 3, 3].
    """
    field = np.empty(grid.shape, dtype=np.float32)
    views = np.ascontiguousarray(viewmats, np.float32), np.ascontiguousarray(Ks, np.float32)
    origin = grid.origin.astype(np.float32)

    def fuse(x: int) -> None:
        _fuse_slice(origin, np.float32(grid.spacing), np.float32(4 * grid.spacing), x, hull, depth, confidence, cosine, *views, field)

    in_threads(fuse, range(grid.shape[0]))
    return field


def thicken(hull: np.ndarray, distance: np.ndarray, spacing: float) -> np.ndarray:
    """[X, Y, Z]: what is inside of both, signed and negative inside, everywhere thicker by THICKENING than depth says.

    Args:
        hull: [X, Y, Z] `carve_hull`.
        distance: [X, Y, Z] `fuse_depth`.
        spacing: between two samples.
    """
    return np.maximum(hull, distance - np.float32(THICKENING * spacing))


def thicken_walls(hull: np.ndarray, distance: np.ndarray, spacing: float) -> np.ndarray:
    """As `thicken`, but only where it is thin; the surface of what is thicker stays where depth puts it."""
    deep = ndimage.minimum_filter(thicken(hull, distance, spacing), size=2 * math.ceil(WALL) + 1) < -WALL * spacing
    doubt = 1.0 - ndimage.gaussian_filter(deep.astype(np.float32), 1.0)  # gradually, or the surface would have a step
    return np.maximum(hull, distance - doubt * np.float32(THICKENING * spacing))


def nothing_solid() -> SurfaceError:
    """The error for Gaussians that are all translucent, or none."""
    return SurfaceError(
        "The Gaussians are too translucent to contain a surface.",
        remedy="Optimise for more iterations or raise optimizer.opacity_entropy, then mesh again.",
    )


def _solid_bounds(field: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box around the samples that are inside, one sample larger."""
    solid = np.argwhere(field < 0)
    if len(solid) == 0:
        raise nothing_solid()
    return grid.origin + grid.spacing * (solid.min(axis=0) - 1), grid.origin + grid.spacing * (solid.max(axis=0) + 1)


@njit(cache=True, nogil=True, fastmath=True)
def _carve_slice(origin, spacing, i, silhouettes, viewmats, Ks, field):
    """One x-slice of `carve_hull`: minus the second smallest of the views' silhouette distances, in world units."""
    views, height, width = silhouettes.shape
    far = np.float32(4.0) * spacing
    x = origin[0] + i * spacing
    for j in range(field.shape[1]):
        y = origin[1] + j * spacing
        for k in range(field.shape[2]):
            z = origin[2] + k * spacing
            least = far
            second = far
            is_framed = True
            for c in range(views):
                E = viewmats[c]
                cz = E[2, 0] * x + E[2, 1] * y + E[2, 2] * z + E[2, 3]
                if cz <= 0:
                    is_framed = False
                    break
                u = Ks[c, 0, 0] * (E[0, 0] * x + E[0, 1] * y + E[0, 2] * z + E[0, 3]) / cz + Ks[c, 0, 2] - np.float32(0.5)
                v = Ks[c, 1, 1] * (E[1, 0] * x + E[1, 1] * y + E[1, 2] * z + E[1, 3]) / cz + Ks[c, 1, 2] - np.float32(0.5)
                if u < 0 or v < 0 or u >= width - 1 or v >= height - 1:
                    is_framed = False
                    break
                u0, v0 = int(u), int(v)
                s, t = u - u0, v - v0
                S = silhouettes[c]
                pixels = (1 - t) * ((1 - s) * S[v0, u0] + s * S[v0, u0 + 1]) + t * ((1 - s) * S[v0 + 1, u0] + s * S[v0 + 1, u0 + 1])
                d = pixels * cz / Ks[c, 0, 0]
                if d < second:
                    if d < least:
                        second = least
                        least = d
                    else:
                        second = d
                    if second < -far:
                        break
            field[i, j, k] = -max(second, -far) if is_framed else far


@njit(cache=True, nogil=True, fastmath=True)
def _fuse_slice(origin, spacing, truncation, i, hull, depth, confidence, cosine, viewmats, Ks, field):
    """One x-slice of `fuse_depth`."""
    views, height, width = depth.shape
    x = origin[0] + i * spacing
    for j in range(field.shape[1]):
        y = origin[1] + j * spacing
        for k in range(field.shape[2]):
            field[i, j, k] = -truncation
            if hull[i, j, k] > 2 * spacing:
                continue
            z = origin[2] + k * spacing
            total = np.float32(0)
            weight = np.float32(0)
            for c in range(views):
                E = viewmats[c]
                cz = E[2, 0] * x + E[2, 1] * y + E[2, 2] * z + E[2, 3]
                if cz <= 0:
                    continue
                u = Ks[c, 0, 0] * (E[0, 0] * x + E[0, 1] * y + E[0, 2] * z + E[0, 3]) / cz + Ks[c, 0, 2] - np.float32(0.5)
                v = Ks[c, 1, 1] * (E[1, 0] * x + E[1, 1] * y + E[1, 2] * z + E[1, 3]) / cz + Ks[c, 1, 2] - np.float32(0.5)
                if u < 0 or v < 0 or u >= width - 1 or v >= height - 1:
                    continue
                u0, v0 = int(u), int(v)
                s, t = u - u0, v - v0
                un, vn = int(u + np.float32(0.5)), int(v + np.float32(0.5))
                w = confidence[c, vn, un]
                if w <= 0:
                    continue
                D = depth[c]
                d00, d01, d10, d11 = D[v0, u0], D[v0, u0 + 1], D[v0 + 1, u0], D[v0 + 1, u0 + 1]
                if max(max(d00, d01), max(d10, d11)) - min(min(d00, d01), min(d10, d11)) < truncation:
                    surface = (1 - t) * ((1 - s) * d00 + s * d01) + t * ((1 - s) * d10 + s * d11)
                else:
                    surface = D[vn, un]  # never interpolate across a jump
                signed = (surface - cz) * cosine[c, vn, un]
                if signed <= -truncation:
                    continue
                if signed < 0:
                    w *= 1 + signed / truncation  # what lies behind the surface is less and less its business
                total += w * min(signed, truncation)
                weight += w
            if weight > 0:
                field[i, j, k] = total / weight
