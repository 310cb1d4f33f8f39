"""Where an asset stands in the scene, decided when it is ordered and kept in its job folder as `blender.json`. No bpy.

Three frames: the backend's world (the asset inside the unit ball, Z up, front -Y), the imported object's own (the same axes, metres, origin
on the ground below the middle of the asset), and the scene. Matrices are [4, 4] float64 and act on columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.files import atomic_write_json

PLACEMENT_FILE = "blender.json"

VERSION = 1

PROVISIONAL_BOUNDS = np.array([[-0.75, -0.75, -0.75], [0.75, 0.75, 0.75]])
"""[2, 3] What is assumed of an asset before its mesh is known: lowest and highest corner in the backend's world."""

_SMALLEST = 1e-6
"""Metres, and the backend's units. An extent below it counts as none: a plane has no height that something could be fitted to."""

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an asset is to stand.

    Attributes:
        origin: scene coordinates of the point on the ground below the middle of the asset.
        yaw: turn about Z, radians, counter-clockwise seen from above; 0: the front faces -Y.
        height: metres.
        target: name of the placeholder object whose box the asset is to fill; empty: none.
        size: [3] that box's extents along the asset's own axes, metres; the asset then becomes as large as fits and `height` is not used.
            None: no box.
    """

    origin: Vector = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    height: float = 1.0
    target: str = ""
    size: Vector | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object, with the version of its layout."""
        return {"version": VERSION} | asdict(self)


@dataclass(frozen=True, kw_only=True)
class Home:
    """The scene that a job was started from.

    Attributes:
        scene: its name then.
        key: random word for it, which a copy of the scene has too; empty: none was given.
        file: absolute path of the .blend file, kept up to date when it is saved under another (`move_home`); empty: it was never saved.
        document: random word for the file as it was open then: another file, or the same loaded again, has another word.
        scene_uid: Blender's `session_uid` of the scene, which no copy shares and undo does not touch, but which means nothing in another
            document; 0: unknown, as in folders of earlier versions.
        improves: name then of the object that the result is to improve; empty: none, or whichever shows what is improved.
        improves_uid: its `session_uid`; 0: none or unknown.
    """

    scene: str = ""
    key: str = ""
    file: str = ""
    document: str = ""
    scene_uid: int = 0
    improves: str = ""
    improves_uid: int = 0

    def is_file(self, file: str, document: str) -> bool:
        """Whether it was in the file that is open now, the one with this path and this word."""
        return document == self.document or (file != "" and file == self.file)

    def find(self, scenes: Mapping[str, str]) -> str:
        """The name that it has by now, among scenes {name: key}; empty if it is none of them.

        A copy has its key too, so that of those with the key the one of that name is it. A scene without a key is it only if no other has
        the key: undo takes the key away again, and after a renaming another scene may have got the name.
        """
        keyed = [name for name, key in scenes.items() if self.key and key == self.key]
        if keyed:
            return self.scene if self.scene in keyed else keyed[0]
        return self.scene if scenes.get(self.scene) == "" else ""


def order_document(placement: Placement, home: Home) -> dict[str, Any]:
    """The content of `blender.json`."""
    return placement.to_json() | {"home": asdict(home)}


def read_placement(folder: str | Path) -> Placement | None:
    """The placement in a job folder; None if the job was not started in Blender or the file cannot be understood."""
    document = _read(folder)
    if document is None:
        return None
    try:
        size = document.get("size")
        placement = Placement(
            origin=_vector(document["origin"]),
            yaw=float(document.get("yaw", 0.0)),
            height=float(document["height"]),
            target=str(document.get("target", "")),
            size=None if size is None else _vector(size),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return placement if math.isfinite(placement.yaw) and 0.0 < placement.height < math.inf else None


def read_home(folder: str | Path) -> Home | None:
    """The scene that a job was started from, if the job folder says so."""
    home = (_read(folder) or {}).get("home")
    if not isinstance(home, Mapping):
        return None
    return Home(**{field.name: _or_default(home.get(field.name), field.default) for field in fields(Home)})


def move_home(folder: str | Path, file: str) -> None:
    """Note that the file that a job was started from has another path by now.

    Args:
        folder: the job's; where it says nothing of a home, nothing is done.
        file: absolute path.

    Raises:
        OutputError: it cannot be written.
    """
    document = _read(folder) or {}
    if isinstance(document.get("home"), dict):
        document["home"]["file"] = file
        atomic_write_json(Path(folder) / PLACEMENT_FILE, document)


def object_matrix(placement: Placement) -> np.ndarray:
    """[4, 4] the imported object's frame to the scene: a turn and a translation, no scale."""
    cosine, sine = math.cos(placement.yaw), math.sin(placement.yaw)
    matrix = np.eye(4)
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = placement.origin
    return matrix


def local_matrix(placement: Placement, bounds: np.ndarray) -> np.ndarray:
    """[4, 4] the backend's world to the imported object's frame: origin below the middle of the bounds, scaled to height or box.

    Args:
        placement: gives height and box.
        bounds: [2, 3] lowest and highest corner of the asset in the backend's world.
    """
    low, high = np.asarray(bounds, dtype=np.float64)
    scale = _scale(placement, high - low)
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = -scale * np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return matrix


def final_matrix(placement: Placement, bounds: np.ndarray) -> np.ndarray:
    """[4, 4] the backend's world to the scene, for an asset with these bounds [2, 3]."""
    return object_matrix(placement) @ local_matrix(placement, bounds)


def provisional_matrix(placement: Placement) -> np.ndarray:
    """[4, 4] the backend's world to the scene before there is a mesh: the asset is taken to be `PROVISIONAL_BOUNDS`."""
    return final_matrix(placement, PROVISIONAL_BOUNDS)


def bounds_of(points: np.ndarray) -> np.ndarray:
    """[2, 3] lowest and highest corner of points [N, 3], N > 0."""
    return np.stack([points.min(axis=0), points.max(axis=0)]).astype(np.float64)


def transformed(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[N, 3] points after a [4, 4] matrix, as float64."""
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def placed_in_box(corners: np.ndarray, yaw: float, *, target: str, height: float) -> Placement:
    """The placement that fills a placeholder's box, in the middle of its bottom.

    Args:
        corners: [N, 3] points of the placeholder in the scene: its box's corners, or all its vertices.
        yaw: the placeholder's turn about Z, radians; its extents are measured along axes turned like that.
        target: its name.
        height: used if the placeholder is a mere point.
    """
    turn = object_matrix(Placement(yaw=yaw))
    low, high = bounds_of(transformed(turn.T, corners))
    bottom = transformed(turn, np.array([[(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]]))[0]
    extents = high - low
    return Placement(
        origin=_vector(bottom), yaw=yaw, height=height, target=target, size=_vector(extents) if extents.max() > _SMALLEST else None
    )


def _scale(placement: Placement, extents: np.ndarray) -> float:
    """Metres a unit of the backend's world."""
    extents = np.maximum(extents, _SMALLEST)
    size = np.asarray(placement.size if placement.size is not None else (0.0, 0.0, 0.0))
    usable = size > _SMALLEST
    if usable.any():
        return float((size[usable] / extents[usable]).min())
    return float(placement.height / extents[2])


def _read(folder: str | Path) -> dict[str, Any] | None:
    try:
        document = json.loads((Path(folder) / PLACEMENT_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("version", VERSION) != VERSION:
        return None
    return document


def _or_default(value: Any, default: Any) -> Any:
    """A value of the default's type, else that."""
    return value if type(value) is type(default) else default


def _vector(values: Any) -> Vector:
    """Three finite numbers; raises `TypeError` or `ValueError` for anything else."""
    x, y, z = (float(value) for value in values)
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        raise ValueError("not finite")
    return x, y, z
