"""What settings do to a run, and how they are settled for its prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backend import settings
from backend.gaussians import rasterize
from backend.guidance.prior import PriorDefaults
from backend.pipeline import settle

from .small_runs import SMALL, config, execute, make_job


@pytest.mark.parametrize("part", ["region-sampling", "timestep-sampling", "gradient-fusion"])
def test_every_module_can_be_left_out(tmp_path: Path, part: str) -> None:
    settled = settings.resolve("draft", sets=[*SMALL, "optimizer.iterations=80"], without=[part])
    folder = make_job(tmp_path, settled)
    execute(folder, settled)
    trace = list(folder.read_trace())
    if part == "region-sampling":
        assert all(line["probability"] == pytest.approx([1 / 36] * 36) for line in trace)
    elif part == "timestep-sampling":
        assert all(line["t_local"] == 0 for line in trace)
        assert np.std([line["t"] for line in trace[-20:]]) > 150, "uniform to the end"
    else:
        assert not any(line["neighbours"] for line in trace)
        assert all(line["norm_fused"] == line["norm_main"] for line in trace)


def test_everything_is_drawn_by_the_rasteriser_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, load = [], rasterize.load
    monkeypatch.setattr(rasterize, "load", lambda name: used.append(name) or load(name))
    solid = ("gaussians.initial=sphere", "gaussians.opacity=0.95", "gaussians.max_scale=0.2", "optimizer.iterations=2")
    settled = config(*solid, "run.rasterizer=torch", "run.preview_every=1", "optimizer.resolution_steps=[[0.0, 32]]")
    execute(make_job(tmp_path, settled), settled)
    assert set(used) == {"torch"} and len(used) > 10


def test_the_same_seed_repeats_and_another_does_not(tmp_path: Path) -> None:
    short = ("optimizer.iterations=5",)
    traces = []
    for index, sets in enumerate((short, short, (*short, "run.seed=1"))):
        folder = make_job(tmp_path / str(index), config(*sets))
        execute(folder, config(*sets))
        traces.append(list(folder.read_trace()))
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


def test_view_words_decide_where_the_face_is(tmp_path: Path) -> None:
    """With view words off, the prompt says nothing of the back, so the run must differ from the first step's prompt on."""
    settled = config("optimizer.iterations=3", "guidance.view_prompts=false")
    folder = make_job(tmp_path, settled)
    execute(folder, settled)
    plain = [line["loss"] for line in folder.read_trace()]
    worded = make_job(tmp_path, replace(settled, guidance=replace(settled.guidance, view_prompts=True)))
    execute(worded, settings.from_dict(worded.config))
    assert plain != [line["loss"] for line in worded.read_trace()]


def test_the_first_render_size_that_the_prior_has_is_used_from_the_beginning() -> None:
    prior = SimpleNamespace(
        recommended=PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(64, 128)), views_per_prediction=1
    )
    wanted = {
        "[[0.0, 32], [0.5, 64]]": ((0.0, 64),),
        "[[0.0, 32], [0.2, 64], [0.5, 128]]": ((0.0, 64), (0.5, 128)),
        "[[0.0, 32]]": ((0.0, 128),),
    }
    for steps, expected in wanted.items():
        assert settle(config(f"optimizer.resolution_steps={steps}"), prior).optimizer.resolution_steps == expected


def test_sizes_between_half_and_whole_are_kept_where_a_prior_takes_their_multiples() -> None:
    recommended = PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(512,), resolution_multiple=64)
    prior = SimpleNamespace(recommended=recommended, views_per_prediction=1)
    wanted = {
        "[[0.0, 256], [0.5, 512]]": ((0.0, 256), (0.5, 512)),
        "[[0.0, 64], [0.5, 128]]": ((0.0, 512),),
        "[[0.0, 64], [0.3, 300], [0.5, 384], [0.6, 1024]]": ((0.0, 384),),
    }
    for steps, expected in wanted.items():
        assert settle(config(f"optimizer.resolution_steps={steps}"), prior).optimizer.resolution_steps == expected
