"""Pictures of the built-in world as linear channels: a z-buffer in numba, parallel over views.

`meshing.zbuffer` rasterises any mesh and returns faces and barycentrics. This kernel is a second one on purpose: banks
of thousands of views are made before a run can start, so projection, visibility, patterns, antialiasing and
quantisation are fused here, and nothing larger than one view's sample buffer ever exists.

Light is fixed in the world and shading depends on the surface normal alone, never on the camera: a solid object with
painted light can reproduce every picture exactly.

numba's threading layer aborts when two Python threads enter it: call from one thread at a time.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numba
import numpy as np

from ..cameras import orbit_camera
from .shapes import Shape, build

FOV = 40.0
"""Vertical field of view of the built-in world, degrees."""

CHANNELS: tuple[str, ...] = ("alpha", "fixed_r", "fixed_g", "fixed_b", "primary", "stripes", "spots", "grain", "sheen")
"""Coverage; the lit colours that belong to the object itself; the lit part that takes the prompt's colour, and that part
again times each pattern's mask; and the reflections of the same part if it were polished metal."""

SAMPLES = 3
"""Samples along a pixel's edge."""

CHANNEL_STEPS = 252
CHANNEL_SCALE = 1 / CHANNEL_STEPS
"""A stored byte b means b / 252: 252 = 28 * 9 makes the coverage of 3 x 3 samples exact. The other channels are rounded
down, so that coverage still bounds their sum and composed pictures stay within 0..1."""

LIGHT = np.array([0.45, -0.35, 0.82]) / np.linalg.norm([0.45, -0.35, 0.82])
"""Direction towards the lamp: in front, to the right, above."""

_EDGE = 1e-5
"""Barycentric slack: rounding must not let a sample on a shared edge slip between both faces."""

_AMBIENT, _SKY, _LAMP = 0.49, 0.235, 0.28
"""Their sum is the largest possible shading, below 1."""


@dataclass(frozen=True)
class LitShape:
    """A shape with its light at every vertex.

    Attributes:
        shape: the model.
        light: [N, 2] float32 in 0..1: shading of paint, reflections of polished metal.
    """

    shape: Shape
    light: np.ndarray


@functools.lru_cache(maxsize=32)
def lit_shape(name: str) -> LitShape:
    """The model of an object with its light, built once a process."""
    shape = build(name)
    return LitShape(shape, shade(shape.normals, ambient_visibility(shape)))


def shade(normals: np.ndarray, visibility: np.ndarray) -> np.ndarray:
    """[N, 2] paint shading and metal reflections.

    Args:
        normals: [N, 3] unit length.
        visibility: [N] share of the surroundings that each point sees.
    """
    upward, lamp = normals[:, 2], normals @ LIGHT
    open_share = 0.58 + 0.42 * visibility
    paint = open_share * (_AMBIENT + _SKY * (0.5 + 0.5 * upward)) + _LAMP * np.maximum(lamp, 0.0)
    # A studio: a lamp's highlight, a bright sky band and a bright floor with a dark horizon between.
    highlight = np.clip((lamp - 0.82) / 0.14, 0, 1) ** 2
    band = np.exp(-(((upward - 0.45) / 0.18) ** 2)) + 0.5 * np.exp(-(((upward + 0.55) / 0.2) ** 2))
    metal = open_share * np.clip(0.16 + 0.84 * highlight + 0.55 * band, 0, 1)
    return np.stack([paint, metal], axis=1).astype(np.float32)


def ambient_visibility(shape: Shape, directions: int = 96, resolution: int = 160) -> np.ndarray:
    """[N] cosine-weighted share of the surroundings that each vertex sees past the object itself (ambient occlusion).

    Orthographic depth maps from directions spread over the sphere stand in for rays. Vertices inside another part see
    nothing; they take their neighbours' value, or the dark would leak along their triangles to where parts meet.
    """
    index = np.arange(directions) + 0.5
    z = 1 - 2 * index / directions
    azimuth = np.pi * (1 + 5**0.5) * index
    toward = np.stack([np.sqrt(1 - z * z) * np.cos(azimuth), np.sqrt(1 - z * z) * np.sin(azimuth), z], axis=1)
    seen, total = np.zeros(len(shape.positions)), np.full(len(shape.positions), 1e-9)
    for direction in toward:
        right = np.cross(direction, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        frame = np.stack([right, np.cross(direction, right), -direction])
        # The camera stands far enough away for its rays to be parallel.
        viewmat = np.eye(4)
        viewmat[:3, :3] = frame
        viewmat[2, 3] = 1000.0
        focal = 1000.0 * resolution / 2.1
        depth = _depth_map(shape.positions.astype(np.float64), shape.faces, viewmat, focal, resolution)
        cosine = shape.normals @ direction
        facing = cosine > 0
        # Looking from just off the surface keeps a vertex from hiding itself.
        points = (shape.positions[facing] + 0.03 * shape.normals[facing]) @ frame.T
        points[:, 2] += 1000.0
        column = np.clip((focal * points[:, 0] / points[:, 2] + resolution / 2).astype(int), 0, resolution - 1)
        row = np.clip((focal * points[:, 1] / points[:, 2] + resolution / 2).astype(int), 0, resolution - 1)
        seen[facing] += cosine[facing] * (points[:, 2] <= depth[row, column] + 0.01)
        total[facing] += cosine[facing]
    visibility = seen / total
    edges = np.concatenate([shape.faces[:, [0, 1]], shape.faces[:, [1, 2]], shape.faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    buried = visibility < 0.02
    for _ in range(6):
        start, end = edges[buried[edges[:, 0]] & ~buried[edges[:, 1]]].T
        count = np.bincount(start, minlength=len(visibility))
        found = count > 0
        visibility[found] = np.bincount(start, visibility[end], minlength=len(visibility))[found] / count[found]
        buried &= ~found
    return visibility


def render_channels(
    name: str, azimuths: np.ndarray, elevations: np.ndarray, distances: np.ndarray, resolution: int, fov: float = FOV
) -> np.ndarray:
    """Channels of one object from many cameras.

    Args:
        name: one of `vocabulary.OBJECTS`.
        azimuths, elevations: [V] degrees; distances: [V]; as in `cameras.py`.
        resolution: pixels along an edge of the square pictures.
        fov: vertical field of view, degrees.

    Returns:
        [V, C, H, W] uint8; value = byte * `CHANNEL_SCALE`.
    """
    cameras = [orbit_camera(a, e, d, fov, resolution) for a, e, d in np.broadcast(azimuths, elevations, distances)]
    viewmats = np.stack([camera.viewmat for camera in cameras])
    lit = lit_shape(name)
    return _render(lit.shape.positions, lit.shape.faces, lit.light, lit.shape.face_paint(), viewmats, cameras[0].K, resolution)


def pattern_masks(points: np.ndarray) -> np.ndarray:
    """[N, 3] float32 masks (stripes, spots, grain) in 0..1 at object-space points [N, 3]."""
    return _pattern_masks(np.ascontiguousarray(points, dtype=np.float32))


@numba.njit(cache=True, inline="always")
def _wave(turns: float) -> float:
    """A sine of period 1, from parabolas: the patterns are most of the kernel's arithmetic."""
    x = 2.0 * (turns - math.floor(turns)) - 1.0
    return 4.0 * x * (1.0 - abs(x))


@numba.njit(cache=True, inline="always")
def _stripes(x: float, y: float, z: float) -> float:
    """Tilted, slightly wavy bands."""
    phase = 3.6 * (z + 0.22 * x + 0.06 * _wave(1.1 * y + 0.65 * x))
    return 1.0 if phase - math.floor(phase) < 0.42 else 0.0


@numba.njit(cache=True, inline="always")
def _spots(x: float, y: float, z: float) -> float:
    """Balls on a staggered lattice, each shifted a little and of its own size, none reaching out of its cell."""
    pitch, rise = 0.34, 0.255
    layer = math.floor(z / rise)
    offset = 0.5 * pitch * (layer % 2)
    column, row = math.floor((x + offset) / pitch), math.floor((y + offset) / pitch)
    scatter = 0.7548777 * column + 0.5698403 * row + 0.3819660 * layer
    scatter -= math.floor(scatter)
    dx = x + offset - (column + 0.5) * pitch - 0.05 * _wave(scatter + 0.25)
    dy = y + offset - (row + 0.5) * pitch - 0.05 * _wave(scatter)
    dz = z - (layer + 0.5) * rise
    radius = 0.085 + 0.03 * scatter
    return 1.0 if dx * dx + dy * dy + dz * dz < radius * radius else 0.0


@numba.njit(cache=True, inline="always")
def _grain(x: float, y: float, z: float) -> float:
    """Growth rings around a tilted axis outside the object, cut lengthwise."""
    u, v = x + 0.9 + 0.12 * z, y + 0.5 - 0.08 * z
    radius = math.sqrt(u * u + v * v) + 0.018 * _wave(0.8 * z + 0.5 * x) + 0.006 * _wave(3.7 * z + 1.4 * y)
    phase = 8.5 * radius
    saw = phase - math.floor(phase)
    return saw * saw


@numba.njit(cache=True)
def _pattern_masks(points: np.ndarray) -> np.ndarray:
    masks = np.empty((len(points), 3), np.float32)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        masks[i, 0], masks[i, 1], masks[i, 2] = _stripes(x, y, z), _spots(x, y, z), _grain(x, y, z)
    return masks


@numba.njit(cache=True, inline="always")
def _project(positions: np.ndarray, viewmat: np.ndarray, fx: float, fy: float, cx: float, cy: float, screen: np.ndarray) -> None:
    """Writes x, y (pixels) and 1 / depth of every vertex into `screen` [N, 3]."""
    for i in range(len(positions)):
        px, py, pz = positions[i, 0], positions[i, 1], positions[i, 2]
        inverse = 1.0 / (viewmat[2, 0] * px + viewmat[2, 1] * py + viewmat[2, 2] * pz + viewmat[2, 3])
        screen[i, 0] = cx + fx * inverse * (viewmat[0, 0] * px + viewmat[0, 1] * py + viewmat[0, 2] * pz + viewmat[0, 3])
        screen[i, 1] = cy + fy * inverse * (viewmat[1, 0] * px + viewmat[1, 1] * py + viewmat[1, 2] * pz + viewmat[1, 3])
        screen[i, 2] = inverse


@numba.njit(cache=True, inline="always")
def _visible_faces(screen: np.ndarray, faces: np.ndarray, nearest: np.ndarray, owner: np.ndarray) -> None:
    """Fills the nearest 1 / depth and its face at every sample centre; back faces are culled."""
    height, width = nearest.shape
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        # Twice the signed area; the y axis points down, so front faces turn the other way.
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area >= -1e-12:
            continue
        left, right = max(0, math.ceil(min(ax, bx, cx) - 0.5)), min(width - 1, math.floor(max(ax, bx, cx) - 0.5))
        top, bottom = max(0, math.ceil(min(ay, by, cy) - 0.5)), min(height - 1, math.floor(max(ay, by, cy) - 0.5))
        if left > right or top > bottom:
            continue
        scale = 1.0 / area
        u_x, u_y = (by - cy) * scale, (cx - bx) * scale
        v_x, v_y = (cy - ay) * scale, (ax - cx) * scale
        ia, ib, ic = screen[a, 2], screen[b, 2], screen[c, 2]
        for row in range(top, bottom + 1):
            dx, dy = left + 0.5 - cx, row + 0.5 - cy
            u, v = u_x * dx + u_y * dy, v_x * dx + v_y * dy
            for column in range(left, right + 1):
                if u >= -_EDGE and v >= -_EDGE and u + v <= 1.0 + _EDGE:
                    inverse = ic + u * (ia - ic) + v * (ib - ic)
                    if inverse > nearest[row, column]:
                        nearest[row, column] = inverse
                        owner[row, column] = f
                u += u_x
                v += v_x


@numba.njit(cache=True)
def _depth_map(positions: np.ndarray, faces: np.ndarray, viewmat: np.ndarray, focal: float, resolution: int) -> np.ndarray:
    """[H, W] depth, infinite where nothing is."""
    screen = np.empty((len(positions), 3))
    _project(positions, viewmat, focal, focal, resolution / 2, resolution / 2, screen)
    nearest, owner = np.zeros((resolution, resolution)), np.full((resolution, resolution), -1, np.int32)
    _visible_faces(screen, faces, nearest, owner)
    depth = np.full((resolution, resolution), np.inf)
    for row in range(resolution):
        for column in range(resolution):
            if owner[row, column] >= 0:
                depth[row, column] = 1.0 / nearest[row, column]
    return depth


@numba.njit(cache=True, parallel=True)
def _render(
    positions: np.ndarray,
    faces: np.ndarray,
    light: np.ndarray,
    paint: np.ndarray,
    viewmats: np.ndarray,
    intrinsics: np.ndarray,
    resolution: int,
) -> np.ndarray:
    size = resolution * SAMPLES
    channels = np.zeros((len(viewmats), 9, resolution, resolution), np.uint8)
    for view in numba.prange(len(viewmats)):
        screen = np.empty((len(positions), 3), np.float32)
        _project(
            positions,
            viewmats[view],
            intrinsics[0, 0] * SAMPLES,
            intrinsics[1, 1] * SAMPLES,
            intrinsics[0, 2] * SAMPLES,
            intrinsics[1, 2] * SAMPLES,
            screen,
        )
        nearest, owner = np.zeros((size, size), np.float32), np.full((size, size), -1, np.int32)
        _visible_faces(screen, faces, nearest, owner)
        total = np.empty(9, np.float32)
        for row in range(resolution):
            for column in range(resolution):
                total[:] = 0.0
                for sample in range(SAMPLES * SAMPLES):
                    y, x = row * SAMPLES + sample // SAMPLES, column * SAMPLES + sample % SAMPLES
                    f = owner[y, x]
                    if f < 0:
                        continue
                    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                    cx, cy = screen[c, 0], screen[c, 1]
                    ax, ay, bx, by = screen[a, 0] - cx, screen[a, 1] - cy, screen[b, 0] - cx, screen[b, 1] - cy
                    scale = 1.0 / (ax * by - bx * ay)
                    dx, dy = x + 0.5 - cx, y + 0.5 - cy
                    u, v = (dx * by - bx * dy) * scale, (ax * dy - dx * ay) * scale
                    # Perspective-correct shares of the corners.
                    wa, wb, wc = u * screen[a, 2], v * screen[b, 2], (1.0 - u - v) * screen[c, 2]
                    norm = 1.0 / (wa + wb + wc)
                    wa, wb, wc = wa * norm, wb * norm, wc * norm
                    lit = wa * light[a, 0] + wb * light[b, 0] + wc * light[c, 0]
                    total[0] += 1.0
                    total[1] += lit * paint[f, 1]
                    total[2] += lit * paint[f, 2]
                    total[3] += lit * paint[f, 3]
                    share = paint[f, 0]
                    if share > 0.0:
                        primary = np.float32(lit * share)
                        px = wa * positions[a, 0] + wb * positions[b, 0] + wc * positions[c, 0]
                        py = wa * positions[a, 1] + wb * positions[b, 1] + wc * positions[c, 1]
                        pz = wa * positions[a, 2] + wb * positions[b, 2] + wc * positions[c, 2]
                        total[4] += primary
                        total[5] += primary * np.float32(_stripes(px, py, pz))
                        total[6] += primary * np.float32(_spots(px, py, pz))
                        total[7] += primary * np.float32(_grain(px, py, pz))
                        total[8] += share * (wa * light[a, 1] + wb * light[b, 1] + wc * light[c, 1])
                if total[0] > 0.0:
                    for k in range(9):
                        channels[view, k, row, column] = np.uint8(total[k] * (CHANNEL_STEPS / (SAMPLES * SAMPLES)) + 1e-3)
    return channels
