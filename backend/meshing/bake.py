"""The base-colour texture: the Gaussians' renders, projected onto the mesh and then fitted to it.

Projection blends, for every texel, the pixels of the views that see it, weighted by how squarely they do. What none of them sees
continues what is around it (`unseen`). Blending blurs, since views disagree by a fraction of a pixel; so the result is refined (`fitting`).
Memory grows with the texture's size, not with the number of views.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..config import TextureConfig
from .fitting import EquationStore, make_plan, refine
from .looks import LEAST_COSINE, Looks, View
from .mesh import Unwrapped
from .unseen import continued_colors
from .views import LOWEST_ELEVATION, Render, in_threads, sphere_cameras
from .zbuffer import rasterize_mesh

POINTS_AT_ONCE = 65536
"""Texels that a thread projects at once."""

_TOUCHED_AT = np.array([[1, 1, 1], [3, 0, 0], [0, 3, 0], [0, 0, 3]], np.float32) / 3
"""Barycentric coordinates of the points of a tiny face that claim the texels they lie in: its middle first, then its corners."""


def bake_texture(
    mesh: Unwrapped,
    render: Render,
    config: TextureConfig,
    rng: np.random.Generator,
    progress: Callable[[float], None] = lambda share: None,
    lowest: float = LOWEST_ELEVATION,
) -> np.ndarray:
    """[S, S, 3] uint8, sRGB: the mesh's texture as the Gaussians show it; every texel has a colour.

    Args:
        mesh: what is to be textured.
        render: the Gaussians. It may be asked for the same view several times, and has to give the same.
        config: size, views, refinement.
        rng: turns the cameras and orders the refinement's batches.
        progress: told the share that is done, 0..1.
        lowest: elevation in degrees below which the Gaussians were not looked at. Views from there are used for what no other shows, and
            only roughly (`unseen`); those from above the horizon always count.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    center = (low + high) / 2.0
    radius = float(np.linalg.norm(mesh.vertices - center, axis=1).max())
    cameras = sphere_cameras(config.views, center, radius, config.image_size, turn=float(rng.uniform(0.0, 360.0)))
    height = center[2] + np.linalg.norm(cameras[0].position - center) * np.sin(np.radians(min(lowest, 0.0)))
    below = Looks(mesh, render, [camera for camera in cameras if camera.position[2] < height])
    looks = Looks(mesh, render, [camera for camera in cameras if camera.position[2] >= height])
    plan = make_plan(config.refine, len(looks.cameras), rng)
    store = EquationStore(looks, config.size, plan)

    face_index, barycentric = texel_map(mesh, config.size)
    covered = face_index >= 0
    corners = mesh.faces[face_index[covered]]
    weights = barycentric[covered][..., None]
    del face_index, barycentric
    texels = Projection((mesh.vertices[corners] * weights).sum(axis=1), (mesh.normals[corners] * weights).sum(axis=1))
    vertices = Projection(mesh.vertices, mesh.normals)

    def take_in(i: int, view: View) -> View:
        store.offer(i, view)
        return view.without_faces()

    for i, view in looks.map(take_in, range(len(looks.cameras))):
        texels.add(view)
        vertices.add(view)
        progress(0.6 * (i + 1) / len(cameras))
    color, seen = texels.result()
    if not seen.all():
        guesses = Projection(mesh.vertices, mesh.normals)
        for i, view in below.map(lambda _, view: view.without_faces(), range(len(below.cameras))):
            guesses.add(view)
            progress(0.6 * (len(looks.cameras) + i + 1) / len(cameras))
        colors = continued_colors(mesh, vertices.result(), guesses.result())
        color[~seen] = (colors[corners[~seen]] * weights[~seen]).sum(axis=1)
    texture = np.zeros((config.size, config.size, 3), dtype=np.float32)
    texture[covered] = color
    texture = dilate(texture, covered)
    progress(0.7)

    if plan:
        texture = refine(texture, store, plan, lambda share: progress(0.7 + 0.3 * share))
        texture = dilate(texture, covered)
    progress(1.0)
    return np.round(np.clip(texture, 0.0, 1.0) * 255.0).astype(np.uint8)


def texel_map(mesh: Unwrapped, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The face of every texel, [S, S] int32 (-1: none), and the barycentric coordinates of its point there, [S, S, 3].

    That is the face under the texel's centre. A chart that lies under none, being smaller than a texel, gets the free texels that it
    touches, or it would show the colour of whatever chart is the nearest: with thousands of charts in a small texture many do.
    """
    in_texture = np.stack([mesh.uv[:, 0] * size, (1.0 - mesh.uv[:, 1]) * size, np.ones(len(mesh.uv))], axis=1)
    face_index, barycentric, _ = rasterize_mesh(in_texture, mesh.faces, np.eye(4), np.eye(3), size, size)
    faces = faces_without_texel(mesh.faces, face_index)
    for weights in _TOUCHED_AT:
        at = np.einsum("k,fkd->fd", weights, in_texture[mesh.faces[faces], :2])
        column, row = np.clip(at.astype(np.int64), 0, size - 1).T
        is_free = face_index[row, column] < 0
        face_index[row[is_free], column[is_free]] = faces[is_free]
        barycentric[row[is_free], column[is_free]] = weights
    return face_index, barycentric


def faces_without_texel(faces: np.ndarray, face_index: np.ndarray) -> np.ndarray:
    """The indices of those of the faces [F, 3] whose whole chart is missing from `face_index` [S, S]; charts share no vertices."""
    corners = faces.ravel()
    count = int(faces.max(initial=-1)) + 1
    links = coo_matrix((np.ones(len(corners), np.int8), (corners, np.repeat(faces[:, 0], 3))), (count, count))
    _, chart_of_vertex = connected_components(links, directed=False)
    chart = chart_of_vertex[faces[:, 0]]
    has_texel = np.zeros(count, bool)
    has_texel[chart[face_index[face_index >= 0]]] = True
    return np.flatnonzero(~has_texel[chart])


class Projection:
    """Blends, for each of some points, the views that see it."""

    def __init__(self, positions: np.ndarray, normals: np.ndarray) -> None:
        """Of points at `positions` [M, 3] with `normals` [M, 3]; no view has been added yet."""
        self._tolerance = np.float32(0.01 * float(np.linalg.norm(np.ptp(positions, axis=0))))
        self._points = np.ascontiguousarray(positions, np.float32), np.ascontiguousarray(normals, np.float32)
        self._total = np.zeros((len(positions), 4), dtype=np.float32)

    def add(self, view: View) -> None:
        """Blend in a view. The order of the views matters to the last digit only."""
        camera = view.camera
        seen_from = camera.viewmat.astype(np.float32), camera.K.astype(np.float32), camera.position.astype(np.float32)

        def gather(start: int) -> None:
            stop = min(start + POINTS_AT_ONCE, len(self._total))
            pictures = view.color, view.alpha, view.depth, view.margin
            _project(*self._points, start, stop, *pictures, *seen_from, self._tolerance, self._total)

        in_threads(gather, range(0, len(self._total), POINTS_AT_ONCE))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The points' colours [M, 3] float32, 0 where not seen; and whether they are seen, [M] bool."""
        seen = self._total[:, 3] > 1e-6
        return self._total[:, :3] / np.maximum(self._total[:, 3:], 1e-6), seen


def dilate(texture: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """[S, S, 3]: texels outside the charts take the colour of the nearest inside, so that lookups and mipmaps never mix in a background."""
    if not covered.any():
        return texture
    row, column = ndimage.distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return texture[row, column]


@njit(cache=True, nogil=True)
def _project(positions, normals, start, stop, color, alpha, depth, margin, E, K, center, tolerance, total):
    """Add a view's weighted colour and weight to `total` [M, 4] for the points from `start` to `stop`; see `Projection`."""
    height, width = alpha.shape
    fine = depth.shape[0] // height
    for m in range(start, stop):
        x, y, z = positions[m]
        length = np.sqrt(normals[m, 0] ** 2 + normals[m, 1] ** 2 + normals[m, 2] ** 2) + np.float32(1e-9)
        rx, ry, rz = center[0] - x, center[1] - y, center[2] - z
        cosine = (normals[m, 0] * rx + normals[m, 1] * ry + normals[m, 2] * rz) / (length * np.sqrt(rx * rx + ry * ry + rz * rz))
        if cosine < LEAST_COSINE:
            continue
        cz = E[2, 0] * x + E[2, 1] * y + E[2, 2] * z + E[2, 3]
        u = K[0, 0] * (E[0, 0] * x + E[0, 1] * y + E[0, 2] * z + E[0, 3]) / cz + K[0, 2]
        v = K[1, 1] * (E[1, 0] * x + E[1, 1] * y + E[1, 2] * z + E[1, 3]) / cz + K[1, 2]
        if not (u >= 0.5 and v >= 0.5 and u < width - 0.5 and v < height - 0.5):
            continue
        fu, fv = int(u * fine), int(v * fine)
        # A tilted surface changes depth within a pixel: allow for it.
        slant = np.sqrt(1 - min(cosine * cosine, np.float32(1))) / cosine
        if abs(depth[fv, fu] - cz) > tolerance + slant * cz / (K[0, 0] * fine):
            continue
        u -= np.float32(0.5)
        v -= np.float32(0.5)
        u0, v0 = int(u), int(v)
        s, t = u - u0, v - v0
        a, b, c, d = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
        opacity = np.float32(a * alpha[v0, u0] + b * alpha[v0, u0 + 1] + c * alpha[v0 + 1, u0] + d * alpha[v0 + 1, u0 + 1])
        if opacity < np.float32(0.5):
            continue
        weight = cosine**4 * opacity**2 * margin[fv, fu]
        total[m, 3] += weight
        for k in range(3):
            upper = a * color[v0, u0, k] + b * color[v0, u0 + 1, k]
            total[m, k] += weight * np.float32(upper + c * color[v0 + 1, u0, k] + d * color[v0 + 1, u0 + 1, k])
