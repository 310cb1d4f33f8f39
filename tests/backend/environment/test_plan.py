"""What is pinned, and what an installation of it would take."""

from __future__ import annotations

import os
import sys

import pytest

from backend import environment, installation, machine
from backend.environment import Environment, Requirement
from backend.errors import ResourceError, SetupError

from .installed import put_environment


class TestRequirements:
    def test_every_line_is_an_exact_pin(self):
        pins = environment.requirements()
        assert {"torch", "numpy", "numba", "diffusers", "gsplat", "fast-simplification"} <= {pin.name for pin in pins}
        assert len({pin.name for pin in pins}) == len(pins)
        assert all(pin.version[0].isdigit() and "*" not in pin.version for pin in pins)

    def test_other_systems_are_left_out(self):
        text = 'a==1\n# comment\n\nb_B==2 ; sys_platform == "plan9"\nc.c==3 ; sys_platform == "' + sys.platform + '"\n'
        assert environment.requirements(text) == [Requirement("a", "1"), Requirement("c-c", "3")]

    @pytest.mark.parametrize("line", ["torch", "torch>=2", "torch==2 ; python_version > '3'", "-r other.txt"])
    def test_anything_else_is_refused(self, line):
        with pytest.raises(SetupError, match="no exact pin"):
            environment.requirements(line)


class TestPlan:
    def test_says_size_and_place(self, root):
        text = installation.plan(Environment(root)).describe()
        assert "384 MB to download" in text and str(root) in text and not root.exists()

    def test_build_follows_the_machine(self, root, monkeypatch):
        assert installation.plan(Environment(root)).build == "cpu"
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0"])
        plan = installation.plan(Environment(root))
        assert plan.build == "cuda" and "2.9 GB" in plan.describe()

    def test_takes_for_granted_what_is_known(self, root, monkeypatch):
        """For a dialog, which cannot wait for a driver, nor for a look at every file."""
        made = put_environment(root, marker=False)
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: pytest.fail("looked for"))
        monkeypatch.setattr(environment, "_record_holds", lambda record: pytest.fail("thorough"))
        builds = [installation.plan(made, thorough=False, gpus=gpus).build for gpus in ((), ("GPU 0",))]
        assert builds == (["cpu", "cpu"] if sys.platform == "darwin" else ["cpu", "cuda"])

    def test_refuses_somebody_elses_folder(self, root):
        root.mkdir()
        (root / "thesis.tex").write_text("precious")
        with pytest.raises(SetupError, match="not an environment of CoGrad3D"):
            installation.plan(Environment(root))

    @pytest.mark.parametrize("name", [f"a{os.pathsep}b", "a\udcff"])
    def test_refuses_names_that_venv_refuses(self, root, name):
        with pytest.raises(SetupError, match="No environment can be made in") as error:
            installation.plan(Environment(root / name))
        assert "--location" in error.value.remedy

    def test_refuses_a_full_disk(self, root, monkeypatch):
        monkeypatch.setattr(machine, "free_disk", lambda path: 1_000_000_000)
        with pytest.raises(ResourceError, match=r"needs 1\.9 GB of disk, and .* has 1\.0 GB free"):
            installation.plan(Environment(root))
        put_environment(root, marker=False)  # nothing much is missing any more
        installation.plan(Environment(root))

    def test_wheels_need_room_where_they_go_and_none_for_an_installation(self, monkeypatch, tmp_path):
        there, temporary = tmp_path / "wheels", tmp_path / "tmp"
        there.mkdir()
        temporary.mkdir()
        monkeypatch.setattr(installation.tempfile, "tempdir", str(temporary))
        monkeypatch.setattr(installation._Installer, "make_venv", lambda self, python, clear: True)
        filled = []
        monkeypatch.setattr(installation._Installer, "download", lambda self, folder: filled.append(folder))
        size = installation.DOWNLOAD_BYTES["cpu"]
        free = {there: size, temporary: size}
        monkeypatch.setattr(machine, "free_disk", lambda path: free[path])
        installation.download_wheels(there)
        assert filled == [there]
        for full, words in ((there, "another disk"), (temporary, "TMPDIR")):
            free.update({there: size, temporary: size, full: size - 1})
            with pytest.raises(ResourceError, match=r"take about 384 MB, and .* has 384 MB free") as error:
                installation.download_wheels(there)
            assert str(full) in error.value.message and words in error.value.remedy and "--location" not in error.value.remedy
        (there / "a.whl").write_bytes(b"x")
        installation.download_wheels(there)  # what is there already needs no room

    def test_refuses_a_folder_without_wheels(self, root, tmp_path):
        with pytest.raises(SetupError, match="no folder with wheels"):
            installation.plan(Environment(root), wheels=tmp_path)
