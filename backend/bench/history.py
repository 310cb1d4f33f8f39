"""`bench history`: memory and time of the gradient history and of fusing with it, by the number of Gaussians and of regions."""

from __future__ import annotations

import argparse
import gc
import time
from dataclasses import dataclass
from typing import Any

from ..option_numbers import count

GAUSSIANS = (100_000, 300_000, 1_000_000)
REGIONS = (36, 72)
STEP = 4
"""Regions of a step, spread over the middle band."""
RESERVE = 1.5
"""A row is measured if its history and what fusing needs, times this, are free."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        gaussians, regions: the size.
        neighbours: how many gradients a step's were joined by, over all its regions.
        bytes: of the full history.
        fuse, record: seconds a step, the median.
        skipped: why it was not measured; empty if it was.
    """

    gaussians: int
    regions: int
    neighbours: int = 0
    bytes: int = 0
    fuse: float = 0.0
    record: float = 0.0
    skipped: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    listed = ", ".join(f"{number:,}" for number in GAUSSIANS)
    parser.add_argument("--gaussians", type=count, action="append", metavar="N", help=f"may be repeated (default: {listed})")
    parser.add_argument(
        "--regions", type=_grid_size, action="append", metavar="N", help="a multiple of 3 from 12 on; may be repeated (default: 36, 72)"
    )
    parser.add_argument("--degree", type=int, default=0, choices=range(4), help="degree of the view-dependent colour (%(default)s)")
    parser.add_argument("--repeat", type=count, default=5, metavar="N", help="timed steps, of which the median counts (%(default)s)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="where the Gaussians are: auto, cpu, cuda, mps (%(default)s)")
    parser.add_argument("--history-device", default="auto", choices=("auto", "cpu"), help="where the history is (%(default)s)")


def _grid_size(text: str) -> int:
    """Regions of a grid of three bands, the middle one of which holds a step."""
    regions = count(text)
    if regions % 3 or regions < 3 * STEP:
        raise argparse.ArgumentTypeError(f"{text} regions do not make three bands of at least {STEP}")
    return regions


def run(args: argparse.Namespace) -> int:
    """Print a table, a row a size."""
    import torch

    from ..pipeline import pick_device

    device = pick_device(args.device)
    history_device = "cpu" if args.history_device == "cpu" else device
    print(f"16-bit history on {history_device}, Gaussians on {device}, CPU threads: {torch.get_num_threads()}\n")
    print(f"{'Gaussians':>10} {'regions':>8} {'numbers each':>13} {'GiB':>7} {'neighbours':>11} {'fuse ms':>9} {'record ms':>10}")
    for gaussians in args.gaussians or GAUSSIANS:
        for regions in args.regions or REGIONS:
            row = measure(gaussians, regions, args.degree, args.repeat, device, args.history_device)
            start = f"{row.gaussians:>10,} {row.regions:>8} {numbers(args.degree):>13} "
            if row.skipped:
                print(f"{start}  skipped: {row.skipped}", flush=True)
                continue
            times = f"{1e3 * row.fuse:>9.1f} {1e3 * row.record:>10.1f}"
            print(f"{start}{row.bytes / 2**30:>7.2f} {row.neighbours:>11} {times}", flush=True)
            gc.collect()
    return 0


def shapes(degree: int) -> dict[str, tuple[int, ...]]:
    """A Gaussian's parameter groups, as `GaussianModel` has them."""
    groups: dict[str, tuple[int, ...]] = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3)}
    return groups | {"shN": ((degree + 1) ** 2 - 1, 3)} if degree else groups


def numbers(degree: int) -> int:
    """Numbers of one Gaussian."""
    import math

    return sum(math.prod(shape) for shape in shapes(degree).values())


def measure(gaussians: int, regions: int, degree: int, repeat: int, device: Any, history_device: str) -> Row:
    """Fuses and records with a full history in which every neighbour counts."""
    import torch

    from ..config import FusionConfig
    from ..guidance.memory import free_bytes
    from ..method.gradient_fusion import GradientFusion
    from ..method.region_gradients import RegionGradients
    from ..method.view_grid import ViewGrid

    grid = ViewGrid(regions // 3, (-10.0, 10.0, 30.0, 60.0), (3.3, 3.3))
    config = FusionConfig(memory_limit_gib=1e6, time_window=1.0, history_device=history_device)
    fusion = GradientFusion(grid, config, 1000, device)
    history, working = fusion.required_bytes(gaussians * numbers(degree)), 8 * 4 * STEP * gaussians * numbers(degree)
    for where, needed in ((fusion.history_device, history), (device, working)):
        free = free_bytes(where)
        if free is not None and free < RESERVE * needed:
            return Row(gaussians, regions, skipped=f"{RESERVE * needed / 2**30:.1f} GiB are needed on {where}, {free / 2**30:.1f} are free")
    generator = torch.Generator(device).manual_seed(0)

    def gradients(regions: int) -> RegionGradients:
        groups = shapes(degree).items()
        return RegionGradients.of({name: torch.randn(regions, gaussians, *s, generator=generator, device=device) for name, s in groups})

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    stored = gradients(1)
    for region in range(regions):
        fusion.record([region], [500], region, stored)
    main = gradients(STEP)
    step = [regions // 3 + k * regions // 3 // STEP for k in range(STEP)]  # neighbours on all sides
    t = [500] * STEP
    fuse, record, result = [], [], None
    for turn in range(repeat + 1):  # the first warms up
        began = wait()
        result = fusion.fuse(step, t, regions + turn, main)
        fused = wait()
        fusion.record(step, t, regions + turn, main)
        ended = wait()
        if turn:
            fuse.append(fused - began)
            record.append(ended - fused)
    assert result is not None
    middle = len(fuse) // 2
    neighbours = sum(len(report.neighbours) for report in result.reports)
    return Row(gaussians, regions, neighbours, fusion.nbytes, sorted(fuse)[middle], sorted(record)[middle])
