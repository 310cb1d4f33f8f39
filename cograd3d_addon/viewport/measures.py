"""The five things the grid of view regions can show, and in which order they put the regions. No bpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...backend.protocol import Regions
from ..jobs import RegionHistory

UNKNOWN = "not known yet"

LAGGING = 0.25
"""Share of the regions that count as lagging: the quarter that needs work most."""

Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Measure:
    """One number a region.

    Attributes:
        id: as `WindowManager.cograd3d.measure` has it.
        label: its name in the panel and the legend.
        description: one sentence for the tooltip.
        read: the [N] values in a `Regions` event, None where unknown; may be empty.
        text: a value for people.
        worst_is_high: whether a large value means that a region needs work; else a small one does.
        best, worst: what the two ends of the scale mean.
        centre: value that always lies in the middle of the scale; None: the scale spans what is there.
        least_span: the scale is at least this wide, so that noise does not become contrast.
        is_relative: whether its values are those of the event over their mean at that moment; the history has them as they are.
    """

    id: str
    label: str
    description: str
    read: Callable[[Regions], Sequence[float | None]]
    text: Callable[[float], str]
    worst_is_high: bool
    best: str
    worst: str
    centre: float | None = None
    least_span: float = 0.0
    is_relative: bool = False

    def values(self, regions: Regions) -> np.ndarray:
        """[N] float64, NaN where nothing is known yet."""
        count = len(regions.azimuth)
        raw = [math.nan if value is None else float(value) for value in self.read(regions)]
        return np.array(raw) if len(raw) == count else np.full(count, math.nan)

    def format(self, value: float) -> str:
        """A value for people, with its unit."""
        return self.text(value) if math.isfinite(value) else UNKNOWN

    def curve(self, history: RegionHistory, region: int) -> Curve:
        """How a region fared over the run, in the terms of `values`: steps [K] and values [K], unknown ones left out."""
        steps, values = history.series(self.id, region)
        if not self.is_relative:
            return steps, values
        all_steps, means = history.mean(self.id)
        mean = means[np.searchsorted(all_steps, steps)]
        return steps[mean > 0], values[mean > 0] / mean[mean > 0]

    def mean_curve(self, history: RegionHistory) -> Curve:
        """The same of all regions' mean, which is 1 where the measure is relative."""
        steps, means = history.mean(self.id)
        return steps, np.ones_like(means) if self.is_relative else means

    def order(self, values: np.ndarray) -> np.ndarray:
        """[N] regions, the one that needs work most first; unknown ones come last, equal ones in their own order."""
        badness = values if self.worst_is_high else -values
        return np.argsort(np.where(np.isfinite(badness), -badness, np.inf), kind="stable")


def _lag(regions: Regions) -> Sequence[float | None]:
    return regions.lag()


def _indicator(regions: Regions) -> Sequence[float | None]:
    """r, which is 1 by definition while a region has fewer than two losses: that is not knowledge."""
    seen = regions.visits or (2,) * len(regions.indicator)
    return [value if visits >= 2 else None for value, visits in zip(regions.indicator, seen)]


def _probability(regions: Regions) -> Sequence[float | None]:
    return regions.probability


def _visits(regions: Regions) -> Sequence[float | None]:
    return regions.visits


def _timestep(regions: Regions) -> Sequence[float | None]:
    return getattr(regions, "timestep", ())


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if abs(value) < 0.1 else f"{100 * value:.0f} %"


MEASURES = (
    Measure(
        "indicator", "Convergence",
        "Whether a view is still getting better: above 1 its error is not falling any more, below 1 it is (r in the paper)",
        _indicator, lambda value: f"{value:.2f}", True, "improving", "stuck", centre=1.0, least_span=0.1,
    ),
    Measure(
        "probability", "Attention",
        "How likely this view is to be worked on in the next step (P in the paper)",
        _probability, _percent, True, "seldom", "often",
    ),
    Measure(
        "loss", "Error",
        "How far the picture from this view is from what the prompt asks for: 1 is the average of all views, above 1 it lags",
        _lag, lambda value: f"{value:.2f} ×", True, "ahead", "lags", centre=1.0, least_span=0.2, is_relative=True,
    ),
    Measure(
        "visits", "Visits",
        "How often this view has been worked on",
        _visits, lambda value: f"{value:.0f}", False, "many", "few", least_span=1.0,
    ),
    Measure(
        "timestep", "Coarse or fine",
        "Whether this view works on coarser shape (above 0) or finer detail (below 0) than the others at this point of the run",
        _timestep, lambda value: f"{100 * value:+.1f} %", True, "finer", "coarser", centre=0.0, least_span=0.02,
    ),
)  # fmt: skip
"""In the order in which they are offered."""

DEFAULT = "loss"


def measure(identifier: str) -> Measure:
    """The measure of this id; KeyError if there is none."""
    for candidate in MEASURES:
        if candidate.id == identifier:
            return candidate
    raise KeyError(identifier)


_NUMBERS = {"indicator": 0, "probability": 1, "loss": 2, "visits": 3, "timestep": 4}


def enum_items() -> list[tuple[str, str, str, int]]:
    """For an EnumProperty: identifier, label, description, and the number by which Blender stores it, whatever their order."""
    return [(each.id, each.label, each.description, _NUMBERS[each.id]) for each in MEASURES]
