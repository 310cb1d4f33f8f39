"""Where the glyphs stand: against the backend's cameras and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cograd3d.backend import cameras
from cograd3d.backend.method.view_grid import ViewGrid
from cograd3d.cograd3d_addon.viewport import frustums
from hypothesis import given
from hypothesis import strategies as st

GRIDS = {
    36: ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.3, 3.3)),
    288: ViewGrid(36, (-30.0, -15.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0), (3.3, 3.3)),
    72: ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (2.5, 3.0, 3.5)),
}


def grid_cameras(count: int) -> np.ndarray:
    return frustums.camera_matrices(*GRIDS[count].centers.T)


def test_front_camera_worked_by_hand():
    """Azimuth 0 stands at -Y, looks along +Y, its right is +X and its up +Z."""
    (matrix,) = frustums.camera_matrices([0.0], [0.0], [3.3])
    expected = [[1, 0, 0, 0], [0, 0, -1, -3.3], [0, 1, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


def test_side_camera_worked_by_hand():
    """Azimuth 90 stands at +X and looks along -X; its right is +Y."""
    (matrix,) = frustums.camera_matrices([90.0], [0.0], [2.0])
    np.testing.assert_allclose(matrix[:3, 3], (2, 0, 0), atol=1e-12)
    np.testing.assert_allclose(matrix[:3, :3] @ (0, 0, -1), (-1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 0], (0, 1, 0), atol=1e-12)


@given(st.floats(0, 360), st.floats(-89, 89), st.floats(0.5, 10), st.tuples(*[st.floats(-0.5, 0.5)] * 3))
def test_sees_what_the_backends_camera_sees(azimuth, elevation, distance, point):
    """A point's place in the picture is the same: x to the right, y up instead of down, -z instead of z forward."""
    camera = cameras.orbit_camera(azimuth, elevation, distance + 1, 40.0, 256)
    (matrix,) = frustums.camera_matrices([azimuth], [elevation], [distance + 1])
    there = camera.viewmat[:3, :3] @ point + camera.viewmat[:3, 3]
    here = np.linalg.inv(matrix) @ (*point, 1)
    np.testing.assert_allclose(here[:3], there * (1, -1, -1), atol=1e-9)


@given(st.floats(0.01, 100), st.floats(-3, 3), st.tuples(*[st.floats(-10, 10)] * 3))
def test_a_moved_turned_and_scaled_grid_sees_the_same(scale, yaw, origin):
    c, s = np.cos(yaw), np.sin(yaw)
    grid = np.array([[scale * c, -scale * s, 0, origin[0]], [scale * s, scale * c, 0, origin[1]], [0, 0, scale, origin[2]], [0, 0, 0, 1]])
    before = frustums.camera_matrices([30.0, 210.0], [20.0, -5.0], [3.3, 2.0])
    after = frustums.placed(before, grid)
    point = np.array([0.3, -0.2, 0.5, 1.0])
    for old, new in zip(before, after):
        np.testing.assert_allclose(
            (np.linalg.inv(new) @ (grid @ point))[:3], scale * (np.linalg.inv(old) @ point)[:3], atol=1e-9 * scale + 1e-9
        )


def test_stretched_and_mirrored_grids_still_have_cameras():
    grid = np.diag([-1.0, 2.0, 0.5, 1.0])
    for matrix in frustums.placed(grid_cameras(36), grid):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
        to_centre = -matrix[:3, 3] / np.linalg.norm(matrix[:3, 3])
        np.testing.assert_allclose(-matrix[:3, 2], to_centre, atol=1e-12)


@pytest.mark.parametrize("count", GRIDS)
@pytest.mark.parametrize("factor", [0.5, 1.0, 5.0])
def test_glyphs_do_not_touch(count, factor):
    """Circles around the frames, and the frames of one shell and the tips of the next, keep apart."""
    matrices = grid_cameras(count)
    half, length = frustums.glyph_sizes(matrices, np.zeros(3), 40.0, factor)
    middles = matrices[:, :3, 3] - length[:, None] * matrices[:, :3, 2]
    distance = np.linalg.norm(middles[:, None] - middles[None], axis=-1) + 1e9 * np.eye(count)
    shells = len(set(GRIDS[count].centers[:, 2]))
    reach = half[:, None] + half[None] if shells == 1 else length[:, None]
    assert (distance > 0.99 * reach).all()
    assert (half > 0).all() and (length < np.linalg.norm(matrices[:, :3, 3], axis=1)).all()


def test_glyphs_grow_with_the_grid_and_with_the_users_wish():
    matrices = grid_cameras(36)
    normal, _ = frustums.glyph_sizes(matrices, np.zeros(3), 40.0)
    small, _ = frustums.glyph_sizes(matrices, np.zeros(3), 40.0, 0.5)
    np.testing.assert_allclose(small, normal / 2)
    larger = matrices.copy()
    larger[:, :3, 3] *= 7
    np.testing.assert_allclose(frustums.glyph_sizes(larger, np.zeros(3), 40.0)[0], 7 * normal)
    assert frustums.glyph_sizes(grid_cameras(288), np.zeros(3), 40.0)[0].max() < normal.min()


def test_frames_get_thicker_with_visits():
    thin, thick = frustums.THICKNESSES
    np.testing.assert_allclose(frustums.frame_thickness([0, 5, 10]), [thin, (thin + thick) / 2, thick])
    np.testing.assert_allclose(frustums.frame_thickness([0, 0]), [thin, thin])


def test_up_is_up():
    """The small triangle of a level camera is above its frame."""
    matrices = frustums.camera_matrices([0.0], [0.0], [3.0])
    half, length = np.array([0.2]), np.array([0.5])
    mesh = frustums.frames(matrices, half, length, np.array([0.3]))
    np.testing.assert_allclose(mesh.vertices[-1], (0, -2.5, 0.2 * 1.52), atol=1e-6)
    assert mesh.vertices[:-3, 2].max() == pytest.approx(0.2)
    tip, *rim = frustums.hulls(matrices, half, length)[0]
    np.testing.assert_allclose(tip, (0, -3, 0), atol=1e-6)
    np.testing.assert_allclose(rim, [(-0.2, -2.5, -0.2), (0.2, -2.5, -0.2), (0.2, -2.5, 0.2), (-0.2, -2.5, 0.2)], atol=1e-6)


def test_a_pane_fills_its_frame_and_no_more():
    matrices, half, length = grid_cameras(36)[:1], np.array([0.2]), np.array([0.5])
    pane = frustums.panes(matrices, half, length, np.array([0.25])).vertices.reshape(2, 3, 3)
    area = 0.5 * np.linalg.norm(np.cross(pane[:, 1] - pane[:, 0], pane[:, 2] - pane[:, 0]), axis=1).sum()
    assert area == pytest.approx((2 * 0.2 * 0.75) ** 2, rel=1e-5)


def test_signs_stand_for_weights():
    matrices = grid_cameras(36)[:4]
    half, length = np.full(4, 0.2), np.full(4, 0.4)
    mesh = frustums.signs(matrices, half, length, np.array([1.0, 0.0, 4.0, 0.25]))
    assert np.bincount(mesh.regions, minlength=4).tolist() == [0, 12, 12, 6]
    assert len(frustums.signs(matrices, half, length, np.ones(4)).vertices) == 0
