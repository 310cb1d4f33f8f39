"""A second look at a finished result: a new, short run that begins with its Gaussians and works most on the regions that need it.

Standard library only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from . import settings
from .config import GenerationConfig, value_at
from .errors import JobError
from .job import JobFolder
from .protocol import JobSpec

__all__ = ["refine"]

START, END = 0.35, 0.05
"""Noise levels of a refinement: high enough to repair what is wrong with a side, too low to make another object of it."""

RATE = 0.15
"""Share of the learning rates: less repairs little, more undoes what was good (docs/method.md has the figures)."""

LENGTH = 0.375
"""Share of the finished run's iterations."""


def refine(
    job: JobFolder, regions: Sequence[int], *, factor: float = 4.0, iterations: int | None = None
) -> tuple[JobSpec, GenerationConfig]:
    """What to ask for, and how to do it, for a run that improves the result of a finished one; make its folder with `JobFolder.create`.

    It keeps the prompt, the seed and the settings of the finished run, but for what a beginning needs: high noise, growing Gaussians, the
    pressure against fog, a round over all regions, a small picture at first, cameras that heed no region. The finished run's folder stays
    as it is; it must stay where it is until the new run has written its first checkpoint.

    Args:
        job: the finished run.
        regions: those that need it, by their numbers in the view grid.
        factor: of their probability against the others'. 1: all alike.
        iterations: steps; None: a share of the finished run's.

    Raises:
        JobError: the job has no result, or its folder is damaged.
        ConfigError: a region that the grid does not have, a factor or a number of iterations that makes no sense.
    """
    if not job.splats_path.is_file():
        raise JobError(f"{job.path} has no result that could be refined.", remedy="Let that run finish, or go on with it first.")
    config = settings.from_dict(job.config)
    if iterations is None:
        iterations = max(1, round(LENGTH * config.optimizer.iterations))
    config.gaussians.initial = str(job.splats_path)
    config.region_sampling.weights = tuple((region, float(factor)) for region in dict.fromkeys(regions))
    config.region_sampling.warmup_passes = 0
    _hold_schedules(config)
    timesteps = config.timestep_sampling
    timesteps.start, timesteps.end = START, END
    uniform = timesteps.mode == "uniform" or not timesteps.enabled
    timesteps.clip_low = END if uniform else min(value_at(timesteps.clip_low, 1), END)
    timesteps.clip_high = START if uniform else max(value_at(timesteps.clip_high, 1), START)
    if config.grid.cameras == "uniform":
        config.grid.cameras = "region"  # where the cameras do not keep to a region, no region can be worked on more than others
    config.densification.enabled = False
    optimizer = config.optimizer
    optimizer.iterations = iterations
    optimizer.resolution_steps = tuple((0.0, pixels) for _, pixels in optimizer.resolution_steps[-1:])
    optimizer.sparsity = 0.0
    for group in ("means", "scales", "quats", "opacities", "sh0", "shN"):
        setattr(optimizer, f"lr_{group}", RATE * getattr(optimizer, f"lr_{group}"))
    config = settings.from_dict(settings.to_dict(config))  # checked
    spec = dataclasses.replace(job.spec, initial=config.gaussians.initial, outputs=(), overwrite=False, refines=str(job.path))
    return spec, config


def _hold_schedules(config: GenerationConfig) -> None:
    """Every setting that changes over a run stays where the finished run left it."""
    for setting in settings.catalogue().values():
        section = getattr(config, setting.section)
        value = getattr(section, setting.name)
        if settings.is_schedule(setting.type) and value is not None:
            setattr(section, setting.name, value_at(value, 1))
