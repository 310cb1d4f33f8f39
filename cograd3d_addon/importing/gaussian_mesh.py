"""Gaussians as small octahedra, for a preview that Blender draws like any other mesh. No bpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...backend.gaussians.splat_file import read_splats

CORNERS, FACES = 6, 8
"""Of one octahedron."""

MIN_OPACITY = 0.25
"""Fainter Gaussians are left out: as solid bodies they would be a fog in front of the others."""

RADIUS = 1.6
"""Standard deviations from the middle of an octahedron to its corners: neighbours touch, and details stay."""

PALETTE = 24
"""Colours of Solid mode, where Blender shows one colour a material."""

_SAMPLE = 1_000
"""Colours that the palette is made from."""

_CELLS, _MARGIN, _BLURS = 16, 6, 12
"""Of the grid that normals come from: cells along the longest extent, cells around it, how often it is blurred. So coarse that a hollow
asset, whose Gaussians all lie on its surface, is filled by the blur and has an outside only."""

_SH_C0 = 0.28209479177387814  # constant spherical harmonic, 1 / (2 sqrt(pi))

_AXES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=np.float32)
_TRIANGLES = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]], dtype=np.int32)


@dataclass(frozen=True)
class GaussianMesh:
    """N octahedra; the corners of the i-th are the vertices 6i..6i+5, its triangles the faces 8i..8i+7.

    Attributes:
        vertices: [6 N, 3] float32, in the backend's world.
        normals: [N, 3] float32, unit length, out of the asset: its surface as light shall see it. The octahedra's own faces, which look
            in all directions, would be half dark.
        colours: [N, 3] float32, display (sRGB).
        palette: [PALETTE, 3] float32, a few colours that stand for all of them.
        nearest: [N] int32, which of those is the nearest.
    """

    vertices: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    palette: np.ndarray
    nearest: np.ndarray

    def __len__(self) -> int:
        return len(self.colours)


def read_gaussian_mesh(path: Path, limit: int) -> GaussianMesh:
    """The Gaussians of a 3DGS file that are worth showing.

    Args:
        path: the .ply file.
        limit: how many at most; those that hide most are kept.

    Raises:
        InputError: the file is missing or damaged.
    """
    return gaussian_mesh(read_splats(path), limit)


def gaussian_mesh(groups: Mapping[str, np.ndarray], limit: int) -> GaussianMesh:
    """The same from the arrays of `read_splats`."""
    opacity = 1.0 / (1.0 + np.exp(-groups["opacities"]))
    chosen = np.flatnonzero(opacity >= MIN_OPACITY)
    if len(chosen) > limit:
        # what a Gaussian hides: its opacity times its silhouette, for which the product of its two longer axes stands
        scales = np.sort(groups["scales"][chosen], axis=1)
        hidden = opacity[chosen] * np.exp(scales[:, 1] + scales[:, 2])
        chosen = np.sort(chosen[np.argpartition(-hidden, limit)[:limit]])
    scales = RADIUS * np.exp(groups["scales"][chosen])
    axes = rotations(groups["quats"][chosen]) * scales[:, None, :]  # column k: the k-th half axis
    means = groups["means"][chosen]
    corners = means[:, None, :] + np.einsum("ck,nik->nci", _AXES, axes)
    colours = np.clip(0.5 + _SH_C0 * groups["sh0"][chosen, 0], 0.0, 1.0).astype(np.float32)
    palette = dominant_colours(colours[:: 1 + len(colours) // _SAMPLE])
    return GaussianMesh(
        vertices=corners.reshape(-1, 3).astype(np.float32),
        normals=outward(means),
        colours=colours,
        palette=palette,
        nearest=nearest_colours(colours, palette),
    )


def triangles(count: int) -> np.ndarray:
    """[8 count, 3] int32 the faces of so many octahedra."""
    return (_TRIANGLES[None] + CORNERS * np.arange(count, dtype=np.int32)[:, None, None]).reshape(-1, 3)


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """[N, 3, 3] rotation matrices of quaternions [N, 4], wxyz, of any length but 0."""
    w, x, y, z = (quaternions / np.maximum(np.linalg.norm(quaternions, axis=1, keepdims=True), 1e-12)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def outward(points: np.ndarray) -> np.ndarray:
    """[N, 3] float32 unit vectors from where points [N, 3] are dense to where they are not: down the gradient of their blurred density."""
    if not len(points):
        return np.zeros((0, 3), np.float32)
    low = points.min(axis=0)
    cell = max(float((points.max(axis=0) - low).max()) / _CELLS, 1e-9)
    index = np.minimum(((points - low) / cell).astype(np.int64), _CELLS - 1) + _MARGIN
    size = _CELLS + 2 * _MARGIN
    flat = np.ravel_multi_index(tuple(index.T), (size,) * 3)
    density = np.bincount(flat, minlength=size**3).reshape((size,) * 3).astype(np.float32)
    for axis in range(3):
        for _ in range(_BLURS):
            density = 0.5 * density + 0.25 * (np.roll(density, 1, axis) + np.roll(density, -1, axis))
    downhill = -np.stack([slope.reshape(-1)[flat] for slope in np.gradient(density)], axis=1)
    length = np.linalg.norm(downhill, axis=1, keepdims=True)
    return np.where(length > 1e-9, downhill / np.maximum(length, 1e-9), (0.0, 0.0, 1.0)).astype(np.float32)


def dominant_colours(colours: np.ndarray, count: int = PALETTE) -> np.ndarray:
    """[count, 3] colours that stand for many, by median cut (Heckbert 1982): the box with the widest channel is halved until there are
    enough. Where there are fewer different colours the last is repeated.

    Args:
        colours: [N, 3].
        count: how many.
    """
    boxes = [colours] if len(colours) else []
    while boxes and len(boxes) < count:
        spreads = [np.ptp(box, axis=0).max() * len(box) ** 0.5 for box in boxes]
        widest = int(np.argmax(spreads))
        if spreads[widest] == 0.0:
            break
        box = boxes.pop(widest)
        channel = int(np.ptp(box, axis=0).argmax())
        order = np.argpartition(box[:, channel], len(box) // 2)
        boxes += [box[order[: len(box) // 2]], box[order[len(box) // 2 :]]]
    means = [box.mean(axis=0) for box in boxes] or [np.full(3, 0.5, np.float32)]
    return np.stack(means + [means[-1]] * (count - len(means))).astype(np.float32)


def nearest_colours(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """[N] int32 the index of the nearest palette entry [P, 3] for each colour [N, 3]."""
    distance = (palette**2).sum(axis=1) - 2.0 * colours @ palette.T  # without the colour's own square, the same for all entries
    return distance.argmin(axis=1).astype(np.int32)
