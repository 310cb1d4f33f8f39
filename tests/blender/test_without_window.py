"""Scripts in a Blender without a window, `blender -b`, where no timer runs: an operator returns when what it began is done."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import sys
import time
from pathlib import Path

import bpy
import pytest

from tests.blender.extension_zip import ROOT

FAKE_INSTALLER = ROOT / "tests" / "addon" / "setup" / "fake_installer.py"
ops = bpy.ops.cograd3d


@pytest.fixture
def has_window() -> bool:
    return False


@pytest.fixture
def worker(fake_worker, addon_module):
    """`worker("quick")`: workers play this from now on, and the panel has a prompt; what they make is not imported."""

    def worker(play: str) -> None:
        fake_worker(play)
        addon_module("setup").supervisor.refresh()
        chosen = bpy.context.scene.cograd3d
        chosen.prompt, chosen.import_when_done = "a red cat", False

    return worker


@pytest.fixture
def real_asset(worker, finished_job_original, tmp_path):
    """Workers leave a real asset."""
    worker("quick")
    script = Path(os.environ["COGRAD3D_PYTHON"])
    asset = shlex.quote(str(finished_job_original / "asset.glb"))
    script.write_text(script.read_text().replace("exec ", f'cp {asset} "$2"\nexec '))
    bpy.context.scene.cograd3d.import_when_done = True


class TestJobs:
    def test_generate_returns_when_the_run_is_done(self, worker, session):
        worker("quick")
        assert ops.generate() == {"FINISHED"}
        (job,) = session.manager().jobs
        assert job.status == "finished" and json.loads((job.path / "state.json").read_text())["status"] == "finished"

    def test_how_far_it_is_is_told(self, worker, capfd):
        worker("steps")  # for two seconds; of a quick run everything may be heard at once, and the last of it told
        ops.generate()
        assert "CoGrad3D | a red cat | Shaping" in capfd.readouterr().out

    def test_the_result_is_in_the_scene(self, real_asset, session):
        assert ops.generate() == {"FINISHED"}
        (thing,) = bpy.data.collections["CoGrad3D"].objects
        assert thing["cograd3d"]["job"] == session.selected_job().id

    @pytest.mark.parametrize(("play", "match"), [("refused", "There is no prior here. Put one there."), ("broken", "a bug")])
    def test_what_went_wrong_is_raised(self, play, match, worker, session):
        worker(play)
        with pytest.raises(RuntimeError, match=match):
            ops.generate()
        assert session.selected_job().status == "failed"

    def test_a_result_that_did_not_come_is_told(self, worker, session):
        """This worker leaves none."""
        worker("quick")
        bpy.context.scene.cograd3d.import_when_done = True
        with pytest.raises(RuntimeError, match=r"cannot be read.*bpy\.ops\.cograd3d\.import_result\(job="):
            ops.generate()
        assert session.selected_job().status == "finished"

    def test_a_result_that_waits_is_told(self, real_asset):
        bpy.ops.mesh.primitive_cube_add()
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            with pytest.raises(RuntimeError, match="Object Mode"):
                ops.generate()
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
        assert ops.import_result() == {"FINISHED"} and bpy.context.active_object["cograd3d"]

    def test_the_same_again(self, worker, session):
        worker("quick")
        ops.generate()
        for operator in (ops.reproduce, ops.retry_seed):
            assert operator() == {"FINISHED"} and session.selected_job().status == "finished"
        assert len(session.manager().jobs) == 3

    def test_continue(self, worker, session):
        """A job of an earlier day, which the script knows by name."""
        worker("broken")
        with pytest.raises(RuntimeError, match="a bug"):
            ops.generate()
        worker("quick")
        name = session.selected_job().id
        assert ops.resume(job=name) == {"FINISHED"}
        assert session.manager().get(name).status == "finished"

    def test_refine(self, real_asset, viewport, finished_job, session):
        ops.import_result(job=finished_job.name)
        thing = bpy.context.active_object
        ops.show_views()
        ops.region_select_all(action="LAGGING")
        assert ops.region_refine(iterations=60) == {"FINISHED"}
        assert session.selected_job().spec.refines and thing["cograd3d"]["job"] == session.selected_job().id

    def test_jobs_on_disk_are_known(self, finished_job, addon):
        assert ops.import_result(job=finished_job.name) == {"FINISHED"}

    def test_the_one_that_is_named_is_meant_whatever_became_of_the_newest(self, worker, finished_job, session):
        worker("broken")
        with pytest.raises(RuntimeError, match="a bug"):
            ops.generate()
        failed = session.selected_job()
        worker("quick")
        ops.generate()
        done = session.selected_job()
        assert ops.resume(job=failed.id) == {"FINISHED"} and failed.status == "finished"
        with pytest.raises(RuntimeError, match="It is finished"):
            ops.resume(job=done.id)
        worker("broken")
        with pytest.raises(RuntimeError, match="a bug"):
            ops.generate()
        assert ops.import_result(job=finished_job.name) == {"FINISHED"}
        with pytest.raises(RuntimeError, match="no result yet"):
            ops.import_result(job=session.selected_job().id)

    def test_the_newest_is_meant_where_none_is_named(self, finished_job, addon):
        assert ops.copy_settings() == {"FINISHED"}
        assert bpy.context.scene.cograd3d.prompt == "a golden teapot"

    def test_nobody_looks_at_jobs_where_nothing_asks_for_them(self, finished_job, session, tmp_path):
        """A render farm is not to take up what some other Blender left."""
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
        assert session.manager().jobs == []


class TestEnvironment:
    @pytest.fixture
    def supervisor(self, addon, addon_module, installed, tmp_path, monkeypatch):
        for name in ("COGRAD3D_PYTHON", "COGRAD3D_ENV"):
            monkeypatch.delenv(name, raising=False)
        preferences = bpy.context.preferences.addons[installed].preferences
        preferences.environment_location = str(tmp_path / "env")
        bpy.context.preferences.system.use_online_access = True
        yield addon_module("setup").supervisor
        for name in ("environment_location", "own_python"):
            preferences.property_unset(name)
        bpy.context.preferences.system.use_online_access = False

    @pytest.fixture
    def play(self, supervisor, addon_module, monkeypatch, tmp_path):
        """`play("crashes")`: every task from now on is that function of fake_installer.py."""

        def play(name: str) -> None:
            command, module = [sys.executable, str(FAKE_INSTALLER), name, str(tmp_path)], addon_module("setup.supervision")
            monkeypatch.setattr(module, "setup_command", lambda *arguments, location: command)
            monkeypatch.setattr(module, "verification_command", lambda python: command)

        return play

    def test_set_up_returns_when_it_is_done(self, play, supervisor, capfd):
        play("progress")
        assert ops.environment_setup() == {"FINISHED"}
        assert not supervisor.situation.phase.is_busy
        assert "CoGrad3D | " in capfd.readouterr().out

    def test_what_went_wrong_is_raised(self, play, supervisor):
        play("fails")
        with pytest.raises(RuntimeError, match="no such host"):
            ops.environment_setup()
        assert supervisor.situation.phase == "failed"

    def test_a_python_that_is_chosen_has_been_tried_out(self, play, supervisor):
        play("verified")
        assert ops.environment_choose_python(filepath=sys.executable) == {"FINISHED"}
        assert supervisor.situation.is_ready

    def test_a_python_that_the_preferences_name_is_tried_out_before_it_is_needed(self, play, supervisor, installed):
        play("verified")
        bpy.context.preferences.addons[installed].preferences.own_python = sys.executable
        assert supervisor.situation.phase.is_busy
        bpy.context.scene.cograd3d.prompt = "a red cat"
        assert ops.generate.poll()


class TestWithWindow:
    """For comparison: nobody is kept waiting."""

    @pytest.fixture
    def has_window(self) -> bool:
        return True

    def test_generate_returns_at_once(self, ordered, session):
        began = time.monotonic()
        job = ordered("long")
        assert time.monotonic() - began < 30 and not job.status.is_over


def test_a_window_is_what_makes_the_difference(addon, installed):
    session = importlib.import_module(f"{installed}.cograd3d_addon.session")
    assert bpy.app.background and not session.has_timer()
