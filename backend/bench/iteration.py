"""`bench iteration`: what the parts of one optimisation step cost, and how far that is from the least that any step must cost.

A real run with a stopwatch around the parts' methods; a part that calls another is not charged for it. The least, the floor, is what the
prior's networks alone need for the same batch: the denoiser's forward pass and, of a latent model, the encoder's forward and backward
pass, all at once and with nothing computed twice. A prior without an encoder has only its prediction there. It is measured in the
same process, after every step, on that step's own input. Rendering is no part of it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..option_numbers import count

PARTS = {
    "render": ("render",),
    "encode": ("encode",),
    "denoise": ("denoise",),
    "backward": ("rasteriser", "encoder"),
    "method": ("fusion", "regions", "timesteps", "trace"),
    "step": ("guidance", "adam", "cameras", "densify", "other"),
}
"""The rows of the table, and what each consists of. `rasteriser` is what of the gradient is neither of the other parts."""

BOOKKEEPING = PARTS["method"]
"""Sections 3.2, 3.3 and 3.4 of the paper, and writing down what they did."""

BUDGET = 0.05
"""The share of an iteration that bookkeeping may cost."""

CPU_TARGET, GPU_TARGET = 1.10, 1.15
"""How often the floor a step should cost at most: without rendering, on a CPU with the built-in prior; with it, on a GPU at 512 pixels with
100,000 Gaussians and a prior of Stable Diffusion's size."""


@dataclass
class Measurement:
    """What `measure` found.

    Attributes:
        seconds: by part, exclusive, summed over the measured steps.
        steps: seconds of each measured step, and of what of it was not rendering.
        floors: seconds of the floor after each.
        device, memory: where, and the prior's memory mode if it has modes.
        gaussians, pixels, views: the size of a step.
    """

    seconds: dict[str, float]
    steps: list[tuple[float, float]] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)
    device: str = "cpu"
    memory: str = ""
    gaussians: int = 0
    pixels: int = 0
    views: int = 0

    @property
    def ratios(self) -> tuple[float, float]:
        """(whole step, step without rendering) over the floor, by their medians."""
        floor = statistics.median(self.floors)
        return tuple(statistics.median(values) / floor for values in zip(*self.steps, strict=True))  # type: ignore[return-value]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from .shapes import SHAPES

    shapes = ", ".join(SHAPES)
    prior_help = f"as `generate` takes it, or the shape of a model: {shapes} (%(default)s)"
    parser.add_argument("--prior", default="builtin", metavar="NAME", help=prior_help)
    parser.add_argument("--prompt", default="a red cat", metavar="TEXT", help="what to make (%(default)s)")
    parser.add_argument("--quality", default="normal", metavar="NAME", help="draft, normal or high (%(default)s)")
    parser.add_argument("--iterations", type=count, default=400, metavar="N", help="steps; the later half is measured (%(default)s)")
    parser.add_argument("--gaussians", type=count, metavar="N", help="their number, kept throughout (as the quality has it)")
    parser.add_argument("--resolution", type=count, metavar="PIXELS", help="size of the renders (as the quality has it)")
    parser.add_argument("--views", type=count, metavar="N", help="views of a step (as the quality has it)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps (%(default)s)")
    parser.add_argument("--memory", default="auto", choices=("auto", "low", "normal", "high"), help="the prior's memory mode (%(default)s)")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 if the bookkeeping costs more than {BUDGET:.0%}% of a step")


def run(args: argparse.Namespace) -> int:
    """Print a table; the exit code is 0, or 1 if `--check` finds too much bookkeeping."""
    found = measure(args)
    memory = f", memory {found.memory}" if found.memory else ""
    print(f"{args.prior} on {found.device}{memory}: {found.gaussians:,} Gaussians, {found.views} views of {found.pixels} pixels\n")
    print(table(found.seconds, len(found.steps)))
    share = sum(found.seconds.get(part, 0.0) for part in BOOKKEEPING) / sum(found.seconds.values())
    whole, rest = found.ratios
    wanted = ""
    if found.device == "cpu" and args.prior.startswith("builtin"):
        wanted = f"; without it at most {CPU_TARGET:.2f} is wanted"
    elif found.device != "cpu" and found.pixels >= 512:
        wanted = f"; with it at most {GPU_TARGET:.2f} is wanted"
    print(f"\nThe method's own bookkeeping ({', '.join(BOOKKEEPING)}): {share:.1%} of a step; at most {BUDGET:.0%} is wanted.")
    print(f"The floor, the prior's networks alone: {1000 * statistics.median(found.floors):.2f} ms (median).")
    print(f"A step costs {whole:.2f} times the floor, without rendering {rest:.2f} times{wanted}.")
    return int(args.check and share > BUDGET)


def table(seconds: dict[str, float], steps: int) -> str:
    """Milliseconds a step and shares, the dearest part first."""
    total = sum(seconds.values())
    lines = [f"{'part':<10}{'ms a step':>11}{'share':>8}  of which"]
    sums = {part: sum(seconds.get(name, 0.0) for name in names) for part, names in PARTS.items()}
    for part, spent in sorted(sums.items(), key=lambda item: -item[1]):
        details = sorted(((seconds.get(name, 0.0), name) for name in PARTS[part]), reverse=True)
        text = ", ".join(f"{name} {1000 * value / steps:.2f}" for value, name in details) if len(details) > 1 else ""
        lines.append(f"{part:<10}{1000 * spent / steps:>11.2f}{spent / total:>8.1%}  {text}".rstrip())
    return "\n".join([*lines, f"{'all':<10}{1000 * total / steps:>11.2f}{1:>8.1%}"])


def measure(args: argparse.Namespace) -> Measurement:
    """Runs as the options say; the later half counts, in which every module is at work."""
    import torch

    from .. import settings
    from ..gaussians.initialize import initialize
    from ..guidance.load import load_prior
    from ..job import JobFolder
    from ..method.optimizer import Distillation
    from ..pipeline import pick_device, settle
    from ..protocol import JobSpec
    from .shapes import SHAPES, random_prior

    iterations = max(2, args.iterations)
    config = settings.resolve(args.quality, overrides=_overrides(args, iterations))
    device = pick_device(config.run.device)
    if args.prior in SHAPES:
        prior = random_prior(args.prior, device, config.prior, pixels=args.resolution)
    else:
        prior = load_prior(settings.changed(config, {"prior.name": args.prior}).prior, device, seed=config.run.seed)
    config = settle(config, prior)
    model = initialize(config.gaussians, torch.Generator().manual_seed(config.run.seed), device)
    distillation = Distillation(config, prior, model, args.prompt)
    synchronize = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, _nothing)
    watch = Stopwatch(synchronize)
    floor = Floor(prior, synchronize)
    _instrument(distillation, watch, floor)
    found = Measurement(watch.seconds, device=str(device), memory=prior.memory, views=config.optimizer.views)
    with tempfile.TemporaryDirectory(prefix="cograd3d-") as temporary:
        folder = JobFolder.create(Path(temporary), JobSpec(prompt=args.prompt), config)
        with folder.lock():
            write, step = watch.timed("trace", folder.append_trace), watch.timed("other", distillation.step)
            for iteration in range(iterations):
                if iteration == iterations // 2:
                    watch.seconds.clear()
                before = _sums(watch)
                floor.forget()
                write(step())
                if iteration == 0 and _is_short(iterations, len(distillation.grid)):
                    _fill_history(distillation)
                if iteration >= iterations // 2:
                    whole, rendering = (after - earlier for after, earlier in zip(_sums(watch), before, strict=True))
                    found.steps.append((whole, whole - rendering))
                    found.floors.append(floor.measure())
    found.gaussians, found.pixels = len(model), distillation.resolution
    return found


def _nothing() -> None:
    """What a CPU needs to be waited for."""


def _overrides(args: argparse.Namespace, iterations: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "optimizer.iterations": iterations,
        "run.device": args.device,
        "prior.memory": args.memory,
        "gradient_fusion.stop": 1.0,  # the later half is measured, with every part at work
    }
    if args.gaussians:
        values |= {
            "gaussians.count": args.gaussians,
            "densification.enabled": False,
            "densification.max_count": args.gaussians,
            "gradient_fusion.memory_limit_gib": 64.0,
        }
    if args.resolution:
        values["optimizer.resolution_steps"] = [[0.0, args.resolution]]
    if args.views:
        values["optimizer.views"] = args.views
    if _is_short(iterations, 36):
        values |= {"gradient_fusion.start": 0.0, "gradient_fusion.time_window": 1.0, "region_sampling.warmup_passes": 0}
    return values


def _is_short(iterations: int, regions: int) -> bool:
    """Whether a run ends before every region would have a history of its own."""
    return iterations < 6 * regions


def _fill_history(distillation: Any) -> None:
    """Gives every region a history, so that every neighbour counts from now on: fusion at its dearest."""
    from ..method.region_gradients import RegionGradients

    gradients = RegionGradients.of({name: 1e-6 + 1e-3 * copy for name, copy in distillation.model.copies(1).items()})
    for region in range(len(distillation.grid)):
        type(distillation.fusion).record(distillation.fusion, [region], [500], 0, gradients)


def _sums(watch: Stopwatch) -> tuple[float, float]:
    """(everything, rendering) so far."""
    return sum(watch.seconds.values()), watch.seconds["render"] + watch.seconds["rasteriser"]


def _instrument(distillation: Any, watch: Stopwatch, floor: Floor) -> None:
    """Puts the stopwatch around the parts, and lets the floor see what the prior is asked."""
    encode_images = watch.timed("encode", distillation.prior.encode_images)

    def encode(images: Any) -> Any:
        z = encode_images(images)
        floor.images = images.detach()
        if z.requires_grad and z is not images:
            began = [0.0]
            z.register_hook(lambda gradient: began.__setitem__(0, watch.now()))
            images.register_hook(lambda gradient: watch.shift("rasteriser", "encoder", watch.now() - began[0]))
        return z

    distillation.prior.encode_images = encode
    distillation.rule = _Substitute(distillation.rule, call=watch.timed("guidance", distillation.rule))
    for part, owner, methods in (
        ("render", distillation, ("render",)),
        ("denoise", distillation.prior, ("predict_noise",)),
        ("rasteriser", distillation, ("main_gradients",)),
        ("adam", distillation, ("descend",)),
        ("densify", distillation, ("refine_gaussians",)),
        ("cameras", distillation, ("sample_views",)),
        ("regions", distillation.regions, ("draw", "record")),
        ("timesteps", distillation.timesteps, ("sample", "record")),
        ("fusion", distillation.fusion, ("fuse", "record", "remap")),
    ):
        for method in methods:
            setattr(owner, method, watch.timed(part, getattr(owner, method)))


class Floor:
    """What the prior's networks alone need for the batch of the last step."""

    def __init__(self, prior: Any, synchronize: Callable[[], None]) -> None:
        self._prior, self._synchronize = prior, synchronize
        self.images: Any = None
        self._asked: list[tuple[Any, ...]] = []
        networks = getattr(prior, "networks", None)
        self._networks, self._vae = networks, None if networks is None else networks.vae
        if networks is None:  # no networks: the prediction itself
            self._ask, prior.predict_noise = prior.predict_noise, self._noting(prior.predict_noise)
        else:
            self._ask = prior.family.predict
            prior.family = _Substitute(prior.family, predict=self._noting(self._ask))

    def _noting(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            self._asked.append(arguments)
            return ask(*arguments)

        return note

    def forget(self) -> None:
        """Before a step: the floor is that of one step alone."""
        self._asked.clear()

    def measure(self) -> float:
        """Seconds. The prior is as fast as it can be for that while, whatever its memory mode."""
        mode = self._prior.memory
        if self._networks is not None and mode != "high":
            self._networks.use("high")
            try:
                return self._measure()
            finally:
                self._networks.use(mode)
        return self._measure()

    def _measure(self) -> float:
        import torch

        asked = _together(self._asked)
        state = self._prior.state_dict()
        images = self.images.clone().requires_grad_()
        self._synchronize()
        began = time.perf_counter()
        if self._vae is not None:
            z = self._vae.encode((images * 2 - 1).to(self._vae.dtype)).latent_dist.mode()
        with torch.no_grad():
            for arguments in asked:
                self._ask(*arguments)
        if self._vae is not None:
            torch.autograd.grad(z, images, torch.ones_like(z))
        self._synchronize()
        ended = time.perf_counter()
        self._prior.load_state_dict(state)
        return ended - began


class _Substitute:
    """An object with some of its methods replaced, `call` by what it does when it is called."""

    def __init__(self, original: Any, **methods: Callable[..., Any]) -> None:
        self.__dict__.update(methods, _original=original)

    def __call__(self, *arguments: Any) -> Any:
        return self.__dict__["call"](*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


def _together(asked: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Calls of a denoiser that differ in nothing but their rows, as one: a memory mode may have split a batch."""
    import torch

    if len(asked) < 2 or len(asked[0]) != 5:
        return asked
    denoiser, samples, _, _, pixels = asked[0]
    if any(call[1].shape[1:] != samples.shape[1:] for call in asked):
        return asked
    conditioning = {name: torch.cat([call[3][name] for call in asked]) for name in asked[0][3]}
    return [(denoiser, torch.cat([call[1] for call in asked]), torch.cat([call[2] for call in asked]), conditioning, pixels)]


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

    def now(self) -> float:
        """The time, once the device has done what it was asked."""
        self._synchronize()
        return self._clock()

    def shift(self, taken: str, given: str, seconds: float) -> None:
        """Charges another part for some of a part's time."""
        self.seconds[taken] -= seconds
        self.seconds[given] += seconds

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
