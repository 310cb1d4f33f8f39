"""What can be done to an environment: the command of each task, and what the lines that it prints mean. No bpy."""

from __future__ import annotations

import enum
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...backend import attached
from ...backend.errors import SetupError
from .words import in_blender

REMOVE = "--remove"


class Task(enum.Enum):
    """A process that works on the environment."""

    INSTALL = "install"  # also completes, updates and repairs
    VERIFY = "verify"
    REMOVE = "remove"


@dataclass(frozen=True)
class Options:
    """Choices for an installation.

    Attributes:
        wheels: a folder of wheels to install from, without a network.
        python: the Python to make the environment from; None for Blender's.
        allow_cuda: take PyTorch's CUDA build also where no NVIDIA GPU was found.
        repair: verify anew although everything seems to be there, and make it anew if that fails.
    """

    wheels: Path | None = None
    python: Path | None = None
    allow_cuda: bool = False
    repair: bool = False

    def arguments(self) -> list[str]:
        """As the command line understands them."""
        return [
            *(["--offline-wheels", str(self.wheels)] if self.wheels else []),
            *(["--python", str(self.python)] if self.python else []),
            *(["--allow-cuda"] if self.allow_cuda else []),
            *(["--repair"] if self.repair else []),
        ]


def installer_python() -> str:
    """The Python that runs the installer: Blender's own, which `sys.executable` names in Blender and in the module `bpy`.

    Raises:
        SetupError: Blender was built without one, and there is none on the PATH.
    """
    if Path(sys.executable or "").name.lower().startswith("python"):
        return sys.executable
    found = shutil.which("python3") or shutil.which("python")
    if found is None:
        raise SetupError(
            "This Blender has no Python program of its own.",
            remedy='Install Python 3.11, 3.12 or 3.13, or choose "Use an Existing Python".',
        )
    return found


def setup_command(*arguments: str, location: Path | None) -> list[str]:
    """The command line of `python3 -m backend setup` for a program at the other end. Raises `SetupError`.

    It ends with this program, unless it is to remove something: half a removal would only leave files without an owner.

    Args:
        arguments: what to do.
        location: the environment's folder; None for the one that the backend finds by itself.
    """
    where = ["--location", str(location)] if location else []
    if REMOVE not in arguments:
        where = [attached.OPTION, *where]
    return [installer_python(), "-P", "-u", "-m", "backend.cli", "setup", "--json", "--yes", *where, *arguments]


def verification_command(python: Path) -> list[str]:
    """The command line that tries out everything in the environment of this Python, and ends with this program."""
    return [str(python), "-P", "-m", "backend.verification", attached.OPTION]


@dataclass(frozen=True)
class Failure:
    """Why a task did not succeed, and what to do about it."""

    message: str
    remedy: str


class Transcript:
    """What a task has said so far.

    It understands the lines of `setup --json` (`note`, `progress`, `result`, `error`), and the one line of `backend.verification`, a JSON
    object without a type. Everything else, such as the warnings of some library, is kept only to explain a crash.

    Attributes:
        text: what is being done.
        fraction: 0..1 of that step; None where it cannot be told.
        found: what was verified; None until then.
        failure: what the task itself said went wrong; None where nothing did.
    """

    def __init__(self) -> None:
        self.text = ""
        self.fraction: float | None = None
        self.found: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self._stray = ""

    def hear(self, line: str) -> None:
        """Take in a line of the task's standard output."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            self._stray = line.strip() or self._stray
            return
        match said.get("type"):
            case "note" | "progress":
                self.text = str(said.get("text") or "")
                fraction = said.get("fraction")
                self.fraction = min(1.0, max(0.0, float(fraction))) if isinstance(fraction, int | float) else None
            case "result":
                self.found = _mapping(said.get("verified"))
            case "error":
                message = str(said.get("message") or "The installation failed.")
                self.failure = Failure(in_blender(message), in_blender(str(said.get("remedy") or "")))
            case None:
                self._hear_verification(said)

    def _hear_verification(self, said: Mapping[str, Any]) -> None:
        if "error" in said:
            self.failure = Failure(f"The environment does not work: {str(said['error']).rstrip('.')}.", "")
        else:
            self.found = dict(said)

    def ending(self, exit_code: int, stderr_tail: Sequence[str] = ()) -> Failure | None:
        """How the task ended, from its exit code (negative: the signal) and the last lines of its standard error; None: well."""
        if self.failure is not None or exit_code == 0:
            return self.failure
        last_words = next((line.strip() for line in reversed(stderr_tail) if line.strip()), self._stray)
        because = f": {last_words.rstrip('.')}" if last_words else ""
        how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        return Failure(f"The process {how}{because}.", "Try again: what was done already is kept.")


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
