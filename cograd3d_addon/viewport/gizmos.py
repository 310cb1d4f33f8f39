"""The view regions in the 3D viewport: drawn in three batches, picked in numpy.

One gizmo stands for all regions. A gizmo a region costs a Python call and two draw calls each, at every redraw and every movement of the
mouse; 288 of them make a viewport sluggish. The batches are made anew only when what they show has changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import gpu
import numpy as np
from bpy_extras import view3d_utils
from gpu_extras.batch import batch_for_shader
from mathutils import Vector

from ..package import preferences
from . import looking, picking, sources
from .glyphs import Coloured, Glyphs, Style, build, hover_outline
from .grid_view import GridView
from .measures import Measure
from .shading import AreaShader

HOVER_WIDTH, SELECTED_WIDTH = 2.0, 1.8
"""Widths of lines, relative to the normal one."""

_KEPT = 4
"""Grids that stay on the GPU: windows that show different ones are drawn in turns."""

_CASTS = 16
"""Things that cannot be seen, or seen through, that a ray passes at most."""

_hovered: dict[int, int] = {}
"""Region below the mouse, by the address of the viewport's region (never followed, only compared)."""


@dataclass
class _Built:
    """A grid on the GPU.

    Attributes:
        glyphs: what it was made of.
        fill, thin, bold: triangles and lines.
        hover: the last outline below the mouse, and of which region.
    """

    glyphs: Glyphs
    fill: gpu.types.GPUBatch
    thin: gpu.types.GPUBatch | None
    bold: gpu.types.GPUBatch | None
    hover: tuple[gpu.types.GPUBatch | None, int] = (None, -1)


class GlyphBatches:
    """The shown grids on the GPU, shared by all viewports."""

    def __init__(self) -> None:
        self._built: dict[tuple[GridView, Measure, Style, int], _Built] = {}  # the one drawn last comes last
        self._areas = AreaShader()
        self.builds = 0

    @property
    def glyphs(self) -> Glyphs | None:
        """Those used last."""
        return next((built.glyphs for built in reversed(self._built.values())), None)

    def update(self, context: bpy.types.Context, view: GridView) -> Glyphs:
        """Make the batches of a grid anew if anything that they show has changed."""
        return self._update(context, view).glyphs

    def _update(self, context: bpy.types.Context, view: GridView) -> _Built:
        measure, style, chosen = sources.measure(context), sources.style(context), sources.selected(view)
        key = (view, measure, style, chosen.version)
        built = self._built.pop(key, None)
        if built is None:
            glyphs = build(view, measure, style, chosen.regions, chosen.active)
            built = _Built(glyphs, self._areas.batch(glyphs.fill), _lines(glyphs.thin), _lines(glyphs.bold))
            self.builds += 1
        self._built[key] = built
        while len(self._built) > _KEPT:
            del self._built[next(iter(self._built))]
        return built

    def draw(self, context: bpy.types.Context, view: GridView, hovered: int) -> None:
        """Draw a grid, and the outline of the hovered region."""
        built = self._update(context, view)
        lines = [(built.thin, 1.0), (built.bold, SELECTED_WIDTH)]
        if 0 <= hovered < len(built.glyphs.hulls):
            if built.hover[1] != hovered:
                built.hover = (_lines(hover_outline(built.glyphs, hovered, sources.style(context).highlight)), hovered)
            lines.append((built.hover[0], HOVER_WIDTH))
        width = preferences(context).gizmo_line_width * context.preferences.system.ui_scale / 2
        depth, blend = gpu.state.depth_test_get(), gpu.state.blend_get()
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.blend_set("ALPHA")
        try:
            self._areas.draw(built.fill, context, view.centre, view.asset_radius)
            shader = gpu.shader.from_builtin("POLYLINE_FLAT_COLOR")
            shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
            for batch, factor in lines:
                if batch is None:
                    continue
                # Outlines are seen through everything: so are selected views behind the asset, and frames do not gnaw at them.
                gpu.state.depth_test_set("LESS_EQUAL" if factor == 1.0 else "NONE")
                shader.uniform_float("lineWidth", factor * width)
                batch.draw(shader)
        finally:
            gpu.state.depth_test_set(depth)
            gpu.state.blend_set(blend)

    def clear(self) -> None:
        """Give back what lies on the GPU."""
        self.__init__()  # type: ignore[misc]


def _lines(part: Coloured) -> gpu.types.GPUBatch | None:
    if not len(part.vertices):  # Blender cannot make a batch of nothing
        return None
    shader = gpu.shader.from_builtin("POLYLINE_FLAT_COLOR")
    return batch_for_shader(shader, "LINES", {"pos": part.vertices, "color": part.colours})


batches = GlyphBatches()


def hovered(context: bpy.types.Context) -> int:
    """The region below the mouse in this viewport, -1 for none."""
    return _hovered.get(context.region.as_pointer(), -1) if context.region is not None else -1


class COGRAD3D_GT_regions(bpy.types.Gizmo):
    """All regions of the shown grid."""

    bl_idname = "COGRAD3D_GT_regions"
    bl_target_properties = ()

    __slots__ = ("below_mouse",)

    def setup(self) -> None:
        self.below_mouse = -1

    def draw(self, context: bpy.types.Context) -> None:
        view = _pickable(context)
        if view is None:
            _hovered.pop(context.region.as_pointer(), None)
            return
        region = self.below_mouse if self.is_highlight else -1
        _hovered[context.region.as_pointer()] = region
        batches.draw(context, view, region)

    def test_select(self, context: bpy.types.Context, location: tuple[int, int]) -> int:
        view = _pickable(context)
        region = -1
        if view is not None:
            glyphs = batches.update(context, view)
            viewport, view3d = context.region, context.region_data
            perspective = np.array(view3d.perspective_matrix)
            eye = np.array(view3d.view_matrix.inverted().translation) if view3d.is_perspective else None
            mouse, scale = (location[0], location[1]), context.preferences.system.ui_scale
            region = picking.pick(glyphs.hulls, perspective, viewport.width, viewport.height, mouse, eye, scale)
            if region >= 0 and _is_hidden(context, location, glyphs.hulls[region]):
                region = -1
        if region != self.below_mouse:
            self.below_mouse = region
            context.area.tag_redraw()
        return region

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        view = _pickable(context)
        if view is not None and 0 <= self.below_mouse < len(view):  # the grid may be another than when the mouse moved last
            bpy.ops.cograd3d.region_select(region=self.below_mouse, extend=event.shift)
        return {"FINISHED"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event, tweak: set[str]) -> set[str]:
        return {"FINISHED"}


class COGRAD3D_GGT_regions(bpy.types.GizmoGroup):
    """The little cameras around the asset."""

    bl_idname = "COGRAD3D_GGT_regions"
    bl_label = "CoGrad3D Views"
    bl_space_type = "VIEW_3D"
    bl_region_type = "WINDOW"
    bl_options = {"3D", "PERSISTENT", "SHOW_MODAL_ALL", "DEPTH_3D"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return sources.visible(context) and sources.drawn(context) is not None

    @classmethod
    def setup_keymap(cls, keyconfig: bpy.types.KeyConfig) -> bpy.types.KeyMap:
        keymap = keyconfig.keymaps.new(name=cls.bl_label, space_type=cls.bl_space_type, region_type=cls.bl_region_type)
        if not keymap.keymap_items:
            keymap.keymap_items.new("cograd3d.region_look_through", "LEFTMOUSE", "DOUBLE_CLICK")
            keymap.keymap_items.new("gizmogroup.gizmo_tweak", "LEFTMOUSE", "PRESS", any=True)
            keymap.keymap_items.new("cograd3d.region_menu", "RIGHTMOUSE", "PRESS")
        return keymap

    def setup(self, context: bpy.types.Context) -> None:
        gizmo = self.gizmos.new(COGRAD3D_GT_regions.bl_idname)
        gizmo.use_draw_scale = False
        gizmo.use_draw_modal = True


def _pickable(context: bpy.types.Context) -> GridView | None:
    """The grid as this viewport shows it: one that looks through a region shows what that region sees and nothing else."""
    view = sources.drawn(context)
    if view is None or context.region_data is None or looking.looked_through(context, view) >= 0:
        return None
    return view


def _is_hidden(context: bpy.types.Context, location: tuple[int, int], hull: np.ndarray) -> bool:
    """Whether something in the scene is in front of the glyph below the mouse. What cannot be seen is not to steal clicks."""
    shading = context.space_data.shading
    if shading.type == "WIREFRAME" or (shading.type == "SOLID" and shading.show_xray):
        return False
    viewport, view = context.region, context.region_data
    origin = view3d_utils.region_2d_to_origin_3d(viewport, view, location)
    direction = view3d_utils.region_2d_to_vector_3d(viewport, view, location)
    distance = min((hull - np.array(origin)) @ np.array(direction))
    if distance <= 0:
        return False
    return _is_seen(context, origin, direction, distance)


def _is_seen(context: bpy.types.Context, origin: Vector, direction: Vector, distance: float) -> bool:
    """Whether a ray hits something that this viewport draws as a solid. Blender's own cast knows of no local view and no wires."""
    for _ in range(_CASTS):
        is_hit, place, _, _, thing, _ = context.scene.ray_cast(context.view_layer.depsgraph, origin, direction, distance=distance)
        if not is_hit:
            return False
        if thing.display_type in ("SOLID", "TEXTURED") and _is_visible(context, thing):
            return True
        passed = (place - origin).length * (1 + 1e-5) + 1e-6
        origin, distance = origin + passed * direction, distance - passed
        if distance <= 0:
            return False
    return False


def _is_visible(context: bpy.types.Context, thing: bpy.types.Object) -> bool:
    """Whether this viewport shows an object. One that is in no collection of the scene is seen as an instance."""
    layer = context.view_layer
    return thing.visible_get(view_layer=layer, viewport=context.space_data) or layer.objects.get(thing.name) != thing


CLASSES = (COGRAD3D_GT_regions, COGRAD3D_GGT_regions)


def register() -> None:
    """Called after the operators that the gizmos use."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Undo `register`."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    batches.clear()
    _hovered.clear()
