"""A finished job as an object in the scene: where it stands, what it is made of, what it remembers, and what one undo takes back."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender.importing.geometry import corners_in_scene

KINDS = ("objects", "meshes", "materials", "images", "collections")


def counts() -> dict[str, int]:
    return {kind: len(getattr(bpy.data, kind)) for kind in KINDS}


def image_of(thing: bpy.types.Object) -> bpy.types.Image:
    return next(node.image for node in thing.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE")


def bounds(thing: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    bpy.context.view_layer.update()
    points = corners_in_scene(thing)
    return points.min(axis=0), points.max(axis=0)


def import_again(job) -> bpy.types.Object:
    assert bpy.ops.cograd3d.import_result(job=job.id) == {"FINISHED"}
    return bpy.context.active_object


def make_box(name: str, **transform) -> bpy.types.Object:
    """A placeholder from (-1, -1, -1) to (1, 1, 1) of its own frame."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], [], [])
    box = bpy.data.objects.new(name, mesh)
    for key, value in transform.items():
        setattr(box, key, value)
    bpy.context.scene.collection.objects.link(box)
    bpy.context.view_layer.update()
    return box


class TestPlace:
    def test_stands_on_the_ground_at_the_cursor_as_high_as_set(self, job):
        bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
        bpy.context.scene.cograd3d.height = 0.4
        thing = import_again(job)
        low, high = bounds(thing)
        assert thing.location[:] == (1.0, 2.0, 3.0)
        assert thing.scale[:] == (1.0, 1.0, 1.0), "real size, not a scaled object"
        assert low[2] == pytest.approx(3.0, abs=1e-5) and high[2] == pytest.approx(3.4, abs=1e-5)
        np.testing.assert_allclose((low + high)[:2] / 2, (1.0, 2.0), atol=1e-5)

    def test_fills_the_placeholder(self, job):
        box = make_box("Box", location=(5.0, 0.0, 1.0), scale=(3.0, 0.5, 1.0), rotation_euler=(0.0, 0.0, math.radians(30)))
        bpy.context.scene.cograd3d.fit_object = box
        thing = import_again(job)
        bpy.context.view_layer.update()
        inside = corners_in_scene(thing) @ np.linalg.inv(np.array(box.matrix_world))[:3, :3].T
        inside += np.linalg.inv(np.array(box.matrix_world))[:3, 3]
        extents = np.ptp(inside, axis=0)
        assert (np.abs(inside) <= 1 + 1e-4).all(), "it stands out"
        assert extents.max() == pytest.approx(2.0, abs=1e-4), "it could be larger"
        assert inside[:, 2].min() == pytest.approx(-1.0, abs=1e-4), "it does not stand on the bottom"
        assert np.abs(inside.min(axis=0) + inside.max(axis=0))[:2].max() < 1e-4, "it does not stand in the middle"

    def test_fills_an_empty_as_large_as_it_is_drawn(self, job):
        empty = bpy.data.objects.new("Empty", None)
        empty.empty_display_type, empty.empty_display_size, empty.location = "CUBE", 0.25, (0.0, 0.0, 2.0)
        bpy.context.scene.collection.objects.link(empty)
        bpy.context.view_layer.update()
        bpy.context.scene.cograd3d.fit_object = empty
        low, high = bounds(import_again(job))
        assert low[2] == pytest.approx(1.75, abs=1e-5) and (high - low).max() == pytest.approx(0.5, abs=1e-5)

    def test_a_placeholder_that_was_deleted(self, job):
        box = make_box("Box", location=(5.0, 0.0, 1.0))
        bpy.context.scene.cograd3d.fit_object = box
        bpy.context.scene.collection.objects.unlink(box)  # the settings still hold it
        assert import_again(job).location[:] == (0.0, 0.0, 0.0)

    def test_stands_where_it_was_ordered(self, job, addon_module):
        bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
        bpy.context.scene.cograd3d.height = 0.5
        order = addon_module("importing").order_for(bpy.context.scene)
        addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
        bpy.context.scene.cursor.location = (0.0, 0.0, 0.0)
        bpy.context.scene.cograd3d.height = 7.0
        thing = import_again(job)
        assert thing.location[:] == (1.0, 2.0, 3.0) and thing.dimensions.z == pytest.approx(0.5, abs=1e-5)

    def test_stands_by_the_settings_of_another_scene(self, job, addon_module):
        """A placeholder of the same name, say, is another one there."""
        bpy.context.scene.cograd3d.fit_object = make_box("Box")
        order = addon_module("importing").order_for(bpy.context.scene)
        addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        make_box("Box", location=(9.0, 9.0, 9.0))
        bpy.context.scene.cursor.location, bpy.context.scene.cograd3d.height = (1.0, 2.0, 3.0), 0.25
        thing = import_again(job)
        assert thing.location[:] == (1.0, 2.0, 3.0) and thing.dimensions.z == pytest.approx(0.25, abs=1e-5)

    def test_an_order_that_cannot_be_read_counts_as_none(self, job):
        (job.path / "blender.json").write_text('{"origin": "here"')
        assert import_again(job).location[:] == (0.0, 0.0, 0.0)


class TestMadeOf:
    def test_a_closed_smooth_mesh_without_double_vertices(self, thing, job):
        mesh = thing.data
        assert len(mesh.polygons) > 1000
        assert all(polygon.use_smooth for polygon in mesh.polygons)
        points = np.empty(3 * len(mesh.vertices), dtype=np.float32)
        mesh.vertices.foreach_get("co", points)
        assert len(np.unique(points.reshape(-1, 3), axis=0)) == len(mesh.vertices)
        assert not mesh.validate(), "it had to be corrected"

    def test_faces_look_outwards_in_the_scene(self, thing):
        """The signed volume of a closed surface is positive if its faces are counter-clockwise seen from outside."""
        indices = np.empty(3 * len(thing.data.polygons), dtype=np.int32)
        thing.data.polygons.foreach_get("vertices", indices)
        triangles = corners_in_scene(thing)[indices.reshape(-1, 3)]
        assert np.einsum("ni,ni->n", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6 > 0.01

    def test_a_principled_material_with_the_texture(self, thing):
        (material,) = thing.data.materials
        shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        image = image_of(thing)
        assert shader.inputs["Base Color"].links[0].from_node.image == image
        assert shader.inputs["Metallic"].default_value == 0.0
        assert 0.5 <= shader.inputs["Roughness"].default_value <= 1.0
        assert image.size[:] == (512, 512) and image.colorspace_settings.name == "sRGB"
        assert [layer.name for layer in thing.data.uv_layers] == ["UVMap"]

    def test_a_packed_texture_with_a_file(self, thing, job):
        image = image_of(thing)
        assert image.packed_file is not None
        assert (job.path / bpy.path.basename(image.filepath)).read_bytes() == image.packed_file.data

    def test_its_colour_where_no_texture_is_shown(self, thing):
        red, green, blue, _ = thing.data.materials[0].diffuse_color
        assert red > green > blue, "a golden teapot"

    def test_lies_in_a_collection_of_its_own(self, thing, job):
        (collection,) = thing.users_collection
        assert collection.name == "CoGrad3D" and not collection.hide_render
        collection.name = "Renamed"
        assert import_again(job).users_collection == (collection,)

    def test_is_active_and_alone_selected(self, job):
        box = make_box("Box")
        box.select_set(True)
        thing = import_again(job)
        assert bpy.context.selected_objects == [thing] and bpy.context.view_layer.objects.active == thing

    def test_beside_a_collection_from_another_file(self, thing, job, tmp_path, select):
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

    def test_into_a_collection_that_is_left_out(self, thing, job):
        """Nothing there can be selected; the import works all the same."""
        layer = bpy.context.view_layer.layer_collection.children["CoGrad3D"]
        for attribute in ("exclude", "hide_viewport"):
            setattr(layer, attribute, True)
            before = len(bpy.data.objects)
            assert bpy.ops.cograd3d.import_result(job=job.id) == {"FINISHED"}
            assert len(bpy.data.objects) == before + 1
            setattr(layer, attribute, False)


class TestRemembers:
    def test_how_it_was_made(self, thing, job):
        data, version = thing["cograd3d"], json.loads((job.path / "made_by.json").read_text())["cograd3d"]
        assert data["prompt"] == "a golden teapot" and data["negative_prompt"] == ""
        assert data["seed"] == "1" and data["quality"] == "draft" and data["method"] == "cograd3d"
        assert data["version"] == version and data["prior"] == "builtin:exact" and len(data["prior_fingerprint"]) >= 16
        assert data["job"] == job.id and data["created"].startswith("20")
        versions = json.loads(data["versions"])
        assert versions["blender"] == bpy.app.version_string and versions["torch"] and versions["cograd3d"] == version

    @pytest.mark.parametrize("seed", [2**31, 2**63 - 1])
    def test_a_seed_that_blender_has_no_number_for(self, seed, job, another_job, session):
        config = job.folder.config
        config["run"]["seed"] = seed
        (job.path / "config.json").write_text(json.dumps(config))
        thing = import_again(job)
        assert thing["cograd3d"]["seed"] == str(seed)
        other = another_job("2026-01-02-other-0a1b2d")
        assert bpy.ops.cograd3d.import_onto(job=other.id) == {"FINISHED"}
        assert thing["cograd3d"]["seed"] == str(seed) and thing["cograd3d"]["job"] == other.id

    def test_also_in_a_saved_file_without_its_job(self, thing, job, tmp_path):
        name, data = thing.name, thing["cograd3d"].to_dict()
        expected = np.empty(len(image_of(thing).pixels), dtype=np.float32)
        image_of(thing).pixels.foreach_get(expected)
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
        shutil.rmtree(job.path)
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
        thing = bpy.data.objects[name]
        assert thing["cograd3d"].to_dict() == data
        found = np.empty(len(image_of(thing).pixels), dtype=np.float32)
        image_of(thing).pixels.foreach_get(found)
        np.testing.assert_array_equal(found, expected)


class TestTwice:
    def test_makes_two_that_share_nothing(self, thing, job):
        other = import_again(job)
        assert other != thing and other.data != thing.data
        assert other.data.materials[0] != thing.data.materials[0] and image_of(other) != image_of(thing)
        assert other["cograd3d"]["uuid"] != thing["cograd3d"]["uuid"]
        assert counts() == {"objects": 2, "meshes": 2, "materials": 2, "images": 2, "collections": 1}


class TestUndo:
    def test_one_step_removes_it_all(self, job):
        bpy.ops.ed.undo_push(message="before")
        before = counts()
        bpy.ops.cograd3d.import_result("EXEC_DEFAULT", True, job=job.id)
        assert counts() == {kind: before[kind] + 1 for kind in KINDS}
        bpy.ops.ed.undo()
        assert counts() == before
        bpy.ops.ed.redo()
        assert counts() == {kind: before[kind] + 1 for kind in KINDS}
        assert bpy.data.objects["a golden teapot"]["cograd3d"]["job"] == job.id

    def test_one_step_brings_back_what_was_replaced(self, thing, another_job):
        uuid = thing["cograd3d"]["uuid"]
        bpy.ops.ed.undo_push(message="before")
        before = counts()
        old = [vertex.co[:] for vertex in thing.data.vertices[:10]]
        bpy.ops.cograd3d.import_onto("EXEC_DEFAULT", True, job=another_job("2026-01-02-other-0a1b2d").id)
        bpy.ops.ed.undo()
        thing = bpy.data.objects["a golden teapot"]
        assert counts() == before and thing["cograd3d"]["job"].endswith("0a1b2c") and thing["cograd3d"]["uuid"] == uuid
        assert [vertex.co[:] for vertex in thing.data.vertices[:10]] == old
        assert image_of(thing).packed_file is not None


class TestOntoTheSameObject:
    @pytest.fixture
    def other_job(self, another_job):
        return another_job("2026-01-02-a-silver-teapot-0a1b2d", {"prompt": "a silver teapot"})

    def test_keeps_all_but_the_asset(self, thing, other_job):
        parent, target = make_box("Parent"), bpy.data.collections.new("Mine")
        bpy.context.scene.collection.children.link(target)
        target.objects.link(thing)
        thing.parent = parent
        thing.location, thing.rotation_euler, thing.scale = (1.0, 2.0, 3.0), (0.1, 0.2, 0.3), (2.0, 2.0, 2.0)
        thing.modifiers.new("Subdivision", "SUBSURF")
        thing.name = "My Teapot"
        thing["mine"] = 7
        uuid, before, old = thing["cograd3d"]["uuid"], counts(), (thing.data, thing.data.materials[0], image_of(thing))
        names = [datablock.name for datablock in old]
        assert bpy.ops.cograd3d.import_onto(job=other_job.id) == {"FINISHED"}
        assert thing.parent == parent and thing.name == "My Teapot" and thing["mine"] == 7
        np.testing.assert_allclose([*thing.location, *thing.rotation_euler, *thing.scale], [1, 2, 3, 0.1, 0.2, 0.3, 2, 2, 2], rtol=1e-6)
        assert [modifier.name for modifier in thing.modifiers] == ["Subdivision"] and len(thing.users_collection) == 2
        assert counts() == before, "the old mesh, material or image is still there"
        assert thing.data.name == thing.data.materials[0].name == image_of(thing).name == "a silver teapot" not in names
        assert thing["cograd3d"]["job"] == other_job.id and thing["cograd3d"]["uuid"] == uuid

    def test_linked_duplicates_change_too(self, thing, other_job):
        twin = thing.copy()
        twin["cograd3d"]["uuid"] = "another"
        bpy.context.scene.collection.objects.link(twin)
        bpy.ops.cograd3d.import_onto(job=other_job.id)
        assert twin.data == thing.data and thing.data.name == "a silver teapot"
        assert twin["cograd3d"]["job"] == other_job.id and twin["cograd3d"]["uuid"] == "another"

    def test_work_on_the_material_stays(self, thing, other_job):
        material, old = thing.data.materials[0], image_of(thing)
        shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        shader.inputs["Roughness"].default_value = 0.05
        material.node_tree.nodes.new("ShaderNodeBump").name = "Mine"
        mine = bpy.data.materials.new("Mine")
        thing.data.materials.append(mine)
        duplicate = thing.data.copy()  # what Shift+D makes: a mesh of its own with the same material
        bpy.ops.cograd3d.import_onto(job=other_job.id)
        kept, second = thing.data.materials
        shader = next(node for node in kept.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        assert shader.inputs["Roughness"].default_value == pytest.approx(0.05) and "Mine" in kept.node_tree.nodes and second == mine
        assert image_of(thing) != old and image_of_material(duplicate.materials[0]) == old

    def test_faces_get_the_slot_that_most_had(self, thing, other_job):
        thing.data.materials.append(bpy.data.materials.new("Mine"))
        thing.data.polygons.foreach_set("material_index", np.ones(len(thing.data.polygons), dtype=np.int32))
        bpy.ops.cograd3d.import_onto(job=other_job.id)
        assert {polygon.material_index for polygon in thing.data.polygons} == {1}

    @pytest.mark.parametrize("scale", [(2.0, 2.0, 2.0), (1.0, 2.0, 0.5), (-1.0, 1.0, 1.0)])
    def test_what_was_applied_to_the_mesh_stays(self, scale, thing, another_job):
        """Apply All Transforms moves the vertices inside the object; the same asset must come to the same place."""
        thing.location, thing.rotation_euler.z, thing.scale = (1.0, 2.0, 3.0), 0.5, scale
        bpy.ops.object.transform_apply()
        low, high = bounds(thing)
        assert bpy.ops.cograd3d.import_onto(job=another_job("2026-01-02-other-0a1b2d").id) == {"FINISHED"}
        new_low, new_high = bounds(thing)
        np.testing.assert_allclose(new_low, low, atol=1e-5)
        np.testing.assert_allclose(new_high, high, atol=1e-5)
        TestMadeOf().test_faces_look_outwards_in_the_scene(thing)

    def test_the_origin_may_be_set_elsewhere(self, thing, another_job, addon_module):
        frame = addon_module("importing").world_frame(thing)
        bpy.context.scene.cursor.location = (0.3, 0.2, 0.1)
        bpy.ops.object.origin_set(type="ORIGIN_CURSOR")
        bpy.context.view_layer.update()
        assert thing.location[:] != (0.0, 0.0, 0.0)
        np.testing.assert_allclose(addon_module("importing").world_frame(thing), frame, atol=1e-5)
        low, _ = bounds(thing)
        bpy.ops.cograd3d.import_onto(job=another_job("2026-01-02-other-0a1b2d").id)
        np.testing.assert_allclose(bounds(thing)[0], low, atol=1e-5)

    def test_what_the_user_made_stays(self, thing, other_job):
        mine = bpy.data.materials.new("Mine")
        thing.data.materials[0] = mine
        bpy.ops.cograd3d.import_onto(job=other_job.id)
        assert bpy.data.materials.get("Mine") == mine

    def test_what_the_user_keeps_stays(self, thing, other_job):
        old = thing.data.materials[0]
        old.use_fake_user = True
        bpy.ops.cograd3d.import_onto(job=other_job.id)
        assert old.users and thing.data.materials[0] != old and image_of_material(old).packed_file is not None

    def test_a_refinement_takes_the_place_of_what_it_refines(self, thing, job, another_job, addon_module):
        refined = another_job("2026-01-02-a-golden-teapot-0a1b2e", {"refines": str(job.path)})
        thing.location.x = 4.0
        assert bpy.ops.cograd3d.import_result(job=refined.id) == {"FINISHED"}
        assert [other for other in bpy.data.objects if "cograd3d" in other] == [thing]
        assert thing["cograd3d"]["job"] == refined.id and thing.location.x == 4.0

    def test_a_refinement_takes_the_place_of_the_duplicate_that_it_was_ordered_for(self, thing, job, another_job, addon_module, select):
        select(thing)
        bpy.ops.object.duplicate()
        twin = bpy.context.active_object
        refined = another_job("2026-01-02-a-golden-teapot-0a1b2e", {"refines": str(job.path)})
        order = addon_module("importing").order_for(bpy.context.scene, job.path, improves=twin.name)
        (refined.path / "blender.json").write_text(json.dumps(order))
        select(thing)
        assert addon_module("importing.standing").standing(refined, bpy.context.scene).thing == twin
        assert bpy.ops.cograd3d.import_result(job=refined.id) == {"FINISHED"}
        assert (thing["cograd3d"]["job"], twin["cograd3d"]["job"]) == (job.id, refined.id)

    def test_two_refinements_of_the_same_one_after_the_other(self, thing, job, another_job):
        for name in ("2026-01-02-a-golden-teapot-0a1b2e", "2026-01-02-a-golden-teapot-0a1b2f"):
            bpy.ops.cograd3d.import_result(job=another_job(name, {"refines": str(job.path)}).id)
        assert [other for other in bpy.data.objects if "cograd3d" in other] == [thing]
        assert thing["cograd3d"]["job"].endswith("0a1b2f")

    def test_a_refinement_of_what_is_gone_is_a_new_object(self, thing, job, another_job):
        refined = another_job("2026-01-02-a-golden-teapot-0a1b2e", {"refines": str(job.path)})
        bpy.data.objects.remove(thing)
        bpy.ops.cograd3d.import_result(job=refined.id)
        assert bpy.context.active_object["cograd3d"]["job"] == refined.id


def image_of_material(material: bpy.types.Material) -> bpy.types.Image:
    return next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")


class TestWhatCannotBeReplaced:
    def test_an_object_of_somebody_else(self, job, select):
        select(make_box("Box"))
        with pytest.raises(RuntimeError, match="Select an object that was made by CoGrad3D"):
            bpy.ops.cograd3d.import_onto(job=job.id)

    def test_one_that_is_being_edited(self, thing, job, results, addon_module):
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            with pytest.raises(RuntimeError, match="Object Mode first"):
                bpy.ops.cograd3d.import_onto(job=job.id)
            with pytest.raises(addon_module("..backend.errors").InputError, match="being edited"):
                results.import_onto(job.folder, thing)
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")

    @pytest.mark.parametrize("override", [False, True])
    def test_one_from_another_file(self, override, thing, job, tmp_path, select):
        file = str(tmp_path / "library.blend")
        bpy.ops.wm.save_as_mainfile(filepath=file)
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        with bpy.data.libraries.load(file, link=True) as (there, here):
            here.objects = there.objects[:1]
        (linked,) = here.objects
        bpy.context.scene.collection.objects.link(linked)
        if override:
            linked = linked.override_create(remap_local_usages=True)
        select(linked)
        before = counts()
        with pytest.raises(RuntimeError, match="linked from another file"):
            bpy.ops.cograd3d.import_onto(job=job.id)
        assert counts() == before

    def test_a_linked_one_does_not_keep_its_refinement_out(self, thing, job, another_job, tmp_path):
        """It cannot be replaced, so the result comes as a new object."""
        refined = another_job("2026-01-02-a-golden-teapot-0a1b2e", {"refines": str(job.path)})
        file = str(tmp_path / "library.blend")
        bpy.ops.wm.save_as_mainfile(filepath=file)
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        with bpy.data.libraries.load(file, link=True) as (there, here):
            here.objects = there.objects[:1]
        bpy.context.scene.collection.objects.link(here.objects[0])
        assert bpy.ops.cograd3d.import_result(job=refined.id) == {"FINISHED"}
        assert bpy.context.active_object.library is None and bpy.context.active_object["cograd3d"]["job"] == refined.id


class TestDamage:
    """Whatever is wrong with a job folder: a clear message, and a file that is as before."""

    @pytest.fixture
    def refused(self, job):
        def refused(match: str) -> None:
            before = counts()
            with pytest.raises(RuntimeError, match=match) as caught:
                bpy.ops.cograd3d.import_result(job=job.id)
            assert "Traceback" not in str(caught.value)
            assert counts() == before

        return refused

    def test_the_asset_is_gone(self, job, refused):
        job.folder.asset_path.unlink()
        refused("cannot be read")

    @pytest.mark.parametrize("share", [0.0, 0.00002, 0.001, 0.5, 0.999])
    def test_the_asset_is_cut_off(self, share, job, refused):
        data = job.folder.asset_path.read_bytes()
        job.folder.asset_path.write_bytes(data[: int(share * len(data))])
        refused("damaged or not a result")

    def test_the_asset_is_something_else(self, job, refused):
        job.folder.asset_path.write_bytes(b"glTF" + bytes(range(256)) * 100)
        refused("damaged or not a result")

    def test_the_texture_is_no_picture(self, job, refused):
        data = job.folder.asset_path.read_bytes()
        start = data.index(b"\x89PNG")
        job.folder.asset_path.write_bytes(data[:start] + bytes(len(data) - start))
        refused("texture of the result is damaged")

    def test_the_texture_cannot_be_written_into_the_folder(self, job):
        """A full or write-protected disk: the picture is in the .blend file all the same, and its file in Blender's temporary folder."""
        (job.path / f"{job.id}.png").mkdir()
        image = image_of(import_again(job))
        assert image.packed_file is not None and Path(image.filepath).parent == Path(bpy.app.tempdir)
        assert Path(image.filepath).read_bytes() == image.packed_file.data

    def test_the_texture_can_be_written_nowhere(self, job, refused, addon_module, monkeypatch):
        error = addon_module("..backend.errors").OutputError("It could not be written.")

        def refuse(*_):
            raise error

        monkeypatch.setattr(addon_module("importing.datablocks"), "atomic_write_bytes", refuse)
        refused("could not be written")

    @pytest.mark.parametrize("name", ["spec.json", "config.json", "state.json"])
    @pytest.mark.parametrize("content", [None, "[", "[]"])
    def test_what_was_asked_for_cannot_be_read(self, name, content, job, refused):
        if content is None:
            (job.path / name).unlink()
        else:
            (job.path / name).write_text(content)
        refused(".")

    def test_what_is_only_told_may_be_missing(self, job):
        for name in ("regions.json", "made_by.json", "trace.jsonl", "events.jsonl"):
            (job.path / name).unlink(missing_ok=True)
        shutil.rmtree(job.path / "views")
        assert import_again(job)["cograd3d"]["prompt"] == "a golden teapot"

    @pytest.mark.parametrize("module, name", [("results", "make_material"), ("results", "collection_of"), ("metadata", "describe")])
    def test_something_that_nobody_thought_of(self, module, name, job, addon_module, monkeypatch):
        before = counts()
        module = addon_module(f"importing.{module}")
        made = getattr(module, name)

        def fail(*arguments, **options):
            made(*arguments, **options)
            raise ValueError("never heard of")

        monkeypatch.setattr(module, name, fail)
        with pytest.raises(RuntimeError, match="never heard of"):
            bpy.ops.cograd3d.import_result(job=job.id)
        assert counts() == before

    @pytest.mark.parametrize("onto", [False, True])
    def test_metadata_that_blender_does_not_take(self, onto, thing, job, addon_module, monkeypatch):
        metadata = addon_module("importing.metadata")
        describe = metadata.describe
        monkeypatch.setattr(metadata, "describe", lambda *arguments, **options: describe(*arguments, **options) | {"number": 2**40})
        mesh, material, image, data, before = thing.data, thing.data.materials[0], image_of(thing), thing["cograd3d"].to_dict(), counts()
        with pytest.raises(RuntimeError, match="OverflowError"):
            getattr(bpy.ops.cograd3d, "import_onto" if onto else "import_result")(job=job.id)
        assert counts() == before
        assert (thing.data, thing.data.materials[0], image_of(thing)) == (mesh, material, image) and thing["cograd3d"].to_dict() == data

    def test_the_whole_folder_is_gone(self, job, refused):
        shutil.rmtree(job.path)
        refused(".")

    def test_there_is_no_such_job(self, job):
        with pytest.raises(RuntimeError, match="no result yet"):
            bpy.ops.cograd3d.import_result(job="nonsense")

    def test_what_was_to_be_replaced_stays(self, thing, another_job):
        other = another_job("2026-01-02-other-0a1b2d")
        other.folder.asset_path.unlink()
        mesh, data, before = thing.data, thing["cograd3d"].to_dict(), counts()
        with pytest.raises(RuntimeError, match="cannot be read"):
            bpy.ops.cograd3d.import_onto(job=other.id)
        assert thing.data == mesh and thing["cograd3d"].to_dict() == data and counts() == before
