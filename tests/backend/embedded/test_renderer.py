"""The channel renderer against cameras.py and hand-worked shading."""

from __future__ import annotations

import numpy as np
import pytest

from backend.cameras import orbit_camera
from backend.embedded import renderer
from backend.embedded.renderer import CHANNELS, LIGHT, LitShape, lit_shape, pattern_masks, render_channels, shade
from backend.embedded.shapes import Builder, Shape


def _ball(centre: tuple[float, float, float], radius: float) -> Shape:
    b = Builder()
    b.sphere("primary", (0, 0, 0), 1.0)
    unit = b.finish()
    return Shape((unit.positions * radius + centre).astype(np.float32), unit.normals, unit.faces, unit.paints)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (90, 10), (205, -12), (-70, 55), (10, 89)])
def test_a_point_projects_where_the_cameras_say(monkeypatch: pytest.MonkeyPatch, azimuth: float, elevation: float) -> None:
    centre = (0.5, -0.3, 0.4)
    shape = _ball(centre, 0.05)
    monkeypatch.setattr(renderer, "lit_shape", lambda name: LitShape(shape, np.ones((len(shape.positions), 2), np.float32)))
    resolution = 128
    alpha = render_channels("ball", np.array([azimuth]), np.array([elevation]), np.array([3.3]), resolution)[0, 0] / 252
    camera = orbit_camera(azimuth, elevation, 3.3, renderer.FOV, resolution)
    x, y, z = camera.viewmat[:3, :3] @ centre + camera.viewmat[:3, 3]
    expected = (camera.K[0, 0] * x / z + camera.K[0, 2], camera.K[1, 1] * y / z + camera.K[1, 2])
    pixels = np.arange(resolution) + 0.5
    measured = ((alpha.sum(axis=0) @ pixels) / alpha.sum(), (alpha.sum(axis=1) @ pixels) / alpha.sum())
    assert measured == pytest.approx(expected, abs=0.1)
    assert alpha.sum() == pytest.approx(np.pi * (camera.K[0, 0] * 0.05 / z) ** 2, rel=0.05)


@pytest.mark.parametrize("name", ["cat", "airplane", "mug"])
def test_the_silhouette_ends_where_the_vertices_do(name: str) -> None:
    for azimuth, elevation in ((30, 20), (190, 60)):
        alpha = render_channels(name, np.array([azimuth]), np.array([elevation]), np.array([3.1]), 96)[0, 0]
        camera = orbit_camera(azimuth, elevation, 3.1, renderer.FOV, 96)
        points = lit_shape(name).shape.positions @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
        screen = points[:, :2] / points[:, 2:] * camera.K[0, 0] + 48
        for axis in (0, 1):
            hit = np.flatnonzero(alpha.sum(axis=axis))
            assert hit.min() == pytest.approx(screen[:, axis].min(), abs=1.0)
            assert hit.max() + 1 == pytest.approx(screen[:, axis].max(), abs=1.0)


def test_the_nearer_surface_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = _ball((0, -0.5, 0), 0.2), _ball((0, 0.5, 0), 0.4)
    both = Shape(
        np.concatenate([near.positions, far.positions]),
        np.concatenate([near.normals, far.normals]),
        np.concatenate([near.faces, far.faces + len(near.positions)]),
        np.concatenate([near.paints, np.full(len(far.faces), 4)]).astype(np.int32),
    )
    monkeypatch.setattr(renderer, "lit_shape", lambda name: LitShape(both, np.ones((len(both.positions), 2), np.float32)))
    front, back = render_channels("balls", np.array([0.0, 180.0]), np.zeros(2), np.full(2, 3.3), 33)
    middle = CHANNELS.index("primary"), 16, 16
    assert front[middle] == 252
    assert back[middle] == 0
    assert back[0, 16, 16] == 252


def test_shading_by_hand() -> None:
    up = shade(np.array([[0.0, 0.0, 1.0]]), np.array([1.0]))[0, 0]
    assert up == pytest.approx(0.49 + 0.235 + 0.28 * LIGHT[2], abs=1e-6)
    down = shade(np.array([[0.0, 0.0, -1.0]]), np.array([1.0]))[0, 0]
    assert down == pytest.approx(0.49, abs=1e-6)
    buried = shade(np.array([[0.0, 0.0, -1.0]]), np.array([0.0]))[0, 0]
    assert buried == pytest.approx(0.58 * 0.49, abs=1e-6)


def test_light_stays_below_one_in_every_direction() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(5000, 3))
    light = shade(normals / np.linalg.norm(normals, axis=1, keepdims=True), np.ones(5000))
    assert light.min() >= 0
    assert light.max() <= 1


def test_samples_on_shared_edges_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The diagonals and divisions of a plate run exactly through the sample centres of an odd picture's middle."""
    b = Builder()
    b.box("primary", (0, 0, 0), (1, 1, 0.2))
    shape = b.finish()
    monkeypatch.setattr(renderer, "lit_shape", lambda name: LitShape(shape, np.ones((len(shape.positions), 2), np.float32)))
    views = render_channels("plate", np.arange(8) * 45.0, np.full(8, 60.0), np.full(8, 3.3), 65)
    assert (views[:, CHANNELS.index("primary"), 22:43, 22:43] == 252).all()


def test_light_does_not_depend_on_the_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat plate facing up looks equally bright from all around."""
    b = Builder()
    b.box("primary", (0, 0, 0), (1, 1, 0.2))
    shape = b.finish()
    monkeypatch.setattr(renderer, "lit_shape", lambda name: LitShape(shape, shade(shape.normals, np.ones(len(shape.normals)))))
    azimuths = np.arange(6) * 60.0
    views = render_channels("plate", azimuths, np.full(6, 60.0), np.full(6, 3.3), 65)
    expected = int(252 * (0.49 + 0.235 + 0.28 * LIGHT[2]))
    assert (np.abs(views[:, CHANNELS.index("primary"), 32, 32].astype(int) - expected) <= 1).all()


def test_a_convex_body_sees_all_its_surroundings_and_a_pit_does_not() -> None:
    b = Builder()
    b.sphere("primary", (0, 0, 0), 1.0)
    assert renderer.ambient_visibility(b.finish()).min() > 0.9
    b = Builder()
    b.lathe("primary", [(0, 0), (0.4, 0), (0.4, 1), (0.3, 1), (0.3, 0.1), (0, 0.1)])
    shape = b.finish()
    middle = (shape.normals[:, 2] > 0.9) & (shape.positions[:, 2] < 0) & (np.hypot(*shape.positions[:, :2].T) < 0.01)
    assert middle.any()
    # The cosine-weighted share of a disc of radius r at height h above a point is r^2 / (r^2 + h^2).
    assert renderer.ambient_visibility(shape)[middle] == pytest.approx(0.3**2 / (0.3**2 + 0.9**2), abs=0.05)


def test_coverage_bounds_every_channel() -> None:
    views = render_channels("lion", np.arange(6) * 60.0, np.linspace(-10, 70, 6), np.full(6, 3.3), 48).astype(int)
    channel = dict(zip(CHANNELS, views.swapaxes(0, 1), strict=True))
    assert (channel["alpha"] % 28 == 0).all(), "coverage is an exact number of ninths"
    assert (np.maximum.reduce([channel["fixed_r"], channel["fixed_g"], channel["fixed_b"]]) + channel["primary"] <= channel["alpha"]).all()
    for name in ("stripes", "spots", "grain"):
        assert (channel[name] <= channel["primary"]).all()
        assert 0.05 < channel[name].sum() / channel["primary"].sum() < 0.75
    assert (channel["sheen"] <= channel["alpha"]).all()


def test_a_view_does_not_depend_on_its_batch() -> None:
    cameras = np.arange(5) * 50.0, np.linspace(0, 60, 5), np.linspace(3.1, 3.5, 5)
    together = render_channels("duck", *cameras, 32)
    alone = np.concatenate([render_channels("duck", *(part[i : i + 1] for part in cameras), 32) for i in range(5)])
    assert np.array_equal(together, alone)


def test_patterns_are_masks() -> None:
    masks = pattern_masks(np.random.default_rng(0).uniform(-1, 1, (20_000, 3)))
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert set(np.unique(masks[:, :2])) == {0.0, 1.0}
    assert masks[:, 0].mean() == pytest.approx(0.42, abs=0.03)
    assert 0.08 < masks[:, 1].mean() < 0.3
