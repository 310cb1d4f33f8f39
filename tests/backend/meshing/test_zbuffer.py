"""The z-buffer against analytic projections and an independent ray test."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.cameras import Camera, intrinsics, look_at, orbit_camera
from backend.meshing import TexturedMesh
from backend.meshing.zbuffer import box_downsample, rasterize_mesh, render_textured, sample_texture, supersampled

CAMERA = Camera(np.eye(4), np.array([[4.0, 0.0, 4.0], [0.0, 4.0, 4.0], [0.0, 0.0, 1.0]]), 8, 8)
"""Looks along +Z from the origin; at depth 1 the image spans x and y from -1 to 1."""


def rasterize(vertices, faces, camera=CAMERA):
    return rasterize_mesh(np.array(vertices, float), np.array(faces), camera.viewmat, camera.K, camera.width, camera.height)


def test_triangle_covers_the_pixels_whose_centres_it_contains():
    # Right triangle over the lower left half of the square [-1, 1] at depth 1: pixel (u, v) is in it where u <= v.
    face_index, barycentric, depth = rasterize([[-1, -1, 1], [-1, 1, 1], [1, 1, 1]], [[0, 1, 2]])
    expected = np.tril(np.ones((8, 8), bool))
    assert np.array_equal(face_index >= 0, expected)
    assert np.array_equal(np.isfinite(depth), expected)
    assert np.allclose(depth[expected], 1.0)
    # Pixel (0, 7) has its centre at (-0.875, 0.875): weights 0.0625, 0.875, 0.0625 by hand.
    assert barycentric[7, 0] == pytest.approx([0.0625, 0.875, 0.0625])
    assert (barycentric[~expected] == 0).all()


def test_nearest_triangle_wins_in_either_order_and_either_winding():
    near, far = [[-9, -9, 2], [9, -9, 2], [0, 9, 2]], [[-9, -9, 5], [0, 9, 5], [9, -9, 5]]
    for vertices, winner in ((near + far, 0), (far + near, 1)):
        face_index, _, depth = rasterize(vertices, [[0, 1, 2], [3, 4, 5]])
        assert (face_index[4] == winner).all()
        assert np.allclose(depth[4], 2.0)


def test_interpolation_is_perspective_correct():
    # A plane that recedes from depth 1 at the left edge to depth 3 at the right edge of the image.
    vertices = np.array([[-1.0, -9, 1], [-1, 9, 1], [3, 27, 3], [3, -27, 3]])
    face_index, barycentric, depth = rasterize(vertices, [[0, 1, 2], [0, 2, 3]])
    points = (vertices[np.array([[0, 1, 2], [0, 2, 3]])[face_index]] * barycentric[..., None]).sum(axis=2)
    assert np.allclose(points[..., 2], depth, rtol=1e-5)
    u, v = np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5)
    assert np.allclose(4 * points[..., 0] / points[..., 2] + 4, u, atol=1e-4)
    assert np.allclose(4 * points[..., 1] / points[..., 2] + 4, v, atol=1e-4)
    # On the plane x = 2 z - 3, seen in the direction x = s z: z = 3 / (2 - s).
    assert np.allclose(depth[0], 3 / (2 - (u[0] - 4) / 4), rtol=1e-5)


def test_triangles_through_the_camera_are_clipped_not_dropped():
    # The floor y = 1 from far behind the camera to far in front of it.
    floor = [[-99, 1, -50], [99, 1, -50], [0, 1, 200]]
    face_index, _, depth = rasterize(floor, [[0, 1, 2]])
    assert (face_index[:4] == -1).all()  # above the horizon
    assert (face_index[4:] == 0).all()
    assert np.allclose(depth[7], 1 / 0.875, rtol=1e-5)


def test_what_is_behind_outside_degenerate_or_not_finite_is_not_drawn():
    behind = [[-1, -1, -2], [1, -1, -2], [0, 1, -2]]
    outside = [[50, 0, 1], [60, 0, 1], [50, 9, 1]]
    thin = [[-1, 0, 1], [1, 0, 1], [0, 0, 1]]
    broken = [[np.nan, 0, 1], [1, 1, 1], [-1, 1, 1]]
    face_index, _, _ = rasterize(behind + outside + thin + broken, np.arange(12).reshape(4, 3))
    assert (face_index == -1).all()
    face_index, _, depth = rasterize(np.zeros((0, 3)), np.zeros((0, 3), int))
    assert (face_index == -1).all() and np.isinf(depth).all()


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 360), st.floats(-85, 85))
def test_ball_has_analytic_depth_and_no_cracks(azimuth, elevation):
    ball = trimesh.creation.icosphere(5, 0.6)
    camera = orbit_camera(azimuth, elevation, 3.0, 40.0, 48)
    face_index, _, depth = rasterize(ball.vertices, ball.faces, camera)
    u, v = np.meshgrid(np.arange(48) + 0.5, np.arange(48) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(camera.K).T
    a, b = (rays**2).sum(-1), -3.0 * rays[..., 2]
    inside = b**2 - a * (9 - 0.36)
    well_inside, well_outside = inside > 0.01, inside < -0.01
    assert (face_index[well_inside] >= 0).all() and (face_index[well_outside] < 0).all()
    exact = (-b - np.sqrt(np.maximum(inside, 0))) / a
    assert np.abs(depth - exact)[inside > 0.3].max() < 2e-3


def test_principal_point_aspect_and_skew_are_honoured():
    K = intrinsics(50.0, 300, 200)
    K[0, 1], K[0, 2] = 15.0, 110.0
    camera = Camera(look_at(np.array([1.0, -3.0, 2.0])), K, 300, 200)
    point = np.array([0.1, 0.2, -0.1])
    in_camera = camera.viewmat[:3, :3] @ point + camera.viewmat[:3, 3]
    u, v, w = K @ in_camera
    ball = trimesh.creation.icosphere(2, 0.06)
    ball.apply_translation(point)
    face_index, _, _ = rasterize(ball.vertices, ball.faces, camera)
    y, x = np.nonzero(face_index >= 0)
    assert np.mean(x) + 0.5 == pytest.approx(u / w, abs=0.5)
    assert np.mean(y) + 0.5 == pytest.approx(v / w, abs=0.5)


def square(texture: np.ndarray) -> TexturedMesh:
    """A square that fills the image of `CAMERA`, upright: u to the right, v upwards."""
    vertices = np.array([[-1, 1, 1], [1, 1, 1], [1, -1, 1], [-1, -1, 1]], np.float32)  # image y grows downwards
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    return TexturedMesh(vertices, np.tile(np.float32([0, 0, -1]), (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32), uv, texture)


def test_texture_appears_upright_and_unchanged():
    texture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    rgb, alpha = render_textured(square(texture), CAMERA, supersample=1)
    assert np.allclose(rgb, texture / 255.0, atol=1e-5)
    assert (alpha == 1).all()


def test_lookup_is_bilinear_and_clamped():
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[0, 1] = 200  # upper right
    uv = np.array([[0.75, 0.75], [0.5, 0.75], [0.5, 0.5], [1.0, 1.0], [0.0, 0.0]])
    assert sample_texture(texture, uv)[:, 0] * 255 == pytest.approx([200, 100, 50, 200, 0], abs=1e-3)


def test_supersampling_gives_partial_coverage_on_the_background():
    # The left edge of the triangle at u = 4.25 covers three quarters of that pixel column.
    mesh = square(np.full((2, 2, 3), 255, np.uint8))
    mesh.vertices[[0, 3], 0] = 0.0625
    rgb, alpha = render_textured(mesh, CAMERA, background=(0.0, 0.5, 1.0), supersample=4)
    assert alpha[0] == pytest.approx([0, 0, 0, 0, 0.75, 1, 1, 1])
    assert rgb[3, 4] == pytest.approx([0.75, 0.875, 1.0])


def test_supersampled_camera_and_downsampling_are_inverse():
    fine = supersampled(CAMERA, 3)
    assert (fine.width, fine.height, fine.K[0, 0], fine.K[0, 2], fine.K[2, 2]) == (24, 24, 12.0, 12.0, 1.0)
    image = np.arange(12.0).reshape(2, 6)
    assert box_downsample(image, 2) == pytest.approx(np.array([[3.5, 5.5, 7.5]]))
    assert box_downsample(image, 1) is image
