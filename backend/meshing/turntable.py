"""Looking at results: an asset or its splats from all around, as a contact sheet and as an animation."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..cameras import Camera, orbit_camera
from ..errors import InputError, OutputError
from ..files import atomic_path
from ..gaussians.splat_file import is_splat_file
from ..mesh_faults import LARGEST_COORDINATE
from .cleanup import vertex_normals
from .foreign import FIT_RADIUS, Piece, Unreadable, bounding_ball, in_our_frame, read_contents
from .mesh import TexturedMesh
from .views import gaussian_render
from .zbuffer import box_downsample, rasterize_mesh, supersampled

if TYPE_CHECKING:
    from ..gaussians.model import GaussianModel

ELEVATION = 15.0
FOV = 40.0
DISTANCE = 3.3
"""Frames the unit ball, which assets fit into."""

FRAMES = 36
FRAME_SECONDS = 0.1
COLUMNS = 4

MESH_SUFFIXES = (".glb", ".obj", ".ply")

OWN_REACH = (0.1, 1.5)
"""How far from the origin our assets reach, widely taken. What does not is centred and scaled to be looked at."""

PLAIN = 180 / 255
"""The grey of what has no colour of its own."""

MOST = 0.95
"""Share of the Gaussians that is to be seen whole."""

SUPERSAMPLE = 2

Draw = Callable[[Camera], np.ndarray]
"""[H, W, 3] float32 in 0..1: the subject on white."""


def turntable(path: str | Path, output: str | Path, *, views: int = 8, size: int = 256) -> list[Path]:
    """Pictures of a mesh (.glb, .obj, .ply) or of Gaussians (3DGS .ply) from all around.

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
    if path.suffix.lower() == ".ply" and is_splat_file(path):
        from ..gaussians.model import GaussianModel  # torch is needed for splats only

        render = gaussian_render(_framed(GaussianModel.load_ply(path)))
        return lambda camera: render([camera])[0][0], DISTANCE
    pieces = _read_pieces(path)
    placed = [in_our_frame(piece.vertices, path.suffix.lower()) for piece in pieces]
    used = np.concatenate([vertices[np.unique(piece.faces)] for vertices, piece in zip(placed, pieces)])
    vertices = np.concatenate(placed)
    reach = float(np.linalg.norm(used, axis=1).max())
    if not OWN_REACH[0] <= reach <= OWN_REACH[1]:
        center, radius = bounding_ball(used)
        vertices, reach = (vertices - center) * (FIT_RADIUS / radius), FIT_RADIUS
    distance = max(DISTANCE, 1.02 * reach / np.sin(np.radians(FOV) / 2))
    return lambda camera: _draw(pieces, vertices, camera), distance


def read_asset(path: str | Path) -> TexturedMesh:
    """An asset as `export` writes it to a .glb or .obj file: one piece with a texture, in our frame.

    Without a texture the material's base colour, or else grey, takes its place.

    Raises:
        InputError: there is no such file, it is of another kind, it holds no triangles or such as cannot be drawn, or its colours are more
            than one texture holds.
    """
    path = Path(path)
    pieces = _read_pieces(path)
    piece = pieces[0]
    if len(pieces) > 1 or piece.vertex_colors is not None or piece.face_colors is not None:
        raise _unreadable(path, "it is in several pieces, or its vertices have colours, which is more than one texture holds")
    vertices, faces = in_our_frame(piece.vertices, path.suffix.lower()), piece.faces
    # Normals are recomputed over merged points: a file may hold none, and seams must not show.
    points, index = np.unique(vertices, axis=0, return_inverse=True)
    index = index.reshape(-1)
    normals = vertex_normals(points, index[faces])[index]
    return TexturedMesh(vertices.astype(np.float32), normals, faces.astype(np.int32), *_one_texture(piece))


def _read_pieces(path: Path) -> list[Piece]:
    """The pieces of a mesh in a file. Raises `InputError`."""
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise InputError(f"{path.name} is no mesh that can be read.", remedy="Give a .glb, .obj or .ply file.")
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy="Check the path.")
    try:
        pieces = read_contents(path).pieces
    except Unreadable as error:
        raise _unreadable(path, str(error)) from error
    if not pieces:
        raise _unreadable(path, "it holds no triangles")
    return pieces


def _draw(pieces: list[Piece], vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """[H, W, 3] float32: pieces on white, their vertices being at `vertices` [V, 3], one piece's after the other's."""
    first_vertex = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    first_face = np.cumsum([0, *(len(piece.faces) for piece in pieces)])
    faces = np.concatenate([piece.faces + first for piece, first in zip(pieces, first_vertex)])
    fine = supersampled(camera, SUPERSAMPLE)
    face_index, barycentric, _ = rasterize_mesh(vertices, faces, fine.viewmat, fine.K, fine.width, fine.height)
    samples = np.ones((fine.height, fine.width, 3), dtype=np.float32)
    owner = np.searchsorted(first_face, face_index, side="right") - 1  # -1 where there is nothing
    for k in np.unique(owner[owner >= 0]):
        seen = owner == k
        colors = pieces[k].colors_at(face_index[seen] - first_face[k], barycentric[seen])
        samples[seen] = PLAIN if colors is None else colors
    return box_downsample(samples, SUPERSAMPLE)


def _one_texture(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """UV [V, 2] and texture [S, S, 3] of a piece whose vertices and faces have no colours."""
    if piece.uv is not None and piece.texture is not None:
        return piece.uv, piece.tinted_texture()
    color = piece.colors_at(np.zeros(1, dtype=np.int64), np.full((1, 3), 1 / 3))
    plain = _bytes(np.full(3, PLAIN) if color is None else color[0])
    return np.full((len(piece.vertices), 2), 0.5, dtype=np.float32), np.tile(plain, (2, 2, 1))


def _framed(model: GaussianModel) -> GaussianModel:
    """Gaussians that reach no farther than our assets do; those of other programs are centred and scaled, and stragglers do not count."""
    from ..gaussians.model import GaussianModel

    means, widths = model.params["means"].detach(), model.params["scales"].detach().exp().amax(dim=1)
    if np.quantile(means.norm(dim=1).numpy(), MOST) <= OWN_REACH[1]:
        return model
    center = means.median(dim=0).values
    radius = float(np.quantile(((means - center).norm(dim=1) + widths).numpy(), MOST))
    factor = FIT_RADIUS / min(max(radius, 1e-6), LARGEST_COORDINATE)
    groups = model.state_dict()
    return GaussianModel({**groups, "means": (means - center) * factor, "scales": groups["scales"] + math.log(factor)})


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path.name} cannot be read as a mesh: {reason}.", remedy="Give an intact .glb, .obj or .ply file with triangles.")


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
