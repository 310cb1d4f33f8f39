"""What the legend and the note at a hovered region say. No bpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colours import Ramp, scale_of
from .grid_view import GridView
from .measures import MEASURES, Measure
from .region_names import capitalised

COLOURS = 64
"""Pieces of the ramp that are drawn."""

SIZE_NOTE = ("few visits", "many")


@dataclass(frozen=True, eq=False)
class Legend:
    """The legend's content. Compared by identity, for caches.

    Attributes:
        title: whose grid it is.
        measure: what the colours show.
        colours: [COLOURS, 3] the ramp from left to right, display RGB.
        ticks: (place 0..1 from left to right, text).
        ends: what the left and the right end mean.
        note: what a thin and what a thick frame mean.
    """

    title: str
    measure: str
    colours: np.ndarray
    ticks: tuple[tuple[float, str], ...]
    ends: tuple[str, str]
    note: tuple[str, str] = SIZE_NOTE


def legend(view: GridView, measure: Measure, ramp: Ramp) -> Legend:
    """The legend of a grid."""
    scale = scale_of(view.values(measure), measure)
    span = scale.high - scale.low
    places = scale.low + span * np.linspace(0.0, 1.0, COLOURS)
    ticks = tuple(((value - scale.low) / span, measure.format(value)) for value in scale.ticks())
    ends = (measure.best, measure.worst) if measure.worst_is_high else (measure.worst, measure.best)
    return Legend(view.title, measure.label, ramp.sample(scale.share(places)), _distinct(ticks), ends)


def _distinct(ticks: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
    """Without ticks whose rounded text says what their left neighbour says already."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or kept[-1][1] != tick[1]:
            kept.append(tick)
    return tuple(kept)


def weight_words(weight: float) -> str:
    """What a weight does, "" for the normal one."""
    if weight == 1:
        return ""
    if weight == 0:
        return "frozen"
    return f"boosted {weight:g} ×" if weight > 1 else f"calmed {weight:g} ×"


def region_lines(view: GridView, region: int, chosen: Measure) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(name, rows of label and value) of a region, the chosen measure first."""
    ordered = [chosen, *(measure for measure in MEASURES if measure is not chosen)]
    rows = [(measure.label, measure.format(view.values(measure)[region])) for measure in ordered if np.isfinite(view.values(measure)).any()]
    if words := weight_words(float(view.weights[region])):
        rows.append(("Weight", words))
    if region == view.current:
        rows.append(("Now", "being worked on"))
    return capitalised(view.names[region]), tuple(rows)
