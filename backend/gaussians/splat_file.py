"""The .ply file of 3D Gaussians as Kerbl et al. (2023) write it and every splat viewer reads it.

One element `vertex`, little-endian float32 properties in this order: x y z, nx ny nz (unused, zero), f_dc_0..2 (constant spherical
harmonic), f_rest_0.. (the others, channel by channel: all of red, then green, then blue), opacity (logit), scale_0..2 (logarithms),
rot_0..3 (wxyz). Plain numpy: no torch.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import atomic_write_bytes

_MAX_HEADER = 65_536
_MAX_DIGITS = 18
"""Of a count: more than any disk holds, and far from where Python refuses to read a number."""
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_REST_COUNTS = {0: 0, 9: 1, 24: 2, 45: 3}  # number of f_rest_* -> degree


def property_names(degree: int) -> list[str]:
    """All property names in file order."""
    rest = 3 * ((degree + 1) ** 2 - 1)
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def write_splats(path: Path, groups: dict[str, np.ndarray], *, durable: bool = True) -> None:
    """Write the groups of `GaussianModel.params`, as float32 arrays; see `files.atomic_path`."""
    count = len(groups["means"])
    rest = groups.get("shN", np.zeros((count, 0, 3), np.float32))
    names = property_names(math.isqrt(rest.shape[1] + 1) - 1)
    columns = [
        groups["means"],
        np.zeros((count, 3), np.float32),
        groups["sh0"][:, 0],
        rest.transpose(0, 2, 1).reshape(count, -1),
        groups["opacities"][:, None],
        groups["scales"],
        groups["quats"],
    ]
    properties = [f"property float {name}" for name in names]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *properties, "end_header", ""]
    body = np.concatenate(columns, axis=1).astype("<f4")
    atomic_write_bytes(path, "\n".join(header).encode("ascii") + body.tobytes(), durable=durable)


def _damaged(path: Path, what: str) -> InputError:
    remedy = "Give a .ply in the standard 3D Gaussian splatting layout."
    return InputError(f"{path.name} is not a usable file of Gaussians: {what}.", remedy=remedy)


def read_header(path: Path) -> tuple[str, int, list[tuple[str, str]], int] | None:
    """(format, vertices, [(property, numpy type)] of the vertices, bytes of the header); None if this is not a .ply with vertices first.

    Raises:
        InputError: the file cannot be read.
    """
    head, separator, body = _start(path).partition(b"\nend_header")  # a comment may have the words, too
    end_of_line = body.find(b"\n")
    if not head.startswith(b"ply") or not separator or end_of_line < 0:
        return None
    file_format, count, properties, element = "", -1, [], ""
    for line in head.decode("ascii", errors="replace").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "format":
            file_format = words[1]
        elif len(words) == 3 and words[0] == "element":
            if element == "" and words[1] != "vertex":
                return None
            element = words[1]
            if element == "vertex":
                if not words[2].isdigit() or len(words[2]) > _MAX_DIGITS:
                    return None
                count = int(words[2])
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _PLY_TYPES:
                return None
            properties.append((words[2], _PLY_TYPES[words[1]]))
    if count < 0:
        return None
    return file_format, count, properties, len(head) + len(separator) + end_of_line + 1


def _start(path: Path) -> bytes:
    """What the header is in. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_HEADER)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", remedy="Check the path and its permissions.") from error


def is_splat_file(path: Path) -> bool:
    """Whether a .ply holds Gaussians, in whatever layout, rather than a mesh or a plain point cloud."""
    if _is_packed(path):
        return True
    header = read_header(path)
    return header is not None and {"opacity", "scale_0", "rot_0", "f_dc_0"} <= {name for name, _ in header[2]}


def _is_packed(path: Path) -> bool:
    """Whether a .ply holds Gaussians in PlayCanvas's compressed layout."""
    head, _, _ = _start(path).partition(b"\nend_header")
    return head.startswith(b"ply") and b" packed_position" in head


def read_splats(path: Path) -> dict[str, np.ndarray]:
    """The groups of `GaussianModel.params`, float32. Properties may stand in any order and in any numeric type.

    Raises:
        InputError: the file is missing, damaged, or no 3DGS file.
    """
    if _is_packed(path):
        raise InputError(f"{path.name} holds compressed Gaussians, which are not read.", remedy="Save them again as an uncompressed .ply.")
    header = read_header(path)
    if header is None:
        raise _damaged(path, "it has no readable .ply header that begins with vertices")
    file_format, count, properties, offset = header
    orders = {"binary_little_endian": "<", "binary_big_endian": ">"}
    if file_format not in orders:
        raise _damaged(path, f"its format is {file_format or 'not given'}, not binary")
    names = [name for name, _ in properties]
    if len(set(names)) != len(names):
        raise _damaged(path, "a property occurs twice")
    rest_count = sum(name.startswith("f_rest_") for name in names)
    if rest_count not in _REST_COUNTS:
        raise _damaged(path, f"{rest_count} f_rest properties belong to no degree from 0 to 3")
    needed = [name for name in property_names(_REST_COUNTS[rest_count]) if name not in ("nx", "ny", "nz")]
    if missing := [name for name in needed if name not in names]:
        raise _damaged(path, f"it lacks {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}")
    if count == 0:
        raise _damaged(path, "it holds no Gaussians")
    record = np.dtype([(name, orders[file_format] + kind) for name, kind in properties])
    if path.stat().st_size < offset + count * record.itemsize:
        raise _damaged(path, f"it ends before its {count} Gaussians do")
    table = np.fromfile(path, dtype=record, count=count, offset=offset)

    def columns(*wanted: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused below
            return np.stack([table[name].astype(np.float32) for name in wanted], axis=1)

    groups = {
        "means": columns("x", "y", "z"),
        "scales": columns("scale_0", "scale_1", "scale_2"),
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "opacities": columns("opacity")[:, 0],
        "sh0": columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None],
    }
    if rest_count:
        rest = columns(*(f"f_rest_{i}" for i in range(rest_count)))
        groups["shN"] = np.ascontiguousarray(rest.reshape(count, 3, -1).transpose(0, 2, 1))
    for name, array in groups.items():
        if not np.isfinite(array).all():
            raise _damaged(path, f"{name} holds numbers that are not finite")
    return groups
