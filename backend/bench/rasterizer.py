"""`bench rasterizer`: forward and backward time of the rasterisers, against gsplat's own PyTorch pieces.

All run in one process on the same scenes, in turns, so that a busy machine disturbs them alike; of several runs the fastest counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from ..option_numbers import count as at_least_one

SIZES = ((2_000, 64), (10_000, 128), (20_000, 256))
REFERENCE = "gsplat's PyTorch pieces"
EXPECTED_AT = (10_000, 128)
EXPECTED = {"numba": 25.0, "torch": 7.0}
"""How many times faster than the reference each implementation has to be at `EXPECTED_AT`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeat", type=at_least_one, default=5, metavar="N", help="timed runs of each, of which the fastest counts (default: 5)"
    )
    parser.add_argument("--threads", type=at_least_one, default=1, metavar="N", help="CPU threads (default: 1)")
    parser.add_argument("--degree", type=int, default=1, choices=range(4), help="spherical-harmonic degree (default: 1)")
    sizes = ", ".join(f"{count} {pixels}" for count, pixels in SIZES)
    size_help = f"a scene; may be repeated (default: {sizes})"
    parser.add_argument("--size", action="append", nargs=2, type=at_least_one, metavar=("GAUSSIANS", "PIXELS"), help=size_help)
    expected = " or ".join(f"{name} {ratio:.0f} x" for name, ratio in EXPECTED.items())
    check_help = f"exit with 1 if one is slower than expected at {EXPECTED_AT[0]} Gaussians, {EXPECTED_AT[1]} pixels ({expected})"
    parser.add_argument("--check", action="store_true", help=check_help)


def run(options: argparse.Namespace) -> int:
    """Print a table; the exit code is 0, or 1 if `--check` finds an implementation too slow."""
    import torch

    from ..gaussians.rasterize import warm_up

    torch.set_num_threads(options.threads)
    warm_up()
    print(f"Milliseconds, fastest of {options.repeat}; one view, degree {options.degree}, CPU threads: {options.threads}\n")
    titles = "".join(f"{title:>10}" for title in ("forward", "backward", "total", "faster"))
    print(f"{'Gaussians':>9} {'pixels':>6}  {'implementation':<24}{titles}  image differs by")
    too_slow = []
    for count, pixels in options.size or SIZES:
        for name, forward, backward, difference, ratio in _measure(count, pixels, options.degree, options.repeat):
            times = "".join(f"{milliseconds:>10.1f}" for milliseconds in (forward, backward, forward + backward))
            print(f"{count:>9} {pixels:>6}  {name:<24}{times}{f'{ratio:.1f} x':>10}  {difference:.0e}", flush=True)
            if (count, pixels) == EXPECTED_AT and ratio < EXPECTED.get(name, 0):
                too_slow.append(f"{name} is {ratio:.1f} times faster than {REFERENCE}, not {EXPECTED[name]:.0f}")
    if options.check:
        print("\n" + ("; ".join(too_slow) or "Fast enough."))
    return 1 if options.check and too_slow else 0


def _scene(count: int, pixels: int, degree: int) -> tuple[tuple[Any, ...], Any]:
    """A ball of Gaussians whose coverage does not depend on their number, and a camera that sees it whole."""
    import torch

    from ..cameras import orbit_camera
    from ..gaussians.rasterize.conventions import EPS2D, FAR_PLANE, NEAR_PLANE, View

    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = 0.6 * directions * torch.rand(count, 1, generator=generator) ** (1 / 3)
    quats = torch.randn(count, 4, generator=generator)
    scales = 0.035 * (10_000 / count) ** (1 / 3) * torch.exp(0.4 * torch.randn(count, 3, generator=generator))
    opacities = 0.05 + 0.9 * torch.rand(count, generator=generator)
    colors = 0.5 * torch.randn(count, (degree + 1) ** 2, 3, generator=generator)
    camera = orbit_camera(17, 11, 2.5, 49, pixels)
    viewmats, Ks = torch.tensor(camera.viewmat[None], dtype=torch.float32), torch.tensor(camera.K[None], dtype=torch.float32)
    view = View(viewmats, Ks, pixels, pixels, NEAR_PLANE, FAR_PLANE, EPS2D, degree, False, True)
    return (means, quats, scales, opacities, colors), view


def _measure(count: int, pixels: int, degree: int, repeat: int) -> list[tuple[str, float, float, float, float]]:
    """(name, forward ms, backward ms, relative difference of the image, times faster than the reference) of each."""
    import torch

    from ..gaussians.rasterize import numba_backend, torch_backend
    from . import gsplat_reference

    gaussians, view = _scene(count, pixels, degree)
    backgrounds = torch.ones(1, 3)
    generator = torch.Generator().manual_seed(1)
    v_render, v_alpha = (torch.randn(1, pixels, pixels, channels, generator=generator) for channels in (4, 1))
    implementations: dict[str, Callable[..., Any]] = {
        REFERENCE: gsplat_reference.rasterize,
        "torch": torch_backend.rasterize,
        "numba": numba_backend.rasterize,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in implementations}
    images = {}
    for turn in range(repeat + 1):  # the first turn warms up
        for name, rasterize in implementations.items():
            inputs = [x.clone().requires_grad_() for x in gaussians]
            start = time.perf_counter()
            renders, alphas, *_ = rasterize(*inputs, backgrounds, view)
            middle = time.perf_counter()
            torch.autograd.backward((renders, alphas), (v_render, v_alpha))
            end = time.perf_counter()
            images[name] = renders.detach()
            if turn:
                times[name].append((1e3 * (middle - start), 1e3 * (end - middle)))
    reference_total = min(sum(pair) for pair in times[REFERENCE])
    reference_image = images[REFERENCE]
    rows = []
    for name, pairs in times.items():
        forward, backward = min(pairs, key=sum)
        difference = float((images[name] - reference_image).norm() / reference_image.norm())
        rows.append((name, forward, backward, difference, reference_total / (forward + backward)))
    return rows
