"""A small SVG writer for the gallery's plots: scales, axes, curves, legends. Numpy only.

SVG is written here by hand: it needs no further package, stays sharp at any size and goes into a page as it is. Plots are drawn for a
light ground, which they bring along. Colours are those of Okabe and Ito (2008), told apart whatever one's colour vision.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from .tables import number

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK = PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")
INK, SOFT, GRID, BLANK, PALE = "#222222", "#666666", "#e4e4e4", "#eeeeee", "#8fb3ca"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
SEQUENTIAL = ("#f3f8fc", "#c6dcec", "#7fb5d8", "#2f83bb", "#084a87")
DIVERGING = ("#0b5c94", "#8fc0dd", "#f5f5f5", "#f4b183", "#b84a00")

DASHES = {"line": "", "dash": "6 4", "points": "2 3"}
"""Kinds of lines: as many again as there are colours."""


@dataclass(frozen=True)
class Scale:
    """Values low..high to pixels begin..end."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return self.begin + (value - self.low) / span * (self.end - self.begin)

    def ticks(self, most: int = 6) -> list[float]:
        """At most about so many round values within."""
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def label(self, value: float, most: int = 6) -> str:
        """A tick as text."""
        step = _round_step((self.high - self.low) / most)
        return number(value, max(0, -math.floor(math.log10(step) + 1e-9)))


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not less."""
    if not step > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= step * (1 - 1e-9)), 10 * power)


@dataclass
class Drawing:
    """An SVG picture in the making; lengths are its pixels, y grows downwards.

    Attributes:
        width, height: its size.
        title: what a screen reader calls it.
    """

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        size: float = 12,
        colour: str = INK,
        bold: bool = False,
        turn: float = 0,
    ) -> None:
        """A line of text with its base line at y."""
        weight = ' font-weight="600"' if bold else ""
        rotate = f' transform="rotate({turn:g} {_n(x)} {_n(y)})"' if turn else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" font-size="{size:g}" fill="{colour}"{weight}{rotate}>'
            f"{escape(text)}</text>"
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str = INK, width: float = 1) -> None:
        """A straight line."""
        self.parts.append(f'<path d="M{_n(x0)} {_n(y0)}L{_n(x1)} {_n(y1)}" stroke="{colour}" stroke-width="{width:g}" fill="none"/>')

    def curve(self, points: Iterable[tuple[float, float]], colour: str, *, width: float = 2, dash: str = "") -> None:
        """A line through points; gaps where one is NaN."""
        path, pen = [], "M"
        for x, y in points:
            if math.isnan(y):
                pen = "M"
                continue
            path.append(f"{pen}{_n(x)} {_n(y)}")
            pen = "L"
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        style = f'stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round" fill="none"{dashes}'
        self.parts.append(f'<path d="{"".join(path)}" {style}/>')

    def area(self, points: Iterable[tuple[float, float]], colour: str, opacity: float = 0.18) -> None:
        """A filled polygon without an outline."""
        corners = "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self.parts.append(f'<path d="M{corners}Z" fill="{colour}" fill-opacity="{opacity:g}"/>')

    def dots(self, points: Iterable[tuple[float, float]], colour: str, *, size: float = 3, opacity: float = 1) -> None:
        """Round dots, all one path: lines without length that have round ends."""
        path = "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)
        style = f'stroke="{colour}" stroke-width="{size:g}" stroke-linecap="round" stroke-opacity="{opacity:g}" fill="none"'
        self.parts.append(f'<path d="{path}" {style}/>')

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle with sharp edges."""
        size = f'width="{_n(max(width, 0))}" height="{_n(max(height, 0))}"'
        self.parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" {size} fill="{colour}" shape-rendering="crispEdges"/>')

    def svg(self) -> str:
        """The whole picture, which stands for itself as a file and within a page."""
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(self.title)}" font-family="{FONT}">'
        ground = f'<rect width="{_n(self.width)}" height="{_n(self.height)}" fill="#ffffff"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", ground, *self.parts, "</svg>", ""])


def _n(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Axes:
    """A plot's two scales on a drawing."""

    drawing: Drawing
    x: Scale
    y: Scale

    def frame(self, x_label: str, y_label: str, *, title: str = "", x_ticks: bool = True, y_ticks: bool = True) -> None:
        """Ticks, labels and faint lines across; drawn before what goes on top."""
        draw, left, right, bottom, top = self.drawing, self.x.begin, self.x.end, self.y.begin, self.y.end
        many, tall = max(3, int((right - left) / 70)), max(3, int((bottom - top) / 28))
        for value in self.y.ticks(tall) if y_ticks else ():
            draw.line(left, self.y(value), right, self.y(value), GRID)
            draw.text(left - 6, self.y(value) + 4, self.y.label(value, tall), anchor="end", size=11, colour=SOFT)
        for value in self.x.ticks(many) if x_ticks else ():
            draw.line(self.x(value), bottom, self.x(value), bottom + 4, SOFT)
            draw.text(self.x(value), bottom + 17, self.x.label(value, many), anchor="middle", size=11, colour=SOFT)
        draw.line(left, bottom, right, bottom, SOFT)
        if x_label:
            draw.text((left + right) / 2, bottom + 34, x_label, anchor="middle", size=12)
        if y_label:
            draw.text(left - 42, (top + bottom) / 2, y_label, anchor="middle", size=12, turn=-90)
        if title:
            draw.text(left, top - 8, title, size=12.5, bold=True)

    def line(self, x: Sequence[float], y: Sequence[float], colour: str, *, width: float = 2, dash: str = "") -> None:
        """A curve through values."""
        self.drawing.curve([(self.x(a), self.y(b) if math.isfinite(b) else math.nan) for a, b in zip(x, y)], colour, width=width, dash=dash)

    def band(self, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> None:
        """The area between two curves, where both have values."""
        known = [(self.x(a), self.y(b), self.y(c)) for a, b, c in zip(x, low, high) if math.isfinite(b) and math.isfinite(c)]
        if known:
            self.drawing.area([*((a, b) for a, b, _ in known), *((a, c) for a, _, c in reversed(known))], colour)


def key(drawing: Drawing, x: float, y: float, entries: Iterable[tuple[str, str, str]], step: float = 18) -> None:
    """A legend: (text, colour, "dot" or a key of `DASHES`), one below the other."""
    for index, (text, colour, kind) in enumerate(entries):
        middle = y + step * index
        if kind == "dot":
            drawing.dots([(x + 10, middle)], colour, size=6)
        else:
            drawing.curve([(x, middle), (x + 20, middle)], colour, width=2.5, dash=DASHES[kind])
        drawing.text(x + 27, middle + 4, text, size=12)


def shade(colours: Sequence[str], share: float) -> str:
    """The colour at a share 0..1 of the way through evenly spaced ones; grey for NaN."""
    if math.isnan(share):
        return BLANK
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    index = min(int(place), len(colours) - 2)
    first, second = (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) for colour in colours[index : index + 2])
    return "#" + "".join(f"{round(float(c)):02x}" for c in first + (place - index) * (second - first))


def colour_bar(drawing: Drawing, x: float, y: float, colours: Sequence[str], labels: Sequence[str], title: str) -> None:
    """A vertical bar, the first colour below, with evenly spaced labels."""
    height, pieces = 120.0, 40
    for index in range(pieces):
        drawing.box(x, y + height * (1 - (index + 1) / pieces), 12, height / pieces + 0.5, shade(colours, index / (pieces - 1)))
    for index, label in enumerate(labels):
        drawing.text(x + 18, y + height * (1 - index / (len(labels) - 1)) + 4, label, size=11, colour=SOFT)
    drawing.text(x, y - 12, title, size=11.5)
