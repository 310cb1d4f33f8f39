"""`evaluate refinement`: generates prompts, refines what looks worst of each, and says what became of it.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from .. import refinement, settings
from ..embedded import vocabulary
from ..errors import UsageError
from ..option_numbers import amount
from ..protocol import JobSpec
from .printed_table import print_table
from .region_truth import finished_job, region_grid, region_psnr
from .work_folders import WorkFolders

if TYPE_CHECKING:
    import numpy as np

    from ..config import GenerationConfig

PROMPTS = ("a purple dog", "a wooden chair", "a golden teapot")
HEADINGS = ("prompt", "chosen regions", "others", "worst of the others", "all")


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
        "--factor", type=amount, default=4.0, metavar="F", help="how much more often those are worked on; 1: no more than others"
    )


def run(args: argparse.Namespace) -> int:
    """Runs what is missing and prints a line of a Markdown table a prompt.

    Raises:
        PromptError: a prompt that the built-in world has no true object for.
        UsageError: as many regions to refine as there are, or none.
    """
    for prompt in args.prompts:
        vocabulary.parse(prompt)
    config = settings.resolve(args.quality, sets=[f"prior.name={args.prior}", f"run.seed={args.seed}", *args.sets])
    count = len(region_grid(config))
    if not 1 <= args.regions < count:
        raise UsageError(
            f"{args.regions} of {count} view regions cannot be compared with the others.", remedy=f"--regions is 1 to {count - 1}."
        )
    print_table(HEADINGS, _gains(args, config, WorkFolders(args.work, args.quality, config)), Gain.mean)
    return 0


def _gains(args: argparse.Namespace, config: GenerationConfig, folders: WorkFolders) -> Iterator[tuple[str, Gain]]:
    """Each prompt and what its refinement did; runs what is missing when its turn comes."""
    for prompt in args.prompts:
        first = finished_job(folders.folder(prompt), JobSpec(prompt=prompt, quality=args.quality), config)
        before = region_psnr(first)
        chosen = before.argsort()[: args.regions].tolist()
        folder = folders.folder(prompt, refined=sorted(chosen), factor=args.factor)
        after = region_psnr(finished_job(folder, *refinement.refine(first, chosen, factor=args.factor)))
        yield prompt, Gain.of(before, after, chosen)


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
