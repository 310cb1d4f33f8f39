"""What `evaluate refinement` says, and that it measures what a refinement changes."""

import numpy as np
import pytest

from backend import cli
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
