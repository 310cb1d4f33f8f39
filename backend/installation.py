"""Makes, completes, repairs and verifies the environment of `environment.py`; `removal` takes it away. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from . import machine
from .environment import (
    OWNER_FILE,
    REQUIREMENTS,
    Environment,
    Requirement,
    State,
    Status,
    child_environ,
    clean_environ,
    normalise,
    requirements,
    requirements_hash,
    told_as_setup_error,
    write_whole,
)
from .errors import ResourceError, SetupError
from .locks import try_lock
from .pip_process import Pip, PipFailed, Progress, Report, silent

TORCH_INDEX = "https://download.pytorch.org/whl"
"""PyTorch's own wheels, in one folder a build: `cpu`, `cu130`, ..."""

WINDOWS_CUDA_BUILD = "cu130"
"""On Windows the general package index has CPU builds of torch only; on Linux its plain pin is the build for CUDA 13.0."""

PIP = "pip==26.3"
"""What pip older than 24.1 is replaced by: from there on `--dry-run` downloads no wheels and `--progress-bar raw` exists."""

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
"""The Python versions for which every pinned package has wheels."""

# Measured on Linux x86-64 with Python 3.11; other systems differ by some tens of MB. Download: the summed sizes of the wheels that
# `pip download -r requirements.txt` brings with the CPU build, and with the CUDA build and all it requires. Installed: `du -sb` of the CPU
# environment after its verification; for CUDA the same with torch's part replaced by the unpacked size of the CUDA wheels.
DOWNLOAD_BYTES = {"cpu": 384_000_000, "cuda": 2_930_000_000}
INSTALLED_BYTES = {"cpu": 1_700_000_000, "cuda": 5_700_000_000}


class VerificationError(SetupError):
    """Everything is installed, and something does not work."""


# --- Before


@dataclass(frozen=True)
class Plan:
    """What an installation would do, for people to agree to.

    Attributes:
        state: of the environment as it is.
        build: of torch, `cpu` or `cuda`.
        download_bytes, installed_bytes: about how much an installation from nothing downloads, and takes on disk.
        wheels: the folder to install from, instead of a network.
        allow_cuda: whether the CUDA build may be taken where no NVIDIA GPU was found.
    """

    environment: Environment
    state: State
    build: str
    download_bytes: int
    installed_bytes: int
    wheels: Path | None = None
    allow_cuda: bool = False

    @property
    def downloads(self) -> bool:
        """Whether anything has to be fetched from a network."""
        return self.wheels is None and (self.state.status is Status.ABSENT or bool(self.state.packages))

    def describe(self) -> str:
        """One line: what for, how much, from where, to where; of an environment that is there in part, what it lacks."""
        if self.state.status is not Status.ABSENT:
            return f"{self.environment.root}: {self.state.detail} {self._rest()}"
        source = f"from {self.wheels}" if self.wheels else f"about {machine.format_bytes(self.download_bytes)} to download"
        build = "an NVIDIA GPU" if self.build == "cuda" else "this computer's processor"
        disk = machine.format_bytes(self.installed_bytes)
        return f"CoGrad3D's own Python environment, for {build}: {source}, {disk} on disk, in {self.environment.root}"

    def _rest(self) -> str:
        """What is still to be done of an installation, and how much of that is a download."""
        if not self.state.packages:
            return "It is verified"
        count = len(self.state.packages)
        amount = "1 package" if count == 1 else f"{count} packages"
        if not self.downloads:
            return f"{amount} to be installed from {self.wheels}"
        size = f", up to {machine.format_bytes(self.download_bytes)}" if _lacks_most(self.state) else ""
        return f"{amount} to be downloaded{size}"


def plan(
    environment: Environment,
    *,
    wheels: Path | None = None,
    allow_cuda: bool = False,
    thorough: bool = True,
    gpus: Sequence[str] | None = None,
) -> Plan:
    """Look, refuse what cannot work, and say what would be done. Changes nothing.

    Args:
        environment: what is to be made or completed.
        wheels: a folder of wheels to install from.
        allow_cuda: take the CUDA build also where no NVIDIA GPU is found.
        thorough: look at every installed file, which takes about a second.
        gpus: the NVIDIA GPUs, where they are known; None: look for them, which may take many seconds.

    Raises:
        SetupError: the folder belongs to something else, `wheels` is no folder of wheels, or torch has no build for this computer.
        ResourceError: too little disk.
    """
    if reason := _unfit_name(environment.root):
        raise SetupError(f"No environment can be made in {environment.root}: {reason}.", remedy=_ELSEWHERE)
    state = environment.state(thorough=thorough)
    if state.status is Status.FOREIGN:
        raise SetupError(state.detail, remedy="Choose a new or empty folder with `python3 -m backend setup --location DIR`.")
    found = _plan(environment, state, wheels=wheels, allow_cuda=allow_cuda, gpus=gpus)
    _check_disk(environment, state, found.installed_bytes)
    return found


def _plan(
    environment: Environment,
    state: State,
    *,
    wheels: Path | None = None,
    allow_cuda: bool = False,
    gpus: Sequence[str] | None = None,
) -> Plan:
    """`plan` for what is known of the folder, whatever room there is. Raises `SetupError`."""
    if sys.platform == "darwin" and os.uname().machine == "x86_64":
        raise SetupError("PyTorch has no build for Macs with an Intel processor any more.", remedy="Use another computer.")
    if wheels is not None and not any(wheels.glob("*.whl")):
        raise SetupError(
            f"{wheels} is no folder with wheels (.whl files) in it.",
            remedy="Fill it with `python3 -m backend setup --download-wheels DIR` where there is a network.",
        )
    build = "cuda" if sys.platform != "darwin" and (allow_cuda or (machine.nvidia_gpus() if gpus is None else gpus)) else "cpu"
    return Plan(environment, state, build, DOWNLOAD_BYTES[build], INSTALLED_BYTES[build], wheels, allow_cuda)


def _unfit_name(root: Path) -> str:
    """Why Python's venv refuses a folder of this name; empty where it does not."""
    if os.pathsep in str(root):
        return f"{os.pathsep!r} in its name separates folders in the variable PATH"
    try:
        str(root).encode()
    except UnicodeEncodeError:
        return "its name is no text in UTF-8"
    return ""


def _check_disk(environment: Environment, state: State, installed: int) -> None:
    needed = 1.1 * installed if _lacks_most(state) else 100e6
    free = machine.free_disk(environment.root)
    if free < needed:
        raise ResourceError(
            f"The environment needs {machine.format_bytes(needed)} of disk, and {environment.root} has {machine.format_bytes(free)} free.",
            remedy="Free some space, or choose a folder on another disk with `python3 -m backend setup --location DIR`.",
        )


def _check_room_for_wheels(folder: Path, size: int) -> None:
    """Raises `ResourceError` where so many bytes do not fit beside the folder, or where pip puts them first."""
    places = {folder: "choose a folder on another disk", Path(tempfile.gettempdir()): "name a folder with more in the variable TMPDIR"}
    for place, instead in places.items():
        if (free := machine.free_disk(place)) < size:
            raise ResourceError(
                f"The wheels take about {machine.format_bytes(size)}, and {place} has {machine.format_bytes(free)} free.",
                remedy=f"Free some space, or {instead}.",
            )


def _lacks_most(state: State) -> bool:
    """Whether the largest part by far is still to be fetched: torch, with what it requires."""
    return state.status is Status.ABSENT or any(pin.name == "torch" for pin in state.packages)


def base_python(wish: str | None = None) -> str:
    """The Python that the environment is made from: the wished one, this one, or a suitable one on the PATH.

    Raises:
        SetupError: none has a version for which all packages exist.
    """
    # Not the Python of a virtual environment, which may be the very one that is about to be made anew.
    this = getattr(sys, "_base_executable", None) or sys.executable
    names = [wish] if wish else [this, *(f"python3.{minor}" for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1))]
    for name in names:
        found = shutil.which(name)
        if found and OLDEST_PYTHON <= _python_version(found) <= NEWEST_PYTHON:
            return found
    what = wish or f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    raise SetupError(f"{what} is no Python 3.11, 3.12 or 3.13.", remedy="Name one with `python3 -m backend setup --python PATH`.")


def _python_version(python: str | Path) -> tuple[int, ...]:
    """(major, minor) of a CPython by asking it; (0, 0) if it is another Python or does not run."""
    question = "import sys; print(*(sys.version_info[:2] if sys.implementation.name == 'cpython' else (0, 0)))"
    try:
        answer = subprocess.run(
            [str(python), "-I", "-c", question], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=clean_environ()
        )
        return tuple(map(int, answer.stdout.split())) if answer.returncode == 0 else (0, 0)
    except (OSError, subprocess.SubprocessError, ValueError):
        return (0, 0)


# --- Doing it


def install(
    plan: Plan,
    report: Report = silent,
    *,
    python: str | None = None,
    verify_again: bool = False,
    rebuild: bool = False,
    made: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Make or complete the environment and verify it; returns the marker, which says what was verified.

    Safe to call again after any interruption. A second installer waits for the first and then finds nothing left to do.

    Args:
        plan: from `plan`.
        report: is told how it goes.
        python: the Python to make it from, see `base_python`.
        verify_again: also if it is complete.
        rebuild: make it anew if the verification fails although everything is installed.
        made: called once the virtual environment is there: from then on another installation can complete it.

    Raises:
        SetupError: something could not be installed.
        VerificationError: something does not work afterwards.
    """
    environment = plan.environment
    with told_as_setup_error(environment.root, _ELSEWHERE), installer_lock(environment.root, report) as lock:
        if not verify_again and environment.state(thorough=True).status is Status.READY:
            return environment.marker() or {}
        installer = _Installer(plan, report, lock)
        fresh = installer.make_venv(python, clear=False)
        made()
        try:
            return installer.complete()
        except VerificationError:
            if fresh or not rebuild:
                raise
            report(Progress("It does not work although nothing is missing; making it anew"))
            installer.make_venv(python, clear=True)
            return installer.complete()


def verify(environment: Environment, report: Report = silent) -> dict[str, Any]:
    """Import every package and make a tiny asset inside the environment; returns what `verification.py` found there.

    Raises:
        VerificationError: something does not import or does not work.
    """
    report(Progress("Verifying: importing every package, compiling the kernels, making a tiny asset"))
    command = [str(environment.python), "-P", "-m", "backend.verification"]
    answer = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", env=child_environ(), check=False
    )
    with environment.log_file.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n{answer.stdout}{answer.stderr}\n")
    try:
        found: dict[str, Any] = dict(json.loads(answer.stdout.splitlines()[-1]))
    except (ValueError, TypeError, IndexError):  # it crashed
        found = {"error": ([line for line in answer.stderr.splitlines() if line.strip()] or [f"exit code {answer.returncode}"])[-1]}
    if "error" in found:
        raise VerificationError(
            f"The environment does not work: {found['error'].rstrip('.')}.",
            remedy=f"Run `python3 -m backend setup --repair`; if that does not help, {environment.log_file} says more.",
        )
    return found


def empty(folder: Path, *, but: str) -> None:
    """Delete what is in a folder but for one file. The folder itself may be a link, or the root of a disk."""
    for entry in folder.iterdir():
        if entry.name == but:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def download_wheels(folder: Path, report: Report = silent, *, python: str | None = None, allow_cuda: bool = False) -> None:
    """Fill `folder` with the wheels that a computer of this kind needs, for an installation without a network.

    Args:
        folder: is made where it is missing.
        report: is told how it goes.
        python: the Python whose wheels they are, see `base_python`.
        allow_cuda: take those of the CUDA build also where no NVIDIA GPU is found.

    Raises:
        SetupError: they cannot be had.
        ResourceError: too little disk.
    """
    with told_as_setup_error(folder, "Choose another folder with `python3 -m backend setup --download-wheels DIR`."):
        folder.mkdir(parents=True, exist_ok=True)
        temporary_folder = tempfile.TemporaryDirectory(prefix="cograd3d-")
    with temporary_folder as temporary:
        environment = Environment(Path(temporary) / "env")  # for its pip alone: nothing is installed in there
        planned = _plan(environment, environment.state(), allow_cuda=allow_cuda)
        _check_room_for_wheels(folder, planned.download_bytes - sum(wheel.stat().st_size for wheel in folder.glob("*.whl")))
        installer = _Installer(planned, report, None)
        installer.make_venv(python, clear=False)
        installer.download(folder)


@contextlib.contextmanager
def installer_lock(root: Path, report: Report | None) -> Iterator[BinaryIO]:
    """Hold the lock of this environment's installer: a file beside the folder, locked by the system, so that no dead process holds it.

    Where another process has it: wait if there is somebody to tell so (`report`), else refuse.
    """
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        file = root.with_name(f".{root.name}.lock").open("a+b")
    except OSError as error:
        raise SetupError(f"Nothing can be written to {root.parent}: {error.strerror or error}.", remedy=_ELSEWHERE) from error
    with file:
        waiting = False
        with told_as_setup_error(root.parent, _ELSEWHERE):
            while not try_lock(file.fileno()):
                if report is None:
                    raise SetupError(f"Another process is installing {root}.", remedy="Wait until it has finished.")
                if not waiting:
                    report(Progress("Another process is installing the environment; waiting for it"))
                    waiting = True
                time.sleep(0.5)
        yield file


_ELSEWHERE = "Choose another folder with `python3 -m backend setup --location DIR`."


def _refuse_full_disk(error: PipFailed, place: Path) -> None:
    """Tell what pip found no room for from what it could not reach. Raises `ResourceError`."""
    if re.search(r"No space left on device|not enough space on the disk|Disk quota exceeded", str(error)):
        raise ResourceError(
            f"The disk is full: {error}.",
            remedy=f"Free some space on the disk of {place} and on that of {tempfile.gettempdir()}, where pip unpacks "
            "(the variable TMPDIR names another folder for that), then run the same command again, which goes on from here.",
        ) from error


# --- Steps


class _Installer:
    """The steps of one installation; its processes inherit `lock`, see `Pip`."""

    def __init__(self, plan: Plan, report: Report, lock: BinaryIO | None) -> None:
        self.plan = plan
        self.environment = plan.environment
        self.report = report
        self._pip = Pip(plan.environment, plan.download_bytes, report, lock)

    def make_venv(self, python: str | None, *, clear: bool) -> bool:
        """Make the virtual environment, unless one that works is there; True if it is new."""
        environment = self.environment
        if not clear and self._works():
            environment.marker_file.unlink(missing_ok=True)  # from here on it is incomplete until it was verified
            return False
        source = base_python(python)
        root = environment.root
        self.report(Progress(f"Making a virtual environment in {root}"))
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_whole(root / OWNER_FILE, "Made by `python3 -m backend setup` of CoGrad3D; `--remove` takes it away.\n")
            empty(root, but=OWNER_FILE)
        except OSError as error:
            raise SetupError(f"{root} cannot be made: {error.strerror or error}.", remedy=_ELSEWHERE) from error
        if self._pip.run([source, "-m", "venv", str(root)]) == 0:
            return True
        # Debian and its kin keep ensurepip in a package of its own; the pip that is there can fill the new environment.
        bare = [source, "-m", "venv", "--without-pip", str(root)]
        fill = [source, "-m", "pip", "--python", str(environment.python), "install", *self._offline(), "pip"]
        if self._pip.run(bare) != 0 or self._pip.run(fill) != 0:
            raise SetupError(
                "This Python cannot make virtual environments.",
                remedy=f"Install its venv module (the package python3-venv on Debian and Ubuntu); {environment.log_file} says more.",
            )
        return True

    def _works(self) -> bool:
        """Whether the virtual environment's Python and pip run."""
        if not OLDEST_PYTHON <= _python_version(self.environment.python) <= NEWEST_PYTHON:
            return False
        return self._pip.run([str(self.environment.python), "-P", "-m", "pip", "--version"]) == 0

    def complete(self) -> dict[str, Any]:
        """Install what is missing or damaged, verify, write the marker and return it.

        Raises:
            SetupError: pip failed.
            VerificationError: something does not work.
        """
        try:
            self._update_pip()
            self._install_packages()
        except PipFailed as error:
            _refuse_full_disk(error, self.environment.root)
            if "OSError: [" in str(error):  # of a file: Windows, say, may not bear paths of more than 260 letters, and torch has long ones
                check = f"Check that {self.environment.root} can be written to, or choose a folder with a shorter path with --location"
            elif self.plan.wheels is None:
                check = "Check the network connection"
            else:
                check = f"Check that {self.plan.wheels} was made for this computer"
            raise SetupError(
                f"The packages could not be installed: {error}.",
                remedy=f"{check}, then run the same command again, which goes on from here; {self.environment.log_file} says more.",
            ) from error
        found = verify(self.environment, self.report)
        packages = {pin.name: pin.version for pin in requirements()}
        marker = {"requirements": requirements_hash(), "packages": packages, "verified": found, "time": int(time.time())}
        write_whole(self.environment.marker_file, json.dumps(marker, indent=2) + "\n")
        return marker

    def download(self, folder: Path) -> None:
        """Download all wheels into `folder`. Raises `SetupError`."""
        try:
            self._update_pip()
            torch = next(pin for pin in requirements() if pin.name == "torch")
            source = self._torch_source(torch)
            self._pip("download", "--dest", str(folder), *source, *(["--no-deps"] if source else []), str(torch))
            # A build with a local version (2.13.0+cpu) is preferred to the index's, so the one just downloaded is kept.
            self._pip("download", "--dest", str(folder), "--find-links", str(folder), "--requirement", str(REQUIREMENTS))
            self._pip("download", "--dest", str(folder), "--no-deps", PIP)
        except PipFailed as error:
            _refuse_full_disk(error, folder)
            raise SetupError(
                f"The wheels could not be downloaded: {error}.", remedy="Check the network connection, then run the same command again."
            ) from error

    # Packages

    def _offline(self) -> list[str]:
        return ["--no-index", "--find-links", str(self.plan.wheels)] if self.plan.wheels else []

    def _update_pip(self) -> None:
        """Replace a pip that is too old for what is asked of it here; an old one still serves where no newer can be had."""
        if self._pip.version() < (24, 1):
            with contextlib.suppress(PipFailed):
                self._pip("install", *self._offline(), PIP)

    def _install_packages(self) -> None:
        lacking = self.environment.state(thorough=True).packages
        if not lacking:
            return
        for pin in lacking:
            self._forget(pin)
        torch = next((pin for pin in lacking if pin.name == "torch"), None)
        if torch is not None and (source := self._torch_source(torch)):
            self._pip("install", "--no-deps", *source, str(torch))
        # Files without their package's metadata, as a killed pip leaves them, are overwritten; what is whole stays.
        self._pip("install", *self._offline(), "--requirement", str(REQUIREMENTS))

    def _forget(self, pin: Requirement) -> None:
        """Remove the metadata of a damaged package or another version, which pip may be unable to uninstall."""
        for folder in self.environment.metadata_folders().get(pin.name, ()):
            shutil.rmtree(folder, ignore_errors=True)

    def _torch_source(self, torch: Requirement) -> list[str]:
        """pip's options for the index of the torch build that fits this computer; none for the general index, whose build then fits.

        Raises:
            SetupError: only the CUDA build can be had, of several GB, and this computer has no use for it; or it has, and cannot have it.
        """
        if self.plan.wheels is not None or sys.platform == "darwin" or (sys.platform == "linux" and self.plan.build == "cuda"):
            return []
        index = ["--index-url", f"{TORCH_INDEX}/{'cpu' if self.plan.build == 'cpu' else WINDOWS_CUDA_BUILD}"]
        self.report(Progress(f"Looking for the {'CPU' if self.plan.build == 'cpu' else 'CUDA'} build of PyTorch"))
        with contextlib.suppress(PipFailed):  # out of reach: behind a firewall, or with a mirror of the general index only
            patience = "0" if self.plan.build == "cpu" else "2"
            self._pip.look_up(torch, "--retries", patience, "--timeout", "10", *index)
            return [*index, "--retries", "2"]
        if self.plan.build == "cuda":  # on Windows, where the general index has the CPU build
            raise SetupError(
                "The build of PyTorch for NVIDIA graphics cards cannot be reached.",
                remedy=f"Allow access to {TORCH_INDEX}, and try again, or install with `python3 -m backend setup --offline-wheels DIR`.",
            )
        if not self.plan.allow_cuda:
            self._refuse_cuda(torch)
        return []

    def _refuse_cuda(self, torch: Requirement) -> None:
        """Make sure that the general index's build brings no CUDA packages. Raises `SetupError`."""
        if sys.platform != "linux":
            return  # elsewhere it has CPU builds
        needed = self._pip.look_up(torch).get("requires_dist", [])
        if any(normalise(name).startswith(("nvidia-", "cuda-")) for name in needed):
            size = machine.format_bytes(DOWNLOAD_BYTES["cuda"])
            raise SetupError(
                "PyTorch's CPU build cannot be reached, and the package index has only the CUDA build, "
                f"{size} of no use without an NVIDIA GPU.",
                remedy=f"Allow access to {TORCH_INDEX}, or install with `python3 -m backend setup --offline-wheels DIR`, "
                "or take that build all the same with --allow-cuda.",
            )
