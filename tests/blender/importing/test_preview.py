"""What grows in the scene while a job runs: one object, in a collection of its own, gone when the job ends; never the user's concern."""

from __future__ import annotations

import shutil

import bpy
import numpy as np
import pytest

PREVIEW = "CoGrad3D Preview"


@pytest.fixture
def running(addon, addon_module, fake_worker, finished_job, session, pump):
    """A job that goes on and on, ordered in the panel, with Gaussians to show: those of the finished one."""
    fake_worker("long")
    addon_module("setup").supervisor.refresh()
    bpy.context.scene.cursor.location = (1.0, 2.0, 0.0)
    bpy.context.scene.cograd3d.prompt, bpy.context.scene.cograd3d.quality = "a red cat", "draft"
    bpy.ops.cograd3d.generate()
    job = session.selected_job()
    pump(lambda: job.status.value == "running", what="the run")
    for name in ("preview.png", "preview.ply"):
        shutil.copy(finished_job / name, job.path / name)
    yield job
    if not job.status.is_over:
        session.manager().cancel(job)
        pump(lambda: job.status.is_over, what="the job's end")


@pytest.fixture
def tell(running, session, addon_module, pump):
    """`tell(iteration)`: the run has a new preview; what is in the scene then."""
    protocol, preview = addon_module("..backend.protocol"), addon_module("importing.preview")
    manager = session.manager()

    def tell(iteration: int):
        event = protocol.PreviewReady(iteration=iteration, image="preview.png", splats="preview.ply")
        running.preview = event
        for listener in list(manager.listeners):
            listener(running, event)
        pump(lambda: not preview._reader.is_busy, what="the preview")
        return preview.object_of(running.id)

    return tell


def cancel(session, job, pump):
    session.manager().cancel(job)
    pump(lambda: job.status.is_over, what="the job's end")


def test_it_is_there_and_not_in_the_way(running, tell):
    thing = tell(1)
    assert [collection.name for collection in thing.users_collection] == [PREVIEW]
    assert thing.hide_render and thing.hide_select
    assert len(thing.data.vertices) > 100
    assert bpy.context.view_layer.objects.active is not thing
    middle = np.array([vertex.co for vertex in thing.data.vertices]).mean(axis=0)
    np.testing.assert_allclose((thing.matrix_world @ type(thing.location)(middle))[:2], (1.0, 2.0), atol=0.2)


def test_it_changes_in_place(running, tell):
    first = tell(1)
    name, mesh = first.name, first.data.name
    second = tell(2)
    assert (second.name, second.data.name) == (name, mesh)
    assert len([thing for thing in bpy.data.objects if "cograd3d_preview" in thing]) == 1


def test_it_goes_with_all_it_was_made_of(running, tell, session, pump):
    before = {kind: set(getattr(bpy.data, kind).keys()) for kind in ("objects", "meshes", "materials", "collections", "images")}
    tell(1)
    assert PREVIEW in bpy.data.collections
    cancel(session, running, pump)
    after = {kind: set(getattr(bpy.data, kind).keys()) for kind in before}
    assert after == before


def test_a_copy_that_the_user_took_stays(running, tell, session, pump):
    first = tell(1)
    mine, copy = bpy.data.collections.new("Mine"), first.copy()
    copy.data = first.data.copy()
    bpy.context.scene.collection.children.link(mine)
    mine.objects.link(copy)
    copy.name = "Kept"
    cancel(session, running, pump)
    assert [thing.name for thing in bpy.data.objects if "Preview" in thing.name] == [] and PREVIEW not in bpy.data.collections
    assert mine.objects[0].name == "Kept" and len(mine.objects[0].data.vertices) > 100
    assert "cograd3d_preview" not in mine.objects[0] and mine.objects[0].data.materials[0] is not None


def test_deleting_it_is_for_good(running, tell):
    bpy.data.objects.remove(tell(1))
    assert tell(2) is None
    assert PREVIEW not in bpy.data.collections


def test_undo_does_not_take_it_away(running, tell, pump, addon_module):
    bpy.ops.ed.undo_push(message="before")
    tell(1)
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.ed.undo_push(message="cube")
    bpy.ops.ed.undo()
    pump(lambda: addon_module("importing.preview").object_of(running.id) is not None, what="the preview's return", timeout=10)


def test_it_is_not_brought_into_another_file(running, tell, pump, session, addon_module):
    tell(1)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert tell(2) is None
    assert PREVIEW not in bpy.data.collections


def test_a_damaged_file_is_only_a_missing_picture(running, tell):
    (running.path / "preview.ply").write_bytes(b"ply\nnothing")
    assert tell(1) is None
    assert running.status.value == "running"


def held() -> dict[str, set[str]]:
    return {kind: set(getattr(bpy.data, kind).keys()) for kind in ("objects", "meshes", "materials", "collections", "images")}


class TestWhileBlenderRenders:
    """The render's thread goes through the same data: none is made or removed until it is done."""

    def test_nothing_is_made(self, running, tell, rendering, session, pump, addon_module):
        before = held()
        rendering(True)
        assert tell(1) is None and held() == before
        rendering(False)
        session.poll()
        assert addon_module("importing.preview").object_of(running.id) is not None, "it is made up for"

    def test_nothing_is_removed(self, running, tell, rendering, session, pump):
        before = held()
        tell(1)
        shown = held()
        rendering(True)
        cancel(session, running, pump)
        session.poll()
        assert held() == shown
        rendering(False)
        session.poll()
        assert held() == before

    def test_one_that_came_and_went_meanwhile_was_never_there(self, running, tell, rendering, session, pump):
        before = held()
        rendering(True)
        tell(1)
        cancel(session, running, pump)
        assert held() == before
        rendering(False)
        session.poll()
        assert held() == before

    def test_the_latest_is_shown_afterwards(self, running, tell, rendering, session, addon_module, monkeypatch):
        tell(1)
        preview, shown = addon_module("importing.preview"), []
        monkeypatch.setattr(preview.preview_mesh, "fill", lambda mesh, gaussians: shown.append(gaussians))
        rendering(True)
        tell(2)
        tell(3)
        assert not shown
        rendering(False)
        session.poll()
        assert shown == [preview._previews[running.id].gaussians]

    @pytest.mark.parametrize("ends", [False, True])
    def test_deleting_it_is_for_good(self, ends, running, tell, rendering, session, pump):
        before = held()
        thing = tell(1)
        rendering(True)
        bpy.data.objects.remove(thing)
        assert tell(2) is None and PREVIEW in bpy.data.collections
        if ends:
            cancel(session, running, pump)
        rendering(False)
        session.poll()
        assert held() == before
        if not ends:
            assert tell(3) is None

    def test_one_whose_job_goes_on_again_stays(self, running, tell, rendering, session, addon_module):
        preview = addon_module("importing.preview")
        name = tell(1).name
        rendering(True)
        preview.remove(running.id)
        tell(2)
        rendering(False)
        session.poll()
        assert preview.object_of(running.id).name == name and len(preview.find(PREVIEW)) == 1

    def test_switching_the_extension_off_takes_nothing_away_either(self, running, tell, rendering, addon_module):
        preview = addon_module("importing.preview")
        tell(1)
        shown = held()
        rendering(True)
        preview.unregister()
        assert held() == shown
        preview.register()
        rendering(False)

    def test_pictures_are_read_when_it_is_done(self, running, rendering, addon_module, monkeypatch):
        icons, read = addon_module("ui.icons"), []
        monkeypatch.setattr(icons, "_read", read.append)
        path = running.path / "preview.png"
        rendering(True)
        assert icons.icon(path, 1) == 0
        assert icons._load_in_turn() >= 0.1 and not read, "it asks again, and not too often"
        rendering(False)
        icons._load_in_turn()
        assert read == [path]
