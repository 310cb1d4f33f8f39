"""The colour of what no view shows that can be trusted.

The optimisation looks at an asset from above a lowest elevation. What is to be seen from below alone has a shape, since meshes are closed,
but the colours of its Gaussians are what they happened to become: blotches of any hue. In the mean they are about right, so they are
smoothed, and made to continue what is around them.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from .mesh import Unwrapped

GUESS_WEIGHT = 0.1
"""Of a vertex's guessed colour, beside 1 for each neighbour's: what differs over less than some three edges is smoothed out."""

STAND_IN_WEIGHT = 1e-3
"""Of the nearest known colour, where there is not even a guess: all but a continuation of what is around."""


def continued_colors(mesh: Unwrapped, known: tuple[np.ndarray, np.ndarray], guessed: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """[V, 3] float32: the vertices' colours, as known or, where they are not, as smooth as they can be.

    There x minimises the sum over edges of |x_i - x_j|^2 plus that over vertices of `GUESS_WEIGHT` |x_i - guess_i|^2 (a screened Poisson
    equation). Across the texture's seams the surface is one.

    Args:
        known, guessed: each the vertices' colours [V, 3], and which of them have one, [V] bool.
    """
    points, first, place = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
    (color, is_known), (guess, is_guessed) = (tuple(values[first] for values in pair) for pair in (known, guessed))
    color = np.where(is_known[:, None], color, guess).astype(np.float64)
    color[~(is_known | is_guessed)] = nearest_color(points, color, is_known | is_guessed)
    unknown = ~is_known
    if unknown.any():
        faces = place.reshape(-1)[mesh.faces]
        ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
        linked = coo_matrix((np.ones(ends.shape[1]), ends), (len(points), len(points))).tocsr()
        linked = ((linked + linked.T) > 0).astype(np.float64)
        weight = np.where(is_guessed, GUESS_WEIGHT, STAND_IN_WEIGHT)
        system = diags(np.asarray(linked.sum(axis=1)).ravel() + weight) - linked
        wanted = weight[unknown, None] * color[unknown] + linked[unknown][:, is_known] @ color[is_known]
        color[unknown] = splu(system[unknown][:, unknown].tocsc()).solve(wanted)
    return color[place.reshape(-1)].astype(np.float32)


def nearest_color(positions: np.ndarray, color: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """[U, 3] for each of the U points not seen, the mean colour of the nearest seen ones in space; grey if there are none."""
    unseen = positions[~seen]
    if len(unseen) == 0 or not seen.any():
        return np.full((len(unseen), 3), 0.5, dtype=np.float32)
    known, known_color = positions[seen], color[seen]
    _, neighbours = cKDTree(known).query(unseen, k=min(8, len(known)))
    return known_color[np.reshape(neighbours, (len(unseen), -1))].mean(axis=1)
