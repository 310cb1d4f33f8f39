"""Whatever goes in, what comes out is one closed piece that faces outwards."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config import SurfaceConfig
from backend.errors import SurfaceError
from backend.meshing.cleanup import (
    clean_mesh,
    compact,
    decimate,
    drop_degenerate,
    edge_use,
    fill_holes,
    is_closed,
    largest_piece,
    repair,
    smooth,
    vertex_normals,
    volume,
)

TETRAHEDRON = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def agrees_with_trimesh(vertices, faces) -> bool:
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return bool(mesh.is_watertight and mesh.is_winding_consistent)


def test_volume_of_a_tetrahedron_is_a_sixth_wherever_it_is():
    vertices, faces = TETRAHEDRON
    assert volume(vertices, faces) == pytest.approx(1 / 6)
    assert volume(vertices + 5.0, faces[:, ::-1]) == pytest.approx(-1 / 6)


def test_edge_use_by_hand():
    along, against = edge_use(np.array([[0, 1, 2], [0, 1, 3], [1, 0, 4]]))
    assert along[:, 0].tolist() == [2, 2, 1] and against[:, 0].tolist() == [1, 1, 2]
    assert (along[:, 1:] == 1).all() and (against[:, 1:] == 0).all()
    assert edge_use(np.zeros((0, 3), int))[0].shape == (0, 3)


def test_closedness():
    _, faces = TETRAHEDRON
    assert is_closed(faces)
    assert not is_closed(faces[:3])
    flipped = faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert not is_closed(flipped)
    assert not is_closed(np.zeros((0, 3), int))


@pytest.mark.parametrize("missing", [[0], [0, 1], [5, 40, 41, 300]])
def test_holes_are_filled(missing):
    ball = trimesh.creation.icosphere(3, 1.0)
    vertices, faces = fill_holes(ball.vertices, np.delete(ball.faces, missing, axis=0))
    assert agrees_with_trimesh(vertices, faces)
    assert volume(vertices, faces) == pytest.approx(ball.volume, rel=0.02)


def test_holes_that_meet_at_a_vertex_are_filled_one_by_one():
    ball = trimesh.creation.icosphere(2, 1.0)
    around = np.flatnonzero((ball.faces == 0).any(axis=1))
    _, faces = fill_holes(ball.vertices, np.delete(ball.faces, around[[0, 2]], axis=0))
    assert is_closed(faces) and len(faces) == len(ball.faces)


def test_repair_removes_flaps_fins_and_duplicates():
    ball = trimesh.creation.icosphere(2, 1.0)
    a, b = ball.faces[10, :2]
    count = len(ball.vertices)
    vertices = np.concatenate([ball.vertices, [[2.0, 2, 2]], ball.vertices[[a]]])
    extra = [[a, b, count], [a, a, b], ball.faces[3], [count + 1, b, a]]  # a fin, no area, twice, no area once merged
    vertices, faces = repair(vertices, np.concatenate([ball.faces, extra]))
    assert agrees_with_trimesh(vertices, faces)
    assert len(vertices) == len(np.unique(faces))
    assert volume(vertices, faces) == pytest.approx(ball.volume, rel=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_repair_closes_whatever_is_missing(seed, removed):
    ball = trimesh.creation.icosphere(3, 1.0)
    gone = np.random.default_rng(seed).choice(len(ball.faces), removed, replace=False)
    _, faces = repair(ball.vertices, np.delete(ball.faces, gone, axis=0))
    assert is_closed(faces)


def test_repair_keeps_a_good_mesh():
    vertices, faces = repair(*TETRAHEDRON)
    assert len(vertices) == 4 and len(faces) == 4


def test_degenerate_faces_go_and_coinciding_vertices_merge():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1e-9], [0, 0, 1]])
    new_vertices, faces = drop_degenerate(vertices, np.array([[0, 1, 2], [0, 1, 3], [0, 3, 4], [2, 1, 0]]))
    assert len(new_vertices) == 4
    assert len(faces) == 1  # one lost its area by merging, two are a flap


def test_floaters_and_inner_walls_go():
    outer, cavity, floater = trimesh.creation.icosphere(3, 1.0), trimesh.creation.icosphere(3, 0.5), trimesh.creation.icosphere(4, 0.2)
    cavity.invert()
    floater.apply_translation([3, 0, 0])
    everything = trimesh.util.concatenate([cavity, floater, outer])
    vertices, faces = largest_piece(everything.vertices, everything.faces)
    assert len(faces) == len(outer.faces) and volume(vertices, faces) == pytest.approx(outer.volume)
    with pytest.raises(SurfaceError):
        largest_piece(vertices, faces[:0])


def test_smoothing_removes_noise_and_keeps_the_volume():
    ball = trimesh.creation.icosphere(4, 1.0)
    noisy = ball.vertices * (1 + 0.02 * np.random.default_rng(0).standard_normal((len(ball.vertices), 1)))
    smoothed = smooth(noisy, ball.faces, 8)
    assert np.linalg.norm(smoothed, axis=1).std() < 0.5 * np.linalg.norm(noisy, axis=1).std()
    assert volume(smoothed, ball.faces) == pytest.approx(ball.volume, rel=0.01)
    assert smooth(noisy, ball.faces, 0) is noisy


@pytest.mark.parametrize("budget", [100, 1000, 10_000])
def test_decimation_keeps_budget_topology_and_volume(budget):
    torus = trimesh.creation.torus(0.6, 0.2, major_sections=128, minor_sections=64)
    vertices, faces = decimate(torus.vertices, torus.faces, budget)
    assert len(faces) <= budget
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight and mesh.euler_number == 0
    assert abs(mesh.volume) == pytest.approx(torus.volume, rel=0.1)


def test_decimation_leaves_a_small_mesh_alone():
    vertices, faces = TETRAHEDRON
    assert decimate(vertices, faces, 4) == (vertices, faces)


def test_clean_mesh_turns_an_inside_out_mesh():
    ball = trimesh.creation.icosphere(4, 0.5)
    vertices, faces = clean_mesh(ball.vertices, ball.faces[:, ::-1], SurfaceConfig(faces=1000, smoothing=2))
    assert volume(vertices, faces) > 0 and len(faces) <= 1000
    assert vertices.dtype == np.float32 and faces.dtype == np.int32


def test_compact_drops_unused_vertices():
    vertices, faces = compact(np.arange(15.0).reshape(5, 3), np.array([[4, 0, 2]]))
    assert vertices[:, 0].tolist() == [0, 6, 12] and faces.tolist() == [[2, 0, 1]]


def test_normals_of_a_ball_and_of_a_cube():
    ball = trimesh.creation.icosphere(4, 2.0)
    assert vertex_normals(ball.vertices, ball.faces) == pytest.approx(ball.vertices / 2.0, abs=5e-3)
    cube = trimesh.creation.box([2, 2, 2])  # weighted by angle, a corner's normal is its diagonal however its faces are split
    assert vertex_normals(cube.vertices, cube.faces) == pytest.approx(cube.vertices / np.sqrt(3), abs=1e-6)
    assert np.linalg.norm(vertex_normals(np.zeros((4, 3)), np.array([[0, 1, 2]])), axis=1) == pytest.approx(np.ones(4))
