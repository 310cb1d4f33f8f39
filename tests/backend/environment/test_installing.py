"""The installer, with pip played by a stand-in."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backend import environment, installation, machine
from backend.environment import Environment, Status
from backend.errors import ResourceError, SetupError
from backend.installation import VerificationError
from backend.pip_process import Pip, Progress, silent

from .installed import put_environment, put_package

TORCH = next(pin for pin in environment.requirements() if pin.name == "torch")
CUDA_PACKAGES = ["filelock", 'nvidia-cublas==13.1; platform_system == "Linux"', "triton==3.7.1"]


class FakePip:
    """Plays the processes of an installation: what is asked of pip is recorded, and happens at once.

    Attributes:
        reachable: whether PyTorch's own index answers.
        general: what the general index's torch requires.
        break_at: ends the installation at the package of this name, as kill would.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reachable = True
        self.general = CUDA_PACKAGES
        self.break_at = ""
        self.calls: list[list[str]] = []
        self.installed: list[str] = []

    def run(self, command: list[str], hear: Callable[[str], None] = lambda line: None) -> int:
        if command[1:3] == ["-m", "venv"]:
            put_environment(self.root, marker=False)
            for info in self.root.rglob("*.dist-info"):
                (info / "RECORD").unlink()
                info.rmdir()
            return 0
        assert command[2:4] == ["-m", "pip"]
        arguments = command[4:]
        self.calls.append(arguments)
        own_index = any(installation.TORCH_INDEX in argument for argument in arguments)
        if own_index and not self.reachable:
            hear("ERROR: No matching distribution found for torch")
            return 1
        if "--dry-run" in arguments:
            assert "--no-deps" in arguments  # else pip would download whatever it looks at
            report = {"install": [{"metadata": {"name": "torch", "requires_dist": ["filelock"] if own_index else self.general}}]}
            Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps(report))
        elif "--requirement" in arguments:
            for pin in Environment(self.root).state(thorough=True).packages:
                if pin.name == self.break_at:
                    raise KeyboardInterrupt
                put_package(self.root, pin)
                self.installed.append(pin.name)
        elif own_index:
            put_package(self.root, TORCH, "+cpu")
            self.installed.append("torch")
        return 0

    @property
    def downloads(self) -> list[list[str]]:
        """The calls that install packages of ours, without those that only look and pip's own update."""
        return [call for call in self.calls if call[0] == "install" and "--dry-run" not in call and installation.PIP not in call]


@pytest.fixture
def pip(root, monkeypatch) -> FakePip:
    fake = FakePip(root)
    monkeypatch.setattr(Pip, "run", lambda self, command, hear=lambda line: None: fake.run(command, hear))
    monkeypatch.setattr(installation, "verify", lambda environment, report: {"torch": TORCH.version})
    return fake


def install(root: Path, **options) -> dict:
    return installation.install(installation.plan(Environment(root)), **options)


def let_pip_fail(root, monkeypatch, reason: str) -> None:
    """Numpy is missing, and pip ends with this error where it is to install it."""

    def fails(self, command, hear=lambda line: None):
        hear(f"ERROR: {reason}\n")
        return 1 if "--requirement" in command else 0

    put_environment(root, marker=False)
    next(root.rglob("numpy-*.dist-info/RECORD")).unlink()
    monkeypatch.setattr(Pip, "run", fails)


class TestInstall:
    def test_cpu_build_from_pytorchs_index_then_the_rest(self, root, pip):
        marker = install(root)
        first, second = pip.downloads
        assert f"{installation.TORCH_INDEX}/cpu" in first and "--no-deps" in first and str(TORCH) in first
        assert "--requirement" in second and "--index-url" not in second
        assert Environment(root).state(thorough=True).status is Status.READY
        assert marker["verified"] == {"torch": TORCH.version} and marker["packages"]["torch"] == TORCH.version

    def test_plain_pin_where_that_index_is_out_of_reach(self, root, pip):
        pip.reachable, pip.general = False, ["filelock", "numpy"]
        install(root)
        assert [("--requirement" in call) for call in pip.downloads] == [True]

    def test_never_cuda_packages_on_a_cpu_machine(self, root, pip):
        pip.reachable = False
        with pytest.raises(SetupError, match=r"only the CUDA build, 2\.9 GB") as error:
            install(root)
        assert "--offline-wheels" in error.value.remedy and "--allow-cuda" in error.value.remedy
        assert pip.downloads == [] and pip.installed == []
        assert Environment(root).state().status is Status.INTERRUPTED

    def test_unless_they_are_wanted(self, root, pip):
        pip.reachable = False
        installation.install(installation.plan(Environment(root), allow_cuda=True))
        assert Environment(root).state().status is Status.READY

    @pytest.mark.skipif(sys.platform != "linux", reason="where the general index has CUDA builds")
    def test_the_plain_pin_is_the_cuda_build_where_there_is_a_gpu(self, root, pip, monkeypatch):
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0"])
        install(root)
        assert not any(installation.TORCH_INDEX in argument for call in pip.calls for argument in call)

    def test_on_windows_a_gpu_is_not_left_idle_without_a_word(self, root, pip, monkeypatch):
        """There the general index has the CPU build, which would do, slowly."""
        monkeypatch.setattr(installation.sys, "platform", "win32")
        installer = installation._Installer(installation.plan(Environment(root), gpus=["GPU 0"]), lambda progress: None, None)
        pip.reachable = False
        with pytest.raises(SetupError, match="for NVIDIA graphics cards cannot be reached") as error:
            installer._torch_source(TORCH)
        assert installation.TORCH_INDEX in error.value.remedy
        pip.reachable = True
        assert f"{installation.TORCH_INDEX}/{installation.WINDOWS_CUDA_BUILD}" in installer._torch_source(TORCH)

    def test_offline_asks_no_index(self, root, pip, tmp_path):
        (tmp_path / "torch.whl").touch()
        installation.install(installation.plan(Environment(root), wheels=tmp_path))
        assert pip.downloads and all("--no-index" in call for call in pip.calls)

    def test_interrupted_then_completed(self, root, pip):
        pip.break_at = "safetensors"
        with pytest.raises(KeyboardInterrupt):
            install(root)
        assert Environment(root).state().status is Status.INTERRUPTED
        before, pip.break_at = list(pip.installed), ""
        pip.installed.clear()
        install(root)
        assert "torch" in before and "safetensors" in pip.installed and not set(before) & set(pip.installed)
        assert Environment(root).state(thorough=True).status is Status.READY

    def test_a_damaged_package_alone_is_installed_again(self, root, pip):
        put_environment(root)
        file = next(root.rglob("site-packages/scipy.py"))
        file.write_text("")
        (file.parent / "numpy-0.1.dist-info").mkdir()  # a left-over of another version beside the right one
        install(root)
        assert pip.installed == ["scipy"] and file.read_text() == "answer = 42\n"

    def test_nothing_to_do(self, root, pip):
        put_environment(root)
        install(root)
        assert pip.calls == []

    def test_what_does_not_work_is_not_ready(self, root, pip, monkeypatch):
        def broken(environment, report):
            raise VerificationError("The environment does not work: illegal instruction.")

        monkeypatch.setattr(installation, "verify", broken)
        with pytest.raises(VerificationError):
            install(root)
        assert Environment(root).state().status is Status.INTERRUPTED

    def test_repair_makes_it_anew_when_nothing_is_missing_and_it_does_not_work(self, root, pip, monkeypatch):
        put_environment(root)
        answers = [VerificationError("The environment does not work."), None]

        def verify(environment, report):
            if error := answers.pop(0):
                raise error
            return {}

        monkeypatch.setattr(installation, "verify", verify)
        install(root, verify_again=True, rebuild=True)
        assert "torch" in pip.installed and not answers
        assert Environment(root).state(thorough=True).status is Status.READY

    def test_pips_reason_is_told(self, root, pip, monkeypatch):
        def fails(self, command, hear=lambda line: None):
            hear("ERROR: Could not find a version that satisfies the requirement numpy==2.4.6\n")
            hear("ERROR: No matching distribution found\n")
            return 1 if "--requirement" in command else 0

        put_environment(root, marker=False)
        next(root.rglob("numpy-*.dist-info/RECORD")).unlink()
        monkeypatch.setattr(Pip, "run", fails)
        with pytest.raises(
            SetupError, match=r"could not be installed: Could not find a version that satisfies the requirement numpy==2\.4\.6\."
        ):
            install(root)

    @pytest.mark.parametrize("reason", ["[Errno 28] No space left on device", "[WinError 112] There is not enough space on the disk"])
    def test_no_room_is_no_matter_of_the_network(self, root, pip, monkeypatch, reason):
        let_pip_fail(root, monkeypatch, f"Could not install packages due to an OSError: {reason}")
        with pytest.raises(ResourceError, match="The disk is full") as error:
            install(root)
        assert "network" not in error.value.remedy and "TMPDIR" in error.value.remedy

    @pytest.mark.parametrize(
        ("reason", "remedy"),
        [
            ("Could not install packages due to an OSError: [Errno 2] No such file or directory: 'C:\\\\a\\\\b'", "a shorter path"),
            ("No matching distribution found for numpy", "Check the network connection"),
            ("Could not install packages due to an OSError: HTTPSConnectionPool(host='proxy'): Max retries exceeded", "Check the network"),
        ],
    )
    def test_a_file_that_cannot_be_written_is_none_either(self, root, pip, monkeypatch, reason, remedy):
        let_pip_fail(root, monkeypatch, reason)
        with pytest.raises(SetupError) as error:
            install(root)
        assert remedy in error.value.remedy

    def test_a_folder_that_is_made_anew_stays_ours_and_where_it_is(self, root, pip, monkeypatch, tmp_path):
        """It may be a link or the root of a disk, and a process that is killed meanwhile must not leave it nobody's."""
        put_environment(tmp_path / "there")
        root.symlink_to(tmp_path / "there")
        deleted = []

        def delete(folder):
            deleted.append(folder)
            assert Environment(root).is_ours()

        monkeypatch.setattr(installation.shutil, "rmtree", delete)
        monkeypatch.setattr(Pip, "run", lambda self, command, hear=None: 0)
        installation._Installer(installation.plan(Environment(root)), silent, None).make_venv(None, clear=True)
        assert deleted and root.is_symlink() and not Environment(root).marker_file.exists()

    def test_wheels_are_those_of_the_python_that_was_named(self, monkeypatch, tmp_path):
        with pytest.raises(SetupError, match="/nowhere/python is no Python"):
            installation.download_wheels(tmp_path, python="/nowhere/python")

    def test_a_lock_that_cannot_be_had_is_no_reason_to_wait(self, root, monkeypatch):
        def refuse(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(installation, "try_lock", refuse)
        with pytest.raises(SetupError, match=os.strerror(errno.EIO)), installation.installer_lock(root, silent):
            pytest.fail("installing without a lock")

    def test_a_second_installer_waits_and_finds_the_work_done(self, root, pip, monkeypatch):
        plan, told = installation.plan(Environment(root)), threading.Event()
        texts: list[str] = []

        def report(progress: Progress) -> None:
            texts.append(progress.text)
            told.set()

        with installation.installer_lock(root, None):
            second = threading.Thread(target=installation.install, args=(plan, report))
            second.start()
            assert told.wait(10) and "waiting" in texts[0]
            put_environment(root)
        second.join(10)
        assert not second.is_alive() and pip.calls == [] and len(texts) == 1
