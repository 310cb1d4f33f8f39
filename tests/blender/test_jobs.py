"""What can be done with jobs: steer them, order them again, look at them, throw them away."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from tests.blender.refusals import why_grey

ops = bpy.ops.cograd3d


@pytest.fixture
def opened(addon_module):
    """What is handed to the system's programs instead of being opened."""
    paths = []

    class Window:
        path_open = staticmethod(lambda filepath: paths.append(filepath))

    class Operators:
        wm = Window

        def __getattr__(self, name):
            return getattr(bpy.ops, name)

    class Blender:
        ops = Operators()

        def __getattr__(self, name):
            return getattr(bpy, name)

    with pytest.MonkeyPatch.context() as patch:  # undone before the extension is disabled
        for name in ("operators.jobs", "operators.folders"):
            patch.setattr(addon_module(name), "bpy", Blender())
        yield paths


class TestSteering:
    def test_pause_and_continue(self, ordered, pump):
        job = ordered("long")
        ops.pause()
        pump(lambda: job.status.value == "paused", what="the pause")
        assert "paused already" in why_grey(ops.pause)
        ops.resume()
        pump(lambda: job.status.value == "running", what="its going on")

    def test_stop_makes_a_result_of_what_is_there(self, ordered, pump):
        job = ordered("long")
        ops.stop()
        pump(lambda: job.status.is_over, what="the end")
        assert job.status.value == "finished" and job.result is not None
        assert "not running" in why_grey(ops.stop)

    def test_cancel_keeps_what_continue_goes_on_from(self, ordered, pump):
        job = ordered("long")
        pump(lambda: job.progress.iteration > 3, what="some steps")
        ops.cancel()
        pump(lambda: job.status.is_over, what="the end")
        assert job.status.value == "cancelled" and job.checkpoint > 0
        assert "ended already" in why_grey(ops.cancel)
        reached = job.checkpoint
        ops.resume()
        pump(lambda: job.status.value == "running" and job.progress.iteration > reached, what="its going on")

    def test_jobs_wait_for_each_other(self, ordered, session, pump):
        first, second = ordered("long"), None
        ops.generate()
        second = session.selected_job()
        assert second.status.value == "queued"
        session.select_job(second.id)
        ops.show_running()
        assert session.selected_job() is first
        ops.cancel(job=second.id)
        pump(lambda: second.status.is_over, what="the end of the one that waited")

    def test_without_a_running_job(self, session):
        assert "No job is running" in why_grey(ops.show_running)
        for name in ("pause", "resume", "stop", "cancel", "discard_job", "reproduce", "open_log"):
            assert "No job is selected" in why_grey(getattr(ops, name))

    def test_an_error_says_what_to_do(self, ordered, session, pump):
        job = ordered("refused")
        pump(lambda: job.status.is_over, what="the end")
        assert job.status.value == "failed"
        assert (job.error.message, job.error.remedy) == ("There is no prior here.", "Put one there.")


class TestAgain:
    @pytest.fixture
    def done(self, ordered, pump):
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        return job

    def configuration(self, job):
        return json.loads((job.path / "config.json").read_text(encoding="utf-8"))

    def test_the_same(self, done, session):
        bpy.context.scene.cograd3d.prompt = "an owl"
        session.select_job(done.id)
        ops.reproduce()
        again = session.selected_job()
        assert again is not done and again.spec.prompt == "a red cat"
        assert self.configuration(again) == self.configuration(done)

    def test_another_seed(self, done, session):
        session.select_job(done.id)
        ops.retry_seed()
        one, other = self.configuration(done), self.configuration(session.selected_job())
        assert one["run"].pop("seed") != other["run"].pop("seed")
        assert one["optimizer"] == other["optimizer"]

    def test_a_lower_quality(self, done, session, pump):
        session.select_job(done.id)
        ops.retry_lower()
        lower = session.selected_job()
        assert lower.spec.quality == "draft"
        assert self.configuration(lower)["optimizer"]["iterations"] < self.configuration(done)["optimizer"]["iterations"]
        assert "no lower quality" in why_grey(ops.retry_lower)

    def test_into_the_panel(self, done, session):
        chosen = bpy.context.scene.cograd3d
        chosen.prompt, chosen.quality, chosen.seed = "an owl", "high", 99
        session.select_job(done.id)
        ops.copy_settings()
        assert (chosen.prompt, chosen.quality, chosen.seed) == ("a red cat", "normal", 0)


class TestFolders:
    def test_they_are_shown(self, ordered, pump, opened, session, addon_module):
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        ops.open_job_folder()
        ops.open_log()
        ops.open_folder(which="JOBS")
        assert opened == [str(job.path), str(job.folder.log_path), str(session.manager().root)]

    def test_the_installers_log(self, session, fake_worker, opened, addon_module):
        fake_worker("quick")
        supervisor = addon_module("setup").supervisor
        supervisor.refresh()
        assert "Nothing was installed" in why_grey(ops.environment_open_log)
        supervisor.output_file.parent.mkdir(parents=True, exist_ok=True)
        supervisor.output_file.write_text("pip said so")
        supervisor.refresh()
        ops.environment_open_log()
        assert opened == [str(supervisor.output_file)]

    def test_that_of_a_failed_job_was_deleted(self, ordered, pump, opened):
        job = ordered("crash")
        pump(lambda: job.status.is_over, what="the end")
        shutil.rmtree(job.path)
        assert "discard the job" in why_grey(ops.open_job_folder)
        assert opened == []

    def test_one_that_is_not_there_is_not_opened(self, addon, opened, monkeypatch, tmp_path):
        monkeypatch.setenv("COGRAD3D_CACHE", str(tmp_path / "none"))
        assert ops.open_folder(which="CACHE") == {"CANCELLED"}
        assert opened == []

    def test_discarding(self, ordered, session, pump):
        job = ordered("long")
        assert "still running" in why_grey(ops.discard_job)
        assert "no job to remove" in why_grey(ops.jobs_remove_all)
        ops.cancel()
        pump(lambda: job.status.is_over, what="the end")
        ops.discard_job()
        assert not job.path.exists() and session.manager().jobs == []

    def test_what_is_asked_about_is_what_is_discarded(self, ordered, session, pump, addon_module):
        """While the question is open, the list may come to show another job: this one was discarded elsewhere."""
        jobs = [ordered("quick") for _ in range(2)]
        pump(lambda: all(job.status.is_over for job in jobs), what="the end")
        context = SimpleNamespace(window_manager=SimpleNamespace(invoke_confirm=lambda *arguments, **options: {"RUNNING_MODAL"}))
        operator = addon_module("operators.jobs").COGRAD3D_OT_discard_job
        question = SimpleNamespace(job="")
        session.select_job(jobs[0].id)
        operator.invoke(question, context, None)
        shutil.rmtree(jobs[0].path)
        session.manager().scan()
        addon_module("ui.jobs").sync()
        assert session.selected_job() is jobs[1]
        with pytest.raises(RuntimeError, match="no such job any more"):
            ops.discard_job(job=question.job)
        assert jobs[1].path.is_dir()

    def test_removing_all_leaves_what_runs(self, ordered, session, pump):
        done = ordered("quick")
        pump(lambda: done.status.is_over, what="the end")
        running = ordered("long")
        ops.jobs_remove_all()
        assert session.manager().jobs == [running]
        assert not done.path.exists()


class TestWhatOtherJobsNeed:
    """Discarding leaves what a job that is still to run begins with."""

    @pytest.fixture
    def refinement(self, ordered, session, pump, addon_module, fake_worker):
        """A finished job, and one that refines it and runs without having saved anything."""
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        job.folder.splats_path.write_bytes(b"something")
        fake_worker("stuck")
        addon_module("setup").supervisor.refresh()
        spec, config = addon_module("..backend.refinement").refine(job.folder, [])
        manager = session.manager()
        other = manager.submit(spec, config)
        yield job, other
        if other.status.is_live:
            manager.cancel(other)
            manager.cancel(other)  # it listens to nobody

    def test_a_queued_refinement_keeps_its_beginning(self, refinement, session):
        job, other = refinement
        session.select_job(job.id)
        assert other.id in why_grey(ops.discard_job)
        session.select_job(other.id)
        with pytest.raises(RuntimeError, match=other.id):
            ops.discard_job(job=job.id)
        assert job.folder.splats_path.exists()
        ops.discard_job()
        session.select_job(job.id)
        ops.discard_job()
        assert session.manager().jobs == []

    def test_removing_all_leaves_what_runs_and_what_that_needs(self, refinement, session, pump, ordered):
        job, other = refinement
        pump(lambda: other.status.value == "running", what="the refinement")
        ops.generate()
        with pytest.raises(RuntimeError, match=f"{job.id} is still needed: {other.id}"):
            ops.jobs_remove_all()
        assert {left.id for left in session.manager().jobs} == {other.id, job.id} and job.folder.splats_path.exists()

    @pytest.mark.parametrize("backwards", [False, True])
    def test_removing_all_takes_a_refinement_that_waits_along(self, backwards, refinement, session):
        session.manager().jobs.sort(key=lambda job: job is refinement[0], reverse=backwards)
        ops.jobs_remove_all()
        assert session.manager().jobs == []

    def test_a_refinement_keeps_the_shape_that_was_asked_for(self, ordered, session, pump, addon_module):
        bpy.ops.mesh.primitive_cube_add()
        bpy.context.scene.cograd3d.initial_source = "SELECTED"
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        shape = Path(job.spec.initial)
        job.folder.splats_path.write_bytes(b"something")
        spec, config = addon_module("..backend.refinement").refine(job.folder, [])
        other = session.manager().submit(spec, config)
        pump(lambda: other.status.is_over, what="the refinement's end")
        session.select_job(job.id)
        ops.discard_job()
        assert not job.path.exists() and shape.exists()
        session.select_job(other.id)
        ops.retry_lower()
        assert session.selected_job().spec.initial == str(shape)
        ops.discard_job()
        session.select_job(other.id)
        os.utime(shape, (0, 0))
        ops.discard_job()
        assert session.manager().jobs == [] and not shape.exists()

    def test_a_shape_stays_that_a_job_may_need_which_is_not_known_yet(self, ordered, session, pump, addon_module):
        bpy.ops.mesh.primitive_cube_add()
        bpy.context.scene.cograd3d.initial_source = "SELECTED"
        job = ordered("quick")
        pump(lambda: job.status.is_over, what="the end")
        bpy.context.scene.cograd3d.initial_source = "NONE"
        ops.generate()
        other, shape = session.selected_job(), Path(job.spec.initial)
        pump(lambda: other.status.is_over, what="the other's end")
        os.utime(shape, (0, 0))
        session.manager()._forget(job)  # as just after Blender has started
        ops.discard_job(job=other.id)
        assert shape.exists() and session.manager().get(job.id) is not None
        (job.path / "spec.json").write_text("{")
        (job.path / "state.json").touch()
        ops.generate()
        other = session.selected_job()
        pump(lambda: other.status.is_over, what="the other's end")
        ops.discard_job(job=other.id)
        assert shape.exists(), "nobody knows what a damaged job began with"


@pytest.mark.parametrize(("name", "opens"), [("show_environment", "addon_show"), ("allow_online_access", "userpref_show")])
def test_preferences_are_opened(addon_module, name, opens):
    """In a window of their own, which there is none of here: that they ask for it is what can be seen."""
    asked = []

    class Operators:
        def __getattr__(self, module):
            class Module:
                def __getattr__(self, operator):
                    return lambda **arguments: asked.append((operator, arguments))

            return Module()

    class Blender:
        ops = Operators()
        app = bpy.app

    module = addon_module("operators.jobs" if name == "show_environment" else "operators.folders")
    with pytest.MonkeyPatch.context() as patch:  # undone before the extension is disabled
        patch.setattr(module, "bpy", Blender())
        getattr(ops, name)()
    assert [operator for operator, _ in asked] == [opens]
