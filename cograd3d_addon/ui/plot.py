"""A small line plot as pixels. No bpy.

Blender's panels have no plots, only pictures. So that lines and figures are crisp, the plot is drawn in the size in which it is shown; its
figures are made of strokes, because Blender's Python brings no font.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

HOLD = 2.0
"""Seconds that a plot stays while a job runs, which tells something new four times a second."""

RGB = tuple[float, float, float]
Series = tuple[np.ndarray, np.ndarray]

_STROKES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "0": (((1.2, 0), (2.8, 0), (4, 1.4), (4, 4.6), (2.8, 6), (1.2, 6), (0, 4.6), (0, 1.4), (1.2, 0)),),
    "1": (((0.6, 4.7), (2.3, 6), (2.3, 0)),),
    "2": (((0, 4.9), (1, 6), (3, 6), (4, 5), (4, 4), (0, 0), (4, 0)),),
    "3": (((0, 5.2), (1, 6), (3, 6), (4, 5.1), (4, 4.1), (3, 3.2), (1.6, 3.2)), ((3, 3.2), (4, 2.2), (4, 0.9), (3, 0), (1, 0), (0, 0.8))),
    "4": (((3, 0), (3, 6), (0, 1.8), (4, 1.8)),),
    "5": (((3.7, 6), (0.5, 6), (0.2, 3.2), (1.2, 3.7), (3, 3.7), (4, 2.7), (4, 1), (3, 0), (1, 0), (0, 0.8)),),
    "6": (((3.5, 5.6), (2.8, 6), (1.4, 6), (0, 4.4), (0, 1.1), (1, 0), (3, 0), (4, 1.1), (4, 2.5), (3, 3.5), (1, 3.5), (0, 2.5)),),
    "7": (((0, 6), (4, 6), (1.4, 0)),),
    "8": (((1, 3.2), (0.2, 4.1), (0.2, 5.1), (1, 6), (3, 6), (3.8, 5.1), (3.8, 4.1), (3, 3.2), (1, 3.2), (0, 2.2), (0, 1), (1, 0), (3, 0),
           (4, 1), (4, 2.2), (3, 3.2)),),
    "9": (((0.5, 0.4), (1.2, 0), (2.6, 0), (4, 1.6), (4, 4.9), (3, 6), (1, 6), (0, 4.9), (0, 3.5), (1, 2.5), (3, 2.5), (4, 3.5)),),
    ".": (((0.2, 0.05), (0.2, 0.25)),),
    "-": (((0.5, 2.8), (3.5, 2.8)),),
    "+": (((0.3, 2.8), (3.7, 2.8)), ((2, 1.1), (2, 4.5))),
    "k": (((0, 0), (0, 6)), ((3.2, 4), (0, 1.6)), ((1.1, 2.5), (3.4, 0))),
}  # fmt: skip
"""Figures as polylines in a box 4 wide and 6 high, y up."""

_NARROW = {".": 0.5}
_GAP = 1.6

_AT_ONCE = 4
"""Pieces of a line that are drawn together: one by one numpy's calls take longest, all at once every pixel is compared with every piece."""

_POINTS = 64
"""Of a curve, at most: as many as are kept with an object, and no panel has room for many more."""


@dataclass(frozen=True)
class Look:
    """Colours (display RGB) and sizes of a plot.

    Attributes:
        text, line, other: of figures and axes, of the region's curve, of the curve it is compared with.
        scale: pixels a unit of the interface: 1 normal, 2 on a dense screen.
    """

    text: RGB
    line: RGB
    other: RGB
    scale: float = 1.0


class Pace:
    """Decides which moment of a run a plot shows, so that it is not drawn as often as something is told."""

    def __init__(self) -> None:
        self._subject: Hashable = None
        self._moment: Hashable = None
        self._since = 0.0

    def moment_of(self, subject: Hashable, latest: Hashable, now: float) -> Hashable:
        """The latest moment of another subject than the last, or after `HOLD` seconds; until then the moment that is shown.

        Args:
            subject: everything else that the plot depends on.
            latest: how far the run is.
            now: a clock, seconds.
        """
        if subject != self._subject or now - self._since >= HOLD:
            self._subject, self._moment, self._since = subject, latest, now
        return self._moment


class Sheet:
    """A transparent picture to draw on, [height, width, 4] float32, y up as Blender has it."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.zeros((height, width, 4), dtype=np.float32)

    def line(self, points: np.ndarray, colour: RGB, width: float, alpha: float = 1.0) -> None:
        """A smooth polyline through [K, 2] points (pixels; a pixel's centre is at +0.5)."""
        points = np.asarray(points, dtype=np.float32)
        if len(points) < 2:
            return
        reach = width / 2 + 1.0
        left, bottom = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
        right, top = np.minimum(np.ceil(points.max(axis=0) + reach).astype(int), self.pixels.shape[1::-1])
        if left >= right or bottom >= top:
            return
        coverage = np.zeros((top - bottom, right - left), dtype=np.float32)
        for first in range(0, len(points) - 1, _AT_ONCE):
            part = points[first : first + _AT_ONCE + 1]
            x0, y0 = np.maximum(np.floor(part.min(axis=0) - reach).astype(int), (left, bottom))
            x1, y1 = np.minimum(np.ceil(part.max(axis=0) + reach).astype(int), (right, top))
            if x0 >= x1 or y0 >= y1:
                continue
            cell = coverage[y0 - bottom : y1 - bottom, x0 - left : x1 - left]
            distance = _distance(np.arange(x0, x1, dtype=np.float32) + 0.5, np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5, part)
            np.maximum(cell, np.clip(width / 2 + 0.5 - distance, 0, 1), out=cell)
        self._blend(self.pixels[bottom:top, left:right], coverage * alpha, colour)

    def text(self, text: str, x: float, y: float, height: float, colour: RGB, align: float = 0.0) -> None:
        """Figures whose lower left corner is at (x, y), or with `align` 1 their lower right one."""
        unit = height / 6.0
        x -= align * text_width(text, height)
        for character in text:
            for stroke in _STROKES[character]:
                self.line(np.array(stroke) * unit + (x, y), colour, max(1.0, 0.8 * unit))
            x += (_NARROW.get(character, 4.0) + _GAP) * unit

    def _blend(self, target: np.ndarray, alpha: np.ndarray, colour: RGB) -> None:
        """Over what is there; colours are not premultiplied."""
        covered = alpha > 0
        above, pixels = alpha[covered], target[covered]
        below = pixels[:, 3] * (1 - above)
        total = above + below
        pixels[:, :3] = (above[:, None] * np.array(colour) + below[:, None] * pixels[:, :3]) / total[:, None]
        pixels[:, 3] = total
        target[covered] = pixels


def _distance(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[H, W] from the pixels at [W] x and [H, 1] y to the nearest place of a polyline through [K, 2] points."""
    start, along = points[:-1, :, None, None], np.diff(points, axis=0)[:, :, None, None]
    square = (along**2).sum(axis=1)
    right, up = x - start[:, 0], y - start[:, 1]
    share = np.clip((right * along[:, 0] + up * along[:, 1]) / np.where(square > 0, square, 1.0), 0, 1)
    return np.sqrt(((right - share * along[:, 0]) ** 2 + (up - share * along[:, 1]) ** 2).min(axis=0))


def text_width(text: str, height: float) -> float:
    """Pixels that figures of this height take."""
    unit = height / 6.0
    return max(0.0, unit * (sum(_NARROW.get(character, 4.0) + _GAP for character in text) - _GAP))


def short_number(value: float, span: float) -> str:
    """A number for an axis that spans `span`: no more digits than tell its ticks apart, thousands as k."""
    if abs(value) >= 1000:
        return f"{value / 1000:.{0 if span >= 3000 else 1}f}".rstrip(".") + "k"
    digits = max(0, 1 - math.floor(math.log10(span))) if span > 0 else 0
    text = f"{value:.{min(digits, 4)}f}"
    return text[1:] if float(text) == 0 and text.startswith("-") else text


def _thinned(series: Series) -> Series:
    """At most `_POINTS` of its points, evenly spaced, the first and the last among them."""
    if len(series[0]) <= _POINTS:
        return series
    chosen = np.linspace(0, len(series[0]) - 1, _POINTS).round().astype(int)
    return series[0][chosen], series[1][chosen]


def plot(curve: Series, other: Series, size: int, look: Look) -> np.ndarray:
    """A square plot of a region's history, a frame with the figures of both axes.

    Args:
        curve: iterations and values of the region, ascending. Of a long one some points are left out, never the last.
        other: the same of all regions' mean, drawn faintly behind; may be empty.
        size: pixels along an edge.

    Returns:
        [size, size, 4] float32 display RGBA, bottom row first.
    """
    sheet = Sheet(size, size)
    s = look.scale
    curve, other = _thinned(curve), _thinned(other)
    values = np.concatenate([curve[1], other[1]]).astype(np.float64)
    times = np.concatenate([curve[0], other[0]]).astype(np.float64)
    if not len(values):
        return sheet.pixels
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    first, last = float(times.min()), max(float(times.max()), float(times.min()) + 1)
    figure = 7.0 * s
    labels = (short_number(low, high - low), short_number(high, high - low))
    left = round(max(text_width(label, figure) for label in labels) + 6 * s)
    bottom, right, top = round(figure + 7 * s), round(size - 4 * s), round(size - 5 * s)
    hair = max(1.0, round(s)) * 1.0
    frame = np.array([(left, top), (left, bottom), (right, bottom)]) + 0.5
    sheet.line(frame, look.text, hair, alpha=0.55)
    margin = 3 * s

    def placed(series: Series) -> np.ndarray:
        x = left + (np.asarray(series[0], dtype=np.float64) - first) / (last - first) * (right - left - margin) + 0.5
        y = bottom + margin + (np.asarray(series[1], dtype=np.float64) - low) / (high - low) * (top - bottom - 2 * margin)
        return np.stack([x, y], axis=1)

    if len(other[0]) > 1:
        sheet.line(placed(other), look.other, 1.3 * s, alpha=0.4)
    points = placed(curve)
    sheet.line(points, look.line, 1.8 * s)
    if len(points):
        sheet.line(np.repeat(points[-1:], 2, axis=0), look.line, 5 * s)
    sheet.text(labels[0], left - 3 * s, bottom, figure, look.text, align=1.0)
    sheet.text(labels[1], left - 3 * s, top - figure, figure, look.text, align=1.0)
    sheet.text(short_number(first, last - first), left, 2 * s, figure, look.text)
    sheet.text(short_number(last, last - first), right, 2 * s, figure, look.text, align=1.0)
    return sheet.pixels
