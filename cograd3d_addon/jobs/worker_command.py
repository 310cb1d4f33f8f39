"""How a worker is called. No bpy."""

from __future__ import annotations

from pathlib import Path


def worker_command(python: Path, job: Path) -> list[str]:
    """The command line of the worker of a job folder, to be run with `backend.environment.child_environ()`."""
    return [str(python), "-P", "-m", "backend.cli", "worker", "--job", str(job)]
