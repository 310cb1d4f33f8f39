"""Exact visibility of triangle meshes on the CPU: a z-buffer in numba, and an unlit renderer on top of it.

Conventions are those of `backend.cameras`: OpenCV axes, pixel centres at +0.5. Both sides of a triangle are drawn.
Kernels release the GIL, so several cameras may be rendered from several threads; they start no threads of their own.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..cameras import Camera
from .mesh import TexturedMesh

NEAR_PLANE = 1e-3
"""Depth at which triangles are clipped; assets are about 1 across."""


def rasterize_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    viewmat: np.ndarray,
    K: np.ndarray,
    width: int,
    height: int,
    near: float = NEAR_PLANE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest triangle at every pixel centre.

    Triangles that cross the near plane are clipped, not dropped. Where two are equally near the first one wins.

    Args:
        vertices: [V, 3] world positions.
        faces: [F, 3] vertex indices.
        viewmat: [4, 4] world to camera.
        K: [3, 3] pinhole matrix, pixels.
        width, height: image size in pixels.
        near: smallest depth that is drawn.

    Returns:
        face_index: [H, W] int32, -1 where there is nothing.
        barycentric: [H, W, 3] float32, perspective-correct weights of the face's vertices; 0 where there is nothing.
        depth: [H, W] float32, camera z; inf where there is nothing.
    """
    face_index = np.full((height, width), -1, dtype=np.int32)
    barycentric = np.zeros((height, width, 3), dtype=np.float32)
    depth = np.full((height, width), np.inf, dtype=np.float32)
    viewmat = np.asarray(viewmat, dtype=np.float64)
    in_camera = np.asarray(vertices, dtype=np.float64) @ viewmat[:3, :3].T + viewmat[:3, 3]
    _rasterize(
        np.ascontiguousarray(in_camera),
        np.ascontiguousarray(faces, dtype=np.int32),
        np.ascontiguousarray(K, dtype=np.float64),
        float(near),
        face_index,
        barycentric,
        depth,
    )
    return face_index, barycentric, depth


def render_textured(
    mesh: TexturedMesh, camera: Camera, background: np.ndarray | tuple[float, float, float] = (1.0, 1.0, 1.0), supersample: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """The mesh as its texture alone shows it, without light.

    Args:
        mesh: what to draw.
        camera: from where.
        background: RGB in 0..1.
        supersample: samples along each edge of a pixel; their mean is the pixel (box filter).

    Returns:
        rgb: [H, W, 3] float32 in 0..1, on the background.
        alpha: [H, W] float32, the share of the pixel that is covered.
    """
    fine = supersampled(camera, supersample)
    face_index, barycentric, _ = rasterize_mesh(mesh.vertices, mesh.faces, fine.viewmat, fine.K, fine.width, fine.height)
    samples = np.empty((fine.height, fine.width, 3), dtype=np.float32)
    samples[:] = np.asarray(background, dtype=np.float32)
    _shade(
        face_index,
        barycentric,
        np.ascontiguousarray(mesh.faces, dtype=np.int32),
        np.ascontiguousarray(mesh.uv, dtype=np.float32),
        np.ascontiguousarray(mesh.texture, dtype=np.uint8),
        samples,
    )
    covered = (face_index >= 0).astype(np.float32)
    return box_downsample(samples, supersample), box_downsample(covered, supersample)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[N, 3] float32 in 0..1: bilinear lookups in a texture [S, S, 3] uint8 at uv [N, 2], v upwards, clamped at the border."""
    colors = np.empty((len(uv), 3), dtype=np.float32)
    texture, uv = np.ascontiguousarray(texture, dtype=np.uint8), np.ascontiguousarray(uv, dtype=np.float32)
    _sample(texture, uv, colors)
    return colors


def supersampled(camera: Camera, factor: int) -> Camera:
    """The same camera with `factor` times the pixels along each edge."""
    K = camera.K.copy()
    K[:2] *= factor
    return Camera(camera.viewmat, K, camera.width * factor, camera.height * factor)


def box_downsample(image: np.ndarray, factor: int) -> np.ndarray:
    """[H, W, ...]: means over blocks of `factor` x `factor` pixels of an image [H * factor, W * factor, ...]."""
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return image.reshape(height, factor, width, factor, *image.shape[2:]).mean(axis=(1, 3))


@njit(cache=True, nogil=True)
def _rasterize(in_camera, faces, K, near, face_index, barycentric, depth):
    """Fill the three images; see `rasterize_mesh`. `in_camera` [V, 3] float64."""
    height, width = face_index.shape
    fx, fy, skew, cx, cy = K[0, 0], K[1, 1], K[0, 1], K[0, 2], K[1, 2]
    # The corners of the clipped triangle (a quad at most): barycentric coordinates in the whole triangle, image position, 1/z.
    corner = np.empty((4, 3))
    px = np.empty(4)
    py = np.empty(4)
    inverse_z = np.empty(4)
    for f in range(faces.shape[0]):
        z0, z1, z2 = in_camera[faces[f, 0], 2], in_camera[faces[f, 1], 2], in_camera[faces[f, 2], 2]
        if not (z0 >= near or z1 >= near or z2 >= near):  # also true of NaN
            continue
        count = _clip_near(z0, z1, z2, near, corner)
        for c in range(count):
            x = y = z = 0.0
            for k in range(3):
                b = corner[c, k]
                x += b * in_camera[faces[f, k], 0]
                y += b * in_camera[faces[f, k], 1]
                z += b * in_camera[faces[f, k], 2]
            inverse_z[c] = 1.0 / z
            px[c] = (fx * x + skew * y) / z + cx
            py[c] = fy * y / z + cy
        for part in range(count - 2):
            i, j = part + 1, part + 2
            area = (px[i] - px[0]) * (py[j] - py[0]) - (px[j] - px[0]) * (py[i] - py[0])
            if not abs(area) > 1e-14:
                continue
            u_low = max(0.0, np.ceil(min(px[0], px[i], px[j]) - 0.5))
            u_high = min(width - 1.0, np.floor(max(px[0], px[i], px[j]) - 0.5))
            v_low = max(0.0, np.ceil(min(py[0], py[i], py[j]) - 0.5))
            v_high = min(height - 1.0, np.floor(max(py[0], py[i], py[j]) - 0.5))
            for v in range(int(v_low), int(v_high) + 1):
                for u in range(int(u_low), int(u_high) + 1):
                    dx, dy = u + 0.5, v + 0.5
                    # Edge functions, each normalised by the area: inside if none is negative, whichever way the triangle winds.
                    w0 = ((px[j] - px[i]) * (dy - py[i]) - (py[j] - py[i]) * (dx - px[i])) / area
                    wi = ((px[0] - px[j]) * (dy - py[j]) - (py[0] - py[j]) * (dx - px[j])) / area
                    wj = 1.0 - w0 - wi
                    if w0 < -1e-9 or wi < -1e-9 or wj < -1e-9:
                        continue
                    # 1/z is linear in the image, and so is any attribute over z.
                    w0 *= inverse_z[0]
                    wi *= inverse_z[i]
                    wj *= inverse_z[j]
                    z = 1.0 / (w0 + wi + wj)
                    if np.float32(z) >= depth[v, u]:
                        continue
                    depth[v, u] = z
                    face_index[v, u] = f
                    for k in range(3):
                        barycentric[v, u, k] = (w0 * corner[0, k] + wi * corner[i, k] + wj * corner[j, k]) * z


@njit(cache=True, nogil=True)
def _clip_near(z0, z1, z2, near, corner):
    """Clip a triangle at depth `near` (Sutherland-Hodgman); writes barycentric corners [4, 3], returns how many."""
    z = (z0, z1, z2)
    count = 0
    for k in range(3):
        here, there = z[k], z[(k + 1) % 3]
        if here >= near:
            corner[count, :] = 0.0
            corner[count, k] = 1.0
            count += 1
        if (here >= near) != (there >= near):
            s = (near - here) / (there - here)
            corner[count, :] = 0.0
            corner[count, k] = 1.0 - s
            corner[count, (k + 1) % 3] = s
            count += 1
    return count


@njit(cache=True, nogil=True)
def _shade(face_index, barycentric, faces, uv, texture, image):
    """Overwrite the covered pixels of `image` [H, W, 3] with the texture, 0..1."""
    for y in range(face_index.shape[0]):
        for x in range(face_index.shape[1]):
            f = face_index[y, x]
            if f < 0:
                continue
            u = v = 0.0
            for k in range(3):
                u += barycentric[y, x, k] * uv[faces[f, k], 0]
                v += barycentric[y, x, k] * uv[faces[f, k], 1]
            _lookup(texture, u, v, image[y, x])


@njit(cache=True, nogil=True)
def _sample(texture, uv, colors):
    for i in range(uv.shape[0]):
        _lookup(texture, uv[i, 0], uv[i, 1], colors[i])


@njit(cache=True, nogil=True)
def _lookup(texture, u, v, color):
    """Write the bilinear lookup at (u, v) to `color` [3]; texel centres are at +0.5, v = 1 is the upper edge."""
    rows, columns = texture.shape[0], texture.shape[1]
    tx, ty = u * columns - 0.5, (1.0 - v) * rows - 0.5
    tx = min(tx, columns - 1.0) if tx > 0.0 else 0.0  # NaN, too, which no index can be made of
    ty = min(ty, rows - 1.0) if ty > 0.0 else 0.0
    c0, r0 = int(tx), int(ty)
    c1, r1 = min(c0 + 1, columns - 1), min(r0 + 1, rows - 1)
    s, t = tx - c0, ty - r0
    for k in range(3):
        top = (1.0 - s) * texture[r0, c0, k] + s * texture[r0, c1, k]
        bottom = (1.0 - s) * texture[r1, c0, k] + s * texture[r1, c1, k]
        color[k] = ((1.0 - t) * top + t * bottom) / 255.0
