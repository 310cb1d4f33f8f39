"""The models and the kit they are built with."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from backend.embedded.renderer import render_channels
from backend.embedded.shapes import MODELS, PAINTS, Builder, build
from backend.embedded.vocabulary import OBJECTS

EDGE = 0.14


def test_every_word_has_a_model() -> None:
    assert set(MODELS) == set(OBJECTS)
    assert len(OBJECTS) >= 18


def test_paints_leave_room_for_any_colour() -> None:
    for paint in PAINTS.values():
        assert 0 <= paint.primary <= 1
        assert all(value >= 0 and value + paint.primary <= 1 for value in paint.fixed)


@pytest.mark.parametrize("name", OBJECTS)
def test_model(name: str) -> None:
    shape = build(name)
    radius = np.linalg.norm(shape.positions, axis=1).max()
    assert radius == pytest.approx(1, abs=1e-5)
    assert np.allclose(shape.positions.min(axis=0), -shape.positions.max(axis=0), atol=1e-5), "centred in its bounding box"
    assert np.allclose(np.linalg.norm(shape.normals, axis=1), 1, atol=1e-4)
    corners = shape.positions[shape.faces]
    assert np.linalg.norm(np.roll(corners, 1, axis=1) - corners, axis=2).max() < EDGE + 1e-4
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    agreement = np.einsum("fd,fkd->fk", flat, shape.normals[shape.faces]) / np.linalg.norm(flat, axis=1, keepdims=True)
    assert (agreement > 0).mean() > 0.999, "vertex normals and winding point the same way"
    assert (shape.face_paint()[:, 0] > 0).any(), "something takes the prompt's colour"
    assert len(shape.faces) < 40_000


@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "monkey"])
def test_parts_are_closed_and_face_outwards(name: str) -> None:
    builder = Builder()
    MODELS[name](builder)
    for vertices, faces, _ in builder._parts:
        part = trimesh.Trimesh(np.round(vertices, 6), faces, process=True)
        part.update_faces(part.nondegenerate_faces())
        assert part.is_watertight
        assert part.volume > 0


@pytest.mark.parametrize("name", OBJECTS)
def test_front_and_back_differ(name: str) -> None:
    """Neither the back nor its mirror image could be taken for the front."""
    views = render_channels(name, np.array([0.0, 180.0]), np.array([15.0, 15.0]), np.array([3.3, 3.3]), 64).astype(float) / 252
    front, back = views[:, :5]
    union = np.maximum(front[0], back[0]).sum()
    for candidate in (back, back[:, :, ::-1]):
        assert np.abs(front[1:] - candidate[1:]).sum() / union > 0.15


def test_asymmetry_is_on_the_named_side() -> None:
    """Seen from the front (azimuth 0, camera at -Y) the mug's handle, which is modelled at +X, is on the right."""
    view = render_channels("mug", np.array([0.0]), np.array([0.0]), np.array([3.3]), 64)[0]
    alpha, red = view[0].astype(float), view[1].astype(float) - view[2]
    columns = np.flatnonzero(alpha.sum(axis=0))
    body = np.flatnonzero(alpha.sum(axis=0) > 0.8 * alpha.sum(axis=0).max())
    assert columns.max() - body.max() > body.min() - columns.min() + 5
    assert red.max() > 100, "the heart is in front"
    behind = render_channels("mug", np.array([180.0]), np.array([0.0]), np.array([3.3]), 64)[0]
    assert (behind[1].astype(float) - behind[2]).max() < 100


def test_box_is_flat_shaded_and_divided() -> None:
    b = Builder()
    b.box("primary", (5, 5, 5), (2, 2, 2))
    shape = b.finish(edge=0.3)
    assert np.abs(shape.positions).max() == pytest.approx(1 / np.sqrt(3), abs=1e-6)
    assert np.allclose(np.sort(np.abs(shape.normals), axis=1), [0, 0, 1], atol=1e-6)
    area = np.linalg.norm(np.cross(*(np.diff(shape.positions[shape.faces], axis=1).swapaxes(0, 1))), axis=1).sum() / 2
    assert area == pytest.approx(24 / 3, rel=1e-5), "dividing leaves no hole and no overlap"
    assert trimesh.Trimesh(shape.positions, shape.faces).is_watertight, "no T-junctions"


def test_cylinder_has_a_smooth_side_and_flat_ends() -> None:
    b = Builder()
    b.cylinder("primary", (0, 0, 0), 1.0, 2.0)
    shape = b.finish()
    upward = np.abs(shape.normals[:, 2])
    assert ((upward < 1e-5) | (upward > 1 - 1e-5)).all()
    side = upward < 0.5
    radial = shape.positions[side, :2] / np.linalg.norm(shape.positions[side, :2], axis=1, keepdims=True)
    assert (radial * shape.normals[side, :2]).sum(axis=1).min() > 0.99


def test_rounded_box_keeps_its_size() -> None:
    b = Builder()
    b.box("primary", (0, 0, 0), (1.0, 2.0, 3.0), rounding=0.2)
    vertices = b._parts[0][0]
    assert np.allclose(vertices.max(axis=0), (0.5, 1.0, 1.5))
    assert np.allclose(vertices.min(axis=0), (-0.5, -1.0, -1.5))


def test_turning_a_cone_towards_the_front() -> None:
    b = Builder()
    b.cone("primary", (0, 0, 0), 0.2, 1.0, turn=(90, 0, 0))
    assert b._parts[0][0][:, 1].min() == pytest.approx(-1.0)


def test_tube_passes_through_its_points() -> None:
    b = Builder()
    b.tube("primary", [(0, 0, 0), (0, 0, 1), (0, 0, 2)], [0.1, 0.2, 0.1])
    vertices = b._parts[0][0]
    assert np.hypot(vertices[:, 0], vertices[:, 1]).max() == pytest.approx(0.2, rel=1e-3)
    assert vertices[:, 2].min() == pytest.approx(-0.1)
    assert vertices[:, 2].max() == pytest.approx(2.1)
