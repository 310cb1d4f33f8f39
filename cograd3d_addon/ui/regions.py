"""The panel of the view regions: what the colours mean, which views need work, and the selected one in numbers and pictures."""

import contextlib
import time

import bpy
import bpy.utils.previews
import numpy as np

from ..viewport import legend_text, looking, sources
from ..viewport.grid_view import GridView
from ..viewport.region_names import capitalised
from . import plot

ROWS = 10
"""Views in the list."""

SIDE_BY_SIDE, MOST_UNITS = 14.0, 9.0
"""Room (in buttons' heights) from which picture and plot stand side by side, and how large each may become."""

UNIT = 20.0
"""Pixels of a button's height at an interface scale of 1."""


class _Pictures:
    """Pictures for the panel; made anew only when what they show has changed."""

    def __init__(self):
        self._opened = None
        self._keys = {}

    def open(self):
        self._opened = bpy.utils.previews.new()

    def close(self):
        if self._opened is not None:
            bpy.utils.previews.remove(self._opened)
            self._opened = None
        self._keys.clear()

    @property
    def _previews(self):
        assert self._opened is not None, "pictures are made only while the panels are registered"
        return self._opened

    def _entry(self, name):
        return self._previews[name] if name in self._previews else self._previews.new(name)

    def drawn(self, name, key, size, make):
        """The icon of a picture that `make` returns as [size, size, 4] display RGBA, as long as `key` stays the same."""
        if self._keys.get(name) != key:
            self._keys[name] = key
            pixels, entry = np.array(make(), dtype=np.float32), self._entry(name)
            pixels[..., :3] *= pixels[..., 3:]  # Blender's previews are premultiplied
            pixels = pixels.ravel()
            # Blender shows the one in buttons and the other where it is large.
            entry.icon_size = entry.image_size = (size, size)
            entry.icon_pixels_float.foreach_set(pixels)
            entry.image_pixels_float.foreach_set(pixels)
        return self._previews[name].icon_id

    def file(self, name, path):
        """The icon of a picture on disk, read again when it has changed; 0 if it has just gone."""
        with contextlib.suppress(OSError):
            key = (str(path), path.stat().st_mtime_ns)
            if self._keys.get(name) != key:
                self._keys[name] = key
                if name in self._previews:
                    del self._previews[name]
                self._previews.load(name, str(path), "IMAGE", force_reload=True)
            return self._previews[name].icon_id
        return 0


_pictures = _Pictures()
_pace = plot.Pace()


def _swatch(view: GridView, region: int, context: bpy.types.Context) -> int:
    """A dot in the colour of a region."""
    colour = tuple(round(float(x), 3) for x in sources.colours(context, view)[region])

    def make():
        y, x = np.mgrid[0:32, 0:32] + 0.5
        inside = np.clip(10.5 - np.hypot(x - 16, y - 16), 0, 1)
        return np.dstack([np.broadcast_to(colour, (32, 32, 3)), inside])

    return _pictures.drawn("dot-" + "-".join(f"{x:.3f}" for x in colour), colour, 32, make)


def _history_icon(view: GridView, region: int, context: bpy.types.Context, size: int) -> int:
    """The plot of a region's history, 0 where there is none."""
    history, measure = view.history, sources.measure(context)
    if history is None or len(history.series(measure.id, region)[0]) < 2:
        return 0
    scale = context.preferences.system.ui_scale
    text = tuple(context.preferences.themes[0].user_interface.wcol_box.text)
    colour = tuple(sources.style(context).ramp.table[-64].tolist())
    subject, latest = (view.source, measure.id, region, size, text, colour), (view.regions.iteration, len(history))
    moment = _pace.moment_of(subject, latest, time.monotonic()) if view.live else latest

    def make():
        return plot.plot(measure.curve(history, region), measure.mean_curve(history), size, plot.Look(text, colour, text, scale))

    return _pictures.drawn("history", (subject, moment), size, make)


class COGRAD3D_PT_views(bpy.types.Panel):
    """Which views of the asset need work"""

    bl_idname = "COGRAD3D_PT_views"
    bl_label = "Views"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "CoGrad3D"
    bl_order = 3

    @classmethod
    def poll(cls, context):
        return sources.shown(context) is not None or looking.can_return(context)

    def draw_header(self, context):
        self.layout.prop(context.window_manager.cograd3d, "show_regions", text="")

    def draw(self, context):
        layout, view = self.layout, sources.shown(context)
        if looking.can_return(context) and not COGRAD3D_PT_selected_view.poll(context):  # which has the button otherwise
            layout.operator("cograd3d.region_look_back", text="Back", icon="LOOP_BACK")
        if view is None:
            return
        measure, chosen = sources.measure(context), sources.selected(view)
        row = layout.row(align=True)
        row.prop(context.window_manager.cograd3d, "measure", text="")
        row.operator("cograd3d.region_focus", text="", icon="ZOOM_ALL")
        if not view.stands:
            layout.label(text="Not in this scene", icon="INFO")
        elif context.mode != "OBJECT":
            layout.label(text="Shown in object mode", icon="INFO")
        values = view.values(measure)
        column = layout.box().column(align=True)
        for region in view.worst_first(measure)[:ROWS].tolist():
            row = column.row(align=True)
            split = row.split(factor=0.8, align=True)
            left = split.row(align=True)
            left.alignment = "LEFT"
            name = capitalised(view.names[region]) + _marks(view, region)
            left.operator(
                "cograd3d.region_select", text=name, emboss=region in chosen.regions, depress=region in chosen.regions,
                icon_value=_swatch(view, region, context),
            ).region = region  # fmt: skip
            right = split.row()
            right.alignment = "RIGHT"
            right.label(text=measure.format(float(values[region])))
        row = layout.row(align=True)
        row.operator("cograd3d.region_step", text="Worst", icon="TRIA_UP_BAR").to = "WORST"
        row.operator("cograd3d.region_step", text="", icon="TRIA_UP").to = "PREVIOUS"
        row.operator("cograd3d.region_step", text="", icon="TRIA_DOWN").to = "NEXT"
        row = layout.row(align=True)
        for action, label in (("LAGGING", "Lagging"), ("ALL", "All"), ("NONE", "None")):
            row.operator("cograd3d.region_select_all", text=label).action = action


def _marks(view: GridView, region: int) -> str:
    weight = float(view.weights[region])
    return " ✕" if weight == 0 else " +" if weight > 1 else " −" if weight < 1 else ""


class COGRAD3D_PT_selected_view(bpy.types.Panel):
    """The selected view: picture, history, numbers, and what can be done with it"""

    bl_idname = "COGRAD3D_PT_selected_view"
    bl_label = "Selected View"
    bl_parent_id = "COGRAD3D_PT_views"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "CoGrad3D"

    @classmethod
    def poll(cls, context):
        view = sources.shown(context)
        return view is not None and sources.selected(view).active >= 0

    def draw(self, context):
        layout, view = self.layout, sources.require(context)
        chosen = sources.selected(view)
        region, measure = chosen.active, sources.measure(context)
        name, rows = legend_text.region_lines(view, region, measure)
        layout.label(text=name if len(chosen.regions) == 1 else f"{name}, and {len(chosen.regions) - 1} more")
        self._draw_pictures(context, view, region)
        column = layout.column(align=True)
        for label, value in rows:
            row = column.row()
            row.label(text=label)
            right = row.row()
            right.alignment = "RIGHT"
            right.label(text=value)
        row = layout.row(align=True)
        if looking.can_return(context):
            row.operator("cograd3d.region_look_back", text="Back", icon="LOOP_BACK")
        row.operator("cograd3d.region_look_through", text="Look Through", icon="HIDE_OFF")
        row.operator("cograd3d.region_camera", text="", icon="OUTLINER_OB_CAMERA")
        if view.live:
            row = layout.row(align=True)
            for action, label, icon in (("BOOST", "Boost", "ADD"), ("CALM", "Calm", "REMOVE"), ("FREEZE", "Freeze", "FREEZE")):
                row.operator("cograd3d.region_weight", text=label, icon=icon).action = action
            row.operator("cograd3d.region_weight", text="", icon="LOOP_BACK").action = "RESET"
        else:
            text = "Refine This View" if len(chosen.regions) == 1 else f"Refine {len(chosen.regions)} Views"
            layout.operator("cograd3d.region_refine", text=text, icon="MOD_SMOOTH")

    def _draw_pictures(self, context, view, region):
        """The region's picture and its history, side by side where there is room."""
        layout, scale = self.layout, context.preferences.system.ui_scale
        room = context.region.width / (UNIT * scale) - 3.0
        path = view.picture(region)
        picture = _pictures.file("picture", path) if path is not None else 0
        side_by_side = bool(picture) and room >= SIDE_BY_SIDE
        units = min(max(room / 2 if side_by_side else room, 3.0), MOST_UNITS)
        history = _history_icon(view, region, context, round(units * UNIT * scale))
        holder = layout.row(align=True) if side_by_side else layout.column(align=True)
        for icon in filter(None, (picture, history)):
            holder.template_icon(icon_value=icon, scale=units)
        if history:
            caption = layout.row()
            caption.active = False
            caption.label(text=f"{sources.measure(context).label} over the steps; faint: the average")


CLASSES = (COGRAD3D_PT_views, COGRAD3D_PT_selected_view)


def register():
    """Add the panels."""
    _pictures.open()
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister():
    """Undo `register`."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    _pictures.close()
