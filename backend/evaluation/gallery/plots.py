"""The gallery's plots: what the method did in its runs, and what the variants are worth. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .records import Record
from .statistics import MEASURES, Estimate, Measure, estimate, values_of
from .svg import (
    BLACK,
    BLUE,
    DASHES,
    DIVERGING,
    GRID,
    INK,
    ORANGE,
    PALE,
    PALETTE,
    SEQUENTIAL,
    SKY,
    SOFT,
    Axes,
    Drawing,
    Scale,
    colour_bar,
    key,
    shade,
)
from .tables import HEADLINE, decimals, number
from .traces import BINS, Trace, binned, nanmean, quantile, region_losses

WIDTH = 960
MOST_DOTS = 1500
MOST_PANELS = 9


# --- Plots of runs


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Attributes:
        name: of its file, without the ending.
        title, caption: what stands above and below it.
        svg: the picture.
    """

    name: str
    title: str
    caption: str
    svg: str


def convergence(traces: Mapping[str, Sequence[Trace]], reference: str) -> Plot | None:
    """Heat map region x progress of the reference's normalised loss, and the regions' spread in up to three variants."""
    of_one_grid = [trace for trace in traces.get(reference, ()) if trace.regions == traces[reference][0].regions]
    if not of_one_grid:
        return None
    matrix = nanmean([region_losses(trace) for trace in of_one_grid])
    if not np.isfinite(matrix).any():
        return None
    count, left, top, map_width = len(matrix), 118.0, 34.0, 690.0
    row = min(16.0, max(5.0, 340 / count))
    bottom = top + row * count
    drawing = Drawing(WIDTH, bottom + 300, "Loss of every view region over the run")
    x, spread, cell = Scale(0, 100, left, left + map_width), _symmetric(matrix), map_width / BINS
    for region, losses in enumerate(matrix):
        for index, loss in enumerate(losses.tolist()):
            colour = shade(DIVERGING, 0.5 + (loss - 1) / (2 * spread))
            drawing.box(left + cell * index, bottom - row * (region + 1), cell + 0.6, row + 0.6, colour)
    for text, first, size in _bands(of_one_grid[0]):
        drawing.text(left - 10, bottom - row * (first + size / 2) + 4, text, anchor="end", size=11, colour=SOFT)
        if first:
            drawing.line(left - 6, bottom - row * first, left + map_width, bottom - row * first, "#ffffff", 2)
    drawing.box(left + map_width, top - 1, 1.5, bottom - top + 2, "#ffffff")
    Axes(drawing, x, Scale(0, 1, bottom, top)).frame("", "", y_ticks=False)
    drawing.text(left, top - 12, f"{reference}: every row a region, by elevation", size=12.5, bold=True)
    labels = [number(1 + spread * share, 2) for share in (-1, -0.5, 0, 0.5, 1)]
    colour_bar(drawing, left + map_width + 30, top + 24, DIVERGING, labels, "normalised loss")
    others = sorted((variant for variant in traces if variant != reference), key=lambda name: name != "w/o A")
    shown = [reference, *others[:1]]
    matrices = {}
    for variant in shown:
        own = [trace for trace in traces[variant] if trace.regions == traces[variant][0].regions]
        matrices[variant] = nanmean([region_losses(trace) for trace in own])
    _spread_curves(drawing, x, bottom + 74, matrices)
    runs = ", ".join(f"{len(traces[variant])} of {variant}" for variant in shown)
    caption = (
        "Above: losses of the reference, smoothed over five visits, relative to those of the same noise level (1 is average); regions by "
        "elevation from below, within a band once around from the front; grey before the first visit. Below: the middle region and, "
        f"shaded, the middle 80 % of the regions; a narrow band is an even convergence. Means over runs: {runs}."
    )
    return Plot("convergence", "Convergence of the regions", caption, drawing.svg())


def _symmetric(matrix: np.ndarray) -> float:
    """Half the range of a heat map around 1: most of what there is."""
    known = np.abs(matrix[np.isfinite(matrix)] - 1)
    return max(0.05, float(np.quantile(known, 0.98))) if len(known) else 1.0


def _bands(trace: Trace) -> list[tuple[str, int, int]]:
    """(label, first region, how many) of the grid's elevation bands; of all regions where the grid is not known."""
    grid = trace.grid
    if grid is None or trace.regions % grid.azimuth_bins or trace.regions // grid.azimuth_bins != len(grid.elevation_edges) - 1:
        return [(f"{trace.regions} regions", 0, trace.regions)]
    edges = [number(edge, 0) for edge in grid.elevation_edges]
    return [(f"{low}° to {high}°", index * grid.azimuth_bins, grid.azimuth_bins) for index, (low, high) in enumerate(pairwise(edges))]


def _spread_curves(drawing: Drawing, x: Scale, top: float, matrices: Mapping[str, np.ndarray]) -> None:
    middles = [100 * (index + 0.5) / BINS for index in range(BINS)]
    curves = {variant: [quantile(matrix, share) for share in (0.1, 0.5, 0.9)] for variant, matrix in matrices.items()}
    ends = [value for lines in curves.values() for line in lines for value in line if math.isfinite(value)]
    axes = Axes(drawing, x, Scale(min(ends), max(ends), top + 170, top))
    axes.frame("progress (%)", "normalised loss")
    for (low, middle, high), colour in zip(curves.values(), PALETTE):
        axes.band(middles, low, high, colour)
        axes.line(middles, low, colour, width=0.8)
        axes.line(middles, high, colour, width=0.8)
        axes.line(middles, middle, colour)
    place = x.begin
    for variant, colour in zip(curves, PALETTE):
        key(drawing, place, top - 18, [(variant, colour, "line")])
        place += 60 + _longest([variant])


def visits(traces: Mapping[str, Sequence[Trace]]) -> Plot | None:
    """How often every region was drawn, as a map azimuth x elevation a variant."""
    usable = {}
    for variant, own in traces.items():
        same = [trace for trace in own if len(_bands(trace)) * (trace.grid.azimuth_bins if trace.grid else 0) == trace.regions]
        if same:
            usable[variant] = [trace for trace in same if trace.grid == same[0].grid]
    if not usable:
        return None
    shown = dict(list(usable.items())[:MOST_PANELS])
    relative = {variant: nanmean([trace.visits / trace.visits.mean() for trace in own]) for variant, own in shown.items()}
    most = max(2.0, *(float(share.max()) for share in relative.values()))
    grids = {variant: grid for variant, own in shown.items() if (grid := own[0].grid) is not None}
    lowest = min(grid.elevation_edges[0] for grid in grids.values())
    highest = max(grid.elevation_edges[-1] for grid in grids.values())
    columns, panel, height = 3, 232.0, 116.0
    rows = -(-len(shown) // columns)
    drawing = Drawing(WIDTH, rows * (height + 66) + 26, "How often every view region was drawn")
    for index, (variant, grid) in enumerate(grids.items()):
        left, top = 60 + (index % columns) * (panel + 46), 30 + (index // columns) * (height + 66)
        edges, width = grid.elevation_edges, 360 / grid.azimuth_bins
        axes = Axes(drawing, Scale(-180, 180, left, left + panel), Scale(lowest, highest, top + height, top))
        for region, value in enumerate(relative[variant].tolist()):
            band, cell = divmod(region, grid.azimuth_bins)
            for turn in (-360, 0):  # cells run from 0 to 360 degrees; those behind lie on both sides of the map's edge
                a0, a1 = max((cell - 0.5) * width + turn, -180), min((cell + 0.5) * width + turn, 180)
                if a0 < a1:
                    y1 = axes.y(edges[band + 1])
                    drawing.box(axes.x(a0), y1, axes.x(a1) - axes.x(a0), axes.y(edges[band]) - y1, shade(SEQUENTIAL, value / most))
        for azimuth in (-180, -90, 0, 90, 180):
            drawing.text(axes.x(azimuth), top + height + 15, f"{number(azimuth, 0)}°", anchor="middle", size=11, colour=SOFT)
        for edge in edges:
            drawing.text(left - 5, axes.y(edge) + 4, f"{number(edge, 0)}°", anchor="end", size=11, colour=SOFT)
        drawing.text(left, top - 9, variant, size=12.5, bold=True)
        if index + columns >= len(shown):
            drawing.text(left + panel / 2, top + height + 33, "azimuth (0° is the front)", anchor="middle", size=12)
        if index % columns == 0:
            drawing.text(left - 42, top + height / 2, "elevation", anchor="middle", size=12, turn=-90)
    colour_bar(drawing, WIDTH - 54, 56, SEQUENTIAL, [number(most * share, 1) for share in (0, 0.5, 1)], "visits")
    runs = ", ".join(f"{len(own)} of {variant}" for variant, own in shown.items())
    caption = (
        f"Draws of each region relative to an even share, which is 1; a region is as high as its elevation band. Means over runs: {runs}."
    )
    return Plot("visits", "Visits of the regions", caption, drawing.svg())


def timesteps(traces: Mapping[str, Sequence[Trace]]) -> Plot | None:
    """Every timestep drawn in one run a variant, and the baseline."""
    shown = dict([(variant, own[0]) for variant, own in traces.items() if own][:MOST_PANELS])
    if not shown:
        return None
    columns = min(3, len(shown))
    rows, panel, height = -(-len(shown) // columns), (WIDTH - 30) / columns - 62, 150.0 if len(shown) > 1 else 280.0
    drawing = Drawing(WIDTH, rows * (height + 74) + 40, "Timesteps drawn over the run")
    highest = max(float(trace.t.max()) for trace in shown.values())
    for index, (variant, trace) in enumerate(shown.items()):
        left, top = 62 + (index % columns) * (panel + 62), 62 + (index // columns) * (height + 74)
        count = len(trace.t)
        axes = Axes(drawing, Scale(0, count, left, left + panel), Scale(0, highest, top + height, top))
        axes.frame("visit to a region", "timestep t" if index % columns == 0 else "", title=variant)
        every = range(0, count, -(-count // MOST_DOTS))
        drawing.dots([(axes.x(k + 0.5), axes.y(float(trace.t[k]))) for k in every], SKY, size=2.6, opacity=0.55)
        axes.line([k + 0.5 for k in every], [float(trace.t_global[k]) for k in every], ORANGE)
    key(drawing, 62, 18, [("t as drawn", SKY, "dot")])
    key(drawing, 182, 18, [("t_global, the baseline", ORANGE, "line")])
    caption = "One run of each. What lies off the baseline is the local state of the region, the neighbours' influence and the jitter."
    return Plot("timesteps", "Timesteps", caption, drawing.svg())


def fusion(traces: Mapping[str, Sequence[Trace]], reference: str) -> Plot | None:
    """What fusing gradients did over the reference's runs: how they agreed, how much was added, how many there were."""
    own = [trace for trace in traces.get(reference, ()) if trace.neighbours.any()]
    if not own:
        return None
    groups = [group for group in own[0].cosine if all(group in trace.cosine for trace in own)]
    drawing = Drawing(WIDTH, 690, "What gradient fusion did over the run")
    middles = [100 * (index + 0.5) / BINS for index in range(BINS)]
    panels = {
        "Cosine of the neighbours' gradients and the main one": {g: [t.cosine[g] for t in own] for g in groups},
        "Size of what is added, relative to the main gradient": {g: [t.added[g] for t in own] for g in groups},
        "Size of the fused gradient, relative to the main one": {g: [t.fused[g] for t in own] for g in groups},
        "Neighbours fused": {"": [t.neighbours.astype(np.float64) for t in own]},
    }
    for index, (title, lines) in enumerate(panels.items()):
        top = 34 + 165 * index
        curves = {g: nanmean([binned(t.progress, values) for t, values in zip(own, runs)]).tolist() for g, runs in lines.items()}
        known = [value for curve in curves.values() for value in curve if math.isfinite(value)]
        low, high = (1.0 if "fused gradient" in title else 0.0), 0.0
        y = Scale(min([low, *known]), max([high, *known]), top + 105, top)
        axes = Axes(drawing, Scale(0, 100, 70, 780), y if y.high > y.low else Scale(y.low, y.low + 1, y.begin, y.end))
        last = index == len(panels) - 1
        axes.frame("progress (%)" if last else "", "", title=title, x_ticks=last)
        if y.low < 0 < y.high:
            drawing.line(70, y(0), 780, y(0), SOFT)
        for curve, colour in zip(curves.values(), PALETTE if len(curves) > 1 else (BLACK,)):
            axes.line(middles, curve, colour)
    key(drawing, 806, 44, [(group, colour, "line") for group, colour in zip(groups, PALETTE)])
    caption = f"Means over the iterations of each fortieth of a run and over {_runs(len(own))} of {reference}, by parameter group."
    return Plot("fusion", "Fused gradients", caption, drawing.svg())


# --- Plots of measures


def bars(variants: Sequence[str], summary: Mapping[str, Mapping[str, Estimate]], reference: str) -> Plot | None:
    """Every headline measure that has values, as bars with intervals, variants one below the other."""
    names = [name for name in HEADLINE if any(summary[variant][name].known for variant in variants)]
    if not names:
        return None
    labels = 20 + _longest(variants)
    rows = -(-len(names) // max(1, int((WIDTH - labels) / 130)))
    columns, line = -(-len(names) // rows), 20.0
    panel, height = (WIDTH - labels - 12) / columns, line * len(variants)
    drawing = Drawing(WIDTH, rows * (height + 64) + 6, "Measures of every variant")
    for index, name in enumerate(names):
        measure, left, top = MEASURES[name], labels + (index % columns) * panel, 30 + (index // columns) * (height + 64)
        estimates = [summary[variant][name] for variant in variants]
        ends = [end for each in estimates for end in (each.value, each.low, each.high) if math.isfinite(end)]
        as_bars = min(ends) <= max(ends) / 2
        x = (
            Scale(min(0.0, *ends), max(0.0, *ends), left, left + panel - 62)
            if as_bars
            else _value_scale(estimates, left, left + panel - 62)
        )
        digits = decimals(measure, estimates)
        drawing.text(left, top - 12, measure.heading, size=12.5, bold=True)
        many = next((most for most in (3, 4, 5) if len(x.ticks(most)) > 1), 3)  # a single tick is no scale
        for value in x.ticks(many):
            drawing.line(x(value), top, x(value), top + height, GRID)
            drawing.text(x(value), top + height + 15, x.label(value, many), anchor="middle", size=10.5, colour=SOFT)
        for place, (variant, each) in enumerate(zip(variants, estimates)):
            middle, colour = top + line * (place + 0.5), BLUE if variant == reference else PALE
            if index % columns == 0:
                drawing.text(labels - 10, middle + 4, variant, anchor="end", size=12, bold=variant == reference)
            if each.known:
                _bar(drawing, x, middle, each, colour, as_bars)
                drawing.text(left + panel - 12, middle + 4, number(each.value, digits), anchor="end", size=11, colour=SOFT)
        if as_bars:
            drawing.line(x(0), top, x(0), top + height, SOFT)
    caption = (
        "Means over prompts; the lines are 95 % intervals. ↑ higher is better, ↓ lower is better. Bars begin at zero; where all values are "
        "far from it there are dots."
    )
    return Plot("bars", "Measures", caption, drawing.svg())


def _bar(drawing: Drawing, x: Scale, middle: float, each: Estimate, colour: str, as_bar: bool) -> None:
    """A value with its interval, as a bar from zero or as a dot."""
    if as_bar:
        drawing.box(min(x(0), x(each.value)), middle - 6, abs(x(each.value) - x(0)), 12, colour)
    if math.isfinite(each.low) and each.low < each.high:
        ink = INK if as_bar else colour
        drawing.line(x(each.low), middle, x(each.high), middle, ink, 1.4)
        for end in (each.low, each.high):
            drawing.line(x(end), middle - 3.5, x(end), middle + 3.5, ink, 1.4)
    if not as_bar:
        drawing.dots([(x(each.value), middle)], colour, size=9)


def quality(records: Sequence[Record], variants: Sequence[str], reference: str) -> Plot | None:
    """PSNR, or alignment where no true object is known, against predictions where there are several budgets, else against time."""
    name = next((name for name in ("psnr", "alignment") if any(not math.isnan(getattr(record, name)) for record in records)), None)
    if name is None:
        return None
    budgets = sorted({record.budget for record in records})
    if len(budgets) > 1:
        return _quality_curves(records, variants, reference, MEASURES[name])
    return _quality_dots(records, variants, reference, MEASURES[name])


def _quality_curves(records: Sequence[Record], variants: Sequence[str], reference: str, measure: Measure) -> Plot | None:
    """Each curve is of the (prompt, seed) pairs that its variant has at all of its budgets: a mean of others would rise and fall with the
    prompts. Its name says if those are not all that there are.
    """
    by_budget: dict[str, dict[int, list[Record]]] = {}
    for record in records:
        if record.variant in variants and not math.isnan(getattr(record, measure.name)):
            by_budget.setdefault(record.variant, {}).setdefault(record.budget, []).append(record)
    by_budget = {variant: budgets for variant, budgets in by_budget.items() if len(budgets) > 1}
    every_pair = {(record.prompt, record.seed) for budgets in by_budget.values() for runs in budgets.values() for record in runs}
    pairs = {
        variant: set.intersection(*({(record.prompt, record.seed) for record in runs} for runs in budgets.values()))
        for variant, budgets in by_budget.items()
    }
    curves: dict[str, list[tuple[float, Estimate]]] = {}
    for variant in sorted((name for name, own in pairs.items() if own), key=lambda name: (name != reference, list(variants).index(name))):
        for _, runs in sorted(by_budget[variant].items()):
            runs = [record for record in runs if (record.prompt, record.seed) in pairs[variant]]
            point = float(np.mean([record.predictions for record in runs])), estimate(values_of(runs, variant, measure.name))
            curves.setdefault(variant, []).append(point)
    if not curves:
        return None
    lacking = {variant: f"{variant} ({len(own)} of {len(every_pair)})" for variant, own in pairs.items() if own != every_pair}
    names = {variant: lacking.get(variant, variant) for variant in curves}
    drawing, right = (
        Drawing(WIDTH, max(430, 50 + 18 * len(curves)), f"{measure.title} against predictions"),
        WIDTH - 70 - _longest(names.values()),
    )
    every = [(x, each) for points in curves.values() for x, each in points]
    axes = Axes(drawing, Scale(0, max(x for x, _ in every), 70, right), _value_scale([each for _, each in every], 370, 30))
    axes.frame("predictions of the prior", f"{measure.title}{f' ({measure.unit})' if measure.unit else ''}")
    styles = {
        variant: (PALETTE[index % len(PALETTE)], list(DASHES)[index // len(PALETTE) % len(DASHES)]) for index, variant in enumerate(curves)
    }
    for variant, points in curves.items():
        colour, kind = styles[variant]
        x = [place for place, _ in points]
        axes.band(x, [each.low for _, each in points], [each.high for _, each in points], colour)
        axes.line(x, [each.value for _, each in points], colour, width=3 if variant == reference else 2, dash=DASHES[kind])
        drawing.dots([(axes.x(place), axes.y(each.value)) for place, each in points], colour, size=6)
    key(drawing, right + 24, 30, [(names[variant], colour, kind) for variant, (colour, kind) in styles.items()])
    caption = "Means over prompts at every budget, of variants with more than one; the shades are 95 % intervals."
    if lacking:
        caption += " In brackets: how many of the pairs of prompt and seed a variant has at each budget, where those are not all."
    return Plot("quality", f"{measure.title} against predictions", caption, drawing.svg())


def _quality_dots(records: Sequence[Record], variants: Sequence[str], reference: str, measure: Measure) -> Plot | None:
    points = []
    for variant in variants:
        place, each = estimate(values_of(records, variant, "seconds")), estimate(values_of(records, variant, measure.name))
        if place.known and each.known:
            points.append((variant, place, each))
    if not points:
        return None
    top, line = 24.0, 15.0
    bottom = max(370.0, top + line * len(points))  # every label has a line
    drawing = Drawing(WIDTH, bottom + 60, f"{measure.title} against time")
    slowest, right = max(np.nanmax([place.value, place.high]) for _, place, _ in points), WIDTH - 40 - _longest(variants)
    axes = Axes(drawing, Scale(0, float(slowest), 70, right), _value_scale([each for _, _, each in points], bottom, top))
    axes.frame("time of the optimisation (s)", f"{measure.title}{f' ({measure.unit})' if measure.unit else ''}")
    free = sorted(((axes.y(each.value), axes.x(place.value), variant) for variant, place, each in points), key=lambda point: point[:2])
    heights = _apart([y for y, _, _ in free], line, top, bottom)
    for variant, place, each in sorted(points, key=lambda point: point[0] == reference):  # the reference on top
        colour = BLUE if variant == reference else PALE
        if math.isfinite(each.low):
            drawing.line(axes.x(place.value), axes.y(each.low), axes.x(place.value), axes.y(each.high), colour, 1.5)
        if math.isfinite(place.low):
            drawing.line(axes.x(place.low), axes.y(each.value), axes.x(place.high), axes.y(each.value), colour, 1.5)
        drawing.dots([(axes.x(place.value), axes.y(each.value))], colour, size=9)
    for (y, x, variant), height in zip(free, heights):
        drawing.line(x + 6, y, right + 16, height, "#cccccc", 0.8)
        drawing.text(right + 20, height + 4, variant, size=12, bold=variant == reference)
    caption = "Means over prompts; the lines are 95 % intervals. All variants were allowed the same number of predictions."
    return Plot("quality", f"{measure.title} against time", caption, drawing.svg())


def _value_scale(estimates: Sequence[Estimate], begin: float, end: float) -> Scale:
    """Around the values and their intervals, with some room."""
    ends = [x for each in estimates for x in (each.value, each.low, each.high) if math.isfinite(x)]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    return Scale(min(ends) - room, max(ends) + room, begin, end)


def _apart(places: Sequence[float], step: float, first: float, last: float) -> list[float]:
    """Ascending places moved so that neighbours are at least a step apart, as a group about where they were, from `first` to `last`.

    There has to be room for all of them.
    """
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and _span(clusters[-2], step)[1] + step > _span(clusters[-1], step)[0]:
            moving = clusters.pop()
            clusters[-1] += moving
    moved = [_span(cluster, step)[0] + step * index for cluster in clusters for index in range(len(cluster))]
    moved = [max(place, first + step * index) for index, place in enumerate(moved)]
    return [min(place, last - step * (len(moved) - 1 - index)) for index, place in enumerate(moved)]


def _span(cluster: Sequence[float], step: float) -> tuple[float, float]:
    half = step * (len(cluster) - 1) / 2
    middle = sum(cluster) / len(cluster)
    return middle - half, middle + half


def _longest(texts: Iterable[str]) -> float:
    """About how wide the widest is, in pixels of a label."""
    return 6.9 * max(map(len, texts))


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"
