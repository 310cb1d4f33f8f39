"""Orbit cameras: the conventions every other part relies on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.cameras import intrinsics, look_at, orbit_camera, orbit_position
from backend.view_words import view_direction

azimuths = st.floats(-720, 720)
elevations = st.floats(-90, 90)
distances = st.floats(0.5, 20)


def project(camera, point):
    """(x pixel, y pixel, depth) of a world point."""
    x, y, z = camera.viewmat[:3, :3] @ np.asarray(point, dtype=float) + camera.viewmat[:3, 3]
    u, v, w = camera.K @ [x, y, z]
    return u / w, v / w, z


@pytest.mark.parametrize(
    ("azimuth", "elevation", "expected"),
    [
        (0, 0, (0, -2, 0)),
        (90, 0, (2, 0, 0)),
        (180, 0, (0, 2, 0)),
        (-90, 0, (-2, 0, 0)),
        (45, 90, (0, 0, 2)),
        (0, -90, (0, 0, -2)),
        (0, 30, (0, -(3**0.5), 1)),
    ],
)
def test_azimuth_starts_at_minus_y_and_grows_counter_clockwise(azimuth, elevation, expected):
    np.testing.assert_allclose(orbit_position(azimuth, elevation, 2), expected, atol=1e-12)


def test_front_camera_has_opencv_axes():
    camera = orbit_camera(0, 0, 3, fov=90, width=100)
    np.testing.assert_allclose(
        camera.viewmat[:3, :3], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12
    )  # right = +X, down = -Z, forward = +Y
    # fov 90: focal = 50 px. A point 1 to the right at depth 3 lies 50 / 3 px right of the centre; 1 up lies as much above it.
    np.testing.assert_allclose(project(camera, (1, 0, 0)), (50 + 50 / 3, 50, 3))
    np.testing.assert_allclose(project(camera, (0, 0, 1)), (50, 50 - 50 / 3, 3))
    np.testing.assert_allclose(project(camera, (0, -1, 0)), (50, 50, 2))  # the front of the asset is nearer


def test_field_of_view_is_vertical():
    # The upper edge of the view frustum, half the field of view above the axis, meets the image's upper edge.
    camera = orbit_camera(0, 0, 3, fov=40, width=200, height=100)
    u, v, _ = project(camera, (0, 0, 3 * np.tan(np.radians(20))))
    np.testing.assert_allclose((u, v), (100, 0), atol=1e-9)
    K = intrinsics(40, 200, 100)
    assert K[0, 0] == K[1, 1] == pytest.approx(50 / np.tan(np.radians(20)))


@given(azimuths, elevations, distances)
def test_camera_looks_at_the_origin_from_its_position(azimuth, elevation, distance):
    camera = orbit_camera(azimuth, elevation, distance, fov=40, width=64)
    rotation = camera.viewmat[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(camera.position, orbit_position(azimuth, elevation, distance), atol=1e-9)
    np.testing.assert_allclose(project(camera, (0, 0, 0)), (32, 32, distance), atol=1e-6)


@given(azimuths, st.floats(-89, 89), distances)
def test_up_is_up_in_the_image(azimuth, elevation, distance):
    camera = orbit_camera(azimuth, elevation, distance, fov=40, width=64)
    assert camera.viewmat[0, 2] == pytest.approx(0, abs=1e-9)  # the horizon is level: world up has no sideways part
    assert camera.viewmat[1, 2] < 0  # and points against the image's y


@pytest.mark.parametrize("sign", [1, -1])
def test_poles_look_like_the_limit_of_azimuth_zero(sign):
    pole = look_at(np.array([0.0, 0.0, sign * 3.0]))
    near = orbit_camera(0, sign * 89.9999, 3, fov=40, width=8).viewmat
    np.testing.assert_allclose(pole, near, atol=1e-5)


def test_look_at_leaves_its_arguments_alone():
    position, target = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, 0.0])
    viewmat = look_at(position, target)
    np.testing.assert_array_equal(position, [1, 2, 3])
    np.testing.assert_array_equal(target, [0.5, 0, 0])
    np.testing.assert_allclose((viewmat @ [*target, 1])[:2], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("word", "azimuths"),
    [
        ("front", (0, 44, -44, 350, 316, 404, -360)),
        ("side", (45, -45, 90, -90, 135, -135, 270, 315, 225, 450)),
        ("back", (136, -136, 180, -180, 224, 540, -200)),
    ],
)
def test_words_for_where_a_camera_stands(word, azimuths):
    """Front and back are 90 degrees wide, without their edges; above 55 degrees a camera is overhead wherever it stands."""
    for azimuth in azimuths:
        for elevation in (-90, 0, 55):
            assert view_direction(azimuth, elevation) == word, (azimuth, elevation)
        assert view_direction(azimuth, 55.1) == "overhead"
