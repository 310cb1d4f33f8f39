"""Looking through a region and picking one: projections against the backend's cameras."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cograd3d.backend import cameras
from cograd3d.cograd3d_addon.viewport import frustums, look, picking
from hypothesis import given
from hypothesis import strategies as st


def view_matrix(state: look.ViewpointState) -> np.ndarray:
    """[4, 4] scene to view, as Blender makes it of location, rotation and distance."""
    w, x, y, z = state.rotation
    rotation = np.array(
        [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
         [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
         [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
    )  # fmt: skip
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.array(state.location) + rotation @ (0, 0, state.distance)
    return np.linalg.inv(matrix)


def perspective_matrix(view: np.ndarray, lens: float, width: int, height: int) -> np.ndarray:
    """[4, 4] of a viewport: 72 mm along its longer side."""
    near, far, long_side = 0.01, 1000.0, max(width, height)
    projection = np.zeros((4, 4))
    projection[0, 0], projection[1, 1] = 2 * lens / 72 * long_side / width, 2 * lens / 72 * long_side / height
    projection[2, 2], projection[2, 3], projection[3, 2] = -(far + near) / (far - near), -2 * far * near / (far - near), -1
    return projection @ view


@given(st.floats(0, 359), st.floats(-85, 85), st.sampled_from([(1056, 717), (400, 900), (500, 500)]), st.floats(20, 80))
def test_the_picture_in_the_viewport_is_the_regions_picture(azimuth, elevation, size, fov):
    """Points fall on the same places of the square as in the backend's picture."""
    (camera,) = frustums.camera_matrices([azimuth], [elevation], [3.3])
    side = 0.8 * min(size)
    state = look.viewpoint(camera, np.zeros(3), fov, size, side)
    perspective = perspective_matrix(view_matrix(state), state.lens, *size)
    points = np.array([[0.3, -0.2, 0.5], [0, 0, 0], [-0.4, 0.1, -0.3]])
    pixels, _ = picking.project(points, perspective, *size)
    left, bottom, right, top = look.picture_rectangle(fov, state.lens, size)
    assert right - left == pytest.approx(side) and top - bottom == pytest.approx(side)
    share = (pixels - (left, bottom)) / (right - left, top - bottom)
    backend = cameras.orbit_camera(azimuth, elevation, 3.3, fov, 100)
    for point, (x, y) in zip(points, share):
        image = backend.K @ (backend.viewmat[:3, :3] @ point + backend.viewmat[:3, 3])
        np.testing.assert_allclose((100 * x, 100 * (1 - y)), image[:2] / image[2], atol=1e-6)


def test_lens_worked_by_hand():
    """In a square viewport 90 degrees take a sensor as wide as twice the focal length."""
    assert look.lens_for(90.0, (500, 500), 500) == pytest.approx(36.0)
    assert look.lens_for(90.0, (1000, 500), 500) == pytest.approx(18.0)
    assert look.lens_for(1.0, (500, 500), 500) == look.LENSES[1]


def test_the_picture_keeps_clear_of_panels():
    assert look.picture_side((1000, 800), (0, 0, 1000, 800)) == 800
    assert look.picture_side((1000, 800), (0, 0, 750, 800)) == 500
    assert look.picture_side((1000, 800), (0, 0, 600, 800)) == 400


@given(st.floats(-math.pi, math.pi), st.floats(-1.5, 1.5), st.floats(-math.pi, math.pi))
def test_quaternion(a, b, c):
    def turn(axis, angle):
        matrix, (i, j) = np.eye(3), [k for k in range(3) if k != axis]
        matrix[i, i] = matrix[j, j] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
        return matrix

    rotation = turn(2, a) @ turn(0, b) @ turn(2, c)
    state = look.ViewpointState((0, 0, 0), look.quaternion(rotation), 0.0, 50.0)
    np.testing.assert_allclose(np.linalg.inv(view_matrix(state))[:3, :3], rotation, atol=1e-9)


def test_looks_through_until_turned_away():
    camera, other = frustums.camera_matrices([30.0, 31.0], [20.0, 20.0], [3.3, 3.3])
    assert look.looks_through(np.linalg.inv(camera), camera)
    assert not look.looks_through(np.linalg.inv(other), camera)


def scene(count: int = 12):
    matrices = frustums.camera_matrices(np.arange(count) * 360 / count, [20.0] * count, [3.3] * count)
    half, length = frustums.glyph_sizes(matrices, np.zeros(3), 40.0)
    (viewer,) = frustums.camera_matrices([15.0], [35.0], [10.0])
    return frustums.hulls(matrices, half, length), perspective_matrix(np.linalg.inv(viewer), 50.0, 800, 600)


def test_every_glyph_can_be_hit():
    hulls, perspective = scene()
    pixels, depth = picking.project(hulls, perspective, 800, 600)
    for region in range(len(hulls)):
        hit = picking.pick(hulls, perspective, 800, 600, tuple(pixels[region].mean(axis=0)))
        assert hit == region or depth[hit].mean() < depth[region].mean()
    assert picking.pick(hulls, perspective, 800, 600, (1.0, 1.0)) == -1
    assert picking.pick(np.zeros((0, 5, 3)), perspective, 800, 600, (1.0, 1.0)) == -1


def test_the_nearer_of_two_is_hit():
    hulls, perspective = scene(2)
    both = np.concatenate([hulls[:1], hulls[:1] * 1.2])
    pixels, depth = picking.project(both, perspective, 800, 600)
    overlap = (pixels[0].mean(axis=0) + pixels[1].mean(axis=0)) / 2
    nearest = int(np.argmin(depth.mean(axis=1)))
    assert picking.pick(both, perspective, 800, 600, tuple(overlap)) == nearest


def test_what_is_behind_the_viewer_cannot_be_hit():
    hulls, _ = scene()
    inside = perspective_matrix(np.linalg.inv(frustums.camera_matrices([0.0], [0.0], [0.1])[0]), 50.0, 800, 600)
    _, depth = picking.project(hulls, inside, 800, 600)
    behind = [region for region in range(len(hulls)) if not np.isfinite(depth[region]).all()]
    assert behind
    hits = {picking.pick(hulls, inside, 800, 600, (x, y)) for x in range(0, 800, 20) for y in range(0, 600, 20)}
    assert not hits & set(behind)


def test_tiny_glyphs_can_be_hit_nearby():
    hulls, perspective = scene()
    centre = hulls[0].mean(axis=0)
    tiny = (centre + (hulls[0] - centre) * 1e-3)[None]
    pixels, _ = picking.project(tiny, perspective, 800, 600)
    x, y = pixels[0].mean(axis=0)
    assert picking.pick(tiny, perspective, 800, 600, (x + 4, y)) == 0
    assert picking.pick(tiny, perspective, 800, 600, (x + 12, y)) == -1
    assert picking.pick(tiny, perspective, 800, 600, (x + 12, y), scale=2.0) == 0, "on a dense screen they are as large to the hand"
