"""The texture, fitted to the Gaussians' renders.

The texture is the unknown of a linear system, one equation a pixel (its bilinear lookup equals the render), which is solved by
ordered-subset SART steps (Andersen and Kak 1984), a gradient descent whose step each texel sets for itself.

Equations are made from looks at the mesh. Making them costs more than using them, and every view is used several times; so they are kept,
as far as a fixed amount of memory holds them. What does not fit is made again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from .looks import LEAST_COSINE, Looks, View
from .mesh import Unwrapped
from .views import in_threads

VIEWS_PER_STEP = 8
"""Views that one step looks at."""

KEPT_BYTES = 512 << 20
"""Of equations that are kept. At 512 pixels a view has 7 MB of them, so all of the usual 48 fit; at 1024 it has 30 MB."""


@dataclass(frozen=True)
class Equations:
    """The linear equations of one view: bilinear lookup at `place`, `share` = render's colour, for P of its fine pixels.

    Attributes:
        place: [P] int32, index of the upper left texel of the four.
        share: [P, 2] float32, shares of the right and of the lower ones.
        weight: [P] float32.
        target: [3, P] float32, a row a colour plane.
    """

    place: np.ndarray
    share: np.ndarray
    weight: np.ndarray
    target: np.ndarray

    @property
    def size(self) -> int:
        """In bytes."""
        return self.place.nbytes + self.share.nbytes + self.weight.nbytes + self.target.nbytes


class EquationStore:
    """Equations of views, for a plan of who uses them when: kept until their last use as far as `KEPT_BYTES` hold them, else made again."""

    def __init__(self, looks: Looks, size: int, plan: Sequence[Sequence[int]]) -> None:
        """Nothing is made yet.

        Args:
            looks: the views.
            size: texels along an edge of the texture.
            plan: the indices of the views that each step uses.
        """
        self.looks, self.size = looks, size
        self._uses = Counter(i for step in plan for i in step)
        self._kept: dict[int, Equations] = {}
        self._free = KEPT_BYTES
        self._lock = threading.Lock()

    def offer(self, i: int, view: View) -> None:
        """Keep the equations of a view that is at hand, if they are to be used and fit. Several threads may call it at once."""
        if self._uses[i] and self._free > 0:
            self._keep(i, equations_of(view, self.looks.mesh, self.size))

    def take(self, step: Sequence[int]) -> Iterator[Equations]:
        """The equations of a step's views, in order; to be called for each step of the plan once."""
        missing = self.looks.map(lambda _, view: equations_of(view, self.looks.mesh, self.size), [i for i in step if i not in self._kept])
        for i in step:
            self._uses[i] -= 1
            if i in self._kept:
                equations = self._kept[i]
                if not self._uses[i]:
                    self._free += self._kept.pop(i).size
            else:
                _, equations = next(missing)
                if self._uses[i]:
                    self._keep(i, equations)
            yield equations

    def _keep(self, i: int, equations: Equations) -> None:
        with self._lock:
            if equations.size <= self._free:
                self._free -= equations.size
                self._kept[i] = equations


def make_plan(steps: int, views: int, rng: np.random.Generator) -> list[list[int]]:
    """The views that each step looks at: a few, different ones, and none again before all have been seen.

    Where a round of all views ends within a step, the next one begins there, with views that the step has not.
    """
    plan: list[list[int]] = []
    queue: list[int] = []
    for _ in range(steps):
        step, queue = queue[:VIEWS_PER_STEP], queue[VIEWS_PER_STEP:]
        if missing := min(VIEWS_PER_STEP, views) - len(step):
            following = [int(i) for i in rng.permutation(views)]
            chosen = [i for i in following if i not in step][:missing]
            step, queue = step + chosen, [i for i in following if i not in chosen]
        plan.append(step)
    return plan


def refine(
    texture: np.ndarray, store: EquationStore, plan: Sequence[Sequence[int]], progress: Callable[[float], None] = lambda share: None
) -> np.ndarray:
    """[S, S, 3] float32: the texture [S, S, 3] after the plan's steps towards reproducing the views.

    Each moves every texel by the weighted mean error of the samples it takes part in. The steps shrink to let the views' disagreement
    average out.
    """
    planes = np.ascontiguousarray(texture.transpose(2, 0, 1).reshape(3, -1))
    moved, touched = np.empty_like(planes), np.empty_like(planes)
    for number, step in enumerate(plan):
        moved[:] = touched[:] = 0.0
        for equations in store.take(step):
            _add_errors(planes, texture.shape[0], equations, moved, touched)
        relaxation = np.float32(1.0 / (1.0 + 4.0 * number / len(plan)))
        in_threads(lambda k, r=relaxation: _move(planes[k], moved[k], touched[k], r), range(3))  # type: ignore[misc]
        progress((number + 1) / len(plan))
    return np.clip(planes, 0.0, 1.0).reshape(3, *texture.shape[:2]).transpose(1, 2, 0)


def equations_of(view: View, mesh: Unwrapped, size: int) -> Equations:
    """Those of a view of a mesh, for a texture of `size` texels along an edge."""
    count = int((view.margin >= 1.0).sum())
    place, weight = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.float32)
    share, target = np.empty((count, 2), dtype=np.float32), np.empty((3, count), dtype=np.float32)
    center = view.camera.position.astype(np.float32)
    surface = view.face_index, view.barycentric, view.margin, mesh.vertices, mesh.normals, mesh.faces, mesh.uv
    used = _fill_equations(view.color, view.alpha, *surface, center, size, place, share, weight, target)
    # Copies, since the rest of larger arrays would be kept with them.
    return Equations(place[:used].copy(), share[:used].copy(), weight[:used].copy(), target[:, :used].copy())


def _add_errors(planes: np.ndarray, size: int, equations: Equations, moved: np.ndarray, touched: np.ndarray) -> None:
    """Add one view's errors to what moves the colour planes [3, S * S]; a thread a plane, so that sums never depend on their number."""
    e = equations
    in_threads(lambda k: _add_plane_errors(planes[k], size, e.place, e.share, e.weight, e.target[k], moved[k], touched[k]), range(3))


@njit(cache=True, nogil=True)
def _fill_equations(
    color, alpha, face_index, barycentric, margin, vertices, normals, faces, uv, center, size, place, share, weight, target
):
    """Fill the arrays of `equations_of`; returns how many of their rows are used."""
    height, width = alpha.shape
    fine = margin.shape[0] // height
    used = 0
    point, normal = np.empty(3, dtype=np.float32), np.empty(3, dtype=np.float32)
    for v in range(margin.shape[0]):
        for u in range(margin.shape[1]):
            if margin[v, u] < 1:
                continue
            point[:] = 0
            normal[:] = 0
            tx = ty = np.float32(0)
            for k in range(3):
                i, b = faces[face_index[v, u], k], barycentric[v, u, k]
                tx += b * uv[i, 0]
                ty += b * uv[i, 1]
                for axis in range(3):
                    point[axis] += b * vertices[i, axis]
                    normal[axis] += b * normals[i, axis]
            facing = ray = length = np.float32(0)
            for axis in range(3):
                towards = center[axis] - point[axis]
                facing += towards * normal[axis]
                ray += towards * towards
                length += normal[axis] * normal[axis]
            cosine = facing / (np.sqrt(ray * length) + np.float32(1e-9))
            x = min(max((u + np.float32(0.5)) / fine - np.float32(0.5), np.float32(0)), width - np.float32(1.001))
            y = min(max((v + np.float32(0.5)) / fine - np.float32(0.5), np.float32(0)), height - np.float32(1.001))
            x0, y0 = int(x), int(y)
            s, t = x - x0, y - y0
            a, b, c, d = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
            opacity = a * alpha[y0, x0] + b * alpha[y0, x0 + 1] + c * alpha[y0 + 1, x0] + d * alpha[y0 + 1, x0 + 1]
            if opacity < np.float32(0.5) or cosine < LEAST_COSINE:
                continue
            for k in range(3):
                target[k, used] = a * color[y0, x0, k] + b * color[y0, x0 + 1, k] + c * color[y0 + 1, x0, k] + d * color[y0 + 1, x0 + 1, k]
            weight[used] = cosine * cosine * opacity * opacity
            tx = min(max(tx * size - np.float32(0.5), np.float32(0)), size - np.float32(1.01))
            ty = min(max((1 - ty) * size - np.float32(0.5), np.float32(0)), size - np.float32(1.01))
            column, row = int(tx), int(ty)
            place[used] = row * size + column
            share[used, 0] = tx - column
            share[used, 1] = ty - row
            used += 1
    return used


@njit(cache=True, nogil=True)
def _add_plane_errors(plane, size, place, share, weight, target, moved, touched):
    """Add to `moved` and `touched` [S * S] the weighted errors and the weights of the samples that a colour plane's texels take part in."""
    for p in range(place.shape[0]):
        i, s, t = place[p], share[p, 0], share[p, 1]
        a, b, c, d = (1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t
        error = weight[p] * (target[p] - a * plane[i] - b * plane[i + 1] - c * plane[i + size] - d * plane[i + size + 1])
        moved[i] += a * error
        moved[i + 1] += b * error
        moved[i + size] += c * error
        moved[i + size + 1] += d * error
        touched[i] += a * weight[p]
        touched[i + 1] += b * weight[p]
        touched[i + size] += c * weight[p]
        touched[i + size + 1] += d * weight[p]


@njit(cache=True, nogil=True)
def _move(plane, moved, touched, relaxation):
    """Move a colour plane [S * S] by its mean errors, in place."""
    for i in range(plane.shape[0]):
        # The constant keeps texels that few samples touch near the blend they started from.
        plane[i] += relaxation * moved[i] / (touched[i] + np.float32(0.05))
