"""Colours where no view shows any that can be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from backend.config import TextureConfig
from backend.meshing import TexturedMesh
from backend.meshing.bake import bake_texture
from backend.meshing.cleanup import vertex_normals
from backend.meshing.mesh import Unwrapped
from backend.meshing.unseen import continued_colors, nearest_color
from backend.meshing.unwrap import unwrap
from backend.meshing.zbuffer import render_textured, sample_texture


def seamless(mesh: trimesh.Trimesh) -> Unwrapped:
    """As if nothing had been cut; coordinates in the texture do not matter here."""
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    return Unwrapped(vertices, vertex_normals(vertices, faces), faces, np.zeros((len(vertices), 2), np.float32))


@pytest.fixture
def ball() -> Unwrapped:
    return seamless(trimesh.creation.icosphere(4, 0.5))


def nothing(mesh: Unwrapped) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(mesh.vertices), 3), np.float32), np.zeros(len(mesh.vertices), bool)


def edges(mesh: Unwrapped) -> np.ndarray:
    return np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])


def test_what_is_known_stays_and_the_rest_continues_it(ball):
    known = ball.vertices[:, 2] > 0
    colors = np.where(known[:, None], ball.vertices + 0.5, 0).astype(np.float32)
    filled = continued_colors(ball, (colors, known), nothing(ball))
    assert np.array_equal(filled[known], colors[known])
    rim = colors[known & (ball.vertices[:, 2] < 0.06)]
    assert (filled[~known] > rim.min(axis=0) - 1e-3).all() and (filled[~known] < rim.max(axis=0) + 1e-3).all()
    steps = np.abs(filled[edges(ball)[:, 0]] - filled[edges(ball)[:, 1]]).max(axis=1)
    assert steps.max() < 0.08, "no step is larger than where it is known"
    assert filled[ball.vertices[:, 2].argmin()] == pytest.approx(rim.mean(axis=0), abs=0.03)


def test_of_a_blotched_guess_the_mean_is_left(ball):
    rng = np.random.default_rng(0)
    known = ball.vertices[:, 2] > 0
    guess = np.float32([0.7, 0.2, 0.1]) + rng.normal(0, 0.2, ball.vertices.shape).astype(np.float32)
    colors = np.where(known[:, None], np.float32([0.1, 0.2, 0.7]), 0).astype(np.float32)
    filled = continued_colors(ball, (colors, known), (guess, ~known))
    low = ball.vertices[:, 2] < -0.45
    assert filled[low].mean(axis=0) == pytest.approx([0.7, 0.2, 0.1], abs=0.03)
    assert filled[low].std(axis=0).max() < 0.2 / 3
    near = (ball.vertices[:, 2] < 0) & (ball.vertices[:, 2] > -0.06)
    assert filled[near, 0].mean() < 0.5, "beside what is known it is like that"


def test_by_hand():
    """Three in a row: one known to be 1, one guessed to be 0, one not even guessed, with the mean of these two to stand in.

    x1 (1 + 1 + 0.1) = 1 + x2 and x2 (1 + 0.001) = x1 + 0.001 / 2.
    """
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [2, 0, 0]])
    mesh = Unwrapped(vertices, vertices, np.int32([[0, 1, 1], [1, 2, 2]]), vertices[:, :2])
    one, zero = np.ones((3, 3), np.float32), np.zeros((3, 3), np.float32)
    filled = continued_colors(mesh, (one, np.array([True, False, False])), (zero, np.array([False, True, False])))
    expected = np.linalg.solve([[2.1, -1], [-1, 1.001]], [1, 0.001 * 0.5])
    assert filled[0] == pytest.approx(1) and filled[1:, 0] == pytest.approx(expected)


def test_a_seam_is_no_border(ball):
    """Two copies of every vertex, the faces of either half between its own: colours flow from one to the other."""
    count = len(ball.vertices)
    left = ball.vertices[ball.faces].mean(axis=1)[:, 0] < 0
    faces = np.where(left[:, None], ball.faces, ball.faces + count)
    vertices, normals, uv = (np.concatenate([x, x]) for x in (ball.vertices, ball.normals, ball.uv))
    cut = Unwrapped(vertices, normals, faces, uv)
    known = ball.vertices[:, 0] > 0.2
    colors = np.where(known[:, None], ball.vertices + 0.5, 0).astype(np.float32)
    filled = continued_colors(cut, (np.concatenate([colors] * 2), np.concatenate([known] * 2)), nothing(cut))
    assert np.array_equal(filled[:count], filled[count:])
    assert filled[:count] == pytest.approx(continued_colors(ball, (colors, known), nothing(ball)), abs=1e-5)


def test_where_nothing_is_known_at_all_it_is_grey(ball):
    assert continued_colors(ball, nothing(ball), nothing(ball)) == pytest.approx(np.full((len(ball.vertices), 3), 0.5))


def test_points_without_a_colour_take_the_nearest():
    positions = np.array([[0.0, 0, 0], [1, 0, 0], [0.9, 0, 0], [5, 0, 0]])
    color = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    filled = nearest_color(positions, color, np.array([True, True, False, False]))
    assert filled == pytest.approx(np.array([[0.5, 0.5, 0]] * 2))  # of so few, all count
    assert nearest_color(positions, color, np.zeros(4, bool)) == pytest.approx(np.full((4, 3), 0.5))
    assert nearest_color(positions, color, np.ones(4, bool)).shape == (0, 3)


def test_views_from_where_nobody_looked_colour_nothing_but_the_underside(scene, scene_render, unseen_cameras):
    """The Gaussians of a ball that were looked at from above: from below they are noise around another colour."""
    shape = scene("ball")
    vertices, faces = np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32)
    vertex_map, faces, uv = unwrap(vertices, faces, 256)
    mesh = Unwrapped(vertices[vertex_map], np.asarray(shape.vertex_normals, np.float32)[vertex_map], faces, uv)
    honest, rng = scene_render("ball"), np.random.default_rng(0)

    def render(cameras):
        rgb, alpha, depth = honest(cameras)
        for camera, image, cover in zip(cameras, rgb, alpha, strict=True):
            if camera.position[2] < -0.4:
                noise = rng.uniform(0, 1, (*cover.shape, 3)) * [1.0, 0.2, 0.2]
                image[:] = np.where(cover[..., None] > 0.5, noise, image)
        return rgb, alpha, depth

    config = TextureConfig(size=256, views=48, image_size=128, refine=8)

    def bake(draw, lowest: float) -> TexturedMesh:
        texture = bake_texture(mesh, draw, config, np.random.default_rng(0), lowest=lowest)
        return TexturedMesh(mesh.vertices, mesh.normals, mesh.faces, mesh.uv, texture)

    baked, spoilt, clean = bake(render, -10.0), bake(render, -60.0), bake(honest, -10.0)

    def error(textured: TexturedMesh) -> float:
        pictures = honest(unseen_cameras)[0]
        return float(np.mean([np.abs(render_textured(textured, c)[0] - i).mean() for c, i in zip(unseen_cameras, pictures, strict=True)]))

    assert error(baked) < 2 * error(clean)
    assert error(baked) < 0.25 * error(spoilt)

    def blotches(textured: TexturedMesh) -> float:
        color, low = sample_texture(textured.texture, mesh.uv), mesh.normals[:, 2] < -0.9
        steps = np.abs(color[edges(mesh)[:, 0]] - color[edges(mesh)[:, 1]])[low[edges(mesh)].all(axis=1)]
        return float(steps.mean())

    assert blotches(baked) < 0.6 * blotches(spoilt)
