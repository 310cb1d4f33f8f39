"""The stopwatch of `bench iteration`, with a clock that is wound by hand, and the whole of it on a tiny model."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from backend.bench import iteration
from backend.bench.iteration import PARTS, Measurement, Stopwatch, table
from backend.bench.shapes import SHAPES

ROOT = Path(__file__).resolve().parents[3]


def test_times_are_exclusive():
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    inner = watch.timed("inner", passes)

    def outer_work() -> str:
        passes(1.0)
        inner(2.0)
        inner(4.0)
        passes(8.0)
        return "done"

    outer = watch.timed("outer", outer_work)
    assert outer() == "done"
    assert watch.seconds == {"inner": 6.0, "outer": 9.0}
    inner(16.0)
    assert watch.seconds == {"inner": 22.0, "outer": 9.0}


def test_a_failure_is_timed_and_passed_on():
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])

    def fail() -> None:
        now[0] += 3.0
        raise ValueError

    with pytest.raises(ValueError):
        watch.timed("part", fail)()
    assert watch.seconds == {"part": 3.0}


def test_the_device_is_waited_for_before_and_after():
    log: list[str] = []
    Stopwatch(synchronize=lambda: log.append("wait")).timed("part", lambda: log.append("work"))()
    assert log == ["wait", "work", "wait"]


def test_time_can_be_charged_to_another_part():
    now = [0.0]
    watch = Stopwatch(clock=lambda: now[0])
    began = watch.now()
    now[0] = 3.0
    watch.shift("rasteriser", "encoder", watch.now() - began)
    assert watch.seconds == {"rasteriser": -3.0, "encoder": 3.0}


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    iteration.add_arguments(parser)
    return parser.parse_args(arguments)


TINY = ("--prior", "tiny", "--device", "cpu", "--gaussians", "60", "--resolution", "16", "--views", "2", "--iterations", "4")


@pytest.mark.parametrize("memory", ["high", "low"])
def test_every_part_is_timed_and_the_floor_is_one_batch(memory: str, monkeypatch: pytest.MonkeyPatch):
    together, batches = iteration._together, []

    def watch(asked):
        calls = together(asked)
        batches.append([len(call[1]) for call in calls])
        return calls

    monkeypatch.setattr(iteration, "_together", watch)
    found = iteration.measure(options(*TINY, "--memory", memory))
    assert (found.gaussians, found.pixels, found.views, found.memory, found.device) == (60, 16, 2, memory, "cpu")
    assert len(found.steps) == len(found.floors) == 2
    assert batches == [[4], [4]], "two views with and without the prompt, of the step just made and not of earlier ones"
    assert set(found.seconds) <= {name for names in PARTS.values() for name in names}
    for part in ("render", "encode", "denoise", "encoder", "rasteriser", "fusion", "trace", "adam"):
        assert found.seconds[part] > 0, part
    assert sum(found.seconds.values()) == pytest.approx(sum(whole for whole, _ in found.steps))
    assert all(0 < rest < whole for whole, rest in found.steps)


def test_it_prints_one_table_and_what_a_step_costs(capsys):
    assert iteration.run(options(*TINY)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[3 : 3 + len(PARTS)]} == set(PARTS)
    assert lines[-1].startswith("A step costs ")
    assert "without rendering" in lines[-1]


def test_the_check_fails_where_bookkeeping_costs_too_much(monkeypatch, capsys):
    for fusion, code in ((0.049, 0), (0.051, 1)):
        found = Measurement({"denoise": 1 - fusion, "fusion": fusion}, steps=[(1.0, 0.9), (3.0, 2.7)], floors=[0.5, 1.5])
        monkeypatch.setattr(iteration, "measure", lambda args, found=found: found)
        assert iteration.run(options("--check")) == code
        assert "2.00 times the floor, without rendering 1.80 times; without it at most 1.10 is wanted" in capsys.readouterr().out


def test_the_table_has_the_dearest_first():
    lines = table({"denoise": 0.5, "rasteriser": 0.2, "encoder": 0.1, "fusion": 0.15, "regions": 0.05}, 10).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["denoise", "50.00", "50.0%"],
        ["backward", "30.00", "30.0%"],
        ["method", "20.00", "20.0%"],
    ]
    assert lines[2].endswith("rasteriser 20.00, encoder 10.00")
    assert lines[-1].split() == ["all", "100.00", "100.0%"]


@pytest.mark.parametrize(("name", "unet", "vae"), [("sd15", 859.5e6, 83.7e6), ("sd21", 865.9e6, 83.7e6), ("sdxl", 2567.5e6, 83.7e6)])
def test_the_shapes_have_as_many_parameters_as_the_models(name: str, unet: float, vae: float):
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        networks = UNet2DConditionModel(**SHAPES[name].denoiser), AutoencoderKL(**SHAPES[name].vae)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    assert counts == pytest.approx([unet, vae], rel=1e-3)


def test_the_module_loads_only_the_standard_library():
    script = "import sys, backend.bench.iteration; assert not {'torch', 'numpy', 'numba'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60).returncode == 0
