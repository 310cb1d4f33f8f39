"""What an imported object knows of how it was made: `object["cograd3d"]`. No bpy.

Everything is a string, a number or a list of numbers, so that it survives saving, appending and linking into other files. Whole numbers in
Blender have 32 bits: the seed, which has up to 63, is a string (in files of earlier versions a number).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...backend import __version__
from ...backend.errors import InputError
from ...backend.job import JobFolder
from ...backend.protocol import JobSpec
from ...backend.wire import LineError
from ..jobs.history import RegionHistory
from . import anchors

KEY = "cograd3d"

Metadata = dict[str, Any]


def describe(folder: JobFolder, local: np.ndarray, vertices: np.ndarray, *, blender: str = "") -> Metadata:
    """The metadata of an object made from a finished job.

    Args:
        folder: the job's.
        local: [4, 4] the backend's world to the object's own frame.
        vertices: [V, 3] of its mesh, in that frame.
        blender: the version that imports it.

    Raises:
        JobError: the folder is damaged.
    """
    spec, config, state = folder.spec, folder.config, folder.state
    made_by = _document(folder, "made_by.json")
    return {
        "uuid": uuid.uuid4().hex,
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "seed": str(int(config.get("run", {}).get("seed", 0))),
        "quality": spec.quality,
        "method": spec.method,
        "version": str(made_by.get("cograd3d", __version__)),
        "versions": json.dumps(made_by | {"blender": blender}, separators=(",", ":")),
        "prior": str(made_by.get("prior", config.get("prior", {}).get("name", ""))),
        "prior_fingerprint": str(made_by.get("prior_fingerprint", "")),
        "job": folder.path.name,
        "replaced": "[]",
        "created": state.created,
        "spec": json.dumps(spec.to_dict(), separators=(",", ":")),
        "settings": json.dumps(config, separators=(",", ":")),
        "regions": json.dumps(_document(folder, "regions.json"), separators=(",", ":")),
        "history": RegionHistory.of_job(folder).to_json(),
        "matrix": local.ravel().tolist(),
        "anchors": json.dumps(anchors.choose(vertices), separators=(",", ":")),
        "fov": float(config.get("grid", {}).get("fov") or 0.0),
    }


def local_matrix(metadata: Mapping[str, Any]) -> np.ndarray:
    """[4, 4] the backend's world to the object's own frame, as it was imported."""
    return np.array([float(value) for value in metadata["matrix"]]).reshape(4, 4)


def anchors_of(metadata: Mapping[str, Any]) -> tuple[int, list[int], np.ndarray] | None:
    """(vertices that the mesh had, indices of the remembered ones, their places then [N, 3]); None where none are remembered."""
    try:
        found = json.loads(metadata["anchors"])
        indices = [int(index) for index in found["indices"]]
        return int(found["vertices"]), indices, np.array(found["points"], dtype=np.float64).reshape(len(indices), 3)
    except (KeyError, TypeError, ValueError):
        return None


def replaced_jobs(metadata: Mapping[str, Any]) -> list[str]:
    """The jobs whose results the object showed before, the latest first."""
    try:
        return [str(job) for job in json.loads(metadata["replaced"])]
    except (KeyError, TypeError, ValueError):
        return []


def request_of(metadata: Mapping[str, Any]) -> tuple[JobSpec, dict[str, Any]]:
    """What was asked for to make the object, and every setting of that run.

    Raises:
        InputError: the object does not hold them whole.
    """
    try:
        config = json.loads(metadata["settings"])
        if not isinstance(config, dict):
            raise ValueError("no settings")
        return JobSpec.from_dict(json.loads(metadata["spec"])), config
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, LineError) as error:
        raise InputError(
            "The settings kept with this object are damaged.", remedy="Type the prompt again; the seed is shown in the panel."
        ) from error


def _document(folder: JobFolder, name: str) -> dict[str, Any]:
    """A small JSON file of the job folder; empty if it is not there, as in folders of earlier versions."""
    try:
        value = json.loads((folder.path / name).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
