"""The benchmark's command, on scenes small enough for a test."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend import cli
from backend.bench import rasterizer

ROOT = Path(__file__).resolve().parents[3]


def options(*arguments):
    parser = argparse.ArgumentParser()
    rasterizer.add_arguments(parser)
    return parser.parse_args(arguments)


def test_it_prints_a_row_for_each_implementation(capsys):
    threads = torch.get_num_threads()
    try:
        assert rasterizer.run(options("--size", "60", "24", "--repeat", "1")) == 0
    finally:
        torch.set_num_threads(threads)
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert rows[0].endswith("0e+00")
    assert [row[18:].split()[0] for row in rows] == ["gsplat's", "torch", "numba"]
    assert all(float(row.split()[-1]) < 1e-4 for row in rows)


def test_check_fails_an_implementation_that_is_too_slow(monkeypatch, capsys):
    measured = [("numba", 5.0, 5.0, 0.0, 24.0), ("torch", 9.0, 9.0, 0.0, 8.0)]
    monkeypatch.setattr(rasterizer, "_measure", lambda *arguments: measured)
    assert rasterizer.run(options("--check", "--threads", str(torch.get_num_threads()))) == 1
    assert "numba is 24.0 times faster" in capsys.readouterr().out
    assert rasterizer.run(options("--threads", str(torch.get_num_threads()))) == 0


@pytest.mark.parametrize("given", [["--threads", "0"], ["--size", "0", "0"], ["--size", "60", "-1"], ["--repeat", "0"]])
def test_numbers_that_make_no_sense_are_refused(given, capsys):
    assert cli.main(["bench", "rasterizer", *given], inside=True) == 2
    said = capsys.readouterr()
    assert f"{given[0]}: '{given[-1]}' is no whole number of at least 1." in said.err and not said.out


def test_the_module_loads_only_the_standard_library():
    script = "import sys, backend.bench.rasterizer; assert not {'torch', 'numpy', 'numba'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60).returncode == 0
