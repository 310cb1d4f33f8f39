"""Which Python runs, and with which variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend import environment, installation
from backend.environment import Environment
from backend.errors import SetupError

from .installed import put_environment


class TestProcesses:
    def test_what_blender_sets_does_not_leak(self):
        outer = {
            "PYTHONHOME": "/blender",
            "PYTHONPATH": "/blender/lib",
            "LD_LIBRARY_PATH": "/blender/so",
            "PATH": "/bin",
            "HTTPS_PROXY": "p",
        }
        inner = environment.child_environ(outer)
        assert "PYTHONHOME" not in inner and "LD_LIBRARY_PATH" not in inner
        assert inner["PYTHONPATH"] == str(environment.PACKAGE_ROOT)
        assert (inner["PATH"], inner["HTTPS_PROXY"], inner["OMP_WAIT_POLICY"]) == ("/bin", "p", "PASSIVE")

    def test_the_users_wait_policy_is_kept(self, tmp_path):
        assert environment.child_environ({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"
        assert environment.child_environ({"COGRAD3D_CACHE": str(tmp_path)})["NUMBA_CACHE_DIR"] == str(tmp_path / "numba")
        assert environment.child_environ({"NUMBA_CACHE_DIR": "/mine"})["NUMBA_CACHE_DIR"] == "/mine"

    def test_a_containers_cores_are_the_threads(self, monkeypatch):
        monkeypatch.setattr(environment, "visible_cores", lambda: 64)
        monkeypatch.setattr(environment, "cores", lambda: 2)
        inner = environment.child_environ({"MKL_NUM_THREADS": "5"})
        assert [inner[name] for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")] == ["2", "2", "5"]
        monkeypatch.setattr(environment, "cores", lambda: 64)
        assert "OMP_NUM_THREADS" not in environment.child_environ({})

    def test_a_cache_is_named_from_the_home_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert environment.cache_folder({"COGRAD3D_CACHE": "~/cache"}) == tmp_path / "cache"
        assert environment.cache_folder({"COGRAD3D_CACHE": "cache"}) == Path.cwd() / "cache"

    @pytest.mark.skipif(os.name != "posix", reason="Windows gives every user temporary files of their own")
    def test_machine_code_has_a_place_where_the_cache_has_none(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        environ = {"COGRAD3D_CACHE": str(tmp_path / "file")}
        place = Path(environment.child_environ(environ)["NUMBA_CACHE_DIR"])
        assert place == tmp_path / f"cograd3d-{os.getuid()}" and place.stat().st_mode & 0o777 == 0o700
        place.chmod(0o777)  # others could have put something there
        assert environment.child_environ(environ)["NUMBA_CACHE_DIR"] == str(tmp_path / "file" / "numba")
        place.rmdir()
        place.symlink_to(tmp_path)
        assert environment.child_environ(environ)["NUMBA_CACHE_DIR"] == str(tmp_path / "file" / "numba")

    @pytest.mark.skipif(os.name != "posix", reason="another answer there")
    def test_what_cannot_be_started_is_no_python(self, monkeypatch, tmp_path):
        python = tmp_path / "python"
        python.write_text("no program")
        python.chmod(0o755)
        monkeypatch.setenv("COGRAD3D_PYTHON", str(python))
        with pytest.raises(SetupError, match=f"{python} does not start: Exec format error") as error:
            environment.run_inside(python, ["doctor"])
        assert "COGRAD3D_PYTHON" in error.value.remedy

    def test_links_in_a_circle_are_nowhere(self, tmp_path):
        (tmp_path / "circle").symlink_to(tmp_path / "circle")
        assert not environment.is_inside(Environment(tmp_path / "circle"))

    @pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for Python")
    def test_a_command_goes_on_in_the_chosen_python(self, tmp_path):
        python = tmp_path / "python"
        python.write_text('#!/bin/sh\necho "$@"\necho "home=$PYTHONHOME libraries=$LD_LIBRARY_PATH wait=$OMP_WAIT_POLICY"\nexit 7\n')
        python.chmod(0o755)
        environ = {**os.environ, "COGRAD3D_PYTHON": str(python), "LD_LIBRARY_PATH": "/elsewhere"}
        answer = subprocess.run(
            [sys.executable, "-m", "backend", "worker", "--job", "a job"],
            cwd=environment.PACKAGE_ROOT, env=environ, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert answer.returncode == 7, answer.stderr
        assert answer.stdout == "-P -m backend.cli worker --job a job\nhome= libraries= wait=PASSIVE\n"

    def test_a_chosen_python_that_is_not_there(self, monkeypatch, tmp_path):
        monkeypatch.setenv("COGRAD3D_PYTHON", str(tmp_path / "gone"))
        with pytest.raises(SetupError, match="does not exist"):
            environment.ready_python()

    def test_only_a_ready_environment_has_a_python(self, root):
        assert environment.ready_python(Environment(root)) is None
        made = put_environment(root)
        assert environment.ready_python(made) == made.python
        made.marker_file.unlink()
        assert environment.ready_python(made) is None


class TestBasePython:
    def test_this_one(self):
        assert installation._python_version(installation.base_python()) == sys.version_info[:2]

    @pytest.mark.parametrize("wish", ["/nowhere/python", "true"])
    def test_what_is_no_python(self, wish):
        with pytest.raises(SetupError, match=r"is no Python 3\.11, 3\.12 or 3\.13"):
            installation.base_python(wish)
