"""True pictures, the true mesh and the cached banks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from backend.cameras import orbit_camera
from backend.embedded import renderer, world
from backend.embedded.vocabulary import Description
from backend.meshing.zbuffer import rasterize_mesh


@pytest.mark.parametrize(
    "description",
    [
        Description("dog"),
        Description("bus", "blue", "striped"),
        Description("teapot", None, "golden"),
        Description("chair", None, "wooden"),
    ],
    ids=lambda description: description.noun_phrase,
)
def test_the_true_mesh_is_what_the_true_views_show(description: Description) -> None:
    images, alpha = world.true_views(description, np.array([40.0]), np.array([20.0]), np.array([3.3]), 64, (0.2, 0.4, 0.6))
    assert images.shape == (1, 3, 64, 64)
    assert images.dtype == alpha.dtype == np.float32
    mesh = world.true_mesh(description)
    fine = 64 * renderer.SAMPLES
    camera = orbit_camera(40, 20, 3.3, world.FOV, fine)
    face, barycentric, _ = rasterize_mesh(mesh.vertices, mesh.faces, camera.viewmat, camera.K, fine, fine)
    picture = np.broadcast_to(np.array((0.2, 0.4, 0.6), np.float32), (fine, fine, 3)).copy()
    hit = face >= 0
    picture[hit] = mesh.colours(face[hit], barycentric[hit])
    coarse = picture.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    coverage = hit.reshape(64, 3, 64, 3).mean(axis=(1, 3))
    assert np.mean((coarse - images[0]) ** 2) < 1e-4, "40 dB"
    assert np.abs(coverage - alpha[0]).mean() < 1e-3


def test_one_background_a_view() -> None:
    backgrounds = np.array([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    images, alpha = world.true_views(Description("cat"), np.zeros(2), np.zeros(2), np.full(2, 3.3), 16, backgrounds)
    assert (alpha[:, 0, 0] == 0).all()
    assert np.allclose(images[:, :, 0, 0], backgrounds)


def test_bank_cameras_cover_the_directions_evenly() -> None:
    cameras = world.bank_cameras(2000)
    azimuth, elevation, distance = cameras.T
    assert azimuth.min() >= -180
    assert azimuth.max() < 180
    assert (elevation.min() >= -12) and (elevation.max() <= 72)
    assert (distance.min() >= 3.1) and (distance.max() <= 3.5)
    low, high = np.sin(np.radians([-12, 72]))
    height = (np.sin(np.radians(elevation)) - low) / (high - low)
    counts, _, _ = np.histogram2d(azimuth, height, bins=(10, 8), range=((-180, 180), (0, 1)))
    assert np.abs(counts - 25).max() <= 6, "uniformly random cameras deviate by 15"
    assert np.array_equal(world.bank_cameras(100), cameras[:100])
    assert (world.bank_cameras(5, (3.3, 3.3))[:, 2] == 3.3).all()


def test_front_bias() -> None:
    azimuth = np.linspace(-180, 180, 720, endpoint=False)
    weights = np.exp(world.front_bias_log_weights(azimuth))
    assert weights.sum() == pytest.approx(1)
    assert np.allclose(weights, np.exp(world.front_bias_log_weights(azimuth + 360)))
    assert weights[np.abs(azimuth) < 45].sum() == pytest.approx(0.55 / 4 + 0.45 * 0.801, abs=0.003), "erf(45 / 35 / sqrt 2) = 0.801"


def test_bank_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.view_bank("frog", 6, 24, cache_dir=tmp_path / "new")
    assert len(first) == 6
    assert first.channels.shape == (6, len(renderer.CHANNELS), 24, 24)
    assert np.array_equal(first.channels, renderer.render_channels("frog", first.azimuth, first.elevation, first.distance, 24))
    monkeypatch.setattr(renderer, "render_channels", lambda *_: pytest.fail("rendered again"))
    second = world.view_bank("frog", 6, 24, cache_dir=tmp_path / "new")
    assert np.array_equal(first.channels, second.channels)
    assert np.array_equal(first.azimuth, second.azimuth)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "garbage"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, damage: str) -> None:
    good = world.view_bank("frog", 3, 16, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-100]
    elif damage == "flipped":
        content[-2000] ^= 0x10
    else:
        content = bytearray(b"" if damage == "empty" else b"\x10" * 500)
    path.write_bytes(content)
    assert np.array_equal(world.view_bank("frog", 3, 16, cache_dir=tmp_path).channels, good.channels)
    assert world._read_channels(path, good.channels.shape) is not None, "and mended"


def test_another_versions_bank_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.view_bank("frog", 2, 16, cache_dir=tmp_path)
    world.view_bank("frog", 3, 16, cache_dir=tmp_path)
    monkeypatch.setattr(world, "_channel_version", lambda: "new")
    world.view_bank("frog", 2, 16, cache_dir=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert names[0].endswith("-new.safetensors")
    assert names[1].startswith("frog-3-16")


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    bank = world.view_bank("frog", 2, 16, cache_dir=tmp_path / "file" / "views")
    assert len(bank) == 2
    assert "could not be kept" in caplog.text


def test_a_full_cache_loses_what_was_not_used_for_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.view_bank("frog", 2, 16, cache_dir=tmp_path)
    (oldest,) = tmp_path.iterdir()
    left, at_work = tmp_path / ".writing-0123.safetensors", tmp_path / ".writing-4567.safetensors"
    left.touch()
    at_work.touch()  # by another process
    for path in (oldest, left):
        os.utime(path, (0, 0))
    monkeypatch.setattr(world, "CACHE_BYTES", 1)
    world.view_bank("frog", 3, 16, cache_dir=tmp_path)
    assert sorted(path.name.split("-16-")[0] for path in tmp_path.iterdir()) == [at_work.name, "frog-3"]


def test_what_another_process_has_trimmed_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([tmp_path / "gone.safetensors"]))
    world.view_bank("frog", 2, 16, cache_dir=tmp_path)
    assert not caplog.records and len(list(tmp_path.iterdir())) == 1


def test_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COGRAD3D_CACHE", str(tmp_path))
    assert world.cache_folder() == tmp_path
    monkeypatch.delenv("COGRAD3D_CACHE")
    assert world.cache_folder().name == "cograd3d"


def test_versions_are_stable_names() -> None:
    assert world.version() == world.version()
    assert len(world.version()) == 16
    assert world.version() != world._channel_version()
