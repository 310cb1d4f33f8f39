"""Whole parts out of a carved field: thin ones that depth has cut through, and pieces that are apart.

All of it is about the voxels of one field; no camera is known here.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

THIN, SPECK = 2.0, 8
"""Samples: a part is thin where no ball of this radius fits into it; smaller pieces than this many say nothing."""

WIDEST_GAP = 0.5
"""Of the gap over which a piece is joined to the rest, in that piece's widths."""


def restore_thin_parts(field: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """[X, Y, Z]: the field, with thin parts of the hull whole again where depth has cut a piece off.

    A tail may be no thicker than the noise of depth, which then carves through it, while the silhouettes show it from all sides. Where
    nothing was cut off, depth is believed: it carves the thin webs that silhouettes leave between legs.

    Args:
        field: [X, Y, Z] signed distances, negative inside.
        hull: [X, Y, Z] the visual hull, `surface.carve_hull`, nowhere above `field`.
    """
    pieces, count = ndimage.label(field < 0)
    if count <= 1:
        return field
    solid = np.pad(hull < 0, 1)
    core = ndimage.distance_transform_edt(solid) > THIN
    thin = (solid & (ndimage.distance_transform_edt(~core) > THIN))[1:-1, 1:-1, 1:-1]
    sizes, shares = np.bincount(pieces.ravel())[1:], ndimage.mean(thin, pieces, np.arange(1, count + 1))
    cut_off = (sizes >= SPECK) & (shares >= 0.5) & (np.arange(count) != sizes.argmax())
    parts, _ = ndimage.label(thin, np.ones((3, 3, 3)))
    lost = np.setdiff1d(parts[np.isin(pieces, np.flatnonzero(cut_off) + 1)], [0])
    if not len(lost):
        return field
    # Two samples more on either side, to where the part meets what is thick.
    return np.where(ndimage.binary_dilation(np.isin(parts, lost), iterations=2), np.minimum(field, hull), field)


def connect_pieces(field: np.ndarray, spacing: float) -> np.ndarray:
    """[X, Y, Z]: the field with everything solid in one piece.

    A piece is joined to the largest by a thin bridge if it is no speck (1/500 of the largest) and the gap is at most half as wide
    as the piece (`WIDEST_GAP`); every other piece floats, and is removed. The piece with the narrowest gap for its size is joined first.

    Args:
        field: [X, Y, Z] signed distances, negative inside.
        spacing: between two samples.
    """
    labels, count = ndimage.label(field < 0)
    if count <= 1:
        return field
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    main = labels == sizes.argmax()
    candidates = np.flatnonzero((sizes * 500 >= sizes.max()) & (np.arange(count + 1) != sizes.argmax()))
    field, places = field.copy(), ndimage.find_objects(labels)
    away = ndimage.distance_transform_edt(~main)
    gaps = _least(away, labels, candidates)
    # Farther from what has been joined nothing is joined to it, so distances are looked for no farther.
    reach = math.ceil(WIDEST_GAP * np.cbrt(sizes[candidates].max(initial=0))) + 1
    while len(candidates):
        widths = gaps / np.cbrt(sizes[candidates])
        if np.min(widths) > WIDEST_GAP:
            break
        label = candidates[np.argmin(widths)]
        place = places[label - 1]
        piece = labels[place] == label
        start = np.array(ndimage.minimum_position(away[place], piece, 1)) + [axis.start for axis in place]
        _add_bridge(field, start, _nearest(main, start, float(away[tuple(start)])), spacing)
        main[place] |= piece
        around = tuple(slice(max(axis.start - reach, 0), axis.stop + reach) for axis in place)
        away[around] = np.minimum(away[around], ndimage.distance_transform_edt(labels[around] != label))
        candidates, gaps = candidates[candidates != label], gaps[candidates != label]
        gaps = np.minimum(gaps, _least(away[around], labels[around], candidates))
    field[(labels > 0) & ~main] = spacing
    return field


def _least(values: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[L] the least value at each of the wanted labels [L]; infinite where there is none."""
    least = np.full(int(max(labels.max(), wanted.max(initial=0))) + 1, np.inf)
    solid = labels > 0
    np.minimum.at(least, labels[solid], values[solid])
    return least[wanted]


def _nearest(solid: np.ndarray, start: np.ndarray, distance: float) -> np.ndarray:
    """[3] the sample of `solid` that is nearest to `start`, so many samples away."""
    low = np.maximum(start - math.ceil(distance) - 1, 0)
    around = tuple(slice(a, b) for a, b in zip(low, start + math.ceil(distance) + 2))
    nearest = ndimage.distance_transform_edt(~solid[around], return_distances=False, return_indices=True)
    return low + nearest[(slice(None), *(start - low))]


def _add_bridge(field: np.ndarray, start: np.ndarray, end: np.ndarray, spacing: float, radius: float = 1.5) -> None:
    """Make the capsule of `radius` samples around the segment between two samples ([3] indices) solid, in place."""
    low = np.maximum(np.minimum(start, end) - 3, 0)
    window = tuple(slice(a, b) for a, b in zip(low, np.maximum(start, end) + 4))
    points = np.stack(np.meshgrid(*(np.arange(n) for n in field[window].shape), indexing="ij"), axis=-1) + low - start
    along = end - start
    share = np.clip(points @ along / max(int(along @ along), 1), 0.0, 1.0)
    distance = np.linalg.norm(points - share[..., None] * along, axis=-1) - radius
    field[window] = np.minimum(field[window], spacing * distance)
