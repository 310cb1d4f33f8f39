"""The buttons of "This Object": what an imported object can be asked for long after its job."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from tests.blender.importing.contents import image_of, paint

ops = bpy.ops.cograd3d
NAMES = ("copy_object_settings", "reproduce_object", "show_views", "mark_asset", "export_result")


@pytest.mark.parametrize("name", NAMES)
def test_they_want_an_object_of_ours(addon, name):
    bpy.ops.mesh.primitive_cube_add()
    operator = getattr(ops, name)
    assert not operator.poll()
    with pytest.raises(RuntimeError, match="Select an object that was made by CoGrad3D"):
        operator()


def test_settings_are_copied_without_the_job(thing, job):
    shutil.rmtree(job.path)
    chosen = bpy.context.scene.cograd3d
    chosen.prompt, chosen.quality, chosen.seed = "an owl", "high", 7
    assert ops.copy_object_settings() == {"FINISHED"}
    assert (chosen.prompt, chosen.quality, chosen.seed) == ("a golden teapot", "draft", 1)


@pytest.mark.parametrize("name", ["copy_object_settings", "copy_settings"])
def test_a_seed_that_the_panel_cannot_hold_is_told(name, thing, job, session, addon_module, monkeypatch):
    seed = 2**63 - 1
    if name == "copy_settings":
        job.spec.overrides["run.seed"] = seed
        cls = addon_module("operators.jobs").COGRAD3D_OT_copy_settings
    else:
        spec = json.loads(thing["cograd3d"]["spec"])
        thing["cograd3d"]["spec"] = json.dumps(spec | {"overrides": spec["overrides"] | {"run.seed": seed}})
        cls = addon_module("operators.results").COGRAD3D_OT_copy_object_settings
    told = []
    operator = SimpleNamespace(report=lambda kinds, text: told.append((kinds, text)))
    if name == "copy_settings":
        cls.act(operator, bpy.context, job)
    else:
        cls.execute(operator, bpy.context)
    ((kinds, text),) = told
    assert kinds == {"WARNING"} and str(seed) in text and "Reproduce" in text
    assert getattr(ops, name)() == {"FINISHED"}
    assert bpy.context.scene.cograd3d.seed == 2**31 - 1


def test_reproducing_orders_the_same(thing, job, session, fake_worker, addon_module, pump):
    fake_worker("quick")
    addon_module("setup").supervisor.refresh()
    before = job.folder.config
    assert ops.reproduce_object() == {"FINISHED"}
    again = session.selected_job()
    assert again.id != job.id and again.spec.prompt == "a golden teapot"
    assert again.folder.config == before
    pump(lambda: again.status.is_over, what="the end")


@pytest.mark.parametrize("is_there", [True, False])
def test_views_are_shown_with_and_without_the_job(thing, job, session, addon_module, is_there):
    if not is_there:
        shutil.rmtree(job.path)
        session.manager().scan()
    bpy.context.window_manager.cograd3d.show_regions = False
    assert ops.show_views() == {"FINISHED"}
    assert bpy.context.window_manager.cograd3d.show_regions
    shown = addon_module("viewport.sources").shown(bpy.context)
    assert shown is not None and len(shown) == 36


def test_views_of_a_job_that_is_gone_stay_although_the_list_shows_another(viewport, thing, job, another_job, session, addon_module):
    other = another_job("another")
    session.select_job(other.id)
    shutil.rmtree(job.path)
    session.manager().scan()
    shown = addon_module("viewport.sources").shown
    ops.show_views()
    assert shown(bpy.context).owner == thing.name
    addon_module("ui.jobs").sync()  # which finds that no job is shown
    assert session.selected_job() is other
    assert shown(bpy.context).owner == thing.name, "nobody chose the other one"
    session.select_job(other.id)
    assert shown(bpy.context).source == other.id, "which the user chose later"


class TestDuplicates:
    """They have all that is known of the first in common, its job included."""

    @pytest.fixture
    def twin(self, thing, select):
        select(thing)
        bpy.ops.object.duplicate()
        twin = bpy.context.active_object
        twin.location.x += 5.0
        select(thing)
        return twin

    @pytest.fixture
    def owner(self, addon_module):
        """The object that the grid stands around."""
        sources = addon_module("viewport.sources")
        return lambda: bpy.data.objects[sources.shown(bpy.context).owner]

    def test_the_selected_one_has_the_grid(self, viewport, thing, twin, job, session, select, owner):
        session.select_job("")
        assert owner() == thing
        session.select_job(job.id)
        assert owner() == thing
        select(twin)
        assert owner() == twin
        ops.show_views()
        assert owner() == twin

    def test_views_are_shown_of_the_one_that_was_asked_for(self, viewport, thing, twin, another_job, session, select, owner):
        other = another_job("another")
        session.select_job(other.id)
        select(thing)
        owner()
        for one in (thing, twin, thing):
            select(one)
            ops.show_views()
            assert owner() == one

    def test_the_list_shows_the_views_of_the_one_that_was_selected_last(
        self, viewport, thing, twin, job, another_job, session, select, owner
    ):
        bpy.ops.mesh.primitive_cube_add()
        cube = bpy.context.active_object
        for one in (thing, twin):
            select(one)
            session.select_job(job.id)
            owner()
            select(cube)
            assert owner() == one

    def test_an_earlier_result_has_its_grid_at_the_selected_one(self, viewport, thing, job, another_job, session, select, owner):
        ops.import_result(job=another_job("another", {"refines": str(job.path)}).id)
        bpy.ops.object.duplicate()
        twin = bpy.context.active_object
        for one in (thing, twin, thing):
            session.select_job("")
            select(one)
            owner()
            session.select_job(job.id)
            assert owner() == one

    def test_one_that_still_shows_it_comes_first(self, viewport, thing, twin, job, another_job, session, select, owner):
        select(twin)
        ops.import_onto(job=another_job("another").id)
        session.select_job("")
        assert owner() == twin
        session.select_job(job.id)
        assert owner() == thing

    def test_the_selected_one_is_refined(self, viewport, thing, twin, job, session, select, owner, fake_worker, addon_module, pump):
        fake_worker("quick")
        addon_module("setup").supervisor.refresh()
        session.select_job("")
        owner()
        session.select_job(job.id)
        owner()
        select(twin)
        ops.region_select(region=4)
        ops.region_refine()
        refinement = session.selected_job()
        assert addon_module("placement").read_home(refinement.path).improves == twin.name
        pump(lambda: refinement.status.is_over, what="the refinement's end")


@pytest.mark.parametrize("name", ["discard_job", "jobs_remove_all"])
def test_the_texture_keeps_a_file_when_its_job_is_discarded(name, thing, job, tmp_path):
    (image,) = (node.image for node in thing.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    assert getattr(ops, name)() == {"FINISHED"}
    path = Path(bpy.path.abspath(image.filepath))
    assert path.parent == tmp_path / "textures" and path.read_bytes() == image.packed_file.data


def test_what_was_painted_stays_unsaved_when_the_job_is_discarded(thing, job):
    """Packing it without being asked would make undo, which knows the old bytes, take back what was painted."""
    image = image_of(thing)
    packed = image.packed_file.data
    paint(image)
    assert ops.discard_job() == {"FINISHED"}
    assert image.is_dirty and image.packed_file.data == packed
    assert Path(bpy.path.abspath(image.filepath)).read_bytes() == packed


@pytest.mark.parametrize("theirs", [b"mine", None])
def test_a_file_of_that_name_is_left_alone(theirs, thing, job, tmp_path):
    """In `textures` beside the .blend file, which is the user's folder, too; a file that holds the same is used."""
    (image,) = (node.image for node in thing.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    there = tmp_path / "textures" / Path(bpy.path.abspath(image.filepath)).name
    there.parent.mkdir()
    content = bytes(image.packed_file.data) if theirs is None else theirs
    there.write_bytes(content)
    assert ops.discard_job() == {"FINISHED"}
    path = Path(bpy.path.abspath(image.filepath))
    assert there.read_bytes() == content and path.read_bytes() == image.packed_file.data
    assert (path == there) is (theirs is None)


def test_an_asset_has_picture_words_and_tags(thing, job):
    assert ops.mark_asset() == {"FINISHED"}
    assert thing.asset_data.description == "a golden teapot"
    assert {tag.name for tag in thing.asset_data.tags} == {"CoGrad3D", "golden", "teapot"}
    assert thing.preview.image_size[0] >= 128
    assert max(thing.preview.image_pixels_float) > 0
    assert not ops.mark_asset.poll()
    with pytest.raises(RuntimeError, match="asset already"):
        ops.mark_asset()
