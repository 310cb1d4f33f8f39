"""Finished jobs as objects in a scene: import, import onto the same object, find again."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import textwrap
from collections.abc import Iterator

import bpy
import numpy as np
from mathutils import Matrix

from ...backend.errors import InputError, OutputError
from ...backend.job import JobFolder
from ..placement import Home, Placement, bounds_of, local_matrix, object_matrix, transformed
from . import anchors, metadata
from .datablocks import (
    images_of,
    make_image,
    make_material,
    make_mesh,
    material_with,
    most_used_material,
    remove_unused,
    restore_texture_file,
    textures_folder,
)
from .glb import Asset, read_asset
from .placing import current_placement, is_home_document
from .scene_collections import RESULTS, collection_of

_MADE_BY = "cograd3d_part"
"""Marks datablocks that an import made, so that only those are ever removed by the next one."""

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"\.\d{3,}$")
"""What Blender puts behind a name that is there already."""

_NAME_LENGTH = 48
_MAX_NAME_BYTES = 58  # Blender's names have 63 bytes, and `.001` may follow


_imports = 0


def import_count() -> int:
    """How many results came into the scene, as new objects or in place of others, since the add-on was enabled; for caches."""
    return _imports


def import_result(folder: JobFolder, scene: bpy.types.Scene, placement: Placement | None = None) -> bpy.types.Object:
    """A finished job's asset as a new object in the scene's collection of results. Selection, mode and active object stay as they are.

    Args:
        folder: the job's.
        scene: to put it into.
        placement: None: as was ordered from this scene, or as the scene's settings say if the job was ordered elsewhere.

    Raises:
        CoGradError: there is no usable result, or its texture cannot be written; the scene is as before.
    """
    global _imports
    if scene.library is not None:
        raise InputError(f"The scene {scene.name} is linked from another file.", remedy="Open that file, or choose a scene of this one.")
    asset = read_asset(folder.asset_path)
    where = placement or current_placement(scene, folder.path)
    with _all_or_nothing():
        mesh, data = _make_parts(folder, asset, local_matrix(where, bounds_of(asset.vertices)))
        thing = bpy.data.objects.new(object_name(folder.spec.prompt), mesh)
        thing[metadata.KEY] = data
        thing.matrix_world = Matrix(object_matrix(where))
        collection_of(scene, RESULTS).objects.link(thing)
    _imports += 1
    return thing


def import_onto(folder: JobFolder, thing: bpy.types.Object) -> None:
    """A finished job's asset in place of the one that an imported object shows. Transforms, modifiers, parents and collections stay, and so
    do what was changed in its materials and names that the user gave; mesh and texture are replaced, also in linked duplicates. Vertex
    groups go with their vertices.

    Args:
        folder: the job's.
        thing: an object made by `import_result`.

    Raises:
        CoGradError: there is no usable result, its texture cannot be written, or the object cannot be changed; the scene is as before.
    """
    global _imports
    check_replaceable(thing)
    asset = read_asset(folder.asset_path)
    old, before, made_before = thing.data, thing[metadata.KEY], _own_parts(thing.data)
    name = object_name(folder.spec.prompt)
    given = {name, object_name(str(before.get("prompt", "")))}
    chosen = {type(part): part.name for part in reversed(made_before) if _NUMBER.sub("", part.name) not in given}
    with _all_or_nothing():
        mesh, data = _make_parts(folder, asset, local_frame(thing), old)
    data["replaced"] = json.dumps([str(before.get("job", "")), *metadata.replaced_jobs(before)])
    old.user_remap(mesh)
    for other in [other for other in results() if other.data == mesh]:
        other[metadata.KEY] = data | {"uuid": str(other[metadata.KEY].get("uuid", data["uuid"]))}
    remove_unused(made_before)
    for part in _own_parts(mesh):
        if not isinstance(part, bpy.types.Material):
            part.name = chosen.get(type(part), name)
        elif _NUMBER.sub("", part.name) in given:
            part.name = name  # free again
    _imports += 1


def local_frame(thing: bpy.types.Object) -> np.ndarray:
    """[4, 4] the backend's world to an imported object's own frame as it is now: as imported, and then as *Apply* and *Set Origin* moved
    the mesh inside the object.
    """
    data = thing[metadata.KEY]
    local, remembered = metadata.local_matrix(data), metadata.anchors_of(data)
    if remembered is None or remembered[0] != len(thing.data.vertices):
        return local  # edited: nothing better is known
    _, indices, then = remembered
    now = np.array([thing.data.vertices[index].co for index in indices], dtype=np.float64)
    return anchors.moved(then, now) @ local


def world_frame(thing: bpy.types.Object) -> np.ndarray:
    """[4, 4] the backend's world to the scene, for an imported object as it stands."""
    return np.array(thing.matrix_world, dtype=np.float64) @ local_frame(thing)


def check_replaceable(thing: bpy.types.Object) -> None:
    """Raises `InputError` if an object cannot take another result."""
    if not is_result(thing):
        raise InputError("This object was not made by CoGrad3D.", remedy="Select one that was.")
    if is_linked(thing):
        raise InputError(f"{thing.name} is linked from another file.", remedy="Open that file, or make the object local.")
    if thing.mode != "OBJECT":
        raise InputError(f"{thing.name} is being edited.", remedy="Go back to Object Mode.")


def is_linked(thing: bpy.types.Object) -> bool:
    """Whether an object belongs to another file, an override of one included."""
    return thing.library is not None or thing.data.library is not None or thing.override_library is not None


def is_result(thing: bpy.types.Object | None) -> bool:
    """Whether an object was imported from a job."""
    if thing is None or thing.type != "MESH":
        return False
    data = thing.get(metadata.KEY)
    return hasattr(data, "get") and len(data.get("matrix") or ()) == 16  # else somebody else uses the name for something else


def results() -> Iterator[bpy.types.Object]:
    """All imported objects of the open file."""
    return (thing for thing in bpy.data.objects if is_result(thing))


def object_of_job(job_id: str, scene: bpy.types.Scene | None = None) -> bpy.types.Object | None:
    """The object that shows a job's result, else one that showed it before something better took its place; where there are several, as
    after duplicating it, the active one.

    Args:
        job_id: name of the job's folder.
        scene: only look there.
    """
    here = [thing for thing in results() if scene is None or scene in thing.users_scene]
    found = [thing for thing in here if shows(thing, job_id)] or [thing for thing in here if showed(thing, job_id)]
    active = bpy.context.view_layer.objects.active if bpy.context.view_layer else None
    return active if active in found else next(iter(found), None)


def object_to_improve(job_id: str, scene: bpy.types.Scene, home: Home | None) -> bpy.types.Object | None:
    """The object whose place the result of a refinement takes; None if that is gone, or nobody can tell which it is: another one, which
    shows the same, is not to be lost.

    Args:
        job_id: the job that is refined.
        scene: only look there.
        home: what is noted of the refinement's order.
    """
    if home is None or not home.improves:
        return object_of_job(job_id, scene)
    found = [thing for thing in results() if scene in thing.users_scene and (shows(thing, job_id) or showed(thing, job_id))]
    if home.improves_uid and is_home_document(home):
        return next((thing for thing in found if thing.session_uid == home.improves_uid), None)
    named = next((thing for thing in found if thing.name == home.improves), None)
    return found[0] if named is None and len(found) == 1 else named


def shows(thing: bpy.types.Object, job_id: str) -> bool:
    """Whether an imported object shows a job's result."""
    return thing[metadata.KEY].get("job") == job_id


def showed(thing: bpy.types.Object, job_id: str) -> bool:
    """Whether an imported object showed a job's result before something better took its place."""
    return job_id in metadata.replaced_jobs(thing[metadata.KEY])


def restore_textures(job_id: str) -> None:
    """Give the textures of a job's objects a file again after its folder is gone: without one, exporters leave them out. Their pixels are
    packed into the .blend file, so that nothing is lost where none can be written.
    """
    for thing in results():
        if thing[metadata.KEY].get("job") == job_id and not is_linked(thing):
            for image in images_of(thing.data.materials):
                try:
                    restore_texture_file(image, textures_folder())
                except OutputError as error:
                    _log.warning("%s", error)


def object_name(prompt: str) -> str:
    """A prompt as an object's name: in one line, not longer than Blender allows."""
    name = textwrap.shorten(prompt, _NAME_LENGTH, placeholder="") or prompt.strip()[:_NAME_LENGTH] or "CoGrad3D"
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")


def _make_parts(
    folder: JobFolder, asset: Asset, local: np.ndarray, before: bpy.types.Mesh | None = None
) -> tuple[bpy.types.Mesh, metadata.Metadata]:
    """A new mesh with material and image, and the metadata, which Blender is known to take.

    Args:
        folder: the job's.
        asset: its result.
        local: [4, 4] the backend's world to the object's own frame.
        before: mesh whose place it takes; its materials are kept.
    """
    name = object_name(folder.spec.prompt)
    vertices = transformed(local, asset.vertices)
    data = metadata.describe(folder, local, vertices, blender=bpy.app.version_string)
    image = make_image(name, asset.texture, folder.path)
    mesh = make_mesh(name, asset, vertices, flipped=bool(np.linalg.det(local[:3, :3]) < 0))
    mesh[metadata.KEY] = data  # what Blender does not take it refuses here, before anything that was there is changed
    del mesh[metadata.KEY]
    kept = list(before.materials) if before is not None else []
    if before is None or not any(kept):
        materials = [make_material(name, image, asset.roughness)]
    else:
        old_images = [part for part in _own_parts(before) if isinstance(part, bpy.types.Image)]
        materials = [material_with(old, old_images, image) if old is not None and _MADE_BY in old else old for old in kept]
        mesh.polygons.foreach_set("material_index", np.full(len(mesh.polygons), most_used_material(before), dtype=np.int32))
    for material in materials:
        mesh.materials.append(material)
    for datablock in (mesh, image, *(material for material in materials if material not in kept)):
        datablock[_MADE_BY] = data["uuid"]
    return mesh, data


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[None]:
    """Where what is done inside fails, everything that it made is removed again."""
    kinds = (bpy.data.objects, bpy.data.meshes, bpy.data.materials, bpy.data.images, bpy.data.collections)
    before = {datablock for kind in kinds for datablock in kind}
    try:
        yield
    except BaseException:
        bpy.data.batch_remove([datablock for kind in kinds for datablock in kind if datablock not in before])
        raise


def _own_parts(mesh: bpy.types.Mesh) -> list[bpy.types.ID]:
    """A mesh, its materials and their images, as far as an import made them; in the order in which one holds the next."""
    materials = [material for material in mesh.materials if material is not None and _MADE_BY in material]
    return [datablock for datablock in (mesh, *materials, *images_of(materials)) if _MADE_BY in datablock]
