"""`bench iteration`: what the parts of one optimisation step cost, and which share of it is the method's own bookkeeping.

A real run on the built-in prior, with a stopwatch around the parts' methods; a part that calls another is not charged for it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOOKKEEPING = ("regions", "timesteps", "fusion", "trace")
"""Sections 3.2, 3.3 and 3.4 of the paper, and writing down what they did."""

BUDGET = 0.05
"""The share of an iteration that bookkeeping may cost."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", default="a red cat", metavar="TEXT", help="what to make (%(default)s)")
    parser.add_argument("--quality", default="normal", metavar="NAME", help="draft, normal or high (%(default)s)")
    parser.add_argument("--iterations", type=int, default=400, metavar="N", help="steps; the later half is measured (%(default)s)")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 if the bookkeeping costs more than {BUDGET:.0%}% of a step")


def run(args: argparse.Namespace) -> int:
    """Print a table; the exit code is 0, or 1 if `--check` finds too much bookkeeping."""
    seconds, steps = measure(args.prompt, args.quality, max(2, args.iterations))
    total = sum(seconds.values())
    print(f"{'part':<12}{'ms a step':>10}{'share':>9}")
    for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{part:<12}{1000 * spent / steps:>10.2f}{spent / total:>9.1%}")
    print(f"{'all':<12}{1000 * total / steps:>10.2f}{1:>9.1%}")
    share = sum(seconds[part] for part in BOOKKEEPING) / total
    print(f"\nThe method's own bookkeeping ({', '.join(BOOKKEEPING)}): {share:.1%} of a step; at most {BUDGET:.0%} is wanted.")
    return int(args.check and share > BUDGET)


def measure(prompt: str, quality: str, iterations: int) -> tuple[dict[str, float], int]:
    """({part: seconds}, steps): exclusive times of the later half of a run, in which every module is at work."""
    import torch

    from .. import settings
    from ..gaussians.initialize import initialize
    from ..guidance.load import load_prior
    from ..job import JobFolder
    from ..method.optimizer import Distillation
    from ..pipeline import pick_device, settle
    from ..protocol import JobSpec

    config = settings.resolve(quality, sets=[f"optimizer.iterations={iterations}"])
    device = pick_device(config.run.device)
    prior = load_prior(config.prior, device, seed=config.run.seed)
    config = settle(config, prior)
    model = initialize(config.gaussians, torch.Generator().manual_seed(config.run.seed), device)
    distillation = Distillation(config, prior, model, prompt)
    watch = Stopwatch(synchronize=torch.cuda.synchronize if device.type == "cuda" else lambda: None)
    for part, owner, methods in (
        ("render", model, ("render",)),
        ("prior", prior, ("predict_noise",)),
        ("backward", distillation, ("main_gradient",)),  # what of it is neither rendering nor the prior
        ("adam", distillation, ("descend",)),
        ("densify", distillation, ("refine_gaussians",)),
        ("cameras", distillation, ("sample_views",)),
        ("regions", distillation.regions, ("draw", "record")),
        ("timesteps", distillation.timesteps, ("sample", "record")),
        ("fusion", distillation.fusion, ("fuse", "record", "remap")),
    ):
        for method in methods:
            setattr(owner, method, watch.timed(part, getattr(owner, method)))
    step = watch.timed("other", distillation.step)
    with tempfile.TemporaryDirectory(prefix="cograd3d-") as temporary:
        folder = JobFolder.create(Path(temporary), JobSpec(prompt=prompt), config)
        with folder.lock():
            write = watch.timed("trace", folder.append_trace)
            for iteration in range(iterations):
                if iteration == iterations // 2:
                    watch.seconds.clear()
                write(step())
    return watch.seconds, iterations - iterations // 2


class Stopwatch:
    """Adds up the time that functions take, that of timed functions they call left out.

    Args:
        synchronize: waits until the device has done what it was told, so that its time counts where it was caused.

    Attributes:
        seconds: by part.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._synchronize = synchronize
        self._clock = clock
        self._inner = [0.0]  # for each running function, the time of timed functions inside it

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its own time added to `part`."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._synchronize()
            began = self._clock()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                self._synchronize()
                spent = self._clock() - began
                self.seconds[part] += spent - self._inner.pop()
                self._inner[-1] += spent

        return run
