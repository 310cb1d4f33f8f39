"""A whole run, prompt to files: what it tells, what it leaves, and the paper's equations worked again from its trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backend import settings
from backend.cameras import orbit_camera
from backend.embedded.exact_prior import ExactPrior
from backend.gaussians.model import GaussianModel
from backend.gaussians.rendering import render_cameras
from backend.job import JobFolder
from backend.job_lines import trace_visits
from backend.protocol import CheckpointWritten, Event, Notice, Phase, PreviewReady, Regions, Result

from .small_runs import config, execute, make_job


def test_a_run_leaves_every_promised_file(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    folder, result, _ = finished
    for path in (folder.asset_path, folder.splats_path, folder.preview_image_path, folder.preview_splats_path):
        assert path.stat().st_size > 0, path.name
    assert all(Path(output).stat().st_size > 0 for output in result.outputs)
    assert result.iterations == 90
    assert result.faces > 100


def test_events_come_in_the_order_of_the_phases(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    events = finished[2]
    names = [event.name for event in events if isinstance(event, Phase) and not event.message]
    assert names == ["prior", "prepare", "optimise", "surface", "texture", "export"]
    assert isinstance(events[-1], Result)
    assert [event.iteration for event in events if isinstance(event, CheckpointWritten)] == [20, 40, 60, 80, 90]
    regions = [event for event in events if isinstance(event, Regions)]
    assert len(regions[-1].probability) == len(regions[-1].timestep) == 36
    assert sum(regions[-1].visits) == 2 * 90
    assert 0 < np.abs(regions[-1].timestep).max() <= 0.5, "fractions of T"


def test_every_region_has_a_picture_before_the_result(tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]) -> None:
    folder, _, events = finished
    assert sorted(path.name for path in folder.views_path.iterdir()) == [f"region-{region:03d}.png" for region in range(36)]
    assert not any(isinstance(event, PreviewReady) and event.region >= 0 for event in events)
    centers = next(event for event in events if isinstance(event, Regions))
    splats = GaussianModel.load_ply(folder.splats_path)
    for region in (0, 14, 35):
        camera = orbit_camera(centers.azimuth[region], centers.elevation[region], centers.distance[region], 40.0, 256)
        expected, _, _ = render_cameras(splats, [camera])
        with Image.open(folder.view_path(region)) as image:
            pixels = np.asarray(image) / 255
        assert pixels == pytest.approx(expected[0].clamp(0, 1).numpy(), abs=0.01)
        assert (pixels[0, 0] == 1).all(), "on white"


def test_config_repeats_the_run(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    settled = settings.from_dict(finished[0].config)
    assert settled.guidance.scale == 1.0
    assert settled.guidance.weighting == "x0"
    assert settled.grid.fov == 40.0
    assert settled.grid.distance_edges == (3.3, 3.3)


def test_the_made_by_record_names_versions_and_prior(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    record = json.loads((finished[0].path / "made_by.json").read_text())
    assert record["prior"] == "builtin:exact"
    assert record["torch"] == torch.__version__
    assert len(record["prior_fingerprint"]) == 16


def test_the_trace_recomputes_equations_6_and_7(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    trace = list(finished[0].read_trace())
    assert [line["iteration"] for line in trace] == list(range(90))
    losses: dict[int, list[float]] = {}
    for line in trace:
        first, second = trace_visits(line)
        assert first["region"] != second["region"]
        assert (first["indicator"], first["probability"]) == (second["indicator"], second["probability"]), "two regions of one draw"
        for region, r in enumerate(line["indicator"]):
            seen = losses.get(region, [])[-10:]
            if len(seen) < 2:
                assert r == 1
            else:
                mean, n = np.mean(seen[:-1]), 10
                assert r == pytest.approx((mean * (n - 1) + seen[-1]) / (mean * n), rel=1e-4)
        if line["iteration"] >= 36:  # the two warm-up passes over 36 regions are over
            softmax = np.exp(np.array(line["indicator"]) / 0.1)
            assert line["probability"] == pytest.approx(0.85 * softmax / softmax.sum() + 0.15 / 36, rel=1e-4)
        for visit in (first, second):
            losses.setdefault(visit["region"], []).append(visit["loss_normalised"])


def test_the_trace_recomputes_equations_8_and_10(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    trace = [visit for line in finished[0].read_trace() for visit in trace_visits(line)]
    fused = [line for line in trace if line["neighbours"]]
    assert fused, "the run must be long enough for some fusion"
    for line in fused:
        assert sum(neighbour["weight"] for neighbour in line["neighbours"]) == pytest.approx(1)
        for neighbour in line["neighbours"]:
            assert abs(neighbour["t"] - line["t"]) <= 100
            iteration = line["iteration"] - neighbour["age"]
            assert neighbour["age"] >= 1
            assert (neighbour["region"], neighbour["t"]) in [(stored["region"], stored["t"]) for stored in trace[2 * iteration :][:2]]
        for group, main in line["norm_main"].items():
            projected, whole = line["norm_projected"][group], line["norm_fused"][group]
            assert projected <= 0.5 * main * (1 + 1e-4)
            assert whole**2 == pytest.approx(main**2 + projected**2, rel=1e-3, abs=1e-20), "orthogonal parts add in squares"
    for line in trace:
        assert abs(line["t"] - np.clip(line["t_mix"], 20, 980)) <= 51
        assert line["t_mix"] == pytest.approx(line["t_global"] + line["t_neighbourhood"])


def test_what_a_prior_warns_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ["It runs as it is."]
    monkeypatch.setattr(ExactPrior, "take_warnings", lambda self: [waiting.pop()] if waiting else [])
    events: list[Event] = []
    execute(make_job(tmp_path, config("optimizer.iterations=3")), config("optimizer.iterations=3"), emit=events.append)
    assert [event.message for event in events if isinstance(event, Notice)] == ["It runs as it is."]


@pytest.mark.parametrize(("negative", "scale", "told"), [("a blue car", 1, True), ("a blue car", 2, False), ("", 1, False)])
def test_a_negative_prompt_that_makes_no_difference_is_told_of(tmp_path: Path, negative: str, scale: float, told: bool) -> None:
    small = config("optimizer.iterations=1", f"guidance.scale={scale}")
    events: list[Event] = []
    execute(make_job(tmp_path, small, negative_prompt=negative), small, emit=events.append)
    notices = [event for event in events if isinstance(event, Notice)]
    assert [notice.code for notice in notices] == ["negative_prompt"] * told
    assert all("makes no difference" in notice.message for notice in notices)
