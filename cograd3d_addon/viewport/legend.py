"""Drawn over the viewport: the legend, the numbers of the region below the mouse, the frame of a region that is looked through.

A viewport is redrawn far more often than what these say changes: shapes and measured texts are kept as `Sheet`s, by all that they show.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import blf
import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from ..package import preferences
from . import gizmos, legend_text, looking, picking, sources
from .grid_view import GridView
from .legend_text import Legend
from .look import picture_rectangle

FONT = 0
WIDTH, BAR, MARGIN, PAD = 190.0, 9.0, 14.0, 9.0
"""Pixels at an interface scale of 1: the legend's width, its ramp's height, distances outside and inside."""

_KEPT = 16
"""Sheets of a kind that are kept: several viewports can be open, in several sizes."""

RGBA = tuple[float, float, float, float]
Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top, in a viewport's pixels."""

Rows = tuple[tuple[str, str], ...]

_handler: Any = None


@dataclass(frozen=True)
class Look:
    """What the interface says about text and its background: the colours of the theme's tooltips.

    Attributes:
        scale: pixels a unit of the interface.
        size: of the text, pixels.
        back, text, faint: of the background, of what matters and of what explains it.
    """

    scale: float
    size: float
    back: RGBA
    text: RGBA
    faint: RGBA

    @classmethod
    def of(cls, preferences: bpy.types.Preferences) -> Look:
        """As the user has set it."""
        scale, tooltip = preferences.system.ui_scale, preferences.themes[0].user_interface.wcol_tooltip
        text = tuple(tooltip.text)[:3]
        size = preferences.ui_styles[0].widget.points * scale
        return cls(scale, size, (*tuple(tooltip.inner)[:3], 0.82), (*text, 1.0), (*text, 0.62))


class Sheet:
    """Flat shapes with text over them, in pixels; laid out once, then drawn as often as it is needed."""

    def __init__(self, look: Look) -> None:
        self._size = look.size
        self._radius = 5.0 * look.scale
        self._vertices: list[np.ndarray] = []
        self._colours: list[np.ndarray] = []
        self._texts: list[tuple[str, float, float, RGBA]] = []
        self._batch: gpu.types.GPUBatch | None = None
        blf.size(FONT, self._size)  # what is measured while the sheet is laid out

    def width_of(self, text: str) -> float:
        return blf.dimensions(FONT, text)[0]

    def write(self, text: str, x: float, y: float, colour: RGBA, align: float = 0.0) -> None:
        """`align`: 0 starts at x, 1 ends there."""
        self._texts.append((text, round(x - align * self.width_of(text)), round(y), colour))

    def fitting(self, text: str, width: float) -> str:
        """The text, cut with an ellipsis where it is longer than `width` pixels."""
        if self.width_of(text) <= width:
            return text
        while text and self.width_of(text + "…") > width:
            text = text[:-1]
        return text.rstrip() + "…"

    def box(self, left: float, bottom: float, right: float, top: float, colour: RGBA) -> None:
        self._triangles(_corners(left, bottom, right, top), colour)

    def panel(self, left: float, bottom: float, right: float, top: float, colour: RGBA) -> None:
        """A box with round corners, as a background."""
        radius, steps = self._radius, np.linspace(0, np.pi / 2, 7)
        arcs = ((right, top, 0.0), (left, top, 0.5), (left, bottom, 1.0), (right, bottom, 1.5))
        rim = []
        for x, y, turn in arcs:
            angle = steps + np.pi * turn
            inward = (radius if x == left else -radius, radius if y == bottom else -radius)
            rim += [(x + inward[0] + radius * np.cos(a), y + inward[1] + radius * np.sin(a)) for a in angle]
        self._triangles([point for k in range(1, len(rim) - 1) for point in (rim[0], rim[k], rim[k + 1])], colour)

    def outline(self, left: float, bottom: float, right: float, top: float, colour: RGBA, width: float) -> None:
        self.box(left, bottom, right, bottom + width, colour)
        self.box(left, top - width, right, top, colour)
        self.box(left, bottom + width, left + width, top - width, colour)
        self.box(right - width, bottom + width, right, top - width, colour)

    def ramp(self, left: float, bottom: float, right: float, top: float, colours: np.ndarray) -> None:
        """Colours from left to right."""
        for (a, b), colour in zip(itertools.pairwise(np.linspace(left, right, len(colours) + 1)), colours):
            self._triangles(_corners(a, bottom, b, top), (*colour, 1.0))

    def draw(self) -> None:
        """Shapes first, in their order, then the texts."""
        shader = gpu.shader.from_builtin("FLAT_COLOR")
        if self._batch is None and self._vertices:
            vertices = np.pad(np.concatenate(self._vertices), ((0, 0), (0, 1)))
            self._batch = batch_for_shader(shader, "TRIS", {"pos": vertices, "color": np.concatenate(self._colours)})
        if self._batch is not None:
            self._batch.draw(shader)
        blf.size(FONT, self._size)
        for text, x, y, colour in self._texts:
            blf.color(FONT, *colour)
            blf.position(FONT, x, y, 0)
            blf.draw(FONT, text)

    def _triangles(self, points: Sequence[tuple[float, float]], colour: Sequence[float]) -> None:
        self._vertices.append(np.array(points, dtype=np.float32))
        self._colours.append(np.tile(np.array(colour, dtype=np.float32), (len(points), 1)))


def _corners(left: float, bottom: float, right: float, top: float) -> list[tuple[float, float]]:
    """A box as two triangles."""
    return [(left, bottom), (right, bottom), (right, top), (left, bottom), (right, top), (left, top)]


def draw() -> None:
    """Called by Blender after a viewport was drawn, in its pixels."""
    context = bpy.context
    if not sources.visible(context) or context.region_data is None:
        return
    view = sources.drawn(context)
    if view is None:
        return
    gpu.state.blend_set("ALPHA")
    try:
        look = Look.of(context.preferences)
        through = looking.looked_through(context, view)
        if through >= 0:
            frame_sheet(*_frame(context, look, view, through)).draw()
            return
        if _has_legend(context):
            content = _legend(view, sources.measure(context), sources.style(context).ramp)
            legend_sheet(look, content, looking.free_area(context)).draw()
        hovered = gizmos.hovered(context)
        if 0 <= hovered < len(view):
            name, rows = legend_text.region_lines(view, hovered, sources.measure(context))
            note_sheet(look, name, rows, _extent(context, view, hovered), looking.free_area(context)).draw()
    finally:
        gpu.state.blend_set("NONE")


def _has_legend(context: bpy.types.Context) -> bool:
    """Whether this viewport gets the legend: of the four of a quad view, only the one that can be turned."""
    space = context.space_data
    return not space.region_quadviews or context.region_data == space.region_3d


def _extent(context: bpy.types.Context, view: GridView, region: int) -> tuple[float, float, float]:
    """(left, right, middle from below) of a glyph on the screen, whole pixels."""
    hull, viewport = gizmos.batches.update(context, view).hulls[region], context.region
    pixels, _ = picking.project(hull, np.array(context.region_data.perspective_matrix), viewport.width, viewport.height)
    return round(pixels[:, 0].min()), round(pixels[:, 0].max()), round(pixels[:, 1].mean())


_legend = functools.lru_cache(maxsize=8)(legend_text.legend)


@functools.lru_cache(maxsize=_KEPT)
def legend_sheet(look: Look, content: Legend, free: Rectangle) -> Sheet:
    """In the lower right corner of what is free; empty where that is too small for it."""
    sheet, s = Sheet(look), look.scale
    line = 1.5 * look.size
    _, free_bottom, free_right, free_top = free
    right, bottom = free_right - MARGIN * s, free_bottom + MARGIN * s
    left, pad = right - WIDTH * s, PAD * s
    height = 4 * line + BAR * s + 2 * pad + 0.4 * line
    if left < 2 * MARGIN * s or bottom + height > free_top - 8 * line:
        return sheet
    sheet.panel(left, bottom, right, bottom + height, look.back)
    x0, x1 = left + pad, right - pad
    y = bottom + height - pad - look.size
    sheet.write(content.measure, x0, y, look.text)
    room = x1 - x0 - sheet.width_of(content.measure) - 12 * s
    sheet.write(sheet.fitting(content.title, room), x1, y, look.faint, align=1.0)
    bar_top = y - 0.6 * line
    sheet.ramp(x0, bar_top - BAR * s, x1, bar_top, content.colours)
    y = bar_top - BAR * s - look.size - 3 * s
    written_to = x0 - 8 * s
    for place, text in content.ticks:
        x = x0 + place * (x1 - x0)
        sheet.box(x - 0.5 * s, bar_top - (BAR + 3) * s, x + 0.5 * s, bar_top - BAR * s, look.faint)
        width = sheet.width_of(text)
        start = min(max(x - width / 2, x0), x1 - width)
        if start >= written_to + 8 * s:
            sheet.write(text, start, y, look.text)
            written_to = start + width
    y -= line
    sheet.write(content.ends[0], x0, y, look.faint)
    sheet.write(content.ends[1], x1, y, look.faint, align=1.0)
    y -= line
    few, many = content.note
    icon = 0.85 * look.size
    sheet.outline(x0, y, x0 + icon, y + icon, look.text, max(1.0, 0.12 * icon))
    sheet.write(few, x0 + icon + 5 * s, y, look.faint)
    x = x1 - sheet.width_of(many)
    sheet.write(many, x, y, look.faint)
    sheet.outline(x - icon - 5 * s, y, x - 5 * s, y + icon, look.text, 0.3 * icon)
    return sheet


@functools.lru_cache(maxsize=_KEPT)
def note_sheet(look: Look, name: str, rows: Rows, extent: tuple[float, float, float], free: Rectangle) -> Sheet:
    """The numbers of a region beside its glyph.

    Args:
        extent: left, right and middle of the glyph.
        free: the part of the viewport that nothing covers.
    """
    sheet, s, line, pad = Sheet(look), look.scale, 1.5 * look.size, PAD * look.scale
    labels = max((sheet.width_of(label) for label, _ in rows), default=0.0)
    values = max((sheet.width_of(value) for _, value in rows), default=0.0)
    width = max(sheet.width_of(name), labels + values + 18 * s) + 2 * pad
    height = (1 + len(rows)) * line + 2 * pad - 0.3 * line
    glyph_left, glyph_right, middle = extent
    free_left, free_bottom, free_right, free_top = free
    left = glyph_right + 10 * s
    if left + width > free_right:
        left = glyph_left - 10 * s - width
    left = min(max(left, free_left + 4 * s), free_right - width - 4 * s)
    bottom = min(max(middle - height / 2, free_bottom + 4 * s), free_top - height - 4 * s)
    sheet.panel(left, bottom, left + width, bottom + height, look.back)
    y = bottom + height - pad - look.size
    sheet.write(name, left + pad, y, look.text)
    for index, (label, value) in enumerate(rows):
        y -= line
        colour = look.text if index == 0 else look.faint
        sheet.write(label, left + pad, y, colour)
        sheet.write(value, left + width - pad, y, colour, align=1.0)
    return sheet


def _frame(
    context: bpy.types.Context, look: Look, view: GridView, region: int
) -> tuple[Look, str, Rectangle, tuple[int, int], float, RGBA, float]:
    """What `frame_sheet` takes, for a viewport that looks through a region."""
    size = (context.region.width, context.region.height)
    name, rows = legend_text.region_lines(view, region, sources.measure(context))
    caption = "   ".join([name, *(f"{label} {value}" for label, value in rows[:1])])
    _, free_bottom, _, _ = looking.free_area(context)
    width = max(1.0, preferences(context).gizmo_line_width * look.scale / 2)
    rectangle = picture_rectangle(view.fov, context.space_data.lens, size)
    return look, caption, rectangle, size, free_bottom, (*sources.style(context).highlight, 0.8), width


@functools.lru_cache(maxsize=_KEPT)
def frame_sheet(
    look: Look, caption: str, picture: Rectangle, size: tuple[int, int], free_bottom: float, colour: RGBA, width: float
) -> Sheet:
    """What the region's camera sees, in a viewport that looks through it: all around is dimmed.

    Args:
        caption: which region it is.
        picture: what it sees.
        size: of the viewport.
        free_bottom: above what covers the viewport's lower end.
        colour, width: of the picture's frame.
    """
    sheet = Sheet(look)
    left, bottom, right, top = picture
    shade = (0.0, 0.0, 0.0, 0.35)
    sheet.box(0, 0, left, size[1], shade)
    sheet.box(right, 0, size[0], size[1], shade)
    sheet.box(left, 0, right, bottom, shade)
    sheet.box(left, top, right, size[1], shade)
    sheet.outline(left, bottom, right, top, colour, width)
    pad = PAD * look.scale
    sheet.write(caption, max(left, 0) + pad, max(bottom, free_bottom) + pad, look.text)
    return sheet


def register() -> None:
    """Start drawing."""
    global _handler
    _handler = bpy.types.SpaceView3D.draw_handler_add(draw, (), "WINDOW", "POST_PIXEL")


def unregister() -> None:
    """Stop drawing."""
    global _handler
    if _handler is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handler, "WINDOW")
        _handler = None
    for kept in (_legend, legend_sheet, note_sheet, frame_sheet):
        kept.cache_clear()
