"""Looking at results: an asset or its splats from all around, as a contact sheet and as an animation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..cameras import Camera, orbit_camera
from ..errors import InputError, OutputError
from ..files import atomic_path
from ..mesh_faults import find_fault
from .cleanup import vertex_normals
from .export import to_z_up
from .mesh import TexturedMesh
from .views import gaussian_render
from .zbuffer import render_textured

ELEVATION = 15.0
FOV = 40.0
DISTANCE = 3.3
"""Frames the unit ball, which assets fit into."""

FRAMES = 36
FRAME_SECONDS = 0.1
COLUMNS = 4

_COMPRESSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", "KHR_texture_basisu")
"""glTF extensions that trimesh does not decode: it reads zeros, noise or no texture in their place."""

Draw = Callable[[Camera], np.ndarray]
"""[H, W, 3] float32 in 0..1: the subject on white."""


def turntable(path: str | Path, output: str | Path, *, views: int = 8, size: int = 256) -> list[Path]:
    """Pictures of a mesh (.glb, .obj) or of Gaussians (3DGS .ply) from all around.

    Args:
        path: what to look at.
        output: a .png (contact sheet), a .gif or .webp (animation), or a folder, which gets both, named after `path`.
        views: pictures on the contact sheet, the first from the front, going counter-clockwise seen from above.
        size: pixels along a picture's edge.

    Returns:
        the files that were written.

    Raises:
        InputError: `path` is nothing that can be looked at.
        OutputError: the output cannot be written, or is of another kind.
    """
    path, output = Path(path), Path(output)
    suffix = output.suffix.lower()
    if suffix in (".png", ".gif", ".webp") and not output.is_dir():
        outputs = [output]
    elif suffix == "" or output.is_dir():
        outputs = [output / f"{path.stem}-views.png", output / f"{path.stem}-turntable.webp"]
    else:
        raise OutputError(f"A turntable cannot be written as '{output.suffix}'.", remedy="Give a .png, .gif or .webp, or a folder.")
    draw, distance = open_subject(path)
    if outputs[0] != output:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {output} cannot be made: {error.strerror}.", remedy="Choose another place.") from error
    for file in outputs:
        count = views if file.suffix.lower() == ".png" else FRAMES
        pictures = [_bytes(draw(orbit_camera(360.0 * k / count, ELEVATION, distance, FOV, size))) for k in range(count)]
        with atomic_path(file) as temporary:
            if file.suffix.lower() == ".png":
                Image.fromarray(contact_sheet(pictures)).save(temporary)
            else:
                first, *others = map(Image.fromarray, pictures)
                first.save(temporary, save_all=True, append_images=others, duration=round(1000 * FRAME_SECONDS), loop=0)
    return outputs


def contact_sheet(pictures: list[np.ndarray], columns: int = COLUMNS) -> np.ndarray:
    """[R * H, columns * W, 3] uint8: equally large pictures in rows; places left over are white."""
    columns = min(columns, len(pictures))
    blank = [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
    pictures = [*pictures, *blank]
    return np.concatenate([np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)])


def open_subject(path: Path) -> tuple[Draw, float]:
    """How to draw what is in a file, and the distance from which it is seen whole.

    Raises:
        InputError: there is no such file, or it is of another kind.
    """
    if path.suffix.lower() == ".ply":
        from ..gaussians.model import GaussianModel  # torch is needed for splats only

        render = gaussian_render(GaussianModel.load_ply(path))
        return lambda camera: render([camera])[0][0], DISTANCE
    mesh = read_asset(path)
    radius = float(np.linalg.norm(mesh.vertices, axis=1).max())
    distance = max(DISTANCE, 1.02 * radius / np.sin(np.radians(FOV) / 2))
    return lambda camera: render_textured(mesh, camera)[0], distance


def read_asset(path: str | Path) -> TexturedMesh:
    """A mesh from a .glb or .obj file, in our frame; several meshes in a file become one.

    Without a texture the material's base colour, or else grey, takes its place.

    Raises:
        InputError: there is no such file, it is of another kind, or it holds no triangles, or such as cannot be drawn.
    """
    import trimesh

    path = Path(path)
    if path.suffix.lower() not in (".glb", ".obj"):
        raise InputError(f"{path.name} is no mesh that can be read.", remedy="Give a .glb or .obj file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy="Check the path.")
    try:
        compressed = _compression(path)
        loaded = None if compressed else trimesh.load(path, force="mesh", process=False)
    except Exception as error:  # whatever a parser meets in a damaged file
        raise _unreadable(path, str(error)) from error
    if compressed:
        raise InputError(f"{path.name} is compressed by {compressed}, which is not read.", remedy="Export it again without compression.")
    if not isinstance(loaded, trimesh.Trimesh) or len(loaded.faces) == 0:
        raise _unreadable(path, "it holds no triangles")
    uv, texture = _surface_color(loaded)
    if fault := find_fault(loaded.vertices, loaded.faces, uv=uv):
        raise _unreadable(path, fault)
    vertices, faces = to_z_up(np.asarray(loaded.vertices)), np.asarray(loaded.faces)
    # Normals are recomputed over merged points: a file may hold none, and seams must not show.
    points, index = np.unique(vertices, axis=0, return_inverse=True)
    index = index.reshape(-1)
    normals = vertex_normals(points, index[faces])[index]
    return TexturedMesh(vertices.astype(np.float32), normals, faces.astype(np.int32), uv, texture)


def _compression(path: Path) -> str:
    """The first of `_COMPRESSED` without which a .glb says that it cannot be read; empty if there is none."""
    if path.suffix.lower() != ".glb":
        return ""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(20)[12:16], "little")  # of the JSON, which comes first
        required = json.loads(file.read(length)).get("extensionsRequired", ())
    return next((name for name in _COMPRESSED if name in required), "")


def _surface_color(loaded) -> tuple[np.ndarray, np.ndarray]:
    """UV [V, 2] and texture [S, S, 3] of a trimesh.Trimesh."""
    uv = getattr(loaded.visual, "uv", None)
    material = getattr(loaded.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if uv is not None and image is not None:
        return np.asarray(uv, dtype=np.float32), np.asarray(image.convert("RGB"), dtype=np.uint8)
    color = getattr(material, "main_color", None)
    plain = np.full(3, 180, dtype=np.uint8) if color is None else np.asarray(color[:3], dtype=np.uint8)
    return np.full((len(loaded.vertices), 2), 0.5, dtype=np.float32), np.tile(plain, (2, 2, 1))


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path.name} cannot be read as a mesh: {reason}.", remedy="Give an intact .glb or .obj file with triangles.")


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
