"""The command that fits the pose memory (standard library only at import)."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

from ...files import absolute
from ...option_numbers import whole
from ..learned.train import check_export

CODE_PICTURES = 43_000
"""That the picture code is fitted to: about four for every view, so that few views are in none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--export", type=Path, required=True, metavar="FOLDER", help="the pipeline folder to write (float16)")
    parser.add_argument("--threads", type=whole, default=0, metavar="N", help="processor cores to use (default: all)")
    parser.add_argument("--seed", type=whole, default=0, help="of the prompts that it is fitted to (default: %(default)s)")


def check(args: argparse.Namespace) -> None:
    """Refuse a folder that cannot be written, or whose replacement would take other things with it. Raises `OutputError`."""
    check_export(absolute(args.export))


def run(args: argparse.Namespace) -> int:
    """Fits, and writes the folder."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    fit(absolute(args.export), threads=args.threads, seed=args.seed, progress=lambda message: print(message, flush=True))
    return 0


def fit(folder: Path, *, threads: int = 0, seed: int = 0, progress: Callable[[str], None] = lambda message: None) -> None:
    """Fits the pose memory and writes its pipeline folder."""
    import numpy as np
    import torch

    from ... import machine
    from .. import world
    from ..learned import model as parts
    from .denoiser import Denoiser, Layout
    from .pictures import BACKDROPS, ChannelCode, PictureCode, Poses, draw_pictures
    from .text_encoder import EVIDENCE, MemoryEncoder
    from .tokens import CODE, POSES, TOKENS

    begun, rng = time.monotonic(), np.random.default_rng(seed)

    def report(message: str) -> None:
        progress(f"{time.monotonic() - begun:5.0f} s  {message}")

    with torch.no_grad():
        poses = Poses.render(POSES, parts.RESOLUTION, progress=report)
        torch.set_num_threads(threads or machine.cores())  # numba, which has rendered, shares its threads with torch
        report("the picture code")
        picture_code = PictureCode.fit(poses, Layout.CODE, *draw_pictures(poses, CODE_PICTURES, rng))
        report("the channel code")
        channel_code = ChannelCode.fit(poses, picture_code, CODE)
        report(f"it leaves out {channel_code.left_out:.4f} of pictures' mean square")
        tokenizer = parts.build_tokenizer(TOKENS)
        encoder = MemoryEncoder(tokenizer, poses, channel_code, picture_code, rng)
        encoder.fit(report)
        report(", ".join(f"the {what} miss theirs by {error:.3g}" for what, error in encoder.errors.items()))
        report("the denoiser")
        alphas_cumprod = parts.build_scheduler().alphas_cumprod
        denoiser = Denoiser(picture_code.basis, picture_code.energy, encoder.told(), alphas_cumprod, EVIDENCE)
        denoiser.fit()
    fitted = {
        "fitted": "least squares",
        "poses": POSES,
        "seed": seed,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "world": world.version(),
    }
    own = {"guidance_scale": 1.0, "t_end": 0.1, "opacity_entropy": 0.3, "backdrops": [[level, 0.0] for level in BACKDROPS]}
    recommended = parts.RECOMMENDED | own
    parts.save_pipeline(folder, encoder.model, denoiser.model, tokenizer, fitted, recommended=recommended, dtype="float32")
    report(f"written to {folder}")
