"""How the Gaussians begin: a blob, a sphere, or an artist's blockout, as a mesh or a point cloud.

A blockout is centred on its bounding box and scaled, with its proportions kept, into a ball of radius `FIT_RADIUS`. Formats whose custom is
Y up with the front towards +Z (.glb, .obj) are turned to Z up with the front towards -Y, as Blender's importers do; .ply, .stl and .xyz are
taken as they are. Gaussians of an earlier run stay where and as wide as they are. With `gaussians.grow` a part of the points is grown
around the others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..config import GaussiansConfig
from ..errors import InputError
from ..mesh_faults import find_fault
from ..meshing.foreign import FIT_RADIUS, Contents, Piece, Unreadable, bounding_ball, in_our_frame, read_contents
from .model import GaussianModel
from .splat_file import is_splat_file

MESH_SUFFIXES = (".obj", ".ply", ".glb", ".stl")
POINT_SUFFIXES = (".ply", ".xyz")
GREY = 0.5
GROWN_COLOUR = 0.2
"""Largest amount by which each channel of a grown point is brighter than the point it grew from (GaussianDreamer's 0.2)."""

LARGEST_SPREAD = 1 / 4
"""Of the copies of a cloud's points around them, in that cloud's radii."""

MOST_OUTSIDE = 0.1
"""Share of a file's Gaussians that may lie beyond `gaussians.bound`, onto which they are brought; of more, only a shell would be left."""

Cloud = tuple[np.ndarray, np.ndarray | None]
"""Points [N, 3] and their colours [N, 3] in display space, if any."""


def initialize(
    config: GaussiansConfig, generator: torch.Generator, device: torch.device | str = "cpu", *, pixel_blur: float = 0.0
) -> GaussianModel:
    """The Gaussians that an optimisation begins with.

    Args:
        generator: on the CPU, so that a seed gives the same Gaussians on every device.
        pixel_blur: the variance that the rasteriser adds to every Gaussian while optimising (`meshing.views.pixel_blur`). A file of
            Gaussians holds them as wide as they are seen, so they begin narrower by that.

    Raises:
        InputError: the file named by `config.initial` cannot be used.
    """
    given = max(1, round(config.count / (1 + config.grow)))
    if config.initial == "blob":
        directions = torch.nn.functional.normalize(torch.randn(given, 3, generator=generator), dim=-1)
        means = config.radius * directions * torch.rand(given, 1, generator=generator) ** (1 / 3)
        colors = None
    elif config.initial == "sphere":
        means = config.radius * torch.nn.functional.normalize(torch.randn(given, 3, generator=generator), dim=-1)
        colors = None
    else:
        path = Path(config.initial).expanduser()
        if _readable_suffix(path) == ".ply" and is_splat_file(path):
            return _from_splats(path, config, pixel_blur).to(device)
        # numpy samples the surface; its seed comes from our generator.
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        points, point_colors = sample_file(path, given, rng)
        means = torch.from_numpy(points.astype(np.float32))
        colors = None if point_colors is None else torch.from_numpy(point_colors.astype(np.float32))
    if colors is None:
        colors = GREY + config.colour_noise * torch.randn(len(means), 3, generator=generator)
    if given < config.count:
        means, colors = _grown(means, colors, config.count, generator)
    scales = torch.from_numpy(neighbour_distance(means.numpy(), default=config.max_scale))[:, None].repeat(1, 3)
    return GaussianModel.create(means, scales, colors.clamp(0, 1), config).to(device)


def _grown(means: Tensor, colors: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` points and colours: those given, and others around them (GaussianDreamer, Yi et al. 2024, section 3.3).

    There points that are uniform in the bounding box are kept where the nearest given one is closer than 0.01. Here each is drawn from
    the ball around a given one that reaches to its neighbours, which keeps as near to the surface however few points that has.
    """
    parents = torch.randint(len(means), (count - len(means),), generator=generator)
    reach = torch.from_numpy(neighbour_distance(means.numpy(), default=0.0))[parents, None]
    directions = torch.nn.functional.normalize(torch.randn(len(parents), 3, generator=generator), dim=-1)
    offsets = reach * directions * torch.rand(len(parents), 1, generator=generator) ** (1 / 3)
    brighter = GROWN_COLOUR * torch.rand(len(parents), 3, generator=generator)
    return torch.cat([means, means[parents] + offsets]), torch.cat([colors, colors[parents] + brighter])


def neighbour_distance(points: np.ndarray, default: float, neighbours: int = 3) -> np.ndarray:
    """[N] float32 mean distance to the nearest points (3DGS, section 5.1: three of them); `default` where there are none."""
    wanted = min(neighbours, len(points) - 1)
    if wanted == 0:
        return np.full(len(points), default, np.float32)
    distances, _ = cKDTree(points).query(points, k=wanted + 1)
    return distances[:, 1:].mean(axis=1).astype(np.float32)


def sample_file(path: Path, count: int, rng: np.random.Generator) -> Cloud:
    """`count` points of a blockout, placed in the world.

    Returns:
        [N, 3] points, and their colours [N, 3] in display space, or None if the file has none. A mesh gives points that are uniform over
        its area; a point cloud gives a random choice of its points or, if it has fewer, all of them and perturbed copies.

    Raises:
        InputError: the file is missing, unreadable or empty.
    """
    suffix = _readable_suffix(path)
    try:
        contents = Contents([], [_read_xyz(path)]) if suffix == ".xyz" else read_contents(path)
    except Unreadable as error:
        raise _unusable(path, str(error)) from error
    pieces, clouds = contents.pieces, contents.clouds
    extent = np.concatenate([piece.vertices[np.unique(piece.faces)] for piece in pieces] or [points for points, _ in clouds])
    centre, radius = bounding_ball(extent)
    if not radius > 0:
        raise _unusable(path, "all its points coincide")
    points, colors = _sample_surfaces(pieces, count, rng) if pieces else _sample_points(clouds, count, rng, LARGEST_SPREAD * radius)
    return in_our_frame((points - centre) * (FIT_RADIUS / radius), suffix), colors


def _unusable(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} cannot be used to start from: {what}.",
        remedy=f"Give a mesh ({' '.join(MESH_SUFFIXES)}) or a point cloud ({' '.join(POINT_SUFFIXES)}), or start from blob or sphere.",
    )


def _readable_suffix(path: Path) -> str:
    """The lower-case suffix of a file that exists and has a known format."""
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES + POINT_SUFFIXES:
        raise _unusable(path, f"{suffix or 'a name without a suffix'} is not a known format")
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy="Check the path, or start from blob or sphere.")
    return suffix


def _from_splats(path: Path, config: GaussiansConfig, pixel_blur: float) -> GaussianModel:
    """Gaussians of an earlier run, as wide as they are once the rasteriser has blurred them, with the degree that the settings ask for.

    Raises:
        InputError: the file is damaged, or of a scene that stands or is sized otherwise than ours.
    """
    state = GaussianModel.load_ply(path).state_dict()
    reach = state["means"].norm(dim=1)
    if (reach > 1.001 * config.bound).float().mean() > MOST_OUTSIDE:  # a run's own may lie a rounding beyond
        raise InputError(
            f"The Gaussians of {path.name} reach {reach.max():.3g} from the origin, and nothing is looked at beyond {config.bound:g}.",
            remedy=f"Move and scale them into the ball of radius {config.bound:g} around the origin, with Z up and the front towards -Y.",
        )
    missing = (config.sh_degree + 1) ** 2 - 1
    rest = state.pop("shN", torch.zeros(len(state["means"]), 0, 3))[:, :missing]
    if missing:
        state["shN"] = torch.cat([rest, rest.new_zeros(len(rest), missing - rest.shape[1], 3)], dim=1)
    state["scales"] = 0.5 * ((2 * state["scales"]).exp() - pixel_blur).clamp_min(1e-16).log()
    model = GaussianModel(state, (config.min_scale, config.max_scale), config.bound)
    model.clamp_()
    return model


def _read_xyz(path: Path) -> Cloud:
    """Lines `x y z` or `x y z r g b`; colours in 0..255 or, if none exceeds 1, in 0..1. Blank lines and # comments are skipped.

    Where a colour would be negative, those columns are normals, and are left alone.
    """
    try:
        table = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise _unusable(path, "it is not a table of numbers") from error
    if table.shape[0] == 0 or table.shape[1] not in (3, 6):
        raise _unusable(path, "its lines are not `x y z` or `x y z r g b`")
    points, colors = table[:, :3], table[:, 3:] if table.shape[1] == 6 and not (table[:, 3:] < 0).any() else None
    if fault := find_fault(points, colors=colors):
        raise _unusable(path, fault)
    return points, None if colors is None else np.minimum(colors / (255 if colors.max() > 1 else 1), 1)


def _sample_points(clouds: list[Cloud], count: int, rng: np.random.Generator, largest_spread: float) -> Cloud:
    """`count` of the points; if there are fewer, all of them and copies displaced by about the distance between neighbours.

    Args:
        largest_spread: that distance is taken for this much at most: of few points, and of one far from the others, it tells no detail.
    """
    points = np.concatenate([points for points, _ in clouds])
    if any(colors is not None for _, colors in clouds):
        colors = np.concatenate([np.full_like(part, GREY) if part_colors is None else part_colors for part, part_colors in clouds])
    else:
        colors = None
    if len(points) >= count:
        chosen = np.sort(rng.choice(len(points), count, replace=False))
        return points[chosen], None if colors is None else colors[chosen]
    copied = rng.integers(len(points), size=count - len(points))
    spread = np.minimum(neighbour_distance(points, default=0.0), largest_spread)[copied, None]
    copies = points[copied] + spread * rng.standard_normal((len(copied), 3)) / np.sqrt(3)
    return np.concatenate([points, copies]), None if colors is None else np.concatenate([colors, colors[copied]])


def _sample_surfaces(pieces: list[Piece], count: int, rng: np.random.Generator) -> Cloud:
    """`count` points, uniform over the area of all pieces together."""
    areas = np.array([piece.areas.sum() for piece in pieces])
    shares = rng.multinomial(count, areas / areas.sum())
    points, colors = [], []
    for piece, share in zip(pieces, shares):
        if share == 0:
            continue
        face = rng.choice(len(piece.faces), share, p=piece.areas / piece.areas.sum())
        root, b = np.sqrt(rng.random(share)), rng.random(share)
        barycentric = np.stack([1 - root, root * (1 - b), root * b], axis=1)
        points.append(np.einsum("nk,nkd->nd", barycentric, piece.vertices[piece.faces[face]]))
        colors.append(piece.colors_at(face, barycentric))
    if all(part is None for part in colors):
        return np.concatenate(points), None
    filled = [np.full_like(part, GREY) if part_colors is None else part_colors for part, part_colors in zip(points, colors)]
    return np.concatenate(points), np.concatenate(filled)
