"""A raw surface to a mesh that is fit for use: one closed, consistently oriented piece within the face budget."""

from __future__ import annotations

import numpy as np

from ..config import SurfaceConfig
from ..errors import SurfaceError

Mesh = tuple[np.ndarray, np.ndarray]
"""vertices [V, 3] float32 and faces [F, 3] int32."""


def clean_mesh(vertices: np.ndarray, faces: np.ndarray, config: SurfaceConfig) -> Mesh:
    """Largest piece, smoothed, decimated, closed.

    Args:
        vertices, faces: [V, 3] and [F, 3], a closed surface.
        config: smoothing steps and face budget.

    Returns:
        vertices [V, 3] float32, faces [F, 3] int32: watertight, outward, without degenerate faces, at most `config.faces` of
        them unless no decimation to so few keeps the mesh closed.

    Raises:
        SurfaceError: no closed piece encloses any volume.
    """
    vertices, faces = largest_piece(*repair(vertices, faces))
    vertices = smooth(vertices, faces, config.smoothing)
    vertices, faces = decimate(vertices, faces, config.faces)
    if volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return vertices.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32)


def largest_piece(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """The connected piece that encloses the most volume; floaters and the walls of inner voids go.

    Raises:
        SurfaceError: there are no faces.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if len(faces) == 0:
        raise SurfaceError("No closed surface is left after cleaning.", remedy="Raise surface.resolution or optimise for more iterations.")
    ones = np.ones(2 * len(faces), dtype=np.int8)
    links = coo_matrix((ones, (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel())), shape=(len(vertices),) * 2)
    piece_of_vertex = connected_components(links, directed=False)[1]
    piece_of_face = piece_of_vertex[faces[:, 0]]
    volumes = np.abs(np.bincount(piece_of_face, weights=_signed_volumes(vertices, faces)))
    return compact(vertices, faces[piece_of_face == volumes.argmax()])


def smooth(vertices: np.ndarray, faces: np.ndarray, steps: int) -> np.ndarray:
    """[V, 3] positions after `steps` pairs of shrinking and growing steps that keep the volume (Taubin 1995)."""
    import trimesh

    if steps == 0:
        return vertices
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.53, iterations=2 * steps)
    return np.asarray(mesh.vertices)


def decimate(vertices: np.ndarray, faces: np.ndarray, budget: int) -> Mesh:
    """At most `budget` faces by quadric edge collapse (Garland and Heckbert 1997), still closed.

    The collapse does not check topology, so a few edges may end up with more than two faces; those are repaired. Where that
    fails, gentler and then smaller reductions are tried, the last resort being the mesh as it is.
    """
    import fast_simplification

    if len(faces) <= budget:
        return vertices, faces
    source = np.ascontiguousarray(vertices, dtype=np.float32), np.ascontiguousarray(faces, dtype=np.int32)
    reference = abs(volume(vertices, faces))
    target = budget
    while target < len(faces):
        for aggressiveness in (5.0, 2.0):
            # Repairing adds a few faces, so aim a little lower than the budget.
            fewer = fast_simplification.simplify(*source, target_count=int(0.99 * target), agg=aggressiveness)
            result = largest_piece(*repair(*fewer))
            if len(result[1]) <= target and is_closed(result[1]) and abs(abs(volume(*result)) - reference) < 0.1 * reference:
                return result
        target *= 2
    return vertices, faces


def repair(vertices: np.ndarray, faces: np.ndarray, rounds: int = 8) -> Mesh:
    """Close and untangle a mesh that is almost closed: bad faces are removed, holes filled, until nothing is left to do.

    Bad faces are those with a corner twice, those that occur twice, and those at an edge that more than one face runs along.
    """
    for _ in range(rounds):
        vertices, faces = drop_degenerate(vertices, faces)
        along, against = edge_use(faces)
        if (along == 1).all() and (against == 1).all():
            break
        faces = faces[((along == 1) & (against <= 1)).all(axis=1)]
        vertices, faces = fill_holes(vertices, faces)
    return compact(vertices, faces)


def is_closed(faces: np.ndarray) -> bool:
    """Whether each edge has exactly two faces, which run along it in opposite directions: watertight and consistently wound."""
    along, against = edge_use(faces)
    return len(faces) > 0 and bool((along == 1).all() and (against == 1).all())


def edge_use(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For the edges from each corner to the next, [F, 3] twice: how many faces run along it in this direction, and against it."""
    faces = np.asarray(faces, dtype=np.int64)
    following = np.roll(faces, -1, axis=1)
    base = int(faces.max(initial=0)) + 1
    forward, backward = faces * base + following, following * base + faces
    keys, count = np.unique(forward, return_counts=True)

    def occurrences(wanted: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, count[place], 0)

    if len(faces) == 0:
        return np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    return occurrences(forward), occurrences(backward)


def fill_holes(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Close every loop of open edges: a triangle where it has three, else a fan around a new vertex at its mean."""
    _, against = edge_use(faces)
    open_edge = against == 0
    starts, ends = faces[open_edge], np.roll(faces, -1, axis=1)[open_edge]
    new_vertices, new_faces = [vertices], [faces]
    count = len(vertices)
    for loop in _loops(ends.tolist(), starts.tolist()):  # against the open edges, as the missing faces run
        if len(loop) == 3:
            new_faces.append(np.array([loop]))
        elif len(loop) > 3:
            new_vertices.append(np.mean(vertices[loop], axis=0, keepdims=True))
            new_faces.append(np.array([(a, b, count) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]))
            count += 1
    return np.concatenate(new_vertices), np.concatenate(new_faces)


def _loops(starts: list[int], ends: list[int]) -> list[list[int]]:
    """The simple closed loops into which directed edges fall; a walk that meets itself is cut there, so no vertex repeats."""
    following: dict[int, list[int]] = {}
    for a, b in zip(starts, ends, strict=True):
        following.setdefault(a, []).append(b)
    loops = []
    for first in sorted(following):
        while following[first]:
            walk = [first]
            place = {first: 0}
            while following.get(walk[-1]):
                vertex = following[walk[-1]].pop()
                if vertex in place:
                    loops.append(walk[place[vertex] :])
                    for dropped in walk[place[vertex] + 1 :]:
                        del place[dropped]
                    walk = walk[: place[vertex] + 1]
                else:
                    place[vertex] = len(walk)
                    walk.append(vertex)
    return loops


def drop_degenerate(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Merge vertices that coincide, and drop faces that have a corner twice or the same corners as another face."""
    scale = max(float(np.ptp(vertices, axis=0).max()), 1e-12) if len(vertices) else 1.0
    rounded = np.round(np.asarray(vertices, dtype=np.float64) / (1e-7 * scale))
    _, first, same = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    vertices, faces = vertices[first], same.reshape(-1)[faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    # Two faces on the same corners are a flap without volume: both go.
    _, same_corners, count = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    return vertices, faces[count[same_corners.reshape(-1)] == 1]


def compact(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """The mesh without vertices that no face uses."""
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[used], renumbered.reshape(faces.shape).astype(np.int32)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Signed volume of a closed mesh, positive if its faces are counter-clockwise from outside."""
    return float(_signed_volumes(vertices, faces).sum())


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 3] float32: unit normals, the mean of the adjacent faces' weighted by their angle at the vertex."""
    vertices = np.asarray(vertices, dtype=np.float64)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    total = np.zeros_like(vertices)
    for k in range(3):
        a, b = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.einsum("ij,ij->i", a, b))
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, k], weights=angle * normals[:, axis], minlength=len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), [0.0, 0.0, 1.0]).astype(np.float32)


def _signed_volumes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[F] signed volumes of the tetrahedra between each face and the origin (the divergence theorem)."""
    a, b, c = (np.asarray(vertices, dtype=np.float64)[faces[:, k]] for k in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0
