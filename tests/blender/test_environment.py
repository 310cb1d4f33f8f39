"""The environment's operators, preferences and drawing, on the installed extension. Installers are stand-ins; only the removal is real."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import addon_utils
import bpy
import pytest

from tests.blender.layouts import Drawer, Drawn, Instead, Layout, panel_context

FAKE = Path(__file__).parents[1] / "addon" / "setup" / "fake_installer.py"
OPERATORS = (
    *("environment_setup", "environment_setup_offline", "environment_choose_python", "environment_forget_python", "environment_cancel"),
    *("environment_verify", "environment_repair", "environment_remove", "environment_refresh", "environment_open_log"),
    *("open_folder", "jobs_remove_all", "cache_remove", "allow_online_access"),
)
PREFERENCES = {
    *("environment_location", "own_python", "setup_python", "jobs_folder", "on_quit", "max_running", "preview_points"),
    *("colour_scale", "colour_low", "colour_high", "frustum_size", "gizmo_line_width"),
}
# An enabled extension that finds another Python by these would not look at its own environment
pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COGRAD3D_PYTHON", "COGRAD3D_ENV"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def preferences(no_variables, addon, installed):
    """The extension's preferences, as they were afterwards."""
    found = bpy.context.preferences.addons[installed].preferences
    yield found
    for name in PREFERENCES:
        found.property_unset(name)
    bpy.context.preferences.system.use_online_access = False


@pytest.fixture
def root(preferences, tmp_path) -> Path:
    """The environment's folder, chosen in the preferences; absent."""
    preferences.environment_location = str(tmp_path / "env")
    return tmp_path / "env"


@pytest.fixture
def supervisor(root, addon_module):
    return addon_module("setup").supervisor


@pytest.fixture
def play(addon_module, monkeypatch, tmp_path) -> Callable[[str], None]:
    """`play("crashes")`: every task from now on is that function of fake_installer.py."""
    module = addon_module("setup.supervision")

    def choose(name: str) -> None:
        command = [sys.executable, str(FAKE), name, str(tmp_path)]
        monkeypatch.setattr(module, "setup_command", lambda *arguments, location: command)
        monkeypatch.setattr(module, "verification_command", lambda python: command)
        bpy.context.preferences.system.use_online_access = True

    return choose


@pytest.fixture
def settle(supervisor, pump):
    """Wait, as the timer does, until nothing is being done; returns the situation."""

    def settle():
        pump(lambda: not supervisor.situation.phase.is_busy, what="the end of the task")
        return supervisor.situation

    return settle


def put_environment(root: Path, environment) -> None:
    """What a completed installation looks like on disk."""
    site = root / ("Lib" if os.name == "nt" else "lib/python{}.{}".format(*sys.version_info)) / "site-packages"
    for pin in environment.requirements():
        info = site / f"{pin.name.replace('-', '_')}-{pin.version}.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text("")
    python = environment.Environment(root).python
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (root / environment.OWNER_FILE).write_text("ours")
    verified = {"torch": "2.13.0", "device": "cpu", "threads": 4}
    (root / "installed.json").write_text(json.dumps({"requirements": environment.requirements_hash(), "verified": verified}))


class TestPreferences:
    def test_all_properties_are_there_and_explained(self, preferences):
        described = {p.identifier: p.description for p in preferences.bl_rna.properties}
        assert described.keys() >= PREFERENCES
        assert all(len(described[name]) > 20 for name in PREFERENCES)

    def test_a_scale_for_every_eye(self, preferences, addon_module):
        ramp = addon_module("viewport.colours").Ramp
        scales = [item.identifier for item in preferences.bl_rna.properties["colour_scale"].enum_items]
        assert scales == ["VIRIDIS", "CIVIDIS", "INFERNO", "CUSTOM"]
        for scale in scales[:-1]:
            assert ramp.named(scale) is not None

    def test_folders(self, preferences, tmp_path, addon_module):
        assert preferences.jobs_path() == tmp_path / "jobs"  # of the variable
        preferences.jobs_folder = str(tmp_path / "elsewhere")
        assert preferences.jobs_path() == tmp_path / "elsewhere"
        preferences.jobs_folder = "~/somewhere "
        assert preferences.jobs_path() == Path.home() / "somewhere"
        session = addon_module("session")
        session._read_preferences()
        assert session.manager().root == preferences.jobs_path(), "jobs lie where it says"
        assert preferences.base_python() is None

    @pytest.mark.filterwarnings("ignore:.*does not support blend relative:RuntimeWarning")
    @pytest.mark.parametrize("name", ["jobs_folder", "environment_location", "own_python", "setup_python"])
    def test_a_path_relative_to_the_open_file_becomes_absolute(self, preferences, installed, tmp_path, monkeypatch, addon_module, name):
        monkeypatch.setattr(addon_module("setup").supervisor, "verify", lambda: None)  # nobody tries out a Python that is not there
        (tmp_path / "project").mkdir()
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "project" / "asset.blend"))
        setattr(preferences, name, "//../shared")
        assert getattr(preferences, name) == str(tmp_path / "shared")
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        assert getattr(preferences, name) == str(tmp_path / "shared"), "whatever file is open"

    @pytest.mark.parametrize("name", ["jobs_folder", "environment_location", "own_python", "setup_python"])
    def test_a_relative_path_of_an_earlier_version_does_not_keep_the_extension_off(self, addon, installed, name):
        before = bpy.context.preferences.addons[installed].preferences
        stored = before.bl_system_properties_get() if hasattr(before, "bl_system_properties_get") else before
        stored[name] = "//../shared"
        assert getattr(before, name) == "//../shared"
        addon_utils.disable(installed, default_set=False)  # as when Blender ends: what is kept stays
        addon_utils.enable(installed, default_set=False)
        assert hasattr(bpy.types.Scene, "cograd3d")
        assert getattr(bpy.context.preferences.addons[installed].preferences, name) == ""

    def test_another_folder_is_looked_at(self, root, supervisor, addon_module, preferences, tmp_path):
        assert supervisor.situation.phase == "absent" and supervisor.situation.root == root
        put_environment(tmp_path / "other", addon_module("..backend.environment"))
        preferences.environment_location = str(tmp_path / "other")
        assert supervisor.situation.phase == "ready"
        assert addon_module("setup").worker_python() == supervisor.situation.python
        preferences.environment_location = str(root)
        assert addon_module("setup").worker_python() is None and addon_module("setup").problem()


class TestOperators:
    @pytest.mark.parametrize("name", OPERATORS)
    def test_is_explained(self, addon, name):
        described = getattr(bpy.ops.cograd3d, name).get_rna_type()
        assert len(described.description) > 20 and described.name
        assert all(p.description for p in described.properties if p.identifier not in ("rna_type", "filter_folder"))

    def test_nothing_is_downloaded_without_permission(self, supervisor):
        assert not bpy.app.online_access
        assert not bpy.ops.cograd3d.environment_setup.poll() and not bpy.ops.cograd3d.environment_repair.poll()
        assert bpy.ops.cograd3d.environment_setup_offline.poll() and bpy.ops.cograd3d.environment_choose_python.poll()
        bpy.context.preferences.system.use_online_access = True
        assert bpy.ops.cograd3d.environment_setup.poll()

    def test_what_needs_no_network_is_allowed_without(self, supervisor, root, addon_module):
        put_environment(root, addon_module("..backend.environment"))
        (root / "installed.json").unlink()
        supervisor.refresh()
        assert supervisor.situation.phase == "interrupted" and bpy.ops.cograd3d.environment_setup.poll()

    def test_set_up(self, play, supervisor, settle):
        play("progress")
        assert bpy.ops.cograd3d.environment_setup() == {"FINISHED"}
        assert supervisor.situation.phase == "installing"
        assert not bpy.ops.cograd3d.environment_setup.poll() and not bpy.ops.cograd3d.environment_remove.poll()
        assert bpy.ops.cograd3d.environment_cancel.poll()
        assert settle().phase == "absent"
        assert not bpy.ops.cograd3d.environment_cancel.poll()

    def test_failure_stays_until_somebody_looks_again(self, play, supervisor, settle):
        play("fails")
        bpy.ops.cograd3d.environment_setup()
        situation = settle()
        assert situation.phase == "failed" and "no such host" in situation.message and situation.remedy
        assert bpy.ops.cograd3d.environment_open_log.poll() and bpy.ops.cograd3d.environment_setup.poll()
        assert not bpy.ops.cograd3d.environment_verify.poll()  # there is nothing to try out
        bpy.ops.cograd3d.environment_refresh()
        assert supervisor.situation.phase == "absent"

    def test_cancel(self, play, supervisor, pump):
        play("hangs")
        bpy.ops.cograd3d.environment_setup()
        pump(lambda: supervisor.situation.fraction == 0.5)
        bpy.ops.cograd3d.environment_cancel()
        assert supervisor.situation.phase == "absent"

    def test_the_timer_comes_often_only_while_something_is_done(self, play, supervisor, settle, addon_module):
        session = addon_module("session")
        assert session.poll() == session.IDLE_INTERVAL
        play("hangs")
        bpy.ops.cograd3d.environment_setup()
        assert session.poll() == session.BUSY_INTERVAL
        bpy.ops.cograd3d.environment_cancel()
        session.poll()
        assert session.poll() == session.IDLE_INTERVAL

    def test_a_folder_without_wheels_is_refused(self, supervisor, tmp_path):
        with pytest.raises(RuntimeError, match="no folder with wheels"):
            bpy.ops.cograd3d.environment_setup_offline(directory=str(tmp_path))
        assert supervisor.situation.phase == "absent"

    def test_remove(self, supervisor, root, settle, addon_module):
        """The backend's own command line, run with Blender's own Python."""
        assert not bpy.ops.cograd3d.environment_remove.poll()
        put_environment(root, addon_module("..backend.environment"))
        bpy.ops.cograd3d.environment_refresh()
        assert supervisor.situation.is_ready
        bpy.ops.cograd3d.environment_remove()
        situation = settle()
        assert situation.phase == "absent" and not root.exists(), situation

    def test_verify(self, play, supervisor, root, settle, addon_module):
        assert not bpy.ops.cograd3d.environment_verify.poll()
        put_environment(root, addon_module("..backend.environment"))
        supervisor.refresh()
        play("broken")
        bpy.ops.cograd3d.environment_verify()
        assert settle().phase == "failed" and addon_module("setup").worker_python() is None
        play("verified")
        bpy.ops.cograd3d.environment_verify()
        assert settle().phase == "ready" and addon_module("setup").worker_python()

    def test_existing_python(self, supervisor, preferences, settle, tmp_path):
        python = tmp_path / "python3"
        python.write_text('#!/bin/sh\necho \'{"torch": "2.13.0", "device": "cpu"}\'\n')
        python.chmod(0o755)
        with pytest.raises(RuntimeError, match="is no file"):
            bpy.ops.cograd3d.environment_choose_python(filepath=str(tmp_path / "gone"))
        bpy.ops.cograd3d.environment_choose_python(filepath=str(python))
        assert preferences.own_python == str(python) and supervisor.situation.phase == "verifying"
        assert settle().python == python
        assert not bpy.ops.cograd3d.environment_setup.poll()
        bpy.ops.cograd3d.environment_forget_python()
        assert preferences.own_python == "" and supervisor.situation.phase == "absent"

    def test_the_cache_is_removed_and_nothing_beside_it(self, supervisor, monkeypatch, tmp_path):
        monkeypatch.setenv("COGRAD3D_CACHE", str(tmp_path))
        for name in ("views/cat.safetensors", "numba/kernel.nbi", "thesis.txt"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
        assert bpy.ops.cograd3d.cache_remove() == {"FINISHED"}
        assert not (tmp_path / "views").exists() and not (tmp_path / "numba").exists()
        assert (tmp_path / "thesis.txt").exists()

    def test_what_does_not_fit_is_refused(self, play, supervisor, addon_module, monkeypatch):
        play("progress")
        monkeypatch.setattr(addon_module("..backend.machine"), "free_disk", lambda path: 3e9)
        with pytest.raises(RuntimeError, match=r"needs 6\.3 GB of disk"):
            bpy.ops.cograd3d.environment_setup(allow_cuda=True)
        assert supervisor.situation.phase == "absent"
        assert bpy.ops.cograd3d.environment_setup() == {"FINISHED"}

    def test_folders_that_are_not_there(self, supervisor):
        assert bpy.ops.cograd3d.open_folder(which="ENVIRONMENT") == {"CANCELLED"}


class TestDrawing:
    @pytest.fixture
    def drawn(self, addon_module, preferences) -> Callable[[], tuple[bool, str, str]]:
        """`drawn()`: what the side panel returned, what it says, what the preferences say."""

        def draw() -> tuple[bool, str, str]:
            panel = Drawn()
            is_ready = addon_module("ui.environment").draw_environment(Layout(panel), panel_context())
            type(preferences).draw(Instead(preferences, layout=Layout(whole := Drawn())), panel_context())
            return is_ready, panel.text, whole.text

        return draw

    def test_absent(self, supervisor, drawn):
        bpy.context.preferences.system.use_online_access = True
        is_ready, panel, preferences = drawn()
        assert not is_ready and "not installed yet" in panel and "Set Up..." in panel
        assert "Uninstalling the extension leaves these three" in preferences and "Set Up..." in preferences
        assert all(f"{name}: " in preferences for name in ("Generator", "Jobs", "Cache"))

    def test_the_dialog_follows_what_is_chosen(self, supervisor, addon_module, monkeypatch):
        kind = addon_module("operators.environment").COGRAD3D_OT_environment_setup
        dialog = Drawer(kind, Drawn(), allow_cuda=False)
        monkeypatch.setattr(type(supervisor), "gpus", ())

        def drawn() -> str:
            dialog.layout = Layout(said := Drawn())
            dialog.draw(panel_context())
            return said.text

        dialog.make_plan(bpy.context)
        assert "About 384 MB" in drawn() and "processor" in drawn()
        dialog.allow_cuda = True
        assert "About 2.9 GB" in drawn() and "an NVIDIA GPU" in drawn()
        monkeypatch.setattr(addon_module("..backend.machine"), "free_disk", lambda path: 3e9)
        dialog.allow_cuda = False
        assert "About 384 MB" in drawn()
        dialog.allow_cuda = True
        assert "needs 6.3 GB of disk" in drawn()
        dialog.allow_cuda = False
        monkeypatch.setattr(type(supervisor), "gpus", None)
        assert "still being looked for" in drawn()

    def test_offline_offers_what_works_without_network(self, supervisor, drawn):
        _, panel, _ = drawn()
        assert all(text in panel for text in ("Allow Online Access...", "Install from a Folder of Wheels...", "Use an Existing Python..."))
        assert "Set Up..." not in panel

    def test_progress(self, play, supervisor, pump, drawn):
        play("hangs")
        bpy.ops.cograd3d.environment_setup()
        pump(lambda: supervisor.situation.fraction == 0.5)
        is_ready, panel, preferences = drawn()
        assert not is_ready and panel == "Fetching torch  50% Cancel" and panel in preferences
        bpy.ops.cograd3d.environment_cancel()

    def test_failure(self, play, settle, drawn):
        play("fails")
        bpy.ops.cograd3d.environment_setup()
        settle()
        _, panel, _ = drawn()
        assert "no such host" in panel and "set up again" in panel and "Try Again..." in panel and "Open the Log" in panel

    def test_ready_takes_no_room(self, supervisor, root, addon_module, drawn):
        put_environment(root, addon_module("..backend.environment"))
        supervisor.refresh()
        is_ready, panel, preferences = drawn()
        assert is_ready and panel == "" and "PyTorch 2.13.0" in preferences

    def test_existing_python_that_is_gone(self, supervisor, preferences, tmp_path, drawn):
        preferences.own_python = str(tmp_path / "gone")
        is_ready, panel, _ = drawn()
        assert not is_ready and "is no file" in panel.replace("  ", " ") and "Stop Using This Python" in panel
