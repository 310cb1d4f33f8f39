"""A .glb in plain terms, for trimesh's reader.

That reader takes integers for the numbers that they stand for only by chance, leaves out sparse values, other texture coordinates than the
first, their transforms and fans of triangles, has its own grey where glTF says white, and rounds vertex colours. So all of that is written
out before it sees the file. Plain numpy. https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .glb_header import JSON_CHUNK, MAGIC

_BINARY = 0x004E4942
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_FLOAT, _UNSIGNED = 5126, 5125
_WHITE = [1.0, 1.0, 1.0, 1.0]


class Glb:
    """What is in a .glb.

    Attributes:
        document: its JSON.
        binary: its binary chunk, the first buffer.
    """

    def __init__(self, path: Path) -> None:
        """Read a file. Raises `OSError`, or `ValueError` if it is no glTF 2.0 or is cut off."""
        data = path.read_bytes()
        if len(data) < 20 or data[:4] != MAGIC:
            raise ValueError("it is no binary glTF")
        version, _, length, kind = struct.unpack_from("<IIII", data, 4)
        if version != 2 or kind != JSON_CHUNK:
            raise ValueError(f"it is of glTF's version {version}, not 2" if version != 2 else "it does not begin with its description")
        self.document: dict[str, Any] = json.loads(data[20 : 20 + length])
        if not isinstance(self.document, dict):
            raise ValueError("its description is none")
        self.binary = bytearray()
        if len(data) >= 28 + length:
            size, kind = struct.unpack_from("<II", data, 20 + length)
            if kind == _BINARY:
                self.binary += data[28 + length : 28 + length + size]
                if len(self.binary) < size:
                    raise ValueError("it ends before its data do")

    def make_plain(self) -> None:
        """Rewrite it in place, such that it means the same in plainer terms; not if some of its data are in other files.

        Raises:
            ValueError, LookupError, TypeError: it is damaged.
        """
        document = self.document
        if any("uri" in buffer for buffer in document.get("buffers", [])):
            return
        materials = document.setdefault("materials", [])
        white = len(materials)
        materials.append({"pbrMetallicRoughness": {}})
        for material in materials:
            if "KHR_materials_pbrSpecularGlossiness" not in material.get("extensions", {}):
                material.setdefault("pbrMetallicRoughness", {}).setdefault("baseColorFactor", _WHITE)
        plain: dict[int, int] = {}
        for mesh in document.get("meshes", []):
            for primitive in mesh["primitives"]:
                self._make_primitive_plain(primitive, white, plain)
        if "scenes" not in document and "nodes" in document:
            children = {child for node in document["nodes"] for child in node.get("children", [])}
            document["scenes"] = [{"nodes": [index for index in range(len(document["nodes"])) if index not in children]}]

    def packed(self) -> bytes:
        """The file's content."""
        binary = bytes(self.binary) + bytes(-len(self.binary) % 4)
        if binary:
            self.document["buffers"][0]["byteLength"] = len(binary)
            binary = struct.pack("<II", len(binary), _BINARY) + binary
        text = json.dumps(self.document).encode()
        text += b" " * (-len(text) % 4)
        return struct.pack("<4sIIII", MAGIC, 2, 20 + len(text) + len(binary), len(text), JSON_CHUNK) + text + binary

    def _make_primitive_plain(self, primitive: dict[str, Any], white: int, plain: dict[int, int]) -> None:
        """See `make_plain`.

        Args:
            primitive: of a mesh; changed in place.
            white: index of a white material.
            plain: accessors that have a plain twin already, by index; changed in place.
        """
        attributes = primitive["attributes"]
        if primitive.get("mode", _TRIANGLES) in (_TRIANGLES, _STRIP, _FAN):
            self._choose_texture_coordinates(primitive)
            if "COLOR_0" in attributes:  # without a material the reader would round them to 8 bits, which is coarse for linear ones
                primitive.setdefault("material", white)
        for name, index in attributes.items():
            if index not in plain:
                plain[index] = self._plain_accessor(index)
            attributes[name] = plain[index]
        if "indices" in primitive and "sparse" in self.document["accessors"][primitive["indices"]]:
            primitive["indices"] = self._append(self._values(primitive["indices"]).reshape(-1).astype("<u4"))
        if primitive.get("mode") == _FAN:
            count = self.document["accessors"][attributes["POSITION"]]["count"]
            order = self._values(primitive["indices"]).reshape(-1) if "indices" in primitive else np.arange(count)
            fan = np.stack([np.full(len(order) - 2, order[0]), order[1:-1], order[2:]], axis=1)
            primitive["indices"], primitive["mode"] = self._append(fan.reshape(-1).astype("<u4")), _TRIANGLES

    def _choose_texture_coordinates(self, primitive: dict[str, Any]) -> None:
        """Make those that the base colour's texture is looked up with the first ones, as they are after its transform."""
        attributes = primitive["attributes"]
        material = self.document["materials"][primitive["material"]] if "material" in primitive else {}
        texture = material.get("pbrMetallicRoughness", {}).get("baseColorTexture", {})
        transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
        chosen = attributes.get(f"TEXCOORD_{transform.get('texCoord', texture.get('texCoord', 0))}")
        if chosen is None:
            attributes.pop("TEXCOORD_0", None)
            return
        attributes["TEXCOORD_0"] = chosen
        offset, angle, scale = (transform.get(name, default) for name, default in (("offset", (0, 0)), ("rotation", 0), ("scale", (1, 1))))
        if not transform or (tuple(offset), angle, tuple(scale)) == ((0, 0), 0, (1, 1)):
            return
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # counter-clockwise where v runs downwards
        moved = self._numbers(chosen) * np.asarray(scale, float) @ turn.T + np.asarray(offset, float)
        attributes["TEXCOORD_0"] = self._append(moved.astype("<f4"))

    def _plain_accessor(self, index: int) -> int:
        """An accessor that holds the same without sparse values and without integers that stand for others."""
        accessor = self.document["accessors"][index]
        if accessor["type"] not in _COLUMNS or not ("sparse" in accessor or accessor.get("normalized")):
            return index
        return self._append(self._numbers(index).astype("<f4"))

    def _numbers(self, index: int) -> np.ndarray:
        """[count, columns] float64: what an accessor stands for."""
        values, accessor = self._values(index), self.document["accessors"][index]
        if not accessor.get("normalized") or values.dtype.kind == "f":
            return values.astype(float)
        return np.maximum(values / np.iinfo(values.dtype).max, -1.0)

    def _values(self, index: int) -> np.ndarray:
        """[count, columns]: an accessor's numbers as they are stored, the sparse ones put in their places."""
        accessor = self.document["accessors"][index]
        count, columns, kind = accessor["count"], _COLUMNS[accessor["type"]], np.dtype(_TYPES[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self._read(accessor, count, columns, kind)
        else:
            values = np.zeros((count, columns), kind)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            places = self._read(sparse["indices"], sparse["count"], 1, np.dtype(_TYPES[sparse["indices"]["componentType"]]))
            values = values.copy()
            values[places[:, 0]] = self._read(sparse["values"], sparse["count"], columns, kind)
        return values

    def _read(self, where: dict[str, Any], count: int, columns: int, kind: np.dtype) -> np.ndarray:
        """[count, columns] of what `where` (its `bufferView` and `byteOffset`) points to."""
        view = self.document["bufferViews"][where["bufferView"]]
        if view["buffer"] != 0:
            raise ValueError("it has several buffers, and one binary part")
        row = columns * kind.itemsize
        stride = view.get("byteStride") or row
        start = view.get("byteOffset", 0) + where.get("byteOffset", 0)
        if count < 0 or start < 0 or stride < row or start + (count - 1) * stride + row > len(self.binary):
            raise ValueError("it points beyond its data")
        rows = np.ndarray((count, row), np.uint8, bytes(self.binary[start : start + count * stride]).ljust(count * stride), 0, (stride, 1))
        return np.ascontiguousarray(rows).view(kind)

    def _append(self, array: np.ndarray) -> int:
        """The index of a new accessor that holds [count] unsigned or [count, columns] floats, little-endian."""
        self.binary += bytes(-len(self.binary) % 4)
        views, accessors = self.document["bufferViews"], self.document["accessors"]
        views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes})
        self.binary += array.tobytes()
        kind = _UNSIGNED if array.ndim == 1 else _FLOAT
        columns = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        accessors.append({"bufferView": len(views) - 1, "componentType": kind, "count": len(array), "type": columns})
        return len(accessors) - 1
