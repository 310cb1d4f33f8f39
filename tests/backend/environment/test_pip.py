"""Pip: what its words tell, and once for real with a wheel made here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from backend import environment, installation
from backend.environment import Environment, Status
from backend.errors import SetupError
from backend.pip_process import Pip, PipWatch, Progress, silent


class TestPipWatch:
    def test_counts_downloads_cached_files_and_bytes(self):
        watch = PipWatch(1_000_000)
        assert watch.hear("Collecting numpy==2.4.6") is None
        assert watch.hear("  Downloading numpy-2.4.6-cp311.whl.metadata (6 kB)") is None
        assert watch.hear("Downloading numpy-2.4.6-cp311.whl (400.0 kB)\n") == Progress("Fetching numpy", 0.0)
        assert watch.hear("Progress 100000 of 400000") == Progress("Fetching numpy", 0.1)
        assert watch.hear("Progress 400000 of 400000") == Progress("Fetching numpy", 0.4)
        assert watch.hear("Using cached torch-2.13.0+cpu.whl (0.5 MB)") == Progress("Fetching torch", 0.4)
        assert watch.hear("Downloading x-1.whl (9.9 GB)") == Progress("Fetching x", 0.9)
        assert watch.hear("Progress 9900000000 of 9900000000") == Progress("Fetching x", 1.0)

    def test_counts_wheels_of_a_folder(self, tmp_path):
        wheel = tmp_path / "numpy-2.whl"
        wheel.write_bytes(bytes(250))
        watch = PipWatch(1000)
        watch.hear(f"Processing {wheel} (from -r requirements.txt (line 6))")
        assert watch.hear("Processing /gone/scipy-1.whl") == Progress("Fetching scipy", 0.25)

    def test_keeps_the_first_error(self):
        watch = PipWatch(1)
        for line in ("ERROR: No space left on device.", "ERROR: and more", "Installing collected packages: a, b"):
            told = watch.hear(line)
        assert watch.failure == "No space left on device" and told == Progress("Installing 2 package(s)")


# --- For real, with pip itself and a wheel made here


def make_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,{len(text)}\n" for path, text in files.items()) + f"{info}/RECORD,,\n")


@pytest.mark.slow
def test_offline_installation_damage_and_repair(root, tmp_path, monkeypatch):
    (tmp_path / "pip.conf").write_text("[global]\nuser = true\n")  # with which pip refuses a virtual environment
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    pins = tmp_path / "requirements.txt"
    pins.write_text("quokka==1.0\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", pins)
    monkeypatch.setattr(installation, "REQUIREMENTS", pins)
    monkeypatch.setattr(installation, "verify", lambda environment, report: {})
    make_wheel(tmp_path / "wheels", "quokka", "1.0")
    target = Environment(root)

    def install() -> None:
        installation.install(installation.plan(target, wheels=tmp_path / "wheels"))

    def answer() -> str:
        return subprocess.run([target.python, "-c", "import quokka; print(quokka.answer)"], capture_output=True, text=True).stdout

    install()
    assert target.state(thorough=True).status is Status.READY and answer() == "42\n"
    next(root.rglob("quokka.py")).write_text("answer =")
    assert target.state(thorough=True).status is Status.DAMAGED
    install()
    assert target.state(thorough=True).status is Status.READY and answer() == "42\n"
    assert "--no-index" in target.log_file.read_text()

    # A new version of the pinned set.
    pins.write_text("quokka==1.1\n")
    make_wheel(tmp_path / "wheels", "quokka", "1.1")
    assert target.state().status is Status.OUTDATED
    install()
    assert target.state(thorough=True).status is Status.READY

    # A virtual environment whose pip is broken is made anew.
    next(root.rglob("pip/__main__.py")).write_text("raise SystemExit(3)")
    target.marker_file.unlink()
    install()
    assert target.state(thorough=True).status is Status.READY and answer() == "42\n"


def test_the_users_own_place_for_packages_is_none_of_the_environments(root, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    root.mkdir()
    said: list[str] = []
    Pip(Environment(root), 1, silent, None).run([sys.executable, "-c", "import os; print(os.environ['PIP_USER'])"], said.append)
    assert said == ["0\n"]


@pytest.mark.skipif(os.name != "posix", reason="locks are handed on as file descriptors")
def test_the_lock_outlives_a_killed_installer_as_long_as_its_pip(root):
    script = (
        "import sys; from backend import environment, installation, pip_process\n"
        "target = environment.Environment(sys.argv[1]); plan = installation.plan(target)\n"
        "with installation.installer_lock(target.root, None) as lock:\n"
        "    target.root.mkdir(); print('holds', flush=True)\n"
        "    pip_process.Pip(target, plan.download_bytes, pip_process.silent, lock).run(['sleep', '2'])\n"
    )
    first = subprocess.Popen([sys.executable, "-c", script, str(root)], cwd=environment.PACKAGE_ROOT, stdout=subprocess.PIPE)
    assert first.stdout is not None and first.stdout.readline() == b"holds\n"
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with pytest.raises(SetupError, match="Another process"), installation.installer_lock(root, None):
        pass
    with installation.installer_lock(root, silent):  # waits for the two seconds to pass
        pass
    first.stdout.close()
