"""Results that come by themselves when their job is done: at once, or when nothing is in the way any more."""

from __future__ import annotations

import os
import socket

import bpy
import pytest

PREVIEW = "CoGrad3D Preview"


@pytest.fixture
def automatic(addon_module):
    return addon_module("importing.automatic")


@pytest.fixture
def ordered(job, addon_module):
    """The job, as if it had been ordered from the open file."""
    order = addon_module("importing").order_for(bpy.context.scene)
    addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
    return job


@pytest.fixture
def end(ordered, session, addon_module, pump):
    """Tell everybody that the job has come to its good end, with a preview of it still in the scene."""
    protocol, preview = addon_module("..backend.protocol"), addon_module("importing.preview")

    def tell(event) -> None:
        for listener in list(session.manager().listeners):
            listener(ordered, event)

    def end(with_preview: bool = True) -> None:
        if with_preview:
            preview.keep(ordered.id)  # only jobs that run have one
            ordered.preview = protocol.PreviewReady(iteration=1, image="preview.png", splats="preview.ply")
            tell(ordered.preview)
            pump(lambda: preview.object_of(ordered.id) is not None, what="the preview")
        tell(protocol.Bye(reason="finished", exit_code=0))

    return end


def results() -> list[bpy.types.Object]:
    return [thing for thing in bpy.data.objects if "cograd3d" in thing]


def nothing_of_the_preview() -> bool:
    datablocks = [*bpy.data.objects, *bpy.data.meshes, *bpy.data.materials]
    return not any("cograd3d_preview" in datablock for datablock in datablocks) and PREVIEW not in bpy.data.collections


def test_comes_at_once_in_place_of_the_preview(end, ordered, automatic):
    end()
    (thing,) = results()
    assert thing["cograd3d"]["job"] == ordered.id
    assert nothing_of_the_preview()
    assert automatic.state(ordered) == ""


def test_is_one_undo_step(end, session, pump):
    bpy.ops.ed.undo_push(message="before")
    end()
    assert len(results()) == 1
    bpy.ops.ed.undo()
    session.poll()
    assert not results() and nothing_of_the_preview() and "CoGrad3D" not in bpy.data.collections
    bpy.ops.ed.redo()
    session.poll()
    assert len(results()) == 1 and nothing_of_the_preview()


def test_waits_while_something_is_edited(end, ordered, automatic, session, pump):
    mesh = bpy.data.meshes.new("Mine")
    mine = bpy.data.objects.new("Mine", mesh)
    bpy.context.scene.collection.objects.link(mine)
    bpy.context.view_layer.objects.active = mine
    bpy.ops.object.mode_set(mode="EDIT")
    end()
    session.poll()
    assert not results() and "Mine is being edited" in automatic.state(ordered)
    assert not nothing_of_the_preview(), "the preview stays until the result is there"
    bpy.ops.object.mode_set(mode="OBJECT")
    pump(results, what="the result", timeout=10)
    assert nothing_of_the_preview() and automatic.state(ordered) == ""


def test_comes_although_another_folder_of_jobs_is_chosen_while_it_waits(end, ordered, session, pump, installed, tmp_path):
    preferences = bpy.context.preferences.addons[installed].preferences
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    end()
    try:
        preferences.jobs_folder = str(tmp_path / "elsewhere")
        pump(lambda: session.manager().jobs == [], what="the other folder")
        assert results() == []
        bpy.ops.object.mode_set(mode="OBJECT")
        pump(results, timeout=5.0, what="the result")
    finally:
        preferences.property_unset("jobs_folder")
    assert nothing_of_the_preview()


def test_waits_on_over_a_reload_of_the_extension(end, ordered, automatic, session, pump):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    end(with_preview=False)
    session.poll()
    automatic.unregister()
    automatic.register()
    assert automatic.state(ordered) == ""
    session._tell_tick_listeners()
    session.poll()
    assert not results() and "is being edited" in automatic.state(ordered)
    bpy.ops.object.mode_set(mode="OBJECT")
    pump(results, what="the result", timeout=10)


@pytest.mark.parametrize("blender", ["another", "one that is gone"])
def test_it_comes_into_one_blender_of_those_that_have_the_file_open(blender, end, ordered, automatic, addon_module, monkeypatch):
    claim = addon_module("jobs.claim")
    monkeypatch.setattr(claim, "pid_is_alive", lambda pid: blender == "another")
    other = claim.Claim(host=socket.gethostname(), blender=os.getppid(), session="another")
    claim.write_claim(ordered.path, other)
    end(with_preview=False)
    assert bool(results()) is (blender != "another")
    assert automatic.state(ordered) == ""


def test_waits_while_blender_renders(end, ordered, automatic, session, pump, rendering):
    rendering(True)
    end(with_preview=False)
    session.poll()
    assert not results() and "render" in automatic.state(ordered)
    rendering(False)
    pump(results, what="the result", timeout=10)
    assert len(results()) == 1 and automatic.state(ordered) == ""


class TestRepeatingTheOperator:
    """As Adjust Last Operation, Repeat Last and Repeat History do, which keep it and its job."""

    @pytest.fixture
    def repeat(self, addon, ordered):
        return lambda job=ordered.id: bpy.ops.cograd3d.bring_result(job=job)

    def test_brings_nothing_twice(self, end, repeat):
        end()
        assert repeat() == {"CANCELLED"}
        assert len(results()) == 1

    def test_brings_what_was_undone(self, end, ordered, repeat):
        bpy.ops.ed.undo_push(message="before")
        end()
        bpy.ops.ed.undo()
        assert not results()
        assert repeat() == {"FINISHED"} and repeat() == {"CANCELLED"}
        assert [thing["cograd3d"]["job"] for thing in results()] == [ordered.id]

    def test_brings_nothing_into_another_file(self, end, repeat):
        end()
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        assert repeat() == {"CANCELLED"} and not results()

    def test_of_a_job_that_is_gone(self, end, ordered, repeat):
        end()
        bpy.ops.cograd3d.discard_job(job=ordered.id)
        bpy.data.objects.remove(results()[0])
        assert repeat() == {"CANCELLED"} and repeat("") == {"CANCELLED"} and not results()

    def test_leaves_the_preview_of_a_job_that_goes_on_again(self, end, ordered, repeat, addon_module, pump):
        end()
        bpy.data.objects.remove(results()[0])
        ordered.status = addon_module("jobs").JobStatus.RUNNING
        assert repeat() == {"CANCELLED"} and not results()
        ordered.status = addon_module("jobs").JobStatus.FINISHED

    def test_waits_for_what_an_import_waits_for(self, end, rendering):
        end()
        rendering(True)
        with pytest.raises(RuntimeError, match="waits until Blender is done rendering, baking or calculating"):
            bpy.ops.cograd3d.bring_result()


def test_one_that_is_damaged_is_told(end, ordered, automatic):
    ordered.folder.asset_path.write_bytes(b"")
    end()
    assert not results() and nothing_of_the_preview()
    assert "damaged" in automatic.state(ordered)


def test_comes_into_its_scene_by_whatever_name(end, ordered):
    bpy.context.scene.name = "Renamed"
    end()
    assert len(results()) == 1 and results()[0].name in bpy.context.scene.objects


def test_a_copy_of_the_scene_is_another(end, ordered):
    scene = bpy.context.scene
    bpy.ops.scene.new(type="FULL_COPY")
    end()
    assert results()[0].name in scene.objects


def test_another_scene_that_got_its_name_is_not_it(end, ordered):
    scene = bpy.context.scene
    name, scene.name = scene.name, "Mine"
    other = bpy.data.scenes.new(name)
    assert other.name == name
    end()
    assert results()[0].name in scene.objects and not other.objects


def test_a_copy_of_the_scene_is_not_it_by_whatever_name(job, addon_module):
    """What is ordered from the copy comes into the copy."""
    order_for, placing, placement = addon_module("importing").order_for, addon_module("importing.placing"), addon_module("placement")
    original = bpy.context.scene
    first = placement.Home(**order_for(original)["home"])
    bpy.ops.scene.new(type="FULL_COPY")
    copy = bpy.context.scene
    second = placement.Home(**order_for(copy)["home"])
    copy.name = "Variant"
    assert (placing.home_scene(first), placing.home_scene(second)) == (original, copy)
    bpy.data.scenes.remove(original)
    assert (placing.home_scene(first), placing.home_scene(second)) == (None, copy)


@pytest.mark.parametrize("is_reopened", [False, True])
def test_undo_between_two_orders_does_not_take_the_first_ones_scene(is_reopened, end, ordered, addon_module, tmp_path):
    """It takes the key that the first gave the scene."""
    placing, placement = addon_module("importing.placing"), addon_module("placement")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.context.scene.cograd3d.key = ""
    bpy.ops.ed.undo_push(message="before")
    home = addon_module("importing").order_for(bpy.context.scene)["home"]
    bpy.context.scene.cursor.location.x = 1.0
    bpy.ops.ed.undo_push(message="moved")
    bpy.ops.ed.undo()
    assert bpy.context.scene.cograd3d.key == ""
    addon_module("importing").order_for(bpy.context.scene)
    if is_reopened:
        bpy.ops.wm.save_mainfile()
        bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    assert placing.home_scene(placement.Home(**home)) == bpy.context.scene


def test_says_so_if_its_scene_is_gone(end, ordered, automatic):
    scene = bpy.context.scene
    bpy.data.scenes.new("Another")
    bpy.data.scenes.remove(scene)
    end(with_preview=False)
    assert not results() and "scene" in automatic.state(ordered)


def test_an_error_that_nobody_thought_of_is_told(end, ordered, automatic, monkeypatch):
    def fail(*_):
        raise ValueError("never heard of")

    monkeypatch.setattr(automatic, "bring", fail)
    end()
    assert nothing_of_the_preview() and "never heard of" in automatic.state(ordered)


def test_imported_by_hand_while_it_waits(end, ordered, session):
    mine = bpy.data.objects.new("Mine", bpy.data.meshes.new("Mine"))
    bpy.context.scene.collection.objects.link(mine)
    bpy.context.view_layer.objects.active = mine
    bpy.ops.object.mode_set(mode="EDIT")
    end()
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.cograd3d.import_result(job=ordered.id)
    session.poll()
    assert len(results()) == 1 and nothing_of_the_preview()


def test_stays_away_if_not_wanted(end):
    bpy.context.scene.cograd3d.import_when_done = False
    end()
    assert not results()


def saved(path) -> str:
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return bpy.data.filepath


class TestAFileThatWasSavedElsewhere:
    """What was ordered from it comes when it is opened again, by whatever name."""

    def test_for_the_first_time(self, end, ordered, automatic, tmp_path):
        path = saved(tmp_path / "mine.blend")
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        bpy.ops.wm.open_mainfile(filepath=path)
        end()
        assert len(results()) == 1 and automatic.state(ordered) == ""

    @pytest.fixture
    def ordered_in_a(self, job, addon_module, tmp_path):
        """The job, as if it had been ordered from a.blend."""
        path = saved(tmp_path / "a.blend")
        order = addon_module("importing").order_for(bpy.context.scene)
        addon_module("..backend.files").atomic_write_json(job.path / "blender.json", order)
        bpy.ops.wm.save_mainfile()
        return path

    @pytest.fixture
    def is_home(self, job, addon_module):
        placing, placement = addon_module("importing.placing"), addon_module("placement")
        return lambda: placing.home_scene(placement.read_home(job.path)) == bpy.context.scene

    @pytest.mark.parametrize("reopened", [False, True])
    def test_under_another_name(self, ordered_in_a, is_home, tmp_path, reopened):
        if reopened:
            bpy.ops.wm.open_mainfile(filepath=ordered_in_a)
        path = saved(tmp_path / "b.blend")
        assert is_home(), "at once"
        bpy.ops.wm.open_mainfile(filepath=path)
        assert is_home()
        bpy.ops.wm.open_mainfile(filepath=ordered_in_a)
        assert not is_home(), "it went with the file"

    def test_a_copy_is_not_it(self, ordered_in_a, is_home, tmp_path):
        copy = str(tmp_path / "copy.blend")
        bpy.ops.wm.save_as_mainfile(filepath=copy, copy=True)
        assert is_home()
        bpy.ops.wm.open_mainfile(filepath=copy)
        assert not is_home()
        bpy.ops.wm.open_mainfile(filepath=ordered_in_a)
        assert is_home()

    def test_another_file_is_not_it(self, ordered_in_a, is_home, tmp_path):
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        other = saved(tmp_path / "other.blend")
        bpy.ops.wm.open_mainfile(filepath=other)
        assert not is_home()
        bpy.ops.wm.open_mainfile(filepath=ordered_in_a)
        assert is_home()

    def test_what_stands_there_is_looked_up_again(self, ordered, session, addon_module, tmp_path):
        """A run that goes on shows its views in the scene that it was ordered from."""
        standing, kinds = addon_module("importing.standing"), addon_module("jobs")
        ordered.status = kinds.JobStatus.RUNNING
        assert standing.standing(ordered, bpy.context.scene).is_here
        path = saved(tmp_path / "mine.blend")
        bpy.ops.wm.open_mainfile(filepath=path)
        assert standing.standing(ordered, bpy.context.scene).is_here
        ordered.status = kinds.JobStatus.FINISHED

    def test_a_disk_that_takes_nothing_does_not_keep_blender_from_saving(self, ordered, addon_module, tmp_path, monkeypatch, caplog):
        error = addon_module("..backend.errors").OutputError("It could not be written.")

        def refuse(*_):
            raise error

        monkeypatch.setattr(addon_module("importing.placing"), "move_home", refuse)
        path = saved(tmp_path / "mine.blend")
        assert path.endswith("mine.blend") and "could not be written" in caplog.text

    def test_nobody_listens_when_the_extension_is_off(self, ordered, addon_module):
        placing, handlers = addon_module("importing.placing"), bpy.app.handlers
        lists = (handlers.load_post, handlers.save_pre, handlers.save_post)
        ours = [sum(function.__module__ == placing.__name__ for function in functions) for functions in lists]
        assert ours == [1, 1, 1]
        placing.unregister()
        assert not any(function.__module__ == placing.__name__ for functions in lists for function in functions)
        placing.register()


def test_does_not_come_into_another_file(ordered, session, addon_module):
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    for listener in list(session.manager().listeners):
        listener(ordered, addon_module("..backend.protocol").Bye(reason="finished", exit_code=0))
    assert not results()
