"""Everything that is drawn of a grid in the scene, as coloured vertices. No bpy.

The colour of a glyph shows the measure, the thickness of its frame the visits, the sign in its middle the weight. The region that is being
worked on has a pane and a second outline, selected ones are outlined in the theme's highlight colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from . import frustums
from .colours import Ramp, scale_of, with_alpha
from .frustums import Mesh
from .grid_view import GridView
from .measures import Measure

RGB = tuple[float, float, float]

FILL_ALPHA, LINE_ALPHA, FROZEN_ALPHA, PANE_ALPHA = 0.95, 0.6, 0.5, 0.3

HALO, OUTLINE = 1.32, 1.1
"""Sizes of the outlines around the region that is being worked on, and around those that are selected or below the mouse."""


@dataclass(frozen=True)
class Coloured:
    """[V, 3] and [V, 4] float32: places in the scene and display colours of the vertices of triangles or lines."""

    vertices: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True)
class Filled(Coloured):
    """Triangles, and [V, 4] float32: the middle of the frame that each belongs to, and half its height."""

    anchors: np.ndarray


@dataclass(frozen=True)
class Glyphs:
    """A grid as it is drawn: triangles, thin lines, bold lines; and what can be clicked."""

    fill: Filled
    thin: Coloured
    bold: Coloured
    hulls: np.ndarray


@dataclass(frozen=True)
class Style:
    """What the user's preferences and theme say about the glyphs.

    Attributes:
        ramp: colours of the measure.
        size: factor on the glyphs' size.
        highlight: display RGB of outlines around what is selected.
    """

    ramp: Ramp
    size: float = 1.0
    highlight: RGB = (1.0, 1.0, 1.0)


def region_colours(view: GridView, measure: Measure, ramp: Ramp) -> np.ndarray:
    """[N, 3] display colours of a measure."""
    values = view.values(measure)
    return ramp.sample(scale_of(values, measure).share(values))


def build(view: GridView, measure: Measure, style: Style, selected: Iterable[int], active: int) -> Glyphs:
    """The glyphs of all regions. `selected` regions are outlined, the `active` one has a pane too."""
    count, cameras = len(view), view.cameras
    half, length = view.glyph_sizes(style.size)
    rgb = region_colours(view, measure, style.ramp)
    awake = np.where(view.weights > 0, 1.0, FROZEN_ALPHA)
    chosen = np.array(sorted(region for region in selected if 0 <= region < count), dtype=np.int64)
    current = np.array([view.current] if view.current >= 0 else [], dtype=np.int64)
    paned = np.array(sorted({region for region in (view.current, active) if 0 <= region < count}), dtype=np.int64)
    highlight = np.broadcast_to(style.highlight, (count, 3))

    thickness = frustums.frame_thickness(view.visits)
    frames = frustums.frames(cameras, half, length, thickness)
    signs = frustums.signs(cameras, half, length, view.weights)
    panes = _of(paned, frustums.panes(cameras[paned], half[paned], length[paned], thickness[paned]))
    edges = frustums.edges(cameras, half, length)
    halo = _of(current, frustums.outlines(cameras[current], half[current], length[current], HALO))
    outline = _of(chosen, frustums.outlines(cameras[chosen], half[chosen], length[chosen], OUTLINE))
    areas = (panes, rgb, np.full(count, PANE_ALPHA)), (frames, rgb, FILL_ALPHA * awake), (signs, highlight, np.ones(count))
    anchors = np.concatenate([frustums.middles(cameras, length), half[:, None]], axis=1).astype(np.float32)
    fill = _joined(*areas)
    return Glyphs(
        fill=Filled(fill.vertices, fill.colours, np.concatenate([anchors[mesh.regions] for mesh, _, _ in areas])),
        thin=_joined((edges, rgb, LINE_ALPHA * awake)),
        bold=_joined((halo, rgb, np.ones(count)), (outline, highlight, np.ones(count))),
        hulls=frustums.hulls(cameras, half, length),
    )


def hover_outline(glyphs: Glyphs, region: int, highlight: RGB) -> Coloured:
    """Lines around the glyph below the mouse."""
    rim = glyphs.hulls[region, 1:]
    rim = rim.mean(axis=0) + OUTLINE * (rim - rim.mean(axis=0))
    lines = np.stack([rim, np.roll(rim, -1, axis=0)], axis=1).reshape(8, 3)
    return Coloured(lines.astype(np.float32), np.tile(np.array((*highlight, 1.0), dtype=np.float32), (8, 1)))


def _of(chosen: np.ndarray, mesh: Mesh) -> Mesh:
    """A mesh made of some regions only, with their own numbers again."""
    return Mesh(mesh.vertices, chosen[mesh.regions])


def _joined(*parts: tuple[Mesh, np.ndarray, np.ndarray]) -> Coloured:
    """Meshes with the [N, 3] colours and the [N] alphas of all regions, one after the other."""
    colours = [with_alpha(rgb[mesh.regions], alpha[mesh.regions]) for mesh, rgb, alpha in parts]
    return Coloured(np.concatenate([mesh.vertices for mesh, _, _ in parts]), np.concatenate(colours).astype(np.float32))
