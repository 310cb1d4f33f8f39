"""`bench history`, on sizes for a test."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend.bench import history
from backend.gaussians.initialize import initialize
from backend.settings import resolve

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")


def options(*arguments):
    parser = argparse.ArgumentParser()
    history.add_arguments(parser)
    return parser.parse_args(arguments)


def test_it_prints_a_row_a_size(capsys):
    assert history.run(options("--gaussians", "200", "--gaussians", "300", "--regions", "36", "--repeat", "1", "--device", "cpu")) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[:4] for row in rows] == [["200", "36", "14", "0.00"], ["300", "36", "14", "0.00"]]
    assert all(int(row[4]) >= 4 for row in rows), "a region of the middle band has neighbours on all sides"


@pytest.mark.parametrize("regions", ["0", "9", "37", "many"])
def test_a_grid_without_three_bands_is_refused(regions, capsys):
    with pytest.raises(SystemExit, match="2"):
        options("--regions", regions)
    assert "--regions" in capsys.readouterr().err


def test_bytes_are_those_of_a_full_history():
    row = history.measure(100, 36, 0, 1, CPU, "auto")
    assert row.bytes == 36 * (100 * 14 * 2 + 5 * 4), "16-bit numbers, and a scale for each group"
    assert row.fuse > 0
    assert row.record > 0


def test_a_row_that_would_not_fit_says_so(monkeypatch, capsys):
    monkeypatch.setattr("backend.guidance.memory.free_bytes", lambda device: 2**20)
    history.run(options("--gaussians", "100000", "--regions", "36", "--device", "cpu"))
    assert "skipped: 0.1 GiB are needed on cpu, 0.0 are free" in capsys.readouterr().out


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_the_groups_are_a_models(degree):
    config = resolve("draft", sets=["gaussians.count=5", f"gaussians.sh_degree={degree}"])
    model = initialize(config.gaussians, torch.Generator().manual_seed(0), CPU)
    assert {name: tuple(parameter.shape[1:]) for name, parameter in model.params.items()} == history.shapes(degree)


def test_the_modules_load_only_the_standard_library():
    script = "import sys, backend.bench.history, backend.bench.shapes; assert not {'torch', 'numpy', 'numba'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60).returncode == 0
