"""`evaluate refinement`: generates prompts, refines what looks worst of each, and says what became of it.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from .. import refinement, settings
from ..control import Control
from ..job import JobFolder
from ..protocol import JobSpec

if TYPE_CHECKING:
    import numpy as np

    from ..config import GenerationConfig

PROMPTS = ("a purple dog", "a wooden chair", "a golden teapot")
RESOLUTION = 128
PARTS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
"""Degrees about the best whole one: half a degree is worth as much as a refinement."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate refinement`."""
    parser.add_argument(
        "--work", type=Path, default=Path("results-work/refinement"), help="where the jobs live; finished ones are not repeated"
    )
    parser.add_argument("--prior", default="builtin:exact", help="prior to use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", default="draft", choices=("draft", "normal", "high"))
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS), metavar="PROMPT", help="other prompts of the built-in world")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="SECTION.NAME=VALUE", help="override a setting")
    parser.add_argument("--regions", type=int, default=4, metavar="N", help="how many regions are refined")
    parser.add_argument(
        "--factor", type=float, default=4.0, metavar="F", help="how much more often those are worked on; 1: no more than others"
    )


def run(args: argparse.Namespace) -> int:
    """Runs what is missing and prints a line of a Markdown table a prompt."""
    print("| prompt | chosen regions | others | worst of the others | all |\n|---|---|---|---|---|", flush=True)
    config = settings.resolve(args.quality, sets=[f"prior.name={args.prior}", f"run.seed={args.seed}", *args.sets])
    gains = []
    for number, prompt in enumerate(args.prompts):
        first = _finished(args.work / f"{number:02d}", JobSpec(prompt=prompt, quality=args.quality), config)
        before = region_psnr(first)
        chosen = before.argsort()[: args.regions].tolist()
        after = region_psnr(_finished(args.work / f"{number:02d}-refined", *refinement.refine(first, chosen, factor=args.factor)))
        gains.append(Gain.of(before, after, chosen))
        print(f"| {prompt} | {gains[-1]} |", flush=True)
    print(f"| **mean** | {Gain.mean(gains)} |")
    return 0


@dataclass(frozen=True)
class Gain:
    """What a refinement did to PSNRs against the true object, in dB, from before to after.

    Attributes:
        chosen: mean over the regions that were chosen.
        others: mean over the other regions.
        worst_other: gain of that one of the others which lost most, or gained least.
        overall: mean over all.
    """

    chosen: tuple[float, float]
    others: tuple[float, float]
    worst_other: float
    overall: tuple[float, float]

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, chosen: Iterable[int]) -> Gain:
        """From the PSNRs of all regions, [N] each."""
        picked = sorted(set(chosen))
        rest = [region for region in range(len(before)) if region not in picked]

        def means(regions: list[int]) -> tuple[float, float]:
            return float(before[regions].mean()), float(after[regions].mean())

        return cls(means(picked), means(rest), float((after - before)[rest].min()), means(picked + rest))

    @classmethod
    def mean(cls, gains: list[Gain]) -> Gain:
        """Means, and the worst of the worst."""

        def means(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
            firsts, lasts = zip(*pairs, strict=True)
            return fmean(firsts), fmean(lasts)

        return cls(
            means(gain.chosen for gain in gains),
            means(gain.others for gain in gains),
            min(gain.worst_other for gain in gains),
            means(gain.overall for gain in gains),
        )

    def __str__(self) -> str:
        chosen, others, overall = (f"{a:.1f} to {b:.1f} ({b - a:+.2f}) dB" for a, b in (self.chosen, self.others, self.overall))
        return f"{chosen} | {others} | {self.worst_other:+.2f} dB | {overall}"


def region_psnr(job: JobFolder) -> np.ndarray:
    """[N] PSNR in dB of a finished job's Gaussians against the true object, from each region's middle camera.

    No word pins the frame of a result, so each is compared in the turn that fits it best (`truth.best_turn`).
    """
    import numpy as np

    from ..cameras import orbit_camera
    from ..embedded import vocabulary, world
    from ..embedded.renderer import FOV
    from ..gaussians.model import GaussianModel
    from ..method.view_grid import ViewGrid
    from .measure import gaussian_renderer
    from .metrics import psnr
    from .truth import BACKGROUND, best_turn

    azimuths, elevations, _ = ViewGrid.from_config(settings.from_dict(job.config).grid, (world.DISTANCE, world.DISTANCE)).centers.T
    distances = np.full(len(azimuths), world.DISTANCE)
    cameras = [orbit_camera(a, e, world.DISTANCE, FOV, RESOLUTION) for a, e in zip(azimuths, elevations, strict=True)]
    images = gaussian_renderer(GaussianModel.load_ply(job.splats_path))(cameras, BACKGROUND)[0].clip(0, 1)
    description = vocabulary.parse(job.spec.prompt)

    def turned(turn: float) -> np.ndarray:
        truth, _ = world.true_views(description, azimuths - turn, elevations, distances, RESOLUTION, (BACKGROUND,) * 3)
        return np.array([psnr(image, true) for image, true in zip(images, truth.transpose(0, 2, 3, 1), strict=True)])

    degree = best_turn(lambda turn: float(turned(turn).mean()))
    return max((turned(degree + part) for part in PARTS), key=lambda values: values.mean())


def _finished(root: Path, spec: JobSpec, config: GenerationConfig) -> JobFolder:
    """The one job below `root`, made and run to its end where that was not done yet."""
    from ..pipeline import run_job

    there = sorted(root.glob("*/spec.json"))
    job = JobFolder.open(there[0].parent) if there else JobFolder.create(root, spec, config)
    if not job.asset_path.exists():
        with job.lock():
            run_job(job, settings.from_dict(job.config), job.spec, lambda event: None, Control())
    return job
