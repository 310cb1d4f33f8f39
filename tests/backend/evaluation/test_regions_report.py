"""What `evaluate regions` says, and that it reads off a job what the grid showed."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from backend import cli, settings
from backend.evaluation import regions
from backend.evaluation.regions import Agreement, late_indicators, shown_errors
from backend.method.region_sampling import RegionSampler
from backend.method.view_grid import ViewGrid

PSNR = np.array([30.0, 28.0, 26.0, 24.0, 22.0, 20.0, 18.0, 16.0])
NOTHING = np.ones(8)


def test_errors_that_rank_as_the_truth_does():
    agreement = Agreement.of(-PSNR, PSNR, PSNR)
    assert (agreement.errors, agreement.indicators) == pytest.approx((1, -1))
    assert (agreement.worst_shown, agreement.worst, agreement.overall) == (17, 17, 23)
    assert str(agreement) == "1.00 | -1.00 | 17.0 dB | 17.0 dB | 23.0 dB"


def test_errors_that_say_the_contrary():
    agreement = Agreement.of(PSNR, -PSNR, PSNR)
    assert (agreement.errors, agreement.indicators) == pytest.approx((-1, 1))
    assert (agreement.worst_shown, agreement.worst) == (29, 17)


def test_regions_never_seen_are_left_out():
    errors = np.where(PSNR == 16, math.nan, -PSNR)
    assert Agreement.of(errors, PSNR, PSNR) == Agreement.of(-PSNR[:-1], PSNR[:-1], PSNR[:-1])


def test_means_are_of_what_is_known():
    told, untold = Agreement.of(-PSNR, PSNR, PSNR), Agreement.of(-PSNR, NOTHING, PSNR)
    assert math.isnan(untold.indicators)
    mean = Agreement.mean([told, untold, Agreement.of(PSNR, PSNR, PSNR)])
    assert (mean.errors, mean.indicators) == pytest.approx((1 / 3, -1))
    assert (mean.worst_shown, mean.worst, mean.overall) == (21, 17, 23)


def test_indicators_are_those_of_the_last_quarter(tmp_path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps({"indicator": [number, 1.0]}) + "\n" for number in range(8)))
    assert late_indicators(SimpleNamespace(trace_path=trace)).tolist() == [6.5, 1.0]


def test_errors_are_those_the_grid_showed(tmp_path):
    """The sampler's own moving averages, though the trace holds losses that are normalised already."""
    config = settings.resolve("draft")
    sampler = RegionSampler(ViewGrid.from_config(config.grid, (2.7, 2.7)), config.region_sampling, np.random.default_rng(1))
    rng, trace = np.random.default_rng(2), tmp_path / "trace.jsonl"
    with trace.open("w") as file:
        for _ in range(300):
            visits = [(int(region), float(rng.uniform(0.1, 3)), float(rng.uniform(0, 0.9))) for region in rng.choice(30, 4, replace=False)]
            first, *also = ({"region": region, "loss_normalised": sampler.record(region, loss, t)} for region, loss, t in visits)
            print(json.dumps({**first, "also": also}), file=file)
    shown = shown_errors(SimpleNamespace(config=settings.to_dict(config), trace_path=trace))
    assert np.isnan(shown[30:]).all()
    assert shown[:30] == pytest.approx(np.array(sampler.levels[:30], dtype=float))


@pytest.fixture
def finished(monkeypatch):
    """{folder: (prompt, seed) finished in it}, where nothing is generated."""
    done = {}

    def finished_job(folder, spec, config):
        assert done.setdefault(folder, (spec.prompt, config.run.seed)) == (spec.prompt, config.run.seed), "a folder holds one job"
        return SimpleNamespace(spec=spec)

    monkeypatch.setattr(regions, "finished_job", finished_job)
    for name in ("shown_errors", "late_indicators", "region_psnr"):
        monkeypatch.setattr(regions, name, lambda job: PSNR)
    return done


def test_what_was_asked_for_is_what_is_reported(tmp_path, finished, capsys):
    asked = [["a red cat"], ["a blue car"], ["a red cat"], ["a red cat", "--seed", "5"], ["a blue car", "a red cat"]]
    for options in asked:
        assert cli.main(["evaluate", "regions", "--work", str(tmp_path / "work"), "--prompts", *options], inside=True) == 0
        assert capsys.readouterr().out.splitlines()[2].startswith(f"| {options[0]} | ")
    assert list(finished.values()) == [("a red cat", 0), ("a blue car", 0), ("a red cat", 5)]


def test_a_prompt_outside_the_world_is_refused_first(tmp_path, finished, capsys):
    options = ["--work", str(tmp_path / "work"), "--prompts", "a red cat", "a flying unicorn"]
    assert cli.main(["evaluate", "regions", *options], inside=True) == 3
    said = capsys.readouterr()
    assert "unicorn" in said.err and not said.out and not finished


@pytest.mark.slow
def test_the_report_is_of_what_was_made_or_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COGRAD3D_CACHE", str(tmp_path / "cache"))
    sets = ("prior.views=150", "gaussians.count=400", "optimizer.iterations=60", "surface.resolution=48", "surface.faces=1000")
    options = ["--work", str(tmp_path / "work"), "--prompts", "a red cat", *(part for name in sets for part in ("--set", name))]
    assert cli.main(["evaluate", "regions", *options], inside=True) == 0
    made = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in made.splitlines()] == ["| prompt", "|---|---|---|---|---|---|", "| a red cat", "| **mean**"]
    (job,) = tmp_path.glob("work/*/*/asset.glb")
    assert cli.main(["evaluate", "regions", "--jobs", str(job.parent)], inside=True) == 0
    assert capsys.readouterr().out == made
