"""What `evaluate refinement` says, and that it measures what a refinement changes."""

from types import SimpleNamespace

import numpy as np
import pytest

from backend import cli, settings
from backend.evaluation import refinement
from backend.evaluation.refinement import Gain

BEFORE, AFTER = np.array([10.0, 20.0, 30.0, 40.0]), np.array([12.0, 20.5, 29.6, 40.1])


def test_gains_of_the_chosen_and_of_the_others():
    gain = Gain.of(BEFORE, AFTER, [1, 0, 0])
    assert gain.chosen == pytest.approx((15, 16.25))
    assert gain.others == pytest.approx((35, 34.85))
    assert gain.worst_other == pytest.approx(-0.4), "that of a chosen one does not count"
    assert gain.overall == pytest.approx((25, 25.55))
    assert str(gain) == "15.0 to 16.2 (+1.25) dB | 35.0 to 34.9 (-0.15) dB | -0.40 dB | 25.0 to 25.6 (+0.55) dB"


def test_mean_of_several_keeps_the_worst():
    mean = Gain.mean([Gain.of(BEFORE, AFTER, [0]), Gain.of(BEFORE, BEFORE, [0])])
    assert mean.chosen == pytest.approx((10, 11))
    assert mean.worst_other == pytest.approx(-0.4)


@pytest.fixture
def finished(monkeypatch):
    """{folder: what was finished in it}, where nothing is generated; of a refinement the regions and the factor, too."""
    done = {}

    def finished_job(folder, spec, config):
        asked = spec.prompt, config.run.seed, config.region_sampling.weights
        assert done.setdefault(folder, asked) == asked, "a folder holds one job"
        return SimpleNamespace(spec=spec, config=config)

    def refine(job, regions, factor):
        weights = tuple((region, factor) for region in regions)
        return job.spec, settings.changed(job.config, {"region_sampling.weights": weights, "gaussians.initial": "blob"})

    monkeypatch.setattr(refinement, "finished_job", finished_job)
    monkeypatch.setattr("backend.refinement.refine", refine)
    monkeypatch.setattr(refinement, "region_psnr", lambda job: 20.0 + job.config.run.seed + np.arange(36.0) * len(job.spec.prompt))
    return done


def report(tmp_path, *options):
    return cli.main(["evaluate", "refinement", "--work", str(tmp_path / "work"), "--prompts", "a red cat", *options], inside=True)


def test_what_was_asked_for_is_what_is_reported(tmp_path, finished, capsys):
    assert report(tmp_path) == 0
    first, before = capsys.readouterr().out, set(finished)
    assert sorted(len(weights) for _, _, weights in finished.values()) == [0, 4]
    assert report(tmp_path) == 0
    assert capsys.readouterr().out == first and set(finished) == before, "what is done is not repeated"
    for options, new in (
        (["--prompts", "a blue car"], 2),
        (["--seed", "5"], 2),
        (["--quality", "normal"], 2),
        (["--set", "gradient_fusion.cap=0.4"], 2),
        (["--factor", "2"], 1),
        (["--regions", "3"], 1),
    ):
        assert report(tmp_path, *options) == 0
        assert len(finished) - len(before) == new, options
        before = set(finished)
    assert report(tmp_path, "--prompts", "a blue car", "--seed", "7") == 0
    assert "| a blue car | 42.0 to" in capsys.readouterr().out.splitlines()[-2]


@pytest.mark.parametrize("regions", ["0", "-1", "36", "100"])
def test_none_or_all_regions_cannot_be_refined(regions, tmp_path, finished, capsys):
    assert report(tmp_path, "--regions", regions) == 2
    assert "--regions is 1 to 35." in capsys.readouterr().err and not finished


def test_what_cannot_be_done_is_refused_first(tmp_path, finished, capsys):
    assert report(tmp_path, "--factor", "-1") == report(tmp_path, "--factor", "nan") == report(tmp_path, "--factor", "much") == 2
    assert report(tmp_path, "--prompts", "a red cat", "a flying unicorn") == 3
    said = capsys.readouterr()
    assert "unicorn" in said.err and not said.out and not finished


@pytest.mark.slow
def test_the_report_is_made_once(tmp_path, monkeypatch, capsys):
    """Jobs that are finished are not repeated, and the truth is not far from what the built-in prior makes."""
    monkeypatch.setenv("COGRAD3D_CACHE", str(tmp_path / "cache"))
    sets = (
        "prior.views=150",
        "gaussians.count=400",
        "optimizer.iterations=60",
        "surface.resolution=48",
        "surface.faces=1000",
        "texture.size=64",
    )
    options = ["--work", str(tmp_path / "work"), "--prompts", "a red cat", *(part for name in sets for part in ("--set", name))]
    assert cli.main(["evaluate", "refinement", *options], inside=True) == 0
    first = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in first.splitlines()] == ["| prompt", "|---|---|---|---|---|", "| a red cat", "| **mean**"]
    jobs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("work/*/*/asset.glb")}
    assert len(jobs) == 2
    assert cli.main(["evaluate", "refinement", *options], inside=True) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in jobs} == jobs
    assert cli.main(["evaluate", "refinement", *options, "--factor", "2"], inside=True) == 0
    assert len(list(tmp_path.glob("work/*/*/asset.glb"))) == 3, "the first run serves again"
