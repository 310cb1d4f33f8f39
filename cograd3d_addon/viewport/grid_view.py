"""What is shown of one view grid, wherever it comes from: a running job, a finished one, or an object's stored metadata. No bpy."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...backend.protocol import Regions
from ..jobs import Job, JobStatus, RegionHistory
from ..jobs.history import parse_regions
from ..jobs.job import BEFORE_THE_MESH
from . import frustums
from .measures import Measure
from .region_names import region_names


@dataclass(frozen=True, eq=False)
class GridView:
    """A view grid in the scene, and what is known of its N regions. Immutable: whatever changes, another one takes its place, so that a
    cache needs to compare identities only.

    Attributes:
        source: whose grid it is: the job's id, or the object's uuid; selections are kept by it.
        title: the prompt.
        regions: the statistics, an entry a region.
        fov: vertical field of view of the regions' cameras, degrees.
        matrix: [4, 4] backend world to scene world.
        live: whether the optimisation is going on, so that regions can be weighed.
        stands: whether the asset stands, or is to stand, in the scene that it is shown in; else the grid has no place there.
        owner: name of the object that the grid stands around; empty: there is none yet.
        job: the job; None if nothing but the object is there.
        stored_history: without a job: how the regions fared, as the object has it.
    """

    source: str
    title: str
    regions: Regions
    fov: float
    matrix: np.ndarray
    live: bool = False
    stands: bool = True
    owner: str = ""
    job: Job | None = None
    stored_history: str = ""

    def __len__(self) -> int:
        return len(self.regions.azimuth)

    @property
    def current(self) -> int:
        """The region that is being worked on now; -1 for none."""
        return self.regions.current if self.live and self.regions.current < len(self) else -1

    @cached_property
    def weights(self) -> np.ndarray:
        """[N] the user's factors."""
        return np.array(self.regions.weight) if len(self.regions.weight) == len(self) else np.ones(len(self))

    @cached_property
    def visits(self) -> np.ndarray:
        """[N] how often each region was worked on."""
        return np.array(self.regions.visits) if len(self.regions.visits) == len(self) else np.zeros(len(self), dtype=int)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """[N] what an artist calls the regions."""
        return region_names(self.regions.azimuth, self.regions.elevation, self.regions.distance)

    @property
    def centre(self) -> np.ndarray:
        """[3] what the cameras look at, in the scene."""
        return self.matrix[:3, 3]

    @property
    def asset_radius(self) -> float:
        """Of a ball around `centre` that most of the asset is in, in the scene."""
        return ASSET_RADIUS * float(abs(np.linalg.det(self.matrix[:3, :3]))) ** (1 / 3)

    @cached_property
    def cameras(self) -> np.ndarray:
        """[N, 4, 4] the regions' middle cameras in the scene, Blender's axes."""
        return _placed(self.regions.azimuth, self.regions.elevation, self.regions.distance, self.matrix.tobytes())

    def glyph_sizes(self, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """([N] half heights of the frames, [N] lengths of the pyramids) as `frustums.glyph_sizes` has them. `factor`: the user's wish."""
        regions = self.regions
        return _sizes(regions.azimuth, regions.elevation, regions.distance, self.matrix.tobytes(), self.fov, factor)

    @functools.lru_cache(maxsize=64)  # noqa: B019  (views are few and short-lived; the bound keeps no more than 64 of them)
    def values(self, measure: Measure) -> np.ndarray:
        """[N] of a measure, NaN where unknown."""
        return measure.values(self.regions)

    def worst_first(self, measure: Measure) -> np.ndarray:
        """[N] the regions in the order in which they need work; frozen ones behind all others."""
        order = measure.order(self.values(measure))
        return np.concatenate([order[self.weights[order] > 0], order[self.weights[order] == 0]])

    @property
    def history(self) -> RegionHistory | None:
        """How the regions fared, None if nobody knows."""
        return self.job.history if self.job is not None else _history(self.stored_history)

    def picture(self, region: int) -> Path | None:
        """The last picture of a region, if there is one."""
        return self.job.view_image(region) if self.job is not None else None


ASSET_RADIUS = 0.75
"""Half the height of an asset in the backend's world."""

_OBEYS_WITHIN = 3
_OBEYS_AFTER = 2.0
"""Iterations and seconds, both, after which what a worker tells of weights counts again, whatever it was told: a slow run takes long for a
step, a fast one makes many steps between two words.
"""

_SMALLEST_VOLUME = 1e-18
"""Determinant of a place that has not yet shrunk to nothing: a millionth along every axis."""

_KEPT = 8
"""Views that are returned again: every window can show another grid, or the same from another scene."""


def can_be_weighed(job: Job) -> bool:
    """Whether a job's optimiser goes on, or will, so that it obeys. While the mesh is made it does not."""
    return job.status.is_live and job.status is not JobStatus.STOPPING and job.phase in BEFORE_THE_MESH


@functools.lru_cache(maxsize=8)
def _cameras(azimuth: tuple[float, ...], elevation: tuple[float, ...], distance: tuple[float, ...]) -> np.ndarray:
    """A grid stays the same for a whole run, its statistics and its place do not."""
    return frustums.camera_matrices(azimuth, elevation, distance)


@functools.lru_cache(maxsize=8)
def _placed(azimuth: tuple[float, ...], elevation: tuple[float, ...], distance: tuple[float, ...], matrix: bytes) -> np.ndarray:
    """Nor does its place while nobody moves the asset."""
    return frustums.placed(_cameras(azimuth, elevation, distance), np.frombuffer(matrix).reshape(4, 4))


@functools.lru_cache(maxsize=8)
def _sizes(
    azimuth: tuple[float, ...], elevation: tuple[float, ...], distance: tuple[float, ...], matrix: bytes, fov: float, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Every region is compared with every other: most of what making the glyphs takes."""
    cameras = _placed(azimuth, elevation, distance, matrix)
    return frustums.glyph_sizes(cameras, np.frombuffer(matrix).reshape(4, 4)[:3, 3], fov, factor)


class GridViews:
    """Makes grid views and returns an earlier one again as long as nothing changed.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._views: list[GridView] = []  # the one asked for last comes first
        self._wishes: dict[str, _Wish] = {}

    def clear(self) -> None:
        """Let go of everything, the jobs included."""
        self._views.clear()
        self._wishes.clear()

    def wish(self, view: GridView, regions: Iterable[int], factor: float) -> None:
        """Show weights as the user wants them until the worker, which obeys at its next step, tells what they are."""
        pending = self._wishes.get(view.source)
        weights = dict(pending.weights) if pending is not None else {}
        weights |= dict.fromkeys(regions, float(factor))
        told = view.job.regions if view.job is not None and view.job.regions is not None else view.regions
        self._wishes[view.source] = _Wish(told, self._clock(), weights)

    def of_job(self, job: Job, matrix: np.ndarray | None, *, stands: bool = True, owner: str = "") -> GridView | None:
        """The grid of a job that stands at `matrix`, around the object `owner`; None while there is nothing to show of it."""
        if job.regions is None or job.fov is None or matrix is None:
            return None
        return self._view(
            source=job.id, title=job.spec.prompt, regions=self._as_wished(job), fov=job.fov, matrix=matrix, live=can_be_weighed(job),
            stands=stands, owner=owner, job=job,
        )  # fmt: skip

    def of_metadata(self, metadata: Mapping[str, Any], matrix: np.ndarray, *, stands: bool = True, owner: str = "") -> GridView | None:
        """The grid that a generated object carries.

        Args:
            metadata: the object's "cograd3d" properties.
            matrix: [4, 4] backend world to scene world, for the object as it stands.
            stands: whether it stands in the scene that it is shown in.
            owner: the object's name.
        """
        regions = _regions(str(metadata.get("regions", "")))
        fov = float(metadata.get("fov", math.nan))
        if regions is None or not 0 < fov < 180:
            return None
        return self._view(
            source=str(metadata.get("job") or metadata.get("uuid", "")), title=str(metadata.get("prompt", "")), regions=regions, fov=fov,
            matrix=matrix, live=False, stands=stands, owner=owner, job=None, stored_history=str(metadata.get("history", "")),
        )  # fmt: skip

    def _as_wished(self, job: Job) -> Regions:
        """What the worker told last, with the weights that it was told since."""
        regions = job.regions
        assert regions is not None
        wish = self._wishes.get(job.id)
        if wish is None or len(regions.weight) != len(regions.azimuth):
            return regions
        if not can_be_weighed(job) or wish.is_over(regions, self._clock()):
            del self._wishes[job.id]
            return regions
        return wish.applied_to(regions)

    def _view(self, **values: Any) -> GridView | None:
        regions: Regions = values["regions"]
        if not (0 < len(regions.azimuth) == len(regions.elevation) == len(regions.distance)) or not _is_place(values["matrix"]):
            return None
        found = next((view for view in self._views if all(_same(getattr(view, name), value) for name, value in values.items())), None)
        if found is None:
            found = GridView(**values)
        if not self._views or self._views[0] is not found:
            self._views = [found, *(view for view in self._views if view is not found)][:_KEPT]
        return found


@dataclass
class _Wish:
    """Weights that a worker was told and has not confirmed.

    Attributes:
        told: what it had told last.
        moment: of the clock.
        weights: {region: factor}.
    """

    told: Regions
    moment: float
    weights: dict[int, float]
    _last: tuple[Regions, Regions] | None = None

    def is_over(self, regions: Regions, now: float) -> bool:
        """Whether the worker obeyed, as its latest word `regions` says, or had its time."""
        if regions is self.told:
            return False
        obeyed = all(told == self.weights.get(region, told) for region, told in enumerate(regions.weight))
        return obeyed or (regions.iteration > self.told.iteration + _OBEYS_WITHIN and now > self.moment + _OBEYS_AFTER)

    def applied_to(self, regions: Regions) -> Regions:
        """The statistics with these weights; the same object for the same statistics."""
        if self._last is None or self._last[0] is not regions:
            weight = tuple(self.weights.get(region, told) for region, told in enumerate(regions.weight))
            self._last = (regions, dataclasses.replace(regions, weight=weight))
        return self._last[1]


def _is_place(matrix: np.ndarray) -> bool:
    """Whether cameras can stand around what a [4, 4] matrix places: around what was scaled to nothing they cannot."""
    return bool(np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:3, :3])) > _SMALLEST_VOLUME)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return first is second or (isinstance(first, (str, float, bool, Path)) and first == second)


_regions = functools.lru_cache(maxsize=16)(parse_regions)


@functools.lru_cache(maxsize=16)
def _history(text: str) -> RegionHistory | None:
    try:
        return RegionHistory.from_json(text) if text else None
    except ValueError:
        return None
