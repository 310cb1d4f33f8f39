"""CoGrad3D's Python environment as Blender sees it: what state it is in, and the processes that install, verify or remove it. No bpy.

`supervisor` is the one owner of that state. Reading it costs nothing; it is looked up again on events (enabling the extension, the end of a
process, another folder in the preferences), never while something is drawn.
"""

from __future__ import annotations

from pathlib import Path

from .disk import DiskUsage
from .situation import Phase, Situation
from .supervision import Supervisor

__all__ = ["Phase", "Situation", "Supervisor", "disk_usage", "problem", "supervisor", "worker_python"]

supervisor = Supervisor()
disk_usage = DiskUsage()


def worker_python() -> Path | None:
    """The Python that workers run with: `[python, "-P", "-m", "backend.cli", "worker", ...]`; None while the environment is not ready."""
    return supervisor.situation.python


def problem() -> tuple[str, str] | None:
    """Why no worker can run now, and what to do about it; None where one can."""
    return supervisor.situation.problem
