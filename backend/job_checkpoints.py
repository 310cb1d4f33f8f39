"""The checkpoints of a job folder: tensors and a JSON document, written whole, checked when read, the last two kept.

Tensors are named and flat here; `checkpoint.py` makes that of nested state. Standard library only at import; safetensors when a checkpoint
is touched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import JobError
from .files import atomic_path, atomic_write_json, is_temporary, output_error, remove_quietly

__all__ = ["Checkpoint", "CheckpointStore"]

KEPT_CHECKPOINTS = 2

_TENSORS, _STATE = "tensors.safetensors", "state.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back.

    Attributes:
        iteration: optimisation steps done.
        path: its folder.
        tensors: by name, torch tensors on the CPU (numpy arrays if it was written from numpy arrays alone).
        state: the JSON document it was written with.
    """

    iteration: int
    path: Path
    tensors: dict[str, Any]
    state: Any


class CheckpointStore:
    """The folder `checkpoint` of a job; one folder an iteration below it.

    Attributes:
        path: the folder, made with the first checkpoint.
        version: of the job folder's layout, written into checkpoints; one of a later version is refused.
    """

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version

    def write(self, iteration: int, tensors: Mapping[str, Any], state: Any) -> Path:
        """See `JobFolder.write_checkpoint`."""
        path = self.path / f"{iteration:06d}"
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(error, path) from error
        with atomic_path(path) as temporary:
            temporary.mkdir()
            _save_tensors(temporary / _TENSORS, tensors)
            document = {
                "version": self.version,
                "iteration": iteration,
                "tensors": {"bytes": (temporary / _TENSORS).stat().st_size, "crc32": _crc32(temporary / _TENSORS)},
                "state": _encode_floats(state),
            }
            atomic_write_json(temporary / _STATE, document)
        self._prune()
        return path

    def entries(self) -> list[tuple[int, Path]]:
        """(iteration, folder) of every checkpoint, the latest first; nothing is said about what is in them."""
        found = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # to write one says what is wrong
            found = [(int(entry.name), entry) for entry in self.path.iterdir() if entry.name.isascii() and entry.name.isdigit()]
        return sorted(found, reverse=True)

    def latest(self, passed_over: Callable[[Path], None] = lambda path: None) -> Checkpoint | None:
        """See `JobFolder.latest_checkpoint`."""
        for iteration, path in self.entries():
            try:
                return self._load(iteration, path)
            except _DamagedCheckpointError as error:
                _log.warning("passed over the checkpoint %s: %s", path, error)
                passed_over(path)
        return None

    def _load(self, iteration: int, path: Path) -> Checkpoint:
        try:
            document = json.loads((path / _STATE).read_bytes())
            version, written, state = document["version"], document["tensors"], document["state"]
            if version > self.version:
                raise JobError(
                    f"{path} was made by a newer version of CoGrad3D.", remedy="Update CoGrad3D, or start the job anew with this version."
                )
            if (path / _TENSORS).stat().st_size != written["bytes"] or _crc32(path / _TENSORS) != written["crc32"]:
                raise _DamagedCheckpointError("its tensors are not as they were written")
            return Checkpoint(iteration, path, _load_tensors(path / _TENSORS), _decode_floats(state))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _DamagedCheckpointError(repr(error)) from error

    def _prune(self) -> None:
        for _, old in self.entries()[KEPT_CHECKPOINTS:]:
            remove_quietly(old)
        for entry in self.path.iterdir():
            if is_temporary(entry):  # of a process that was killed while it wrote
                remove_quietly(entry)


class _DamagedCheckpointError(Exception):
    """A checkpoint that cannot be used."""


def _crc32(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            value = zlib.crc32(piece, value)
    return value


def _save_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write a safetensors file; its metadata remembers whether torch or numpy is to read it."""
    try:
        if any(hasattr(tensor, "detach") for tensor in tensors.values()):
            import torch
            from safetensors.torch import save_file as save_torch

            save_torch(
                {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}, path, {"framework": "pt"}
            )
        else:
            import numpy as np
            from safetensors.numpy import save_file as save_numpy

            save_numpy({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, {"framework": "np"})
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise _as_os_error(error, path) from error


def _as_os_error(error: Exception, path: Path) -> OSError:
    """safetensors reports what the system said only as text: `... Os { code: 28, ...` or `... (os error 28)`."""
    found = re.search(r"(?:code: |os error )(\d+)", str(error))
    code = int(found.group(1)) if found else errno.EIO
    return OSError(code, os.strerror(code), str(path))


def _load_tensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        framework = (file.metadata() or {}).get("framework", "pt")
    with safe_open(path, framework=framework) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def _encode_floats(value: Any) -> Any:
    """A JSON document in which NaN and infinities are written `{"$float": "nan"}`: unlike null, that reads back as what it was."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, Mapping):
        return {key: _encode_floats(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode_floats(v) for v in value]
    return value


def _decode_floats(value: Any) -> Any:
    """The inverse of `_encode_floats`."""
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {key: _decode_floats(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_decode_floats(v) for v in value]
    return value
