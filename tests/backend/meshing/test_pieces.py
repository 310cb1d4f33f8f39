"""A carved field comes out in one piece, its thin parts whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from backend.meshing.pieces import _add_bridge, connect_pieces, restore_thin_parts


def test_connect_pieces_bridges_by_gap_relative_to_size():
    field = np.ones((40, 20, 20), np.float32)
    field[2:14, 4:16, 4:16] = -1
    field[17:27, 5:15, 5:15] = -1  # gap of 4 steps, 10 wide
    field[36:38, 9:12, 9:12] = -1  # gap of 10 steps, under 3 wide
    joined = connect_pieces(field, 1.0)
    labels, count = ndimage.label(joined < 0)
    assert count == 1
    assert joined[20, 10, 10] < 0 < joined[37, 10, 10]
    one = np.where(labels == 1, joined, 1).astype(np.float32)
    assert connect_pieces(one, 1.0) is one


def blobs(shape: tuple[int, int, int], step: int, radius: float) -> np.ndarray:
    """Balls on a lattice: signed distances in samples."""
    x, y, z = (np.abs(np.arange(n) % step - step // 2) for n in shape)
    return (np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2) - radius).astype(np.float32)


def joined_step_by_step(field: np.ndarray, spacing: float) -> np.ndarray:
    """What `connect_pieces` says that it does, with all distances taken anew after each piece."""
    labels, _ = ndimage.label(field < 0)
    sizes = np.bincount(labels.ravel())[1:]
    main, field = labels == sizes.argmax() + 1, field.copy()
    candidates = [k + 1 for k in range(len(sizes)) if k != sizes.argmax() and sizes[k] * 500 >= sizes.max()]
    while candidates:
        away, nearest = ndimage.distance_transform_edt(~main, return_indices=True)
        widths = [away[labels == k].min() / np.cbrt(sizes[k - 1]) for k in candidates]
        if min(widths) > 0.5:
            break
        piece = labels == candidates.pop(int(np.argmin(widths)))
        start = np.argwhere(piece)[away[piece].argmin()]
        _add_bridge(field, start, nearest[(slice(None), *start)], spacing)
        main |= piece
    field[(labels > 0) & ~main] = spacing
    return field


@pytest.mark.parametrize("seed", range(6))
def test_pieces_are_joined_as_if_all_distances_were_taken_anew(seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((30, 26, 34)), 1.3).astype(np.float32)
    for field in (noise + np.float32(np.quantile(-noise, 0.85)), blobs(noise.shape, 6 + seed % 3, 2.0 + 0.2 * seed)):
        assert ndimage.label(field < 0)[1] > 5
        assert np.array_equal(connect_pieces(field, 0.1), joined_step_by_step(field, 0.1))


def test_joining_many_pieces_does_not_measure_the_whole_grid_for_each(monkeypatch):
    measured, measure = [], ndimage.distance_transform_edt

    def counted(samples, *args, **kwargs):
        measured.append(samples.size)
        return measure(samples, *args, **kwargs)

    monkeypatch.setattr(ndimage, "distance_transform_edt", counted)
    field = blobs((60, 60, 60), 10, 4.2)
    joined = connect_pieces(field, 1.0)
    assert ndimage.label(field < 0)[1] == 216 and ndimage.label(joined < 0)[1] == 1
    assert sum(measured) < 15 * field.size


def test_thin_parts_that_depth_has_cut_are_whole_again_and_nothing_else_changes():
    axis = np.arange(48.0)
    x, y, z = np.meshgrid(axis, axis[:24], axis[:24], indexing="ij")
    body = np.sqrt((x - 11) ** 2 + (y - 12) ** 2 + (z - 12) ** 2) - 9
    tail = np.maximum(np.hypot(y - 12, z - 12) - 1.8, np.maximum(11 - x, x - 44))
    hull = np.minimum(body, tail).astype(np.float32)
    assert restore_thin_parts(hull, hull) is hull
    field = hull.copy()
    field[26:31] = np.maximum(hull[26:31], 2.0)  # depth has carved through the tail
    field[2:6, 10:14, 10:14] = 2.0  # and a bowl into the body
    joined = restore_thin_parts(field, hull)
    assert ndimage.label(joined < 0)[1] == 1
    assert joined[28, 12, 12] == hull[28, 12, 12] and (joined[2:6, 10:14, 10:14] == 2.0).all()
    changed = np.flatnonzero((joined != field).any(axis=(1, 2)))
    assert changed.min() >= 18 and changed.max() <= 31
    assert (joined <= field).all() and (joined >= hull).all()


def test_a_loose_piece_inside_what_is_thick_is_none_of_the_thin_parts():
    hull = np.full((30, 30, 30), -5.0, np.float32)
    field = hull.copy()
    field[18:] = 2.0
    field[22:26, 10:14, 10:14] = -1.0  # what no view sees, left over in a hollow
    assert restore_thin_parts(field, hull) is field
