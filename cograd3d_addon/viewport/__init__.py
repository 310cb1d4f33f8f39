"""The grid of view regions in the 3D viewport.

Pure (no bpy): `grid_view` (what is shown), `measures`, `colours`, `frustums` and `glyphs` (how it looks), `picking`, `selection`, `focus`,
`look` (a viewport that looks through a region), `legend_text`, `region_names`. With bpy: `sources` (which grid is shown), `gizmos` (drawn
and clicked), `legend` (text over the viewport), `looking`.
"""

from __future__ import annotations

from ..registration import parts

register, _unregister = parts(__package__, ("sources", "looking", "gizmos", "legend"))


def unregister() -> None:
    """Undo `register`, and forget what was selected."""
    _unregister()
    from . import selection

    selection.forget_all()
