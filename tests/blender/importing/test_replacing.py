"""A result in the place of another: what of the object stays, and what cannot be replaced."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest

from tests.blender.importing.contents import counts, image_of, image_of_material, paint
from tests.blender.importing.geometry import bounds, make_box, signed_volume

# --- What stays


@pytest.fixture
def other_job(another_job):
    return another_job("2026-01-02-a-silver-teapot-0a1b2d", {"prompt": "a silver teapot"})


def test_keeps_all_but_the_asset(thing, other_job):
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


def test_names_that_the_user_gave_stay(thing, other_job):
    """Game engines and pipelines find things by them."""
    thing.data.name, thing.data.materials[0].name = "SM_Teapot", "MAT_Gold"
    assert bpy.ops.cograd3d.import_onto(job=other_job.id) == {"FINISHED"}
    assert (thing.data.name, thing.data.materials[0].name, image_of(thing).name) == ("SM_Teapot", "MAT_Gold", "a silver teapot")
    image_of(thing).name = "T_Teapot"
    assert bpy.ops.cograd3d.import_onto(job=other_job.id) == {"FINISHED"}
    assert (thing.data.name, thing.data.materials[0].name, image_of(thing).name) == ("SM_Teapot", "MAT_Gold", "T_Teapot")


def test_what_was_painted_and_not_saved_leaves_its_name_to_what_takes_its_place(thing, other_job):
    """It has to stay, for undo."""
    old = image_of(thing)
    old.name = "T_Teapot"
    paint(old)
    assert bpy.ops.cograd3d.import_onto(job=other_job.id) == {"FINISHED"}
    assert image_of(thing).name == "T_Teapot" and old.name == "Painted T_Teapot" and old.is_dirty and not old.users


def test_a_name_with_a_number_is_none_that_the_user_gave(thing, other_job):
    bpy.data.meshes.new("a silver teapot")
    bpy.ops.cograd3d.import_onto(job=other_job.id)
    assert thing.data.name == "a silver teapot.001"
    bpy.data.meshes.remove(bpy.data.meshes["a silver teapot"])
    bpy.ops.cograd3d.import_onto(job=other_job.id)
    assert thing.data.name == "a silver teapot"


def test_linked_duplicates_change_too(thing, other_job):
    twin = thing.copy()
    twin["cograd3d"]["uuid"] = "another"
    bpy.context.scene.collection.objects.link(twin)
    bpy.ops.cograd3d.import_onto(job=other_job.id)
    assert twin.data == thing.data and thing.data.name == "a silver teapot"
    assert twin["cograd3d"]["job"] == other_job.id and twin["cograd3d"]["uuid"] == "another"


def test_work_on_the_material_stays(thing, other_job):
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


def test_faces_get_the_slot_that_most_had(thing, other_job):
    thing.data.materials.append(bpy.data.materials.new("Mine"))
    thing.data.polygons.foreach_set("material_index", np.ones(len(thing.data.polygons), dtype=np.int32))
    bpy.ops.cograd3d.import_onto(job=other_job.id)
    assert {polygon.material_index for polygon in thing.data.polygons} == {1}


@pytest.mark.parametrize("scale", [(2.0, 2.0, 2.0), (1.0, 2.0, 0.5), (-1.0, 1.0, 1.0)])
def test_what_was_applied_to_the_mesh_stays(scale, thing, another_job):
    """Apply All Transforms moves the vertices inside the object; the same asset must come to the same place."""
    thing.location, thing.rotation_euler.z, thing.scale = (1.0, 2.0, 3.0), 0.5, scale
    bpy.ops.object.transform_apply()
    low, high = bounds(thing)
    assert bpy.ops.cograd3d.import_onto(job=another_job("2026-01-02-other-0a1b2d").id) == {"FINISHED"}
    new_low, new_high = bounds(thing)
    np.testing.assert_allclose(new_low, low, atol=1e-5)
    np.testing.assert_allclose(new_high, high, atol=1e-5)
    assert signed_volume(thing) > 0.01, "its faces look inwards"


def test_the_origin_may_be_set_elsewhere(thing, another_job, addon_module):
    frame = addon_module("importing").world_frame(thing)
    bpy.context.scene.cursor.location = (0.3, 0.2, 0.1)
    bpy.ops.object.origin_set(type="ORIGIN_CURSOR")
    bpy.context.view_layer.update()
    assert thing.location[:] != (0.0, 0.0, 0.0)
    np.testing.assert_allclose(addon_module("importing").world_frame(thing), frame, atol=1e-5)
    low, _ = bounds(thing)
    bpy.ops.cograd3d.import_onto(job=another_job("2026-01-02-other-0a1b2d").id)
    np.testing.assert_allclose(bounds(thing)[0], low, atol=1e-5)


def test_what_the_user_made_stays(thing, other_job):
    mine = bpy.data.materials.new("Mine")
    thing.data.materials[0] = mine
    bpy.ops.cograd3d.import_onto(job=other_job.id)
    assert bpy.data.materials.get("Mine") == mine


def test_what_the_user_keeps_stays(thing, other_job):
    old = thing.data.materials[0]
    old.use_fake_user = True
    bpy.ops.cograd3d.import_onto(job=other_job.id)
    assert old.users and thing.data.materials[0] != old and image_of_material(old).packed_file is not None


def test_a_refinement_takes_the_place_of_what_it_refines(thing, job, another_job, addon_module):
    refined = another_job("2026-01-02-a-golden-teapot-0a1b2e", {"refines": str(job.path)})
    thing.location.x = 4.0
    assert bpy.ops.cograd3d.import_result(job=refined.id) == {"FINISHED"}
    assert [other for other in bpy.data.objects if "cograd3d" in other] == [thing]
    assert thing["cograd3d"]["job"] == refined.id and thing.location.x == 4.0


def test_a_refinement_takes_the_place_of_the_duplicate_that_it_was_ordered_for(thing, job, another_job, addon_module, select):
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


@pytest.fixture
def twin(thing, select):
    """A duplicate of the imported object."""
    select(thing)
    bpy.ops.object.duplicate()
    twin = bpy.context.active_object
    twin.name = "Twin"
    return twin


@pytest.fixture
def refined(job, another_job, addon_module):
    """`refined(thing)` is a finished refinement that was ordered for this object."""

    def refined(thing: bpy.types.Object, name: str = "2026-01-02-a-golden-teapot-0a1b2e"):
        made = another_job(name, {"refines": str(job.path)})
        order = addon_module("importing").order_for(bpy.context.scene, job.path, improves=thing.name)
        (made.path / "blender.json").write_text(json.dumps(order))
        return made

    return refined


def shown_jobs() -> dict[str, str]:
    return {thing.name: thing["cograd3d"]["job"] for thing in bpy.data.objects if "cograd3d" in thing}


def test_a_refinement_finds_the_duplicate_by_whatever_name(thing, twin, job, refined, select):
    better = refined(twin)
    twin.name, thing.name = "Hero", twin.name
    select(thing)
    bpy.ops.cograd3d.import_result(job=better.id)
    assert shown_jobs() == {"Twin": job.id, "Hero": better.id}


def test_a_refinement_for_a_duplicate_that_is_gone_is_a_new_object(thing, twin, job, refined, select, addon_module):
    better, standing = refined(twin), addon_module("importing.standing").standing
    assert standing(better, bpy.context.scene).thing == twin
    bpy.data.objects.remove(twin)
    select(thing)
    bpy.ops.object.duplicate()
    bpy.context.active_object.name = "Twin"
    assert standing(better, bpy.context.scene).thing is None
    bpy.ops.cograd3d.import_result(job=better.id)
    assert sorted(shown_jobs().values()) == [job.id, job.id, better.id] and shown_jobs()["Twin"] == job.id


def test_a_second_refinement_for_a_duplicate_takes_its_place_too(thing, twin, job, refined, select):
    first, second = refined(twin), refined(twin, "2026-01-02-a-golden-teapot-0a1b2f")
    bpy.ops.cograd3d.import_result(job=first.id)
    select(thing)
    bpy.ops.cograd3d.import_result(job=second.id)
    assert shown_jobs() == {thing.name: job.id, "Twin": second.id}


class TestARefinementInAFileThatWasOpenedAgain:
    """There the name is all that is known of the object that it was ordered for."""

    @pytest.fixture
    def reopen(self, tmp_path):
        def reopen() -> None:
            file = str(tmp_path / "file.blend")
            bpy.ops.wm.save_as_mainfile(filepath=file)
            bpy.ops.wm.open_mainfile(filepath=file)

        return reopen

    def test_takes_the_place_of_the_one_with_the_name(self, thing, twin, job, refined, reopen):
        name, better = thing.name, refined(twin)
        reopen()
        bpy.ops.cograd3d.import_result(job=better.id)
        assert shown_jobs() == {name: job.id, "Twin": better.id}

    def test_takes_the_place_of_the_only_one(self, thing, refined, reopen):
        better = refined(thing)
        thing.name = "Hero"
        reopen()
        bpy.ops.cograd3d.import_result(job=better.id)
        assert shown_jobs() == {"Hero": better.id}

    def test_is_a_new_object_where_nobody_can_tell(self, thing, twin, job, refined, reopen):
        better = refined(twin)
        twin.name = "Hero"
        reopen()
        bpy.ops.cograd3d.import_result(job=better.id)
        assert sorted(shown_jobs().values()) == [job.id, job.id, better.id] and shown_jobs()["Hero"] == job.id


def test_two_refinements_of_the_same_one_after_the_other(thing, job, another_job):
    for name in ("2026-01-02-a-golden-teapot-0a1b2e", "2026-01-02-a-golden-teapot-0a1b2f"):
        bpy.ops.cograd3d.import_result(job=another_job(name, {"refines": str(job.path)}).id)
    assert [other for other in bpy.data.objects if "cograd3d" in other] == [thing]
    assert thing["cograd3d"]["job"].endswith("0a1b2f")


def test_a_refinement_of_what_is_gone_is_a_new_object(thing, job, another_job):
    refined = another_job("2026-01-02-a-golden-teapot-0a1b2e", {"refines": str(job.path)})
    bpy.data.objects.remove(thing)
    bpy.ops.cograd3d.import_result(job=refined.id)
    assert bpy.context.active_object["cograd3d"]["job"] == refined.id


# --- What cannot be replaced


def test_an_object_of_somebody_else(job, select):
    select(make_box("Box"))
    with pytest.raises(RuntimeError, match="Select an object that was made by CoGrad3D"):
        bpy.ops.cograd3d.import_onto(job=job.id)


def test_one_that_is_being_edited(thing, job, results, addon_module):
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        with pytest.raises(RuntimeError, match="Object Mode first"):
            bpy.ops.cograd3d.import_onto(job=job.id)
        with pytest.raises(addon_module("..backend.errors").InputError, match="being edited"):
            results.import_onto(job.folder, thing)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")


@pytest.mark.parametrize("override", [False, True])
def test_one_from_another_file(override, thing, job, tmp_path, select):
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


def test_a_linked_one_does_not_keep_its_refinement_out(thing, job, another_job, tmp_path):
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
