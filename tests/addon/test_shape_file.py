"""Meshes that runs start from: kept for as long as a job names them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from cograd3d.backend import refinement
from cograd3d.backend.job import JobFolder
from cograd3d.backend.protocol import JobSpec
from cograd3d.backend.request import make_request
from cograd3d.cograd3d_addon.shape_file import remove_unused, starts_of, write_shape


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    return write_shape(tmp_path / "jobs", np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], dtype=np.int32))


def grown_old(shape: Path) -> None:
    """As if nobody had used it for a day."""
    os.utime(shape, (time.time() - 86_400,) * 2)


def test_one_that_nobody_names_goes(shape: Path, tmp_path: Path) -> None:
    grown_old(shape)
    remove_unused(tmp_path / "jobs", {str(shape)})
    assert shape.exists()
    remove_unused(tmp_path / "jobs", {"blob", str(tmp_path / "jobs" / "job" / "splats.ply")})
    assert not shape.exists()


def test_one_that_somebody_is_about_to_order_with_stays(shape: Path, tmp_path: Path) -> None:
    remove_unused(tmp_path / "jobs", ())
    assert shape.exists()
    grown_old(shape)
    assert write_shape(tmp_path / "jobs", np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], dtype=np.int32)) == shape
    remove_unused(tmp_path / "jobs", ())
    assert shape.exists(), "it was there already, and is wanted again"


def test_one_that_is_named_by_another_way_stays(shape: Path, tmp_path: Path) -> None:
    grown_old(shape)
    (tmp_path / "alias").symlink_to(tmp_path / "jobs", target_is_directory=True)
    remove_unused(tmp_path / "alias", {str(shape)})
    assert shape.exists()


def test_a_refinement_keeps_what_its_beginning_began_with(shape: Path, tmp_path: Path) -> None:
    """*Try Again at Lower Quality* and *Copy to Panel* go back to it."""
    spec, config = make_request("a red cat", overrides={"gaussians.initial": str(shape)})
    folder = JobFolder.create(tmp_path / "jobs", spec, config)
    folder.splats_path.write_bytes(b"something")
    refined, config = refinement.refine(folder, [1])
    starts = starts_of(refined, JobFolder.create(tmp_path / "jobs", refined, config).config)
    assert starts == {str(shape), str(folder.splats_path)}
    grown_old(shape)
    remove_unused(tmp_path / "jobs", starts)
    assert shape.exists()


@pytest.mark.parametrize("config", [{}, {"gaussians": None}, {"gaussians": {"initial": 3.0}}])
def test_settings_may_be_anything(config: dict) -> None:
    assert starts_of(JobSpec(prompt="a red cat", initial="blob"), config) >= {"blob"}


def test_what_a_settings_file_named_counts() -> None:
    assert starts_of(JobSpec(prompt="a red cat"), {"gaussians": {"initial": "/a.ply"}}) == {"/a.ply"}
