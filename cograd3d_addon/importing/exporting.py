"""Blender's own exporters, with the options that keep what an imported object has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from ...backend.errors import InputError, OutputError
from .datablocks import images_of, packed_beside, restore_texture_file, textures_folder, write_packed
from .painted import textured_as_painted


@dataclass(frozen=True)
class Exporter:
    """One file format.

    Attributes:
        format: its identifier.
        label: its name.
        suffix: of its files.
        operator: Blender's exporter, "module.name".
        options: of that operator; those that this Blender's does not have are left out.
        explanation: what becomes of the asset, in a sentence.
        keeps_texture: whether the file holds the texture or comes with it.
        leaves_packed_textures: whether it names a packed texture as if it lay beside, and does not put it there.
    """

    format: str
    label: str
    suffix: str
    operator: str
    explanation: str
    options: Mapping[str, Any] = field(default_factory=dict)
    keeps_texture: bool = True
    leaves_packed_textures: bool = False

    def find(self) -> Any:
        """Blender's operator; None if it is switched off or not there."""
        module, _, name = self.operator.partition(".")
        operator = getattr(getattr(bpy.ops, module), name)
        try:
            operator.get_rna_type()
        except KeyError:
            return None
        return operator

    def usable_options(self) -> dict[str, Any]:
        """Those of the options that this Blender's exporter knows, with values that it knows."""
        known = self.find().get_rna_type().properties
        return {name: value for name, value in self.options.items() if name in known and _is_choice(known[name], value)}


def _is_choice(described: bpy.types.Property, value: Any) -> bool:
    """Whether an operator's property takes a value: an enumeration's choices have changed between versions of Blender."""
    choices = {item.identifier for item in described.enum_items} if described.type == "ENUM" else ()
    return not choices or value in choices  # made as they are needed, they are not told


EXPORTERS: dict[str, Exporter] = {
    exporter.format: exporter
    for exporter in (
        Exporter(
            "GLB", "glTF (.glb)", ".glb", "export_scene.gltf", "One file with mesh and texture, for the web and game engines",
            {"use_selection": True, "export_format": "GLB", "export_apply": True},
        ),
        Exporter(
            "FBX", "FBX (.fbx)", ".fbx", "export_scene.fbx", "One file with mesh and texture, for game engines and other 3D programs",
            {"use_selection": True, "path_mode": "COPY", "embed_textures": True, "mesh_smooth_type": "FACE"},
        ),
        Exporter(
            "USD", "USD (.usdc)", ".usdc", "wm.usd_export", "Mesh and material, with the texture in a folder beside it",
            {
                "selected_objects_only": True, "export_materials": True, "generate_preview_surface": True,
                "export_textures": True, "export_textures_mode": "NEW", "overwrite_textures": True, "relative_paths": True,
                "convert_world_material": False, "export_custom_properties": False, "evaluation_mode": "VIEWPORT",
            },
        ),
        Exporter(
            "OBJ", "Wavefront (.obj)", ".obj", "wm.obj_export", "Mesh, with material and texture in files beside it",
            {"export_selected_objects": True, "path_mode": "COPY", "export_materials": True}, leaves_packed_textures=True,
        ),
        Exporter(
            "ABC", "Alembic (.abc)", ".abc", "wm.alembic_export", "Mesh and UV map, without the texture",
            {"selected": True, "uvs": True, "start": 1, "end": 1, "evaluation_mode": "VIEWPORT"}, False,
        ),
        Exporter(
            "PLY", "PLY (.ply)", ".ply", "wm.ply_export", "Mesh and UV map, without the texture",
            {"export_selected_objects": True, "export_uv": True, "export_normals": True}, False,
        ),
        Exporter(
            "STL", "STL (.stl)", ".stl", "wm.stl_export", "Mesh alone, for 3D printing",
            {"export_selected_objects": True, "evaluation_mode": "DAG_EVAL_VIEWPORT"}, False,
        ),
    )
}  # fmt: skip
"""By format; those that keep the texture first."""


def export(thing: bpy.types.Object, exporter: Exporter, path: Path) -> None:
    """Write an object, and nothing else, into a file. The selection is as before afterwards.

    Args:
        thing: in the view layer that is shown, visible.
        exporter: of `EXPORTERS`.
        path: the file, with its suffix.

    Raises:
        CoGradError: it is hidden, its texture cannot be written, or Blender's exporter is switched off or failed.
    """
    operator = exporter.find()
    if operator is None:
        raise InputError(f"Blender's exporter for {exporter.label} is switched off.", remedy="Enable it in Preferences > Add-ons.")
    if not path.parent.is_dir():
        raise OutputError(f"There is no folder {path.parent}.", remedy="Choose another one.")
    materials = [slot.material for slot in thing.material_slots] if exporter.keeps_texture else []
    with _only_selected(thing), textured_as_painted(materials), ExitStack() as stack:
        images = images_of(materials)
        for image in images:
            restore_texture_file(image, textures_folder())
        if exporter.leaves_packed_textures:
            stack.enter_context(packed_beside(images, path.parent))
        try:
            operator("EXEC_DEFAULT", filepath=str(path), **exporter.usable_options())
        except RuntimeError as error:  # how Blender hands on what an operator reported, and any exception in one
            reason = str(error).strip().splitlines()[-1].removeprefix("Error: ")
            raise OutputError(f"{path} could not be written: {reason}", remedy="Choose another folder, or another format.") from error
        if not path.is_file():  # not every exporter says so
            raise OutputError(f"{path} could not be written.", remedy="Choose another name or folder.")
        if exporter.leaves_packed_textures:
            for image in images:
                write_packed(image)


@contextmanager
def _only_selected(thing: bpy.types.Object) -> Iterator[None]:
    """What most exporters understand as "this object alone"."""
    layer = bpy.context.view_layer
    if not thing.visible_get(view_layer=layer):
        raise InputError(f"{thing.name} is hidden.", remedy="Show it first: hidden objects are not exported.")
    active, selected, hidden = layer.objects.active, layer.objects.selected[:], (thing.hide_select, thing.hide_render)
    collections = bpy.context.scene.collection.children_recursive
    locked = [collection for collection in collections if collection.hide_select and thing.name in collection.all_objects]
    for other in selected:
        other.select_set(False)
    if any(hidden) or locked:
        thing.hide_select = thing.hide_render = False  # some exporters leave out what renders do
        for collection in locked:
            collection.hide_select = False
        layer.update()  # else it cannot be selected yet
    thing.select_set(True)
    layer.objects.active = thing
    try:
        yield
    finally:
        thing.select_set(False)
        thing.hide_select, thing.hide_render = hidden
        for collection in locked:
            collection.hide_select = True
        for other in selected:
            other.select_set(True)
        layer.objects.active = active
