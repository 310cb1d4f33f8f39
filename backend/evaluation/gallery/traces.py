"""What the gallery's runs leave behind of their way: `trace.jsonl`, as arrays. Numpy only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import GridConfig
from ...errors import CoGradError
from ...job_lines import read_lines, trace_visits
from ...settings import from_dict

BINS = 40
"""Columns of heat maps and points of curves over a run."""
SMOOTHING = 5
"""Visits that a region's curve is averaged over."""


@dataclass(frozen=True)
class Trace:
    """One run, an entry for each region of each iteration.

    Attributes:
        region, loss, t, t_global: [K] the region drawn, its normalised loss, the timestep and its baseline.
        neighbours, cosine: [K] how many gradients were fused, and their mean cosine with the main one in each group {group: [K]}.
        added, fused: {group: [K]} sizes of what fusion added and of what came out, relative to the main gradient.
        regions: how many there are.
        grid: the settings of the view grid; None where they are not known.
    """

    region: np.ndarray
    loss: np.ndarray
    t: np.ndarray
    t_global: np.ndarray
    neighbours: np.ndarray
    cosine: Mapping[str, np.ndarray]
    added: Mapping[str, np.ndarray]
    fused: Mapping[str, np.ndarray]
    regions: int
    grid: GridConfig | None = None

    @property
    def progress(self) -> np.ndarray:
        """[K] the share of the run done, 0..1, at the middle of each entry."""
        return (np.arange(len(self.region)) + 0.5) / len(self.region)

    @property
    def visits(self) -> np.ndarray:
        """[N] how often each region was drawn."""
        return np.bincount(self.region, minlength=self.regions)


def read_trace(path: Path) -> Trace | None:
    """A run's trace, with the view grid of the `config.json` beside it; None if the file has no iterations of the form expected."""
    try:
        lines = [visit for _, line in read_lines(path) for visit in trace_visits(line)]
        if not lines:
            return None
        groups = list(lines[0]["norm_main"])
        return Trace(
            region=np.array([line["region"] for line in lines], dtype=np.int64),
            loss=_floats(line["loss_normalised"] for line in lines),
            t=_floats(line["t"] for line in lines),
            t_global=_floats(line["t_global"] for line in lines),
            neighbours=np.array([len(line["neighbours"]) for line in lines]),
            cosine={g: _floats(_mean([n["cosine"].get(g) for n in line["neighbours"]]) for line in lines) for g in groups},
            added={g: _floats(_ratio(line["norm_projected"][g], line["norm_main"][g]) for line in lines) for g in groups},
            fused={g: _floats(_ratio(line["norm_fused"][g], line["norm_main"][g]) for line in lines) for g in groups},
            regions=max(len(lines[0]["indicator"]), 1 + max(line["region"] for line in lines)),
            grid=_grid_beside(path),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _floats(values: Iterable[float | None]) -> np.ndarray:
    """JSON's null is NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _grid_beside(path: Path) -> GridConfig | None:
    try:
        return from_dict(json.loads((path.parent / "config.json").read_bytes())).grid
    except (OSError, ValueError, CoGradError):
        return None


def region_losses(trace: Trace, bins: int = BINS) -> np.ndarray:
    """[N, bins] each region's normalised loss over the run, averaged over `SMOOTHING` visits and drawn through; NaN before the first."""
    middles, result = (np.arange(bins) + 0.5) / bins, np.full((trace.regions, bins), math.nan)
    for region in range(trace.regions):
        chosen = (trace.region == region) & np.isfinite(trace.loss)
        losses, when = trace.loss[chosen], trace.progress[chosen]
        if len(losses):
            sums = np.cumsum(np.concatenate([np.zeros(1), losses]))
            begins = np.maximum(np.arange(len(losses)) + 1 - SMOOTHING, 0)
            ends = np.arange(len(losses)) + 1
            smooth = (sums[ends] - sums[begins]) / (ends - begins)
            result[region] = np.where(middles < when[0] - 0.5 / bins, math.nan, np.interp(middles, when, smooth))
    return result


def binned(progress: np.ndarray, values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """[bins] means of the finite values in each share of the run; NaN where there is none."""
    known = np.isfinite(values)
    place = np.minimum((progress[known] * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    return np.where(count > 0, np.bincount(place, values[known], minlength=bins) / np.maximum(count, 1), math.nan)


def nanmean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(arrays)
    known = np.isfinite(stacked)
    return np.where(known.any(axis=0), np.where(known, stacked, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), math.nan)


def quantile(matrix: np.ndarray, share: float) -> list[float]:
    """Of the finite entries of each column."""
    return [float(np.quantile(column[np.isfinite(column)], share)) if np.isfinite(column).any() else math.nan for column in matrix.T]
