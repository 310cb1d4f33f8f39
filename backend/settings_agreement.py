"""Settings that are fine by themselves and must agree with each other. Standard library only."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

from .config import EXACT_PRIOR, GenerationConfig, extremes, value_at
from .errors import ConfigError


def check(config: GenerationConfig) -> None:
    """Raises ConfigError where settings that are fine by themselves contradict each other."""
    check_elevation_edges(config.grid.elevation_edges)
    if config.grid.distance_edges:
        check_distance_edges(config.grid.distance_edges)
    grid = config.grid
    regions = grid.azimuth_bins * (len(grid.elevation_edges) - 1) * max(1, len(grid.distance_edges) - 1)
    check_region_weights(config.region_sampling.weights, regions)
    t = config.timestep_sampling
    lowest, highest = extremes(t.clip_low)[0], extremes(t.clip_high)[1]
    for progress in sorted(
        {point[0] for schedule in (t.clip_low, t.clip_high) if isinstance(schedule, tuple) for point in schedule} | {0.0}
    ):
        low, high = value_at(t.clip_low, progress), value_at(t.clip_high, progress)
        _in_order("timestep_sampling.clip_low", low, "timestep_sampling.clip_high", high, strict=True)
    if t.mode != "uniform":
        ends = [(f"timestep_sampling.{name}", value) for name, value in (("end", t.end), ("start", t.start)) if value is not None]
        for name, value in ends:
            _in_order("timestep_sampling.clip_low", lowest, name, value, strict=name == "timestep_sampling.start")
            _in_order(name, value, "timestep_sampling.clip_high", highest, strict=name == "timestep_sampling.end")
        if len(ends) == 2:
            _in_order(*ends[0], *ends[1], strict=True)
    if config.gradient_fusion.enabled and grid.cameras == "uniform":
        raise ConfigError(
            "gradient_fusion needs views in the regions drawn for them, and grid.cameras is uniform.",
            remedy="Set grid.cameras to region, or switch the fusion off with --without gradient-fusion.",
        )
    if config.prior.reliability < 1 and config.prior.name not in EXACT_PRIOR:
        raise ConfigError(
            f"prior.reliability is a setting of the built-in exact prior, and the image model is {config.prior.name}.",
            remedy="Choose builtin:exact as image model, or leave prior.reliability at 1.",
        )
    _in_order("guidance.cds_gap", config.guidance.cds_gap[0], "its second number", config.guidance.cds_gap[1])
    d = config.densification
    _in_order("densification.start", d.start, "densification.stop", d.stop)
    g = config.gaussians
    _in_order("gaussians.min_scale", g.min_scale, "gaussians.max_scale", g.max_scale, strict=True)
    _in_order("gaussians.count", g.count, "densification.max_count", d.max_count)
    o = config.optimizer
    if not all(0 <= beta < 1 for beta in o.betas):
        raise ConfigError(
            f"optimizer.betas must be at least 0 and below 1, not {list(o.betas)}.", remedy="Adam's usual values are [0.9, 0.99]."
        )
    if grid.cameras != "orbit" and o.views % o.views_per_region:
        raise ConfigError(
            f"{o.views} views a step cannot be divided into regions of {o.views_per_region}.",
            remedy="Set optimizer.views to a multiple of optimizer.views_per_region.",
        )
    if o.resolution_steps:
        check_resolution_steps(o.resolution_steps)
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", config.run.device):
        raise ConfigError(f"There is no device {config.run.device!r}.", remedy="run.device is auto, cpu, cuda, cuda:N or mps.")


def check_elevation_edges(edges: Sequence[float]) -> None:
    """Raises ConfigError unless the edges ascend within -90..90 degrees."""
    _ascending("grid.elevation_edges", edges, "such as [-10, 10, 30, 60]")
    if edges[0] < -90 or edges[-1] > 90:
        raise ConfigError(f"grid.elevation_edges must lie within -90 and 90 degrees, not {list(edges)}.", remedy="Straight up is 90.")


def check_distance_edges(edges: Sequence[float]) -> None:
    """Raises ConfigError unless the edges are positive and ascend; the two edges of a single shell may coincide."""
    if not (len(edges) == 2 and edges[0] == edges[1]):
        _ascending("grid.distance_edges", edges, "such as [3.1, 3.5]")
    if not edges[0] > 0:
        raise ConfigError(
            f"grid.distance_edges must be positive, not {list(edges)}.", remedy="The asset fits the unit ball around the origin."
        )


def check_region_weights(weights: Sequence[tuple[int, float]], count: int) -> None:
    """Raises ConfigError unless the weights are (region, factor) with regions 0..count-1, each at most once, and no negative factor."""
    for region, factor in weights:
        if not 0 <= region < count:
            raise ConfigError(f"region_sampling.weights names region {region}.", remedy=f"The view grid has the regions 0 to {count - 1}.")
        if not (math.isfinite(factor) and factor >= 0):
            raise ConfigError(
                f"region_sampling.weights gives region {region} the factor {factor:g}.",
                remedy="0 freezes a region, 1 changes nothing, more boosts it.",
            )
    if len(dict(weights)) < len(weights):
        raise ConfigError("region_sampling.weights names a region twice.", remedy="Give every region one factor.")


def check_resolution_steps(steps: Sequence[tuple[float, int]]) -> None:
    """Raises ConfigError unless the steps are (progress, pixels) with ascending progress from 0 on."""
    progress = [step[0] for step in steps]
    if progress[0] != 0 or progress != sorted(set(progress)) or progress[-1] >= 1:
        raise ConfigError(
            "optimizer.resolution_steps must begin at progress 0 and ascend below 1.", remedy="For example [[0, 32], [0.5, 64]]."
        )
    if any(pixels < 8 for _, pixels in steps):
        raise ConfigError("optimizer.resolution_steps must have at least 8 pixels each.", remedy="For example [[0, 32], [0.5, 64]].")


def _ascending(path: str, values: Sequence[float], example: str) -> None:
    if len(values) < 2 or not all(math.isfinite(v) for v in values) or any(b <= a for a, b in pairwise(values)):
        raise ConfigError(
            f"{path} must be at least two ascending numbers, not {list(values)}.", remedy=f"They are the edges of cells, {example}."
        )


def _in_order(low_path: str, low: float, high_path: str, high: float, *, strict: bool = False) -> None:
    if low > high or (strict and low == high):
        raise ConfigError(
            f"{low_path} ({low:g}) must {'be below' if strict else 'not exceed'} {high_path} ({high:g}).", remedy="Change one of the two."
        )
