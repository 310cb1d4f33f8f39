"""`evaluate regions`: whether the view regions that a run says lag behind are those that look worst.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from .. import settings
from ..embedded import vocabulary
from ..job import JobFolder
from ..job_lines import read_lines, trace_visits
from ..protocol import JobSpec
from .gallery.prompts import chosen
from .printed_table import print_table
from .region_truth import finished_job, region_grid, region_psnr
from .work_folders import WorkFolders

if TYPE_CHECKING:
    import numpy as np

    from ..config import GenerationConfig

WORST = 0.25
"""The share of the regions that counts as the worst."""
LATE = 0.75
"""Progress from which on indicators are averaged: one by itself is mostly chance."""
HEADINGS = ("prompt", "error and truth", "indicator and truth", "worst quarter by error", "in truth", "all regions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate regions`."""
    parser.add_argument(
        "--work", type=Path, default=Path("results-work/regions"), help="where the jobs live; finished ones are not repeated"
    )
    parser.add_argument("--prior", default="builtin:exact", help="prior to use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", default="draft", choices=("draft", "normal", "high"))
    prompts_help = "prompts of the built-in world, or lists of the gallery's (quick)"
    parser.add_argument("--prompts", nargs="+", default=["quick"], metavar="PROMPT", help=prompts_help)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="SECTION.NAME=VALUE", help="override a setting")
    parser.add_argument("--jobs", nargs="+", type=Path, metavar="DIR", help="finished jobs to look at, in the place of prompts")


def run(args: argparse.Namespace) -> int:
    """Runs what is missing and prints a line of a Markdown table a job.

    Raises:
        PromptError: a prompt that the built-in world has no true object for.
    """
    prompts = () if args.jobs else chosen(args.prompts)
    for prompt in prompts:
        vocabulary.parse(prompt)
    config = settings.resolve(args.quality, sets=[f"prior.name={args.prior}", f"run.seed={args.seed}", *args.sets])
    rows = (
        (job.spec.prompt, Agreement.of(shown_errors(job), late_indicators(job), region_psnr(job))) for job in _jobs(args, prompts, config)
    )
    print_table(HEADINGS, rows, Agreement.mean)
    return 0


@dataclass(frozen=True)
class Agreement:
    """How far what a run says of its regions agrees with the truth.

    Attributes:
        errors, indicators: Spearman's rank correlation of the regions' errors, and of their indicators, with how bad they are: 1 if
            they rank alike; nan where all are the same.
        worst_shown, worst, overall: mean PSNR, dB, of the quarter with the largest errors, of the quarter that is worst, and of all.
    """

    errors: float
    indicators: float
    worst_shown: float
    worst: float
    overall: float

    @classmethod
    def of(cls, errors: np.ndarray, indicators: np.ndarray, psnr: np.ndarray) -> Agreement:
        """From figures of the same regions, [N] each; a region without a known error, nan, is left out."""
        import numpy as np

        known = np.isfinite(errors)
        errors, indicators, psnr = errors[known], indicators[known], psnr[known]
        count = max(1, round(WORST * len(errors)))
        shown = np.argsort(-errors, kind="stable")[:count]
        return cls(
            errors=_rank_correlation(errors, -psnr),
            indicators=_rank_correlation(indicators, -psnr),
            worst_shown=float(psnr[shown].mean()),
            worst=float(np.sort(psnr)[:count].mean()),
            overall=float(psnr.mean()),
        )

    @classmethod
    def mean(cls, every: Sequence[Agreement]) -> Agreement:
        """Means, each of those that are known."""
        columns = zip(*(astuple(each) for each in every), strict=True)
        return cls(*(fmean([value for value in column if not math.isnan(value)] or [math.nan]) for column in columns))

    def __str__(self) -> str:
        correlations = " | ".join(f"{value:.2f}" for value in (self.errors, self.indicators))
        return f"{correlations} | {self.worst_shown:.1f} dB | {self.worst:.1f} dB | {self.overall:.1f} dB"


def shown_errors(job: JobFolder) -> np.ndarray:
    """[N] what the grid showed of each region at the end of a job: the moving average of its normalised loss; nan where it was never seen.

    From the job's trace, by the sampler that kept them.
    """
    import numpy as np

    from ..method.region_sampling import RegionSampler

    config = settings.from_dict(job.config)
    grid = region_grid(config)
    as_they_are = replace(config.region_sampling, loss_bins=0)  # the trace's losses are normalised
    sampler = RegionSampler(grid, as_they_are, np.random.default_rng(0))
    for _, line in read_lines(job.trace_path):
        for visit in trace_visits(line):
            sampler.record(visit["region"], visit["loss_normalised"], 0.0)
    return np.array([np.nan if level is None else level for level in sampler.levels])


def late_indicators(job: JobFolder) -> np.ndarray:
    """[N] the means of the regions' indicators, by which they are drawn (eq. 6), over the last quarter of a job's iterations."""
    import numpy as np

    indicators = [line["indicator"] for _, line in read_lines(job.trace_path)]
    return np.mean(indicators[int(LATE * len(indicators)) :], axis=0)


def _rank_correlation(values: np.ndarray, others: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(values, others).statistic) if len(set(values)) > 1 and len(set(others)) > 1 else math.nan


def _jobs(args: argparse.Namespace, prompts: Sequence[str], config: GenerationConfig) -> Iterator[JobFolder]:
    """The jobs that are asked about, each finished when its turn comes."""
    if args.jobs:
        return map(JobFolder.open, args.jobs)
    folders = WorkFolders(args.work, args.quality, config)
    return (finished_job(folders.folder(prompt), JobSpec(prompt=prompt, quality=args.quality), config) for prompt in prompts)
