"""The mesh and the texture in a job's `asset.glb`. No bpy.

Blender's own glTF importer needs object mode, changes the selection and the active object, and keeps every seam of the texture as a cut in
the surface. A job folder's file is always of one kind: one triangle mesh with one UV map and one texture.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...backend.errors import InputError

_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENTS = {5126: "<f4", 5125: "<u4", 5123: "<u2", 5121: "u1"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}

DEFAULT_ROUGHNESS = 0.8


@dataclass(frozen=True)
class Asset:
    """A textured triangle mesh in the backend's world, Z up and front -Y.

    Attributes:
        vertices: [V, 3] float32, no two alike: a surface that was cut open for the texture is closed again.
        faces: [F, 3] int32 vertices of each triangle, counter-clockwise seen from outside.
        uv: [F, 3, 2] float32 texture coordinates of each corner, v upwards.
        texture: the base colour as a PNG file, sRGB.
        roughness: of the material.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: bytes
    roughness: float


def read_asset(path: Path) -> Asset:
    """The asset in a job's .glb file.

    Raises:
        InputError: it is missing, damaged, or not laid out as a job's result.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", remedy="Choose a finished job, or continue this one until it has a result."
        ) from error
    try:
        return _asset(*_chunks(data))
    except (struct.error, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged or not a result of CoGrad3D ({error or type(error).__name__}).", remedy="Generate the asset again."
        ) from error


def _chunks(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The JSON document and the binary chunk of a .glb file."""
    magic, version, length = struct.unpack_from("<III", data)
    if magic != _MAGIC or version != 2 or length > len(data):
        raise ValueError("no whole binary glTF 2.0 file")
    found, offset = {}, 12
    while offset < length:
        size, kind = struct.unpack_from("<II", data, offset)
        found[kind] = memoryview(data)[offset + 8 : offset + 8 + size]
        offset += 8 + size
    return json.loads(bytes(found[_JSON])), found[_BINARY]


def _asset(document: dict[str, Any], binary: memoryview) -> Asset:
    primitive = document["meshes"][0]["primitives"][0]
    material = document["materials"][primitive["material"]]["pbrMetallicRoughness"]
    image = document["images"][document["textures"][material["baseColorTexture"]["index"]]["source"]]
    attributes = primitive["attributes"]
    positions = _array(document, binary, attributes["POSITION"])
    coordinates = _array(document, binary, attributes["TEXCOORD_0"])
    corners = _array(document, binary, primitive["indices"]).astype(np.int64).reshape(-1, 3)
    if not len(corners) or len(coordinates) != len(positions) or corners.max() >= len(positions) or not np.isfinite(positions).all():
        raise ValueError("its arrays do not belong together")
    vertices, index = _merged(positions)
    faces = index[corners]
    solid = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    uv = np.stack([coordinates[:, 0], 1.0 - coordinates[:, 1]], axis=1)  # glTF counts v downwards
    return Asset(
        vertices=np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], axis=1),  # glTF has Y up and the front towards +Z
        faces=faces[solid].astype(np.int32),
        uv=uv[corners][solid].astype(np.float32),
        texture=bytes(_view(document, binary, image["bufferView"])),
        roughness=float(material.get("roughnessFactor", DEFAULT_ROUGHNESS)),
    )


def _view(document: dict[str, Any], binary: memoryview, number: int) -> memoryview:
    view = document["bufferViews"][number]
    offset = view.get("byteOffset", 0)
    if offset + view["byteLength"] > len(binary):
        raise ValueError("it ends too early")
    return binary[offset : offset + view["byteLength"]]


def _array(document: dict[str, Any], binary: memoryview, number: int) -> np.ndarray:
    """An accessor's numbers, [count] or [count, columns]."""
    accessor = document["accessors"][number]
    columns = _COLUMNS[accessor["type"]]
    values = np.frombuffer(
        _view(document, binary, accessor["bufferView"]),
        dtype=_COMPONENTS[accessor["componentType"]],
        count=accessor["count"] * columns,
        offset=accessor.get("byteOffset", 0),
    )
    return values if columns == 1 else values.reshape(-1, columns)


def _merged(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct positions [P, 3] and, for each of those given, which of them it is."""
    points, index = np.unique(positions, axis=0, return_inverse=True)
    return points, index.reshape(-1)
