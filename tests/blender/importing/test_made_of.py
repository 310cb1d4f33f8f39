"""What the object of a finished job is made of: mesh, material, texture, collection; of a second one the same anew."""

from __future__ import annotations

import bpy
import numpy as np

from tests.blender.importing.contents import counts, image_of, import_again
from tests.blender.importing.geometry import make_box, signed_volume


def test_a_closed_smooth_mesh_without_double_vertices(thing, job):
    mesh = thing.data
    assert len(mesh.polygons) > 1000
    assert all(polygon.use_smooth for polygon in mesh.polygons)
    points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
    mesh.vertices.foreach_get("co", points)
    assert len(np.unique(points.reshape(-1, 3), axis=0)) == len(mesh.vertices)
    assert not mesh.validate(), "it had to be corrected"


def test_faces_look_outwards_in_the_scene(thing):
    assert signed_volume(thing) > 0.01


def test_a_principled_material_with_the_texture(thing):
    (material,) = thing.data.materials
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    image = image_of(thing)
    assert shader.inputs["Base Color"].links[0].from_node.image == image
    assert shader.inputs["Metallic"].default_value == 0.0
    assert 0.5 <= shader.inputs["Roughness"].default_value <= 1.0
    assert image.size[:] == (512, 512) and image.colorspace_settings.name == "sRGB"
    assert [layer.name for layer in thing.data.uv_layers] == ["UVMap"]


def test_a_packed_texture_with_a_file(thing, job):
    image = image_of(thing)
    assert image.packed_file is not None
    assert (job.path / bpy.path.basename(image.filepath)).read_bytes() == image.packed_file.data


def test_its_colour_where_no_texture_is_shown(thing):
    red, green, blue, _ = thing.data.materials[0].diffuse_color
    assert red > green > blue, "a golden teapot"


def test_lies_in_a_collection_of_its_own(thing, job):
    (collection,) = thing.users_collection
    assert collection.name == "CoGrad3D" and not collection.hide_render
    collection.name = "Renamed"
    assert import_again(job).users_collection == (collection,)


def test_is_active_and_alone_selected(job):
    box = make_box("Box")
    box.select_set(True)
    thing = import_again(job)
    assert bpy.context.selected_objects == [thing] and bpy.context.view_layer.objects.active == thing


def test_beside_a_collection_from_another_file(thing, job, tmp_path, select):
    """Linked, or an override of it: nothing can be put into it."""
    file = str(tmp_path / "library.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(file, link=True) as (there, here):
        here.collections = there.collections[:]
    (linked,) = here.collections
    override = linked.override_hierarchy_create(bpy.context.scene, bpy.context.view_layer)
    assert override is not None
    (collection,) = import_again(job).users_collection
    assert collection != override and collection.library is None and collection.override_library is None


def test_into_a_collection_that_is_left_out(thing, job):
    """Nothing there can be selected; the import works all the same."""
    layer = bpy.context.view_layer.layer_collection.children["CoGrad3D"]
    for attribute in ("exclude", "hide_viewport"):
        setattr(layer, attribute, True)
        before = len(bpy.data.objects)
        assert bpy.ops.cograd3d.import_result(job=job.id) == {"FINISHED"}
        assert len(bpy.data.objects) == before + 1
        setattr(layer, attribute, False)


def test_importing_twice_makes_two_that_share_nothing(thing, job):
    other = import_again(job)
    assert other != thing and other.data != thing.data
    assert other.data.materials[0] != thing.data.materials[0] and image_of(other) != image_of(thing)
    assert other["cograd3d"]["uuid"] != thing["cograd3d"]["uuid"]
    assert counts() == {"objects": 2, "meshes": 2, "materials": 2, "images": 2, "collections": 1}
