"""The modelling kit of the built-in world: primitives, their placement and their paint.

Frame: Z up, the front faces -Y, +X is to the right of someone who looks at the front. Angles in degrees. Models may have
any size; `Builder.finish` normalises them to the unit ball. Every part is a closed surface with outward normals, so that
back faces can be culled and shading needs no view direction; parts may interpenetrate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.sparse import coo_matrix
from trimesh import creation, transformations

Vector = Sequence[float] | np.ndarray

_CREASE = np.cos(np.radians(40.0))
"""Faces that meet at a sharper angle than this do not share a normal."""


@dataclass(frozen=True)
class Paint:
    """The unlit colour of a part: `primary` times the prompt's colour plus `fixed`; their sum stays within 0..1."""

    primary: float
    fixed: tuple[float, float, float]


PAINTS: dict[str, Paint] = {
    "primary": Paint(1.0, (0.0, 0.0, 0.0)),
    "shade": Paint(0.6, (0.0, 0.0, 0.0)),
    "pale": Paint(0.45, (0.52, 0.52, 0.50)),
    "dark": Paint(0.0, (0.06, 0.06, 0.07)),
    "white": Paint(0.0, (0.95, 0.95, 0.93)),
    "cream": Paint(0.0, (0.96, 0.87, 0.70)),
    "orange": Paint(0.0, (0.95, 0.55, 0.08)),
    "brown": Paint(0.0, (0.45, 0.28, 0.14)),
    "sky": Paint(0.0, (0.55, 0.78, 0.95)),
    "yellow": Paint(0.0, (0.98, 0.85, 0.20)),
    "red": Paint(0.0, (0.85, 0.10, 0.10)),
    "grey": Paint(0.0, (0.60, 0.60, 0.62)),
    "steel": Paint(0.0, (0.34, 0.35, 0.38)),
    "pink": Paint(0.0, (0.95, 0.60, 0.65)),
    "green": Paint(0.0, (0.15, 0.55, 0.20)),
    "slate": Paint(0.0, (0.32, 0.36, 0.45)),
    "brick": Paint(0.0, (0.62, 0.26, 0.18)),
}
"""Every paint by name; `primary`, `shade` and `pale` follow the prompt's colour, the others are the object's own."""

_PAINT_INDEX = {name: index for index, name in enumerate(PAINTS)}


@dataclass(frozen=True)
class Shape:
    """A finished model inside the unit ball.

    Attributes:
        positions: [N, 3] float32.
        normals: [N, 3] float32, unit length, outward.
        faces: [F, 3] int32, counter-clockwise seen from outside.
        paints: [F] int32, index into `PAINTS`.
    """

    positions: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    paints: np.ndarray

    def face_paint(self) -> np.ndarray:
        """[F, 4] float32: the primary's share and the fixed RGB of each face."""
        table = np.array([(paint.primary, *paint.fixed) for paint in PAINTS.values()], dtype=np.float32)
        return table[self.paints]


class Builder:
    """Collects painted parts; every method places one and returns nothing."""

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, np.ndarray, int]] = []

    def mesh(self, paint: str, vertices: np.ndarray, faces: np.ndarray, at: Vector = (0, 0, 0), turn: Vector = (0, 0, 0)) -> None:
        """A closed surface: vertices [V, 3], faces [F, 3]; turned about x, then y, then z, then moved. Inside-out ones are flipped."""
        vertices = np.asarray(vertices, dtype=np.float64) @ transformations.euler_matrix(*np.radians(turn))[:3, :3].T + np.asarray(
            at, dtype=np.float64
        )
        corners = vertices[faces]
        volume = np.einsum(
            "ij,ij->i", corners[:, 0] - vertices.mean(axis=0), np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        ).sum()
        faces = np.asarray(faces) if volume >= 0 else np.asarray(faces)[:, ::-1]
        self._parts.append((vertices, faces, _PAINT_INDEX[paint]))

    def sphere(self, paint: str, at: Vector, radii: float | Vector, turn: Vector = (0, 0, 0), detail: int = 3) -> None:
        """An ellipsoid; `radii` is one number or three."""
        ball = creation.icosphere(subdivisions=detail)
        self.mesh(paint, ball.vertices * np.broadcast_to(radii, 3), ball.faces, at, turn)

    def box(self, paint: str, at: Vector, size: Vector, turn: Vector = (0, 0, 0), rounding: float = 0.0) -> None:
        """A box with edges of the given radius (0: sharp)."""
        if rounding > 0:
            self.mesh(paint, *_rounded_box(np.asarray(size, dtype=np.float64), rounding), at, turn)
        else:
            block = creation.box(extents=size)
            self.mesh(paint, block.vertices, block.faces, at, turn)

    def cylinder(self, paint: str, at: Vector, radius: float, height: float, turn: Vector = (0, 0, 0), bevel: float = 0.0) -> None:
        """A cylinder along z, centred; `bevel` rounds its rims."""
        half = height / 2
        if bevel > 0:
            arc = np.radians(np.linspace(0, 90, 4))
            rim = np.stack([radius - bevel + bevel * np.cos(arc), half - bevel + bevel * np.sin(arc)], axis=1)
            profile = [(0.0, -half), *[(r, -z) for r, z in rim[::-1]], *map(tuple, rim), (0.0, half)]
        else:
            profile = [(0.0, -half), (radius, -half), (radius, half), (0.0, half)]
        self.lathe(paint, profile, at, turn=turn)

    def cone(self, paint: str, at: Vector, radius: float, height: float, turn: Vector = (0, 0, 0), tip: float = 0.0) -> None:
        """A cone along z that stands on `at`; `tip` is the radius at its top."""
        self.lathe(paint, [(0, 0), (radius, 0), (tip, height), (0, height)], at, turn=turn)

    def torus(self, paint: str, at: Vector, major: float, minor: float, turn: Vector = (0, 0, 0), scale: Vector = (1, 1, 1)) -> None:
        """A ring around z."""
        ring = creation.torus(major, minor, major_sections=36, minor_sections=14)
        self.mesh(paint, ring.vertices * np.asarray(scale), ring.faces, at, turn)

    def lathe(
        self,
        paint: str,
        profile: Sequence[Vector],
        at: Vector = (0, 0, 0),
        scale: Vector = (1, 1, 1),
        turn: Vector = (0, 0, 0),
        smooth: bool = False,
        sections: int = 36,
    ) -> None:
        """The profile [(radius, z), ...], from the axis to the axis, turned around z; `smooth` puts a curve through its points."""
        curve = np.asarray(profile, dtype=np.float64)
        if smooth:
            curve = _spline(curve, 6)
            curve[:, 0] = np.maximum(curve[:, 0], 0.0)
        angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)
        rings = np.stack(
            [
                curve[:, None, 0] * np.cos(angle),
                curve[:, None, 0] * np.sin(angle),
                np.broadcast_to(curve[:, None, 1], (len(curve), sections)),
            ],
            axis=-1,
        )
        self.mesh(paint, rings.reshape(-1, 3) * np.asarray(scale), _grid_faces(len(curve), sections), at, turn)

    def tube(self, paint: str, points: Sequence[Vector], radii: float | Sequence[float], sections: int = 16) -> None:
        """A rounded limb along a smooth curve through `points`, with one radius or one a point."""
        path = _spline(np.asarray(points, dtype=np.float64), 6)
        thickness = np.broadcast_to(np.asarray(radii, dtype=np.float64), (len(points),))
        radius = np.interp(np.linspace(0, len(points) - 1, len(path)), np.arange(len(points)), thickness)
        tangent = np.gradient(path, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        arc = np.radians(np.linspace(90, 0, 5)[:-1])
        cap = np.stack([np.cos(arc), np.sin(arc)], axis=1)
        # Half balls close both ends: extra rings along the end tangents.
        centres = np.concatenate([path[0] - tangent[0] * radius[0] * cap[:, 1:], path, path[-1] + tangent[-1] * radius[-1] * cap[::-1, 1:]])
        widths = np.concatenate([radius[0] * cap[:, 0], radius, radius[-1] * cap[::-1, 0]])
        tangents = np.concatenate([np.repeat(tangent[:1], len(cap), 0), tangent, np.repeat(tangent[-1:], len(cap), 0)])
        side = np.cross(tangents[0], (0.0, 0.0, 1.0) if abs(tangents[0, 2]) < 0.9 else (1.0, 0.0, 0.0))
        angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)
        rings = []
        for centre, width, along in zip(centres, widths, tangents, strict=True):
            side = side - along * (side @ along)  # parallel transport: the frame does not twist
            side /= np.linalg.norm(side)
            across = np.cross(along, side)
            rings.append(centre + width * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * across))
        self.mesh(paint, np.concatenate(rings), _grid_faces(len(rings), sections))

    def hull(self, paint: str, points: Sequence[Vector], at: Vector = (0, 0, 0), turn: Vector = (0, 0, 0)) -> None:
        """The convex hull of points: roofs, wings, wedges."""
        body = trimesh.convex.convex_hull(np.asarray(points, dtype=np.float64))
        self.mesh(paint, body.vertices, body.faces, at, turn)

    def slab(self, paint: str, outline: Sequence[Vector], thickness: float, at: Vector = (0, 0, 0), turn: Vector = (0, 0, 0)) -> None:
        """A convex outline [(x, z), ...] given a thickness along y."""
        self.hull(paint, [(x, y, z) for x, z in outline for y in (-thickness / 2, thickness / 2)], at, turn)

    def finish(self, edge: float = 0.14) -> Shape:
        """The model centred in its bounding box and scaled to the unit ball; no edge is longer than `edge` after that.

        Long faces are divided because light is computed at vertices.
        """
        points = np.concatenate([vertices for vertices, _, _ in self._parts])
        centre = (points.min(axis=0) + points.max(axis=0)) / 2
        radius = np.linalg.norm(points - centre, axis=1).max()
        positions, normals, faces, paints, count = [], [], [], [], 0
        for vertices, part_faces, paint in self._parts:
            corner, corner_normal = _corners((vertices - centre) / radius, part_faces, edge)
            packed = np.concatenate([corner.reshape(-1, 3), corner_normal.reshape(-1, 3)], axis=1)
            _, first, inverse = np.unique(np.round(packed, 5), axis=0, return_index=True, return_inverse=True)
            positions.append(packed[first, :3])
            normals.append(packed[first, 3:])
            faces.append(inverse.reshape(-1, 3) + count)
            paints.append(np.full(len(corner), paint))
            count += len(first)
        return Shape(
            np.concatenate(positions).astype(np.float32),
            np.concatenate(normals).astype(np.float32),
            np.concatenate(faces).astype(np.int32),
            np.concatenate(paints).astype(np.int32),
        )


def _corners(vertices: np.ndarray, faces: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Corner positions and normals, both [F, 3, 3], of a part after welding, dividing long edges and finding creases."""
    _, first, inverse = np.unique(np.round(vertices, 6), axis=0, return_index=True, return_inverse=True)
    vertices, faces = vertices[first], inverse.reshape(-1)[faces]
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    keep = area > 1e-10
    faces, cross, unit = faces[keep], cross[keep], cross[keep] / area[keep, None]
    # Corners that share a vertex are averaged where their faces meet smoothly.
    corner_count = 3 * len(faces)
    incidence = coo_matrix(
        (np.ones(corner_count), (np.arange(corner_count), faces.reshape(-1))), shape=(corner_count, len(vertices))
    ).tocsr()
    pair = (incidence @ incidence.T).tocoo()
    mine, other = pair.row // 3, pair.col // 3
    smooth = (unit[mine] * unit[other]).sum(axis=1) > _CREASE
    normals = np.zeros((corner_count, 3))
    np.add.at(normals, pair.row[smooth], cross[other[smooth]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return _divide(vertices[faces], normals.reshape(-1, 3, 3), edge)


def _divide(corners: np.ndarray, normals: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Bisects longest edges, with interpolated normals, until none exceeds `edge`.

    An edge is halved for both faces that share it in the same round or a later one, so T-junctions do not remain.
    """
    done_corners, done_normals = [], []
    while len(corners):
        length = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        longest = length.argmax(axis=1)
        small = length.max(axis=1) <= edge
        done_corners.append(corners[small])
        done_normals.append(normals[small])
        corners, normals, longest = corners[~small], normals[~small], longest[~small]
        rows = np.arange(len(corners))
        start, end, apex = longest, (longest + 1) % 3, (longest + 2) % 3
        middle = (corners[rows, start] + corners[rows, end]) / 2
        middle_normal = normals[rows, start] + normals[rows, end]
        middle_normal /= np.linalg.norm(middle_normal, axis=1, keepdims=True)
        corners, normals = (
            np.concatenate([np.stack([a[rows, start], m, a[rows, apex]], axis=1), np.stack([m, a[rows, end], a[rows, apex]], axis=1)])
            for a, m in ((corners, middle), (normals, middle_normal))
        )
    return np.concatenate(done_corners), np.concatenate(done_normals)


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """[F, 3] triangles of a grid that is closed along its columns."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, b, d], axis=-1).reshape(-1, 3), np.stack([a, d, c], axis=-1).reshape(-1, 3)])


def _spline(points: np.ndarray, steps: int) -> np.ndarray:
    """Uniform Catmull-Rom curve through points [P, D], `steps` samples a segment."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = []
    for p0, p1, p2, p3 in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        curve.append(0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3))
    return np.concatenate([*curve, points[-1:]])


def _rounded_box(size: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a box with rounded edges: a ball cut along the axes and pulled apart."""
    steps = 4
    quarter = np.radians(np.linspace(0, 90, steps))
    longitude = np.concatenate([quarter + np.radians(90 * k) for k in range(4)])
    octant_x, octant_y = np.repeat([1, -1, -1, 1], steps), np.repeat([1, 1, -1, -1], steps)
    latitude = np.concatenate([-quarter[::-1], quarter])
    octant_z = np.repeat([-1, 1], steps)
    inner = size / 2 - radius
    x = octant_x * inner[0] + radius * np.cos(latitude)[:, None] * np.cos(longitude)
    y = octant_y * inner[1] + radius * np.cos(latitude)[:, None] * np.sin(longitude)
    z = np.broadcast_to((octant_z * inner[2] + radius * np.sin(latitude))[:, None], x.shape)
    rows, columns = x.shape
    vertices = np.concatenate([np.stack([x, y, z], axis=-1).reshape(-1, 3), [[0, 0, -size[2] / 2], [0, 0, size[2] / 2]]])
    around = np.arange(columns)
    following = (around + 1) % columns
    bottom = np.stack([np.full(columns, rows * columns), following, around], axis=1)
    top = np.stack([np.full(columns, rows * columns + 1), around + (rows - 1) * columns, following + (rows - 1) * columns], axis=1)
    return vertices, np.concatenate([_grid_faces(rows, columns), bottom, top])
