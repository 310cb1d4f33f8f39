"""The base-colour texture: the Gaussians' renders, projected onto the mesh and then fitted to it.

Projection blends, for every texel, the pixels of the views that see it, weighted by how squarely they do. What no view
sees takes the colour of the nearest seen surface. Blending blurs, since views disagree by a fraction of a pixel; so the
result is refined: the texture is the unknown of a linear system, one equation a pixel (its bilinear lookup equals the
render), which is solved by ordered-subset SART steps (Andersen and Kak 1984), a gradient descent whose step each texel
sets for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.spatial import cKDTree

from ..cameras import Camera
from ..config import TextureConfig
from .views import Render, in_threads, render_in_batches, sphere_cameras, stacked
from .zbuffer import rasterize_mesh, supersampled

FINE = 2
"""Mesh samples along a pixel's edge: visibility is decided, and the texture fitted, at this multiple of the renders' size."""

VIEWS_PER_STEP = 8
"""Views that one refinement step looks at."""


@dataclass(frozen=True)
class Unwrapped:
    """A mesh with UV coordinates, not yet with a texture; fields as in `TexturedMesh`."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


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


def bake_texture(
    mesh: Unwrapped,
    render: Render,
    config: TextureConfig,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """[S, S, 3] uint8, sRGB: the mesh's texture as the Gaussians show it; every texel has a colour.

    Args:
        mesh: what is to be textured.
        render: the Gaussians.
        config: size, views, refinement.
        rng: turns the cameras and orders the refinement's batches.
        progress: told the share that is done, 0..1.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    center = (low + high) / 2.0
    radius = float(np.linalg.norm(mesh.vertices - center, axis=1).max())
    cameras = sphere_cameras(config.views, center, radius, config.image_size, turn=float(rng.uniform(0.0, 360.0)))
    rgb, alpha, _ = render_in_batches(render, cameras)
    progress(0.4)
    views = in_threads(lambda i: look(mesh, cameras[i], rgb[i], alpha[i]), range(len(cameras)))
    progress(0.5)

    face_index, barycentric = texel_map(mesh, config.size)
    covered = face_index >= 0
    corners = mesh.faces[face_index[covered]]
    weights = barycentric[covered][..., None]
    positions = (mesh.vertices[corners] * weights).sum(axis=1)
    normals = (mesh.normals[corners] * weights).sum(axis=1)
    color, seen = project(positions, normals, views)
    color[~seen] = nearest_color(positions, color, seen)
    texture = np.zeros((config.size, config.size, 3), dtype=np.float32)
    texture[covered] = color
    texture = dilate(texture, covered)
    progress(0.7)

    if config.refine > 0:
        texture = refine(texture, mesh, views, config.refine, rng, lambda share: progress(0.7 + 0.3 * share))
        texture = dilate(texture, covered)
    progress(1.0)
    return np.round(np.clip(texture, 0.0, 1.0) * 255.0).astype(np.uint8)


def look(mesh: Unwrapped, camera: Camera, rgb: np.ndarray, alpha: np.ndarray) -> View:
    """The `View` of a render on white, rgb [H, W, 3] and alpha [H, W]."""
    fine = supersampled(camera, FINE)
    face_index, barycentric, depth = rasterize_mesh(mesh.vertices, mesh.faces, fine.viewmat, fine.K, fine.width, fine.height)
    color = (rgb - (1.0 - alpha[..., None])) / np.maximum(alpha[..., None], 1e-3)
    margin = np.zeros(depth.shape, dtype=np.float32)
    jump = 0.02 * float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    _fill_margin(depth, FINE, np.float32(jump), np.float32(3.0 / fine.K[0, 0]), margin)
    return View(camera, np.clip(color, 0.0, 1.0).astype(np.float32), alpha.astype(np.float32), face_index, barycentric, depth, margin)


def texel_map(mesh: Unwrapped, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The face under every texel's centre, [S, S] int32 (-1: none), and its barycentric coordinates there, [S, S, 3]."""
    in_texture = np.stack([mesh.uv[:, 0] * size, (1.0 - mesh.uv[:, 1]) * size, np.ones(len(mesh.uv))], axis=1)
    face_index, barycentric, _ = rasterize_mesh(in_texture, mesh.faces, np.eye(4), np.eye(3), size, size)
    return face_index, barycentric


def project(positions: np.ndarray, normals: np.ndarray, views: list[View]) -> tuple[np.ndarray, np.ndarray]:
    """Blend the views that see each point.

    Args:
        positions, normals: [M, 3], the points.
        views: what may see them.

    Returns:
        color: [M, 3] float32; 0 where not seen.
        seen: [M] bool.
    """
    viewmats, Ks = stacked([view.camera for view in views])
    images = np.stack([np.concatenate([view.color, view.alpha[..., None]], axis=-1) for view in views])
    depths = np.stack([view.depth for view in views])
    margins = np.stack([view.margin for view in views])
    centers = np.stack([view.camera.position for view in views])
    tolerance = 0.01 * float(np.linalg.norm(np.ptp(positions, axis=0)))
    total = np.zeros((len(positions), 4), dtype=np.float32)
    points = np.ascontiguousarray(positions, np.float32), np.ascontiguousarray(normals, np.float32)
    cameras = np.ascontiguousarray(viewmats, np.float32), np.ascontiguousarray(Ks, np.float32), np.ascontiguousarray(centers, np.float32)

    def gather(start: int) -> None:
        _project(*points, start, min(start + 65536, len(positions)), images, depths, margins, *cameras, np.float32(tolerance), total)

    in_threads(gather, range(0, len(positions), 65536))
    seen = total[:, 3] > 1e-6
    return total[:, :3] / np.maximum(total[:, 3:], 1e-6), seen


def nearest_color(positions: np.ndarray, color: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """[U, 3] float32: for each of the U points not seen, the mean colour of the nearest seen ones in space; grey if there are none."""
    unseen = positions[~seen]
    if len(unseen) == 0 or not seen.any():
        return np.full((len(unseen), 3), 0.5, dtype=np.float32)
    stride = max(1, int(seen.sum()) // 100_000)
    known, known_color = positions[seen][::stride], color[seen][::stride]
    _, neighbours = cKDTree(known).query(unseen, k=min(8, len(known)))
    return known_color[np.reshape(neighbours, (len(unseen), -1))].mean(axis=1)


def dilate(texture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """[S, S, 3]: texels outside the charts take the colour of the nearest inside, so that lookups and mipmaps never mix in a background."""
    if not covered.any():
        return texture
    row, column = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return texture[row, column]


def refine(
    texture: np.ndarray,
    mesh: Unwrapped,
    views: list[View],
    steps: int,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda share: None,
) -> np.ndarray:
    """[S, S, 3] float32: the texture after `steps` steps towards reproducing the views.

    Each step looks at a few views, drawn without replacement until all have been seen, and moves every texel by the
    weighted mean error of the samples it takes part in. The steps shrink to let the views' disagreement average out.
    """
    equations = in_threads(lambda view: _equations(view, mesh, texture.shape[0]), views)
    planes = np.ascontiguousarray(texture.transpose(2, 0, 1).reshape(3, -1))
    queue: list[int] = []
    for step in range(steps):
        if len(queue) < min(VIEWS_PER_STEP, len(views)):
            queue = [int(i) for i in rng.permutation(len(views))]
        batch, queue = queue[:VIEWS_PER_STEP], queue[VIEWS_PER_STEP:]
        _refine_step(planes, texture.shape[0], [equations[i] for i in batch], np.float32(1.0 / (1.0 + 4.0 * step / steps)))
        progress((step + 1) / steps)
    return np.clip(planes, 0.0, 1.0).reshape(3, *texture.shape[:2]).transpose(1, 2, 0)


def _refine_step(planes: np.ndarray, size: int, equations: list[tuple[np.ndarray, ...]], relaxation: np.float32) -> None:
    """One step of `refine` on the colour planes [3, S * S], in place; a thread a plane, so that sums never depend on their number."""
    place, share, weight, target = (np.concatenate([views[k] for views in equations]) for k in range(4))
    columns = np.ascontiguousarray(target.T)
    in_threads(lambda k: _refine_plane(planes[k], size, place, share, weight, columns[k], relaxation), range(3))


def _equations(view: View, mesh: Unwrapped, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The linear equations of one view: bilinear lookup at `place`, `share` = render's colour, for P of its fine pixels.

    Returns:
        place: [P] int32, index of the upper left texel of the four.
        share: [P, 2] float32, shares of the right and of the lower ones.
        weight: [P] float32.
        target: [P, 3] float32.
    """
    count = int((view.margin >= 1.0).sum())
    place, weight = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.float32)
    share, target = np.empty((count, 2), dtype=np.float32), np.empty((count, 3), dtype=np.float32)
    center = view.camera.position.astype(np.float32)
    surface = view.face_index, view.barycentric, view.margin, mesh.vertices, mesh.normals, mesh.faces, mesh.uv
    used = _fill_equations(view.color, view.alpha, *surface, center, size, place, share, weight, target)
    return place[:used], share[:used], weight[:used], target[:used]


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


@njit(cache=True, nogil=True)
def _fill_equations(
    color, alpha, face_index, barycentric, margin, vertices, normals, faces, uv, center, size, place, share, weight, target
):
    """Fill the arrays of `_equations`; returns how many of their rows are used."""
    height, width = alpha.shape
    fine = margin.shape[0] // height
    used = 0
    point, normal = np.empty(3, dtype=np.float32), np.empty(3, dtype=np.float32)
    for v in range(margin.shape[0]):
        for u in range(margin.shape[1]):
            if margin[v, u] < 1:
                continue
            point[:] = 0
            normal[:] = 0
            tx = ty = np.float32(0)
            for k in range(3):
                i, b = faces[face_index[v, u], k], barycentric[v, u, k]
                tx += b * uv[i, 0]
                ty += b * uv[i, 1]
                for axis in range(3):
                    point[axis] += b * vertices[i, axis]
                    normal[axis] += b * normals[i, axis]
            facing = ray = length = np.float32(0)
            for axis in range(3):
                towards = center[axis] - point[axis]
                facing += towards * normal[axis]
                ray += towards * towards
                length += normal[axis] * normal[axis]
            cosine = facing / (np.sqrt(ray * length) + np.float32(1e-9))
            x = min(max((u + np.float32(0.5)) / fine - np.float32(0.5), np.float32(0)), width - np.float32(1.001))
            y = min(max((v + np.float32(0.5)) / fine - np.float32(0.5), np.float32(0)), height - np.float32(1.001))
            x0, y0 = int(x), int(y)
            s, t = x - x0, y - y0
            a, b, c, d = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
            opacity = a * alpha[y0, x0] + b * alpha[y0, x0 + 1] + c * alpha[y0 + 1, x0] + d * alpha[y0 + 1, x0 + 1]
            if opacity < np.float32(0.5) or cosine < np.float32(0.15):
                continue
            for k in range(3):
                target[used, k] = a * color[y0, x0, k] + b * color[y0, x0 + 1, k] + c * color[y0 + 1, x0, k] + d * color[y0 + 1, x0 + 1, k]
            weight[used] = cosine * cosine * opacity * opacity
            tx = min(max(tx * size - np.float32(0.5), np.float32(0)), size - np.float32(1.01))
            ty = min(max((1 - ty) * size - np.float32(0.5), np.float32(0)), size - np.float32(1.01))
            column, row = int(tx), int(ty)
            place[used] = row * size + column
            share[used, 0] = tx - column
            share[used, 1] = ty - row
            used += 1
    return used


@njit(cache=True, nogil=True)
def _project(positions, normals, start, stop, images, depths, margins, viewmats, Ks, centers, tolerance, total):
    """Add weighted colour and weight of all views to `total` [M, 4] for the points from `start` to `stop`; see `project`."""
    views, height, width, _ = images.shape
    fine = depths.shape[1] // height
    sample = np.empty(4, dtype=np.float32)
    for m in range(start, stop):
        x, y, z = positions[m]
        length = np.sqrt(normals[m, 0] ** 2 + normals[m, 1] ** 2 + normals[m, 2] ** 2) + np.float32(1e-9)
        for c in range(views):
            rx, ry, rz = centers[c, 0] - x, centers[c, 1] - y, centers[c, 2] - z
            cosine = (normals[m, 0] * rx + normals[m, 1] * ry + normals[m, 2] * rz) / (length * np.sqrt(rx * rx + ry * ry + rz * rz))
            if cosine < np.float32(0.1):
                continue
            E = viewmats[c]
            cz = E[2, 0] * x + E[2, 1] * y + E[2, 2] * z + E[2, 3]
            u = Ks[c, 0, 0] * (E[0, 0] * x + E[0, 1] * y + E[0, 2] * z + E[0, 3]) / cz + Ks[c, 0, 2]
            v = Ks[c, 1, 1] * (E[1, 0] * x + E[1, 1] * y + E[1, 2] * z + E[1, 3]) / cz + Ks[c, 1, 2]
            if not (u >= 0.5 and v >= 0.5 and u < width - 0.5 and v < height - 0.5):
                continue
            fu, fv = int(u * fine), int(v * fine)
            # A tilted surface changes depth within a pixel: allow for it.
            slant = np.sqrt(1 - min(cosine * cosine, np.float32(1))) / cosine
            if abs(depths[c, fv, fu] - cz) > tolerance + slant * cz / (Ks[c, 0, 0] * fine):
                continue
            u -= np.float32(0.5)
            v -= np.float32(0.5)
            u0, v0 = int(u), int(v)
            s, t = u - u0, v - v0
            upper_left, upper_right, lower_left, lower_right = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
            for k in range(4):
                sample[k] = (
                    upper_left * images[c, v0, u0, k]
                    + upper_right * images[c, v0, u0 + 1, k]
                    + lower_left * images[c, v0 + 1, u0, k]
                    + lower_right * images[c, v0 + 1, u0 + 1, k]
                )
            alpha = sample[3]
            if alpha < np.float32(0.5):
                continue
            weight = cosine**4 * alpha**2 * margins[c, fv, fu]
            total[m, 3] += weight
            for k in range(3):
                total[m, k] += weight * sample[k]


@njit(cache=True, nogil=True)
def _refine_plane(plane, size, place, share, weight, target, relaxation):
    """One step of `refine` on one colour plane [S * S], in place."""
    moved = np.zeros(plane.shape[0], dtype=np.float32)
    touched = np.zeros(plane.shape[0], dtype=np.float32)
    for p in range(place.shape[0]):
        i, s, t = place[p], share[p, 0], share[p, 1]
        a, b, c, d = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
        error = weight[p] * (target[p] - a * plane[i] - b * plane[i + 1] - c * plane[i + size] - d * plane[i + size + 1])
        moved[i] += a * error
        moved[i + 1] += b * error
        moved[i + size] += c * error
        moved[i + size + 1] += d * error
        touched[i] += a * weight[p]
        touched[i + 1] += b * weight[p]
        touched[i + size] += c * weight[p]
        touched[i + size + 1] += d * weight[p]
    for i in range(plane.shape[0]):
        # The constant keeps texels that few samples touch near the blend they started from.
        plane[i] += relaxation * moved[i] / (touched[i] + np.float32(0.05))
