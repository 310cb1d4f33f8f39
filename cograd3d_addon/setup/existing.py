"""An existing Python that the user wants used: the record that it was tried out, so that this is not done at every start. No bpy."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...backend import environment

_log = logging.getLogger(__name__)

_unwritten: dict[str, Any] = {}
"""The record, where it could not be written: Blender then knows it until it quits."""


def _record_file() -> Path:
    return environment.data_folder() / "existing-python.json"


def _identity(python: Path) -> dict[str, Any]:
    """What has to be the same for a trial to hold still. Raises `OSError` where there is no such file."""
    status = python.stat()
    return {"python": str(python), "modified": status.st_mtime_ns, "size": status.st_size, "requirements": environment.requirements_hash()}


def tried(python: Path) -> dict[str, Any] | None:
    """What the trial of this Python found; None where it has not been tried, or has changed since."""
    try:
        record = _unwritten or json.loads(_record_file().read_text(encoding="utf-8"))
        return dict(record["found"]) if record["identity"] == _identity(python) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(python: Path, found: Mapping[str, Any]) -> None:
    """Note that this Python was tried out and works."""
    _unwritten.clear()
    try:
        file, record = _record_file(), {"identity": _identity(python), "found": dict(found)}
    except OSError:  # it was removed meanwhile
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        environment.write_whole(file, json.dumps(record, indent=2) + "\n")
    except OSError as error:
        _log.warning("%s cannot be written, so that %s will be tried out again: %s", file, python, error)
        _unwritten.update(record)


def forget() -> None:
    """The last trial did not go well."""
    _unwritten.clear()
    try:
        _record_file().unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s cannot be removed: %s", _record_file(), error)
