"""What graphics cards there are, found out by a process: the driver's own tool may take many seconds. No bpy."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

from ...backend.environment import data_folder
from ...backend.errors import CoGradError
from .process import Process
from .task import installer_python

_log = logging.getLogger(__name__)


def search_command() -> list[str]:
    """The command line that lists them. Raises `SetupError` where there is no Python to run it."""
    return [installer_python(), "-P", "-m", "backend.machine"]


class GraphicsCards:
    """The NVIDIA GPUs of this computer; nothing here waits, and no thread computes beside Blender (see `settings.models.Shelf`).

    Args:
        command: what the process runs; prints their names as a JSON list.
    """

    def __init__(self, command: Callable[[], Sequence[str]] = search_command) -> None:
        self._command = command
        self._process: Process | None = None
        self._lines: list[str] = []
        self._found: tuple[str, ...] | None = None

    @property
    def found(self) -> tuple[str, ...] | None:
        """Their names, none where they could not be looked for; None while that is not known."""
        if self._process is not None:
            self._lines += self._process.read_lines()
            if self._process.exit_code is not None:
                self._release()
                self._found = self._understood()
        return self._found

    def look(self) -> None:
        """Have them looked for, unless that was done or is being done."""
        if self._process is not None or self._found is not None:
            return
        try:
            self._process = Process(self._command(), data_folder() / "graphics-cards.log")
        except (CoGradError, OSError):
            _log.exception("graphics cards cannot be looked for")
            self._found = ()

    def stop(self) -> None:
        """Look no more."""
        if self._process is not None:
            self._process.kill()
            self._release()

    def _release(self) -> None:
        if self._process is not None:
            self._process.release()
            self._process = None

    def _understood(self) -> tuple[str, ...]:
        try:
            return tuple(str(name) for name in json.loads("".join(self._lines)))
        except (ValueError, TypeError):
            _log.exception("graphics cards could not be looked for")
            return ()
