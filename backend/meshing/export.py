"""Textured meshes to files: .glb, .obj (with .mtl and .png) and .ply.

All are written so that Blender's importer, with its default options, gives back our frame (Z up, front -Y): GLB and OBJ
with Y up and the front along +Z, PLY as it is. OBJ and PLY keep one vertex a point and stay closed; glTF has no separate
indices for UVs, so there vertices on seams are repeated.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .. import __version__
from ..errors import OutputError
from ..files import atomic_write_bytes
from ..preflight import companions
from .mesh import TexturedMesh
from .zbuffer import sample_texture

ROUGHNESS = 0.8

_GLB_MAGIC, _GLB_JSON, _GLB_BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED = 5126, 5125  # glTF component types
_ARRAY, _INDICES = 34962, 34963  # glTF buffer view targets
_LINEAR, _MIPMAPPED, _CLAMP = 9729, 9987, 33071  # glTF sampler settings


def write_asset(mesh: TexturedMesh, path: str | Path) -> None:
    """Write the mesh in the format that the suffix names, each file atomically.

    - .glb: everything in one file; object and material are named after it.
    - .obj: with a material library and the texture, NAME.mtl and NAME.png, beside it; these two are written first.
    - .ply: no texture but vertex colours, sampled from it; for tools that take colours and no images.

    Raises:
        OutputError: an unknown suffix, or a file that cannot be written.
    """
    path = Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise OutputError(f"No mesh format is known by the suffix '{path.suffix}'.", remedy=f"Use one of {', '.join(WRITERS)}.")
    writer(mesh, path)


def to_y_up(vectors: np.ndarray) -> np.ndarray:
    """[N, 3] from our frame (Z up, front -Y) to glTF's (Y up, front +Z): (x, y, z) -> (x, z, -y)."""
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1)


def write_glb(mesh: TexturedMesh, path: Path) -> None:
    """glTF 2.0, binary: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html."""
    name = path.stem
    positions = to_y_up(mesh.vertices).astype("<f4")
    # glTF counts v downwards from the texture's first row.
    uv = np.stack([mesh.uv[:, 0], 1.0 - mesh.uv[:, 1]], axis=1).astype("<f4")
    arrays = [positions, to_y_up(mesh.normals).astype("<f4"), uv, mesh.faces.astype("<u4")]
    blocks = [*(array.tobytes() for array in arrays), _png(mesh.texture)]
    targets = [_ARRAY, _ARRAY, _ARRAY, _INDICES, None]
    views, binary = [], b""
    for block, target in zip(blocks, targets, strict=True):
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(block)}
        views.append(view if target is None else view | {"target": target})
        binary += block + bytes(-len(block) % 4)
    bounds = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    count = len(positions)
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": f"CoGrad3D {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [
            {
                "name": name,
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": ROUGHNESS},
            }
        ],
        "textures": [{"sampler": 0, "source": 0}],
        "images": [{"name": name, "bufferView": 4, "mimeType": "image/png"}],
        "samplers": [{"magFilter": _LINEAR, "minFilter": _MIPMAPPED, "wrapS": _CLAMP, "wrapT": _CLAMP}],
        "accessors": [
            {"bufferView": 0, "componentType": _FLOAT, "count": count, "type": "VEC3"} | bounds,
            {"bufferView": 1, "componentType": _FLOAT, "count": count, "type": "VEC3"},
            {"bufferView": 2, "componentType": _FLOAT, "count": count, "type": "VEC2"},
            {"bufferView": 3, "componentType": _UNSIGNED, "count": mesh.faces.size, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<III", _GLB_MAGIC, 2, 12 + 8 + len(text) + 8 + len(binary))
    chunks = struct.pack("<II", len(text), _GLB_JSON) + text + struct.pack("<II", len(binary), _GLB_BINARY) + binary
    atomic_write_bytes(path, header + chunks)


def write_obj(mesh: TexturedMesh, path: Path) -> None:
    """Wavefront OBJ with its material library and texture; the names of these hold no spaces, which readers disagree about."""
    library, picture = companions(path)
    points, index = _merged(mesh.vertices)
    normals = np.zeros_like(points)
    normals[index] = mesh.normals
    corners = np.stack([index[mesh.faces], mesh.faces, index[mesh.faces]], axis=-1) + 1  # OBJ counts from 1
    lines = [f"# CoGrad3D {__version__}", f"mtllib {library.name}", f"o {library.stem}"]
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in to_y_up(points).tolist()]
    lines += [f"vt {u:.7g} {v:.7g}" for u, v in mesh.uv.tolist()]
    lines += [f"vn {x:.5g} {y:.5g} {z:.5g}" for x, y, z in to_y_up(normals).tolist()]
    lines += [f"usemtl {library.stem}", "s 1"]
    lines += ["f " + " ".join(f"{v}/{t}/{n}" for v, t, n in face) for face in corners.tolist()]
    material = f"newmtl {library.stem}\nKd 1 1 1\nKs 0 0 0\nPr {ROUGHNESS}\nPm 0\nmap_Kd {picture.name}\n"
    atomic_write_bytes(picture, _png(mesh.texture))
    atomic_write_bytes(library, material.encode())
    atomic_write_bytes(path, ("\n".join(lines) + "\n").encode())


def write_ply(mesh: TexturedMesh, path: Path) -> None:
    """Binary PLY with normals and 8-bit sRGB vertex colours: the texture at each vertex, its mean where a seam gives it several."""
    points, index = _merged(mesh.vertices)
    sums = np.zeros((len(points), 4))
    np.add.at(sums, index, np.concatenate([sample_texture(mesh.texture, mesh.uv), np.ones((len(index), 1))], axis=1))
    normals = np.zeros_like(points)
    normals[index] = mesh.normals
    vertex_type = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(points), dtype=vertex_type)
    colors = np.round(255.0 * sums[:, :3] / sums[:, 3:])
    for column, (name, _) in zip([*points.T, *normals.T, *colors.T], vertex_type, strict=True):
        vertices[name] = column
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, index[mesh.faces]
    header = ["ply", "format binary_little_endian 1.0", f"comment CoGrad3D {__version__}", f"element vertex {len(vertices)}"]
    header += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in vertex_type]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    atomic_write_bytes(path, "\n".join(header).encode() + vertices.tobytes() + faces.tobytes())


WRITERS: dict[str, Callable[[TexturedMesh, Path], None]] = {".glb": write_glb, ".obj": write_obj, ".ply": write_ply}
"""The writer of each suffix."""


def _png(texture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(texture).save(buffer, format="PNG")
    return buffer.getvalue()


def _merged(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct positions [P, 3] and, for each of the V vertices, which of them it has."""
    points, index = np.unique(vertices, axis=0, return_inverse=True)
    return points, index.reshape(-1)
