"""Where the glyphs of the view regions stand and what they are made of, as arrays. No bpy.

A glyph is a camera: a pyramid from the camera's centre to a square frame in front of it, a small triangle showing where up is. Its frame is
the thicker the more often the region was visited; a sign in the middle tells what the user did with it (plus: boosted, minus: calmed,
cross: frozen).

Cameras are Blender's: they look along -Z, Y is up; matrices are camera to world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...backend import cameras

OPENCV_TO_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns the axes x right, y down, z forward into x right, y up, z backward."""

SPACING_SHARE = 0.26
"""Half the height of a frame, relative to the distance to the nearest other region."""

LARGEST_SHARE = 0.45
"""The same at which two frames would nearly touch: no wish of the user goes beyond."""

DISTANCE_SHARE = 0.085
"""And at most this share of the distance to the asset: a coarse grid is not to stand in the way."""

DEPTHS = (1.1, 2.0)
"""Least and greatest length of a pyramid, in halves of its height; in between it shows the real field of view."""

THICKNESSES = (0.12, 0.42)
"""Width of a frame without visits and with the most, in halves of its height."""

_SIGN_LENGTH, _SIGN_WIDTH = 0.34, 0.09


def camera_matrices(azimuth: Sequence[float], elevation: Sequence[float], distance: Sequence[float]) -> np.ndarray:
    """[N, 4, 4] the regions' middle cameras in the backend's world; angles in degrees."""
    to_camera = [cameras.look_at(cameras.orbit_position(a, e, d)) for a, e, d in zip(azimuth, elevation, distance)]
    return np.linalg.inv(np.array(to_camera).reshape(-1, 4, 4)) @ OPENCV_TO_BLENDER


def placed(matrices: np.ndarray, grid_matrix: np.ndarray) -> np.ndarray:
    """[N, 4, 4] cameras of the backend's world in the scene.

    Where the grid was moved, turned and scaled evenly, a camera at the result sees the asset there exactly as the optimiser did. Where it
    was stretched or mirrored no camera can; then this one stands where the old one went and looks at where the asset's centre went.
    """
    linear = grid_matrix[:3, :3]
    centre = grid_matrix[:3, 3]
    positions = matrices[:, :3, 3] @ linear.T + centre
    backward = _unit(positions - centre)
    right = _unit(np.cross(matrices[:, :3, 1] @ linear.T, backward))
    result = np.broadcast_to(np.eye(4), matrices.shape).copy()
    result[:, :3, :3] = np.stack([right, np.cross(backward, right), backward], axis=-1)
    result[:, :3, 3] = positions
    return result


def glyph_sizes(matrices: np.ndarray, centre: np.ndarray, fov: float, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """([N] half heights of the frames, [N] lengths of the pyramids), in scene units, so that no glyph touches another.

    Args:
        matrices: [N, 4, 4] cameras in the scene.
        centre: [3] what they look at.
        fov: field of view, degrees.
        factor: the user's wish, 1 is normal.
    """
    offsets = matrices[:, :3, 3] - centre
    distance = np.linalg.norm(offsets, axis=1)
    directions = offsets / distance[:, None]
    apart = np.linalg.norm(directions[:, None] - directions[None], axis=-1)
    same_direction = apart < 1e-6
    beside = np.where(same_direction, np.inf, apart * np.minimum(distance[:, None], distance[None])).min(axis=1)
    behind = np.where(same_direction, np.abs(distance[:, None] - distance[None]), np.inf)
    behind = np.where(behind < 1e-6 * distance.max(), np.inf, behind).min(axis=1)
    depth = float(np.clip(1.0 / np.tan(np.radians(fov) / 2), *DEPTHS))
    # A grid's rings have different spacings; glyphs of very different sizes would look like a statement about the regions.
    spacing = np.minimum(beside, 1.5 * beside.min())
    half = factor * np.minimum(SPACING_SHARE * spacing, DISTANCE_SHARE * distance)
    # Frames stand nearer to the asset than their cameras, and therefore nearer to each other.
    half = np.minimum(half, LARGEST_SHARE * beside.min() / (1 + LARGEST_SHARE * depth * beside.min() / distance.min()))
    half = np.minimum(half, 0.8 * behind / depth)
    return half, depth * half


def frame_thickness(visits: Sequence[int] | np.ndarray) -> np.ndarray:
    """[N] width of the frames, relative to half their height: the share of the visits that the most visited region has."""
    counts = np.asarray(visits, dtype=np.float64)
    low, high = THICKNESSES
    most = counts.max(initial=0.0)
    return low + (high - low) * (counts / most if most > 0 else np.zeros_like(counts))


@dataclass(frozen=True)
class Mesh:
    """Vertices of triangles or lines, and which region each belongs to.

    Attributes:
        vertices: [V, 3] float32, scene coordinates; three (two) successive ones are a triangle (line).
        regions: [V] int.
    """

    vertices: np.ndarray
    regions: np.ndarray


def frames(matrices: np.ndarray, half: np.ndarray, length: np.ndarray, thickness: np.ndarray) -> Mesh:
    """Triangles: the frames, and the small triangles above them."""
    ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    corners = []
    for k in range(4):
        a, b = ring[k], ring[(k + 1) % 4]
        inner = 1.0 - thickness[:, None]
        a_in, b_in = a * inner, b * inner
        a_out, b_out = np.broadcast_to(a, a_in.shape), np.broadcast_to(b, b_in.shape)
        corners += [a_out, b_out, b_in, a_out, b_in, a_in]
    up = np.array([[-0.32, 1.16], [0.32, 1.16], [0.0, 1.52]])
    flat = np.concatenate([np.stack(corners, axis=1), np.broadcast_to(up, (len(half), 3, 2))], axis=1)
    return _in_frame(matrices, half, length, flat)


def panes(matrices: np.ndarray, half: np.ndarray, length: np.ndarray, thickness: np.ndarray) -> Mesh:
    """Triangles: what the frames enclose. Not below them: of two areas in one place, now this, now that would be seen."""
    flat = np.array([[-1, -1], [1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    return _in_frame(matrices, half, length, flat * (1.0 - thickness[:, None, None]))


def edges(matrices: np.ndarray, half: np.ndarray, length: np.ndarray) -> Mesh:
    """Lines: the edges of the pyramids, the frames' outlines included."""
    ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    flat = np.concatenate([np.stack([ring, np.roll(ring, -1, axis=0)], axis=1).reshape(8, 2), ring])
    rim = _in_frame(matrices, half, length, np.broadcast_to(flat, (len(half), 12, 2)))
    points = rim.vertices.reshape(len(half), 12, 3)
    apex = np.broadcast_to(matrices[:, None, :3, 3], (len(half), 4, 3))
    sides = np.stack([apex, points[:, 8:]], axis=2).reshape(len(half), 8, 3)
    return _mesh(np.concatenate([points[:, :8], sides], axis=1))


def outlines(matrices: np.ndarray, half: np.ndarray, length: np.ndarray, grow: float = 1.0) -> Mesh:
    """Lines: the frames' outlines, `grow` times as large."""
    ring = grow * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    flat = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1).reshape(8, 2)
    return _in_frame(matrices, half, length, np.broadcast_to(flat, (len(half), 8, 2)))


def signs(matrices: np.ndarray, half: np.ndarray, length: np.ndarray, weights: np.ndarray) -> Mesh:
    """Triangles: plus, minus or cross in the middle of the frames of regions whose weight is not 1."""
    across, turned = _bar(0.0), _bar(np.pi / 2)
    shapes = {
        "frozen": (weights == 0, np.concatenate([_bar(np.pi / 4), _bar(-np.pi / 4)])),
        "calmed": ((weights > 0) & (weights < 1), across),
        "boosted": (weights > 1, np.concatenate([across, turned])),
    }
    vertices, regions = [np.zeros((0, 3), np.float32)], [np.zeros(0, np.int64)]
    for chosen, flat in shapes.values():
        index = np.flatnonzero(chosen)
        if len(index):
            mesh = _in_frame(matrices[index], half[index], length[index], np.broadcast_to(flat, (len(index), *flat.shape)))
            vertices.append(mesh.vertices)
            regions.append(index[mesh.regions])
    return Mesh(np.concatenate(vertices), np.concatenate(regions))


def middles(matrices: np.ndarray, length: np.ndarray) -> np.ndarray:
    """[N, 3] the middles of the frames."""
    return matrices[:, :3, 3] - length[:, None] * matrices[:, :3, 2]


def hulls(matrices: np.ndarray, half: np.ndarray, length: np.ndarray) -> np.ndarray:
    """[N, 5, 3] the corners of the pyramids, the camera's centre first: what can be clicked."""
    ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
    rim = _in_frame(matrices, half, length, np.broadcast_to(ring, (len(half), 4, 2))).vertices.reshape(len(half), 4, 3)
    return np.concatenate([matrices[:, None, :3, 3], rim], axis=1)


def _bar(angle: float) -> np.ndarray:
    """[6, 2] a bar through the middle as two triangles."""
    x, y = _SIGN_LENGTH, _SIGN_WIDTH
    flat = np.array([[-x, -y], [x, -y], [x, y], [-x, -y], [x, y], [-x, y]])
    c, s = np.cos(angle), np.sin(angle)
    return flat @ np.array([[c, s], [-s, c]])


def _in_frame(matrices: np.ndarray, half: np.ndarray, length: np.ndarray, flat: np.ndarray) -> Mesh:
    """[N, V, 2] points of the frames' planes, in halves of their height, as a mesh in the scene."""
    right, up, backward = (matrices[:, None, :3, k] for k in range(3))
    x, y = (flat * half[:, None, None])[..., :1], (flat * half[:, None, None])[..., 1:]
    return _mesh(matrices[:, None, :3, 3] + x * right + y * up - length[:, None, None] * backward)


def _mesh(points: np.ndarray) -> Mesh:
    """[N, V, 3] points, V of each region."""
    count, each = points.shape[:2]
    return Mesh(np.ascontiguousarray(points.reshape(-1, 3), dtype=np.float32), np.repeat(np.arange(count), each))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
