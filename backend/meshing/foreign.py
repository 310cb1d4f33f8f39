"""Meshes and point clouds of other programs: what is in a file, and how its surfaces are coloured.

The axes are the file's own. Colours are those that are seen without light: the base colour of a material, its texture and the colours of
vertices or faces, multiplied where the format says so (glTF), else the first of texture, vertices or faces, and material.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..colours import linear_to_srgb, srgb_to_linear
from ..errors import InputError
from ..mesh_faults import find_fault
from .glb_header import refuse_compressed
from .plain_glb import Glb
from .zbuffer import sample_texture

if TYPE_CHECKING:
    import trimesh


FIT_RADIUS = 0.9
"""Of the ball that what stands or is sized otherwise than our assets is scaled into."""


Y_UP_SUFFIXES = (".obj", ".glb")
"""Files that have y up and look along z, as Blender's importers take them; the others are in our frame."""


def in_our_frame(points: np.ndarray, suffix: str) -> np.ndarray:
    """[N, 3] points of a file with this suffix, z up, the front towards -y: (x, y, z) -> (x, -z, y) where y is up."""
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1) if suffix in Y_UP_SUFFIXES else points


class Unreadable(Exception):
    """What is wrong with a file, as the end of a sentence about it; for those who know what else the user might give."""


@dataclass(frozen=True)
class Piece:
    """One piece of a mesh, where it stands in its file. What of its look is None plays no part.

    Attributes:
        vertices: [V, 3] float64.
        faces: [F, 3] int64.
        areas: [F] float64, of the faces.
        uv: [V, 2] float32, v upwards, and
        texture: [H, W, 3] uint8, sRGB; both or none.
        tint: [3] in 0..1, of the whole piece.
        vertex_colors, face_colors: [V, 3], [F, 3] in 0..1.
        linear: whether `tint` and the colours are linear, and all are multiplied; else they are in display space.
    """

    vertices: np.ndarray
    faces: np.ndarray
    areas: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    tint: np.ndarray | None = None
    vertex_colors: np.ndarray | None = None
    face_colors: np.ndarray | None = None
    linear: bool = False

    def colors_at(self, face: np.ndarray, barycentric: np.ndarray) -> np.ndarray | None:
        """[N, 3] in display space at points of the faces [N], given by their barycentric coordinates [N, 3]; None if it has no colour."""
        texture = tint = None
        if self.texture is not None and self.uv is not None:
            texture = sample_texture(self.texture, repeated(_interpolated(self.uv, self.faces[face], barycentric)))
            if not self.linear or self.has_plain_texture:
                return texture
        if self.vertex_colors is not None:
            tint = _interpolated(self.vertex_colors, self.faces[face], barycentric)
        elif self.face_colors is not None:
            tint = self.face_colors[face]
        if self.tint is not None and (tint is None or self.linear):
            tint = self.tint * (np.ones((len(face), 3)) if tint is None else tint)
        if tint is None or not self.linear:
            return tint
        return linear_to_srgb(np.clip(tint if texture is None else tint * srgb_to_linear(texture), 0.0, 1.0))

    def tinted_texture(self) -> np.ndarray:
        """[H, W, 3] uint8, sRGB: the texture, multiplied by the tint where the format says so."""
        assert self.texture is not None
        if self.tint is None or not self.linear or self.has_plain_texture:
            return self.texture
        tinted = linear_to_srgb(srgb_to_linear(self.texture / 255) * self.tint)
        return np.round(255 * tinted).astype(np.uint8)

    @property
    def has_plain_texture(self) -> bool:
        """Whether the texture alone is what is seen."""
        white = self.tint is None or bool((self.tint == 1.0).all())
        return self.texture is not None and (not self.linear or (white and self.vertex_colors is None))


@dataclass(frozen=True)
class Contents:
    """What is in a file.

    Attributes:
        pieces: those with an area.
        clouds: points [N, 3] and their colours [N, 3] in display space, if any.
    """

    pieces: list[Piece]
    clouds: list[tuple[np.ndarray, np.ndarray | None]]


def read_contents(path: Path) -> Contents:
    """All meshes and point clouds of a .glb, .obj, .ply or .stl file, their transforms applied.

    Raises:
        InputError: it is compressed.
        Unreadable: it is damaged, or holds neither surfaces nor points.
    """
    import trimesh

    linear = path.suffix.lower() == ".glb"
    try:
        scene = _load_glb(path) if linear else trimesh.load_scene(path, resolver=_Beside(path), process=False)
        looks = _take_looks(scene, linear)
        parts = scene.dump()
    except InputError:
        raise
    except Exception as error:  # a parser fails on a damaged file in as many ways as there are damages
        words = str(error) if isinstance(error, (ValueError, OSError)) else ""
        raise Unreadable(f"it is damaged ({words or type(error).__name__})") from error
    pieces, clouds, has_faces = [], [], False
    for part in parts:
        if isinstance(part, trimesh.Trimesh) and len(part.faces):
            look = looks[part.metadata["name"]]
            _refuse(find_fault(part.vertices, part.faces, uv=look.get("uv"), colors=look.get("vertex_colors")))
            has_faces = True
            if part.area > 0:
                pieces.append(Piece(np.asarray(part.vertices), np.asarray(part.faces), np.asarray(part.area_faces), linear=linear, **look))
        elif isinstance(part, trimesh.PointCloud) and len(part.vertices):
            _refuse(find_fault(part.vertices))
            clouds.append((np.asarray(part.vertices), _cloud_colors(part, linear)))
    if not pieces and not clouds:
        raise Unreadable("its faces have no area" if has_faces else "it holds neither faces nor points")
    return Contents(pieces, clouds)


def bounding_ball(points: np.ndarray) -> tuple[np.ndarray, float]:
    """The middle [3] of the box around points [N, 3], and how far from it they reach."""
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    return center, float(np.linalg.norm(points - center, axis=1).max())


def repeated(uv: np.ndarray) -> np.ndarray:
    """Texture coordinates [N, 2] within 0..1, where a texture that repeats itself has the same colours."""
    return np.where((uv < 0.0) | (uv > 1.0), uv - np.floor(uv), uv)


def _refuse(fault: str | None) -> None:
    if fault:
        raise Unreadable(fault)


_OPTIONS = re.compile(
    r"^(?:-(?:blendu|blendv|boost|texres|clamp|bm|imfchan|type|cc)\s+\S+\s+|-mm(?:\s+\S+){2}\s+|-[ost](?:\s+[-+.\deE]+){1,3}\s+)+"
)
"""Of a texture in an .mtl, by the format's specification."""


class _Beside:
    """The files that a mesh names, for trimesh, which takes all that an .mtl says of a texture for its name."""

    def __init__(self, path: Path) -> None:
        import trimesh

        self._files = trimesh.resolvers.FilePathResolver(str(path))

    def get(self, name: str) -> bytes:
        """What is in a file. Raises whatever trimesh does where there is none."""
        try:
            return bytes(self._files.get(name))
        except (OSError, ValueError):
            return bytes(self._files.get(_plain_name(name)))

    __getitem__ = get


def _plain_name(statement: str) -> str:
    """The file of a texture in an .mtl, without the options before it and with / for Windows' \\."""
    return _OPTIONS.sub("", statement.strip()).replace("\\", "/")


def _load_glb(path: Path) -> trimesh.Scene:
    """The scene of a .glb. Raises `InputError` if it is compressed, and whatever the parsers do."""
    import trimesh

    refuse_compressed(path)
    glb = Glb(path)
    glb.make_plain()
    resolver = trimesh.resolvers.FilePathResolver(str(path))
    return trimesh.load_scene(io.BytesIO(glb.packed()), file_type="glb", resolver=resolver, process=False)


def _take_looks(scene: trimesh.Scene, linear: bool) -> dict[str, dict[str, Any]]:
    """How each of a scene's meshes looks, by name: the fields of a `Piece`. They have no look any more afterwards.

    For a mesh that stands in many places is copied for each of them, and its textures would be, too.
    """
    import trimesh

    looks = {}
    for name, part in scene.geometry.items():
        if isinstance(part, trimesh.Trimesh):
            looks[name] = _look(part, linear)
            part.visual = trimesh.visual.ColorVisuals()
    return looks


def _look(part: trimesh.Trimesh, linear: bool) -> dict[str, Any]:
    """The fields of a `Piece` that say how it looks."""
    visual = part.visual
    if not visual.defined:
        return {}
    if visual.kind == "face":
        return {"face_colors": np.asarray(visual.face_colors)[:, :3] / 255}
    if visual.kind != "texture":
        return {"vertex_colors": np.asarray(visual.vertex_colors)[:, :3] / 255}
    look: dict[str, Any] = {}
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is not None and visual.uv is not None:
        look = {"uv": np.asarray(visual.uv, np.float32), "texture": np.asarray(image.convert("RGB"), np.uint8)}
    factor = getattr(material, "baseColorFactor", None)
    if factor is None:  # trimesh calls grey what has no colour of its own, which in a .glb is white
        factor = (255, 255, 255) if linear else material.main_color
    look["tint"] = np.asarray(factor)[:3] / 255
    colors = visual.vertex_attributes.get("color")
    if colors is not None:
        look["vertex_colors"] = np.asarray(colors, np.float64)[:, :3]
    return look


def _cloud_colors(cloud: trimesh.PointCloud, linear: bool) -> np.ndarray | None:
    """[N, 3] in display space; None if it has none."""
    colors = np.asarray(cloud.colors)
    if len(colors) != len(cloud.vertices):
        return None
    return linear_to_srgb(colors[:, :3] / 255) if linear else colors[:, :3] / 255


def _interpolated(values: np.ndarray, corners: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """[N, X]: values [V, X] of the vertices `corners` [N, 3], weighted by `barycentric` [N, 3]."""
    return np.einsum("nk,nkd->nd", barycentric, values[corners])
