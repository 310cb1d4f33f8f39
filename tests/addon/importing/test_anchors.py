"""Finding out from a few vertices how a mesh was moved inside its object."""

from __future__ import annotations

import numpy as np
import pytest
from cograd3d.cograd3d_addon.importing import anchors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

POINTS = np.random.default_rng(0).normal(size=(500, 3)) * (0.3, 0.2, 0.5)


def chosen(points: np.ndarray) -> np.ndarray:
    return np.array(anchors.choose(points)["points"]).reshape(-1, 3)


def test_they_lie_far_from_one_another():
    found = anchors.choose(POINTS)
    assert found["vertices"] == 500 and len(set(found["indices"])) == anchors.COUNT
    np.testing.assert_array_equal(np.array(found["points"]).reshape(-1, 3), POINTS[found["indices"]])
    assert (np.ptp(chosen(POINTS), axis=0) > 0.5 * np.ptp(POINTS, axis=0)).all()


@given(arrays(np.float64, (3, 4), elements=st.floats(-3.0, 3.0, width=32)))
def test_any_affine_map_is_found_again(linear):
    matrix = np.eye(4)
    matrix[:3] = linear
    then = chosen(POINTS)
    now = (then @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
    found = anchors.moved(then, now)
    largest, _, smallest = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if smallest > 0.01:  # what is much smaller is lost in single precision, beside a translation of up to 3
        np.testing.assert_allclose(found, matrix, atol=1e-3)
    elif largest > 0.1 and smallest < 1e-7:
        np.testing.assert_array_equal(found, np.eye(4))


def test_what_was_shrunk_to_a_point_cannot_be_found_again():
    then = chosen(POINTS)
    for scale in (0.0, 1e-33, 1e-9):
        np.testing.assert_array_equal(anchors.moved(then, (scale * then + 1.0).astype(np.float32)), np.eye(4))


def test_an_edit_is_no_move():
    then = chosen(POINTS)
    now = then.copy()
    now[3] += 0.1
    np.testing.assert_array_equal(anchors.moved(then, now), np.eye(4))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_too_few_or_flat_ones_tell_nothing(count):
    flat = POINTS[:count] * (1.0, 1.0, 0.0)
    np.testing.assert_array_equal(anchors.moved(chosen(flat), 2 * chosen(flat)), np.eye(4))
