"""The environment's folder: where it is, and its states."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from backend import environment
from backend.environment import Environment, Status

from .installed import put_environment


class TestLocation:
    def test_variable_wins_over_what_was_remembered(self, monkeypatch, tmp_path):
        assert environment.default_location() == environment.data_folder() / "env"
        environment.remember_location(tmp_path / "elsewhere")
        assert environment.default_location() == tmp_path / "elsewhere"
        monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "mine"))
        assert environment.default_location() == tmp_path / "mine"

    def test_is_forgotten(self, tmp_path):
        environment.remember_location(tmp_path / "elsewhere")
        environment.remember_location(None)
        assert environment.default_location() == environment.data_folder() / "env"

    @pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
    def test_follows_the_platform(self):
        assert environment.data_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/cograd3d")
        assert environment.data_folder({}) == Path.home() / ".local/share/cograd3d"
        assert environment.cache_folder({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/cograd3d")
        assert environment.cache_folder({}) == Path.home() / ".cache/cograd3d"

    @pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
    def test_a_relative_path_is_no_place(self):
        """Else there would be another environment wherever a command is given."""
        assert environment.data_folder({"XDG_DATA_HOME": "data"}) == environment.data_folder({})
        assert environment.cache_folder({"XDG_CACHE_HOME": "./cache"}) == environment.cache_folder({})


class TestState:
    def test_absent(self, root):
        assert Environment(root).state().status is Status.ABSENT
        root.mkdir()
        assert Environment(root).state().status is Status.ABSENT

    def test_foreign(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        assert Environment(root).state().status is Status.FOREIGN

    def test_a_file_in_its_place_is_foreign(self, root):
        root.write_text("precious")
        assert Environment(root).state().status is Status.FOREIGN

    def test_ready_with_a_build_of_torch(self, root):
        state = put_environment(root).state(thorough=True)
        assert (state.status, state.packages) == (Status.READY, ())

    def test_interrupted(self, root):
        assert put_environment(root, marker=False).state().status is Status.INTERRUPTED

    @pytest.mark.parametrize("content", ["", "{", "[]", "null"])
    def test_a_damaged_marker_is_none(self, root, content):
        made = put_environment(root)
        made.marker_file.write_text(content)
        assert made.state().status is Status.INTERRUPTED

    def test_outdated(self, root):
        made = put_environment(root)
        made.marker_file.write_text(json.dumps({"requirements": "of another version"}))
        assert made.state().status is Status.OUTDATED

    def test_python_that_is_gone(self, root):
        made = put_environment(root)
        made.python.unlink()
        made.python.symlink_to(root / "nowhere")
        assert made.state().status is Status.DAMAGED

    @pytest.mark.skipif(sys.platform == "win32", reason="an environment has a Python of its own there")
    def test_python_that_has_become_another_version(self, root, tmp_path):
        """As an update of the system leaves it: `python3`, which the environment links to, is the next one."""
        made = put_environment(root)
        made.python.unlink()
        for name in ("python3.99", "python3", "python3.11m"):
            (tmp_path / name).write_text("")
        made.python.symlink_to(tmp_path / "python3.99")
        state = made.state()
        assert (state.status, len(state.packages)) == (Status.DAMAGED, len(environment.requirements())) and "version" in state.detail
        for other in ("python3", "python3.11m"):  # whose names do not tell
            made.python.unlink()
            made.python.symlink_to(tmp_path / other)
            assert made.state().status is Status.READY

    def test_missing_package(self, root):
        made = put_environment(root)
        next(root.rglob("numpy-*.dist-info/RECORD")).unlink()
        state = made.state()
        assert (state.status, [pin.name for pin in state.packages]) == (Status.DAMAGED, ["numpy"])

    def test_the_folder_of_packages_is_listed_once(self, root, monkeypatch):
        """Blender looks every few seconds while it is not ready."""
        made, listed = put_environment(root, marker=False), []
        list_folders = Environment.metadata_folders
        monkeypatch.setattr(Environment, "metadata_folders", lambda self: listed.append(self) or list_folders(self))
        assert made.state().packages == () and len(listed) == 1

    def test_another_version_is_missing(self, root):
        made = put_environment(root)
        folder = next(root.rglob("numpy-*.dist-info"))
        folder.rename(folder.with_name("numpy-0.1.dist-info"))
        assert [pin.name for pin in made.state().packages] == ["numpy"]

    @pytest.mark.parametrize("content", [b"", bytes(200_000), b"\xff\n" * 9, b'"'])
    def test_a_damaged_list_of_files_shows_when_looked_at_thoroughly(self, root, content):
        """Nothing, or zeros, is what a power failure leaves of a file; many zeros are one field that is too long for the parser."""
        made = put_environment(root)
        next(root.rglob("torch-*.dist-info/RECORD")).write_bytes(content)
        assert made.state().status is Status.READY
        assert [pin.name for pin in made.state(thorough=True).packages] == ["torch"]

    @pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("answer"), lambda file: file.write_text("")])
    def test_damaged_files_show_when_looked_at_thoroughly(self, root, damage):
        made = put_environment(root)
        damage(next(root.rglob("site-packages/scipy.py")))
        assert made.state().status is Status.READY
        state = made.state(thorough=True)
        assert (state.status, [pin.name for pin in state.packages]) == (Status.DAMAGED, ["scipy"])
