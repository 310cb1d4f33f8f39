"""The view space, quantised into regions (paper, section 3.2).

A region is a cell of an azimuth x elevation x distance grid; angles are degrees in the convention of `cameras.py`.
Regions are numbered with the azimuth running fastest, then the elevation, then the distance. Numpy only: the Blender
add-on draws and picks these same cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import settings_agreement
from ..config import GridConfig
from ..errors import ConfigError

Interval = tuple[float, float]


@dataclass(frozen=True)
class ViewGrid:
    """`len(grid)` regions of the view space.

    Attributes:
        azimuth_bins: cells around; cell a spans (a - 1/2, a + 1/2) * 360 / azimuth_bins degrees, so cell 0 is centred on the front.
        elevation_edges: ascending edges of the elevation bands, within -90..90 degrees.
        distance_edges: ascending edges of the distance shells; the two edges of a single shell may coincide.

    Raises:
        ConfigError: for fewer than 3 azimuth bins, or edges that are too few, unordered or out of range.
    """

    azimuth_bins: int
    elevation_edges: tuple[float, ...]
    distance_edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.azimuth_bins < 3:
            raise ConfigError(f"A view grid needs at least 3 azimuth bins, not {self.azimuth_bins}.", remedy="Raise grid.azimuth_bins.")
        settings_agreement.check_elevation_edges(self.elevation_edges)
        settings_agreement.check_distance_edges(self.distance_edges)
        object.__setattr__(self, "elevation_edges", tuple(float(x) for x in self.elevation_edges))
        object.__setattr__(self, "distance_edges", tuple(float(x) for x in self.distance_edges))

    @classmethod
    def from_config(cls, config: GridConfig, distance: Interval) -> ViewGrid:
        """The grid of these settings; `distance` is the single shell used where the settings name none."""
        return cls(config.azimuth_bins, tuple(config.elevation_edges), tuple(config.distance_edges) or tuple(distance))

    @property
    def elevation_bands(self) -> int:
        return len(self.elevation_edges) - 1

    @property
    def distance_shells(self) -> int:
        return len(self.distance_edges) - 1

    def __len__(self) -> int:
        return self.azimuth_bins * self.elevation_bands * self.distance_shells

    # Numbering

    def index(self, azimuth_cell: int, band: int, shell: int = 0) -> int:
        """The region of these cell coordinates; the azimuth cell wraps around, the others raise IndexError outside the grid."""
        if not (0 <= band < self.elevation_bands and 0 <= shell < self.distance_shells):
            raise IndexError(f"no cell with elevation band {band} and distance shell {shell}")
        return (shell * self.elevation_bands + band) * self.azimuth_bins + azimuth_cell % self.azimuth_bins

    def coordinates(self, region: int) -> tuple[int, int, int]:
        """(azimuth cell, elevation band, distance shell) of a region; IndexError outside 0..N-1."""
        if not 0 <= region < len(self):
            raise IndexError(f"region {region} is not in 0..{len(self) - 1}")
        rest, azimuth_cell = divmod(int(region), self.azimuth_bins)
        shell, band = divmod(rest, self.elevation_bands)
        return azimuth_cell, band, shell

    def region_of(self, azimuth: float, elevation: float, distance: float) -> int:
        """The region that contains a camera.

        A cell contains its lower edges, the outermost also its upper ones. The azimuth wraps; an elevation or a distance
        outside the grid belongs to the nearest band or shell, so that any camera has a region.
        """
        cell = math.floor(azimuth / self._azimuth_width + 0.5)
        return self.index(cell, _interval_of(elevation, self.elevation_edges), _interval_of(distance, self.distance_edges))

    # Geometry

    @property
    def _azimuth_width(self) -> float:
        return 360.0 / self.azimuth_bins

    def bounds(self, region: int) -> tuple[Interval, Interval, Interval]:
        """(azimuth, elevation, distance) intervals of a region; azimuths run from -width/2 to 360 - width/2."""
        a, e, d = self.coordinates(region)
        width = self._azimuth_width
        return ((a - 0.5) * width, (a + 0.5) * width), self.elevation_edges[e : e + 2], self.distance_edges[d : d + 2]  # type: ignore[return-value]

    @cached_property
    def centers(self) -> np.ndarray:
        """[N, 3] azimuth (0 <= a < 360), elevation and distance of every region's middle."""
        elevations = _midpoints(self.elevation_edges)
        distances = _midpoints(self.distance_edges)
        d, e, a = np.meshgrid(distances, elevations, np.arange(self.azimuth_bins) * self._azimuth_width, indexing="ij")
        return _read_only(np.stack([a.ravel(), e.ravel(), d.ravel()], axis=1))

    def sample(self, region: int, rng: np.random.Generator, count: int = 1) -> np.ndarray:
        """[count, 3] azimuths, elevations and distances inside a region.

        Directions are uniform in area on the sphere (uniform in azimuth and in the sine of the elevation), distances uniform.
        """
        (a0, a1), (e0, e1), (d0, d1) = self.bounds(region)
        low, high = math.sin(math.radians(e0)), math.sin(math.radians(e1))
        azimuth = rng.uniform(a0, a1, count)
        elevation = np.degrees(np.arcsin(rng.uniform(low, high, count)))
        # The round trip through the sine may step over an edge by one unit in the last place.
        elevation = np.clip(elevation, e0, np.nextafter(e1, e0))
        return np.stack([azimuth, elevation, rng.uniform(d0, d1, count)], axis=1)

    def sample_anywhere(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """[count, 3] azimuths, elevations and distances over the whole grid: directions uniform in area, distances uniform."""
        low, high = np.sin(np.radians([self.elevation_edges[0], self.elevation_edges[-1]]))
        elevation = np.clip(np.degrees(np.arcsin(rng.uniform(low, high, count))), self.elevation_edges[0], self.elevation_edges[-1])
        distance = rng.uniform(self.distance_edges[0], self.distance_edges[-1], count)
        return np.stack([rng.uniform(-180.0, 180.0, count), elevation, distance], axis=1)

    @cached_property
    def angles(self) -> np.ndarray:
        """[N, N] degrees between the directions of the regions' centres; 0 between shells of one direction."""
        a, e = np.radians(self.centers[:, 0]), np.radians(self.centers[:, 1])
        directions = np.stack([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)], axis=1)
        # atan2 stays exact for small angles, where the arc cosine of the inner product does not.
        cosine = directions @ directions.T
        sine = np.linalg.norm(np.cross(directions[:, None], directions[None]), axis=-1)
        return _read_only(np.degrees(np.arctan2(sine, cosine)))

    # Neighbourhood

    def neighbours(self, region: int) -> np.ndarray:
        """[k] ascending indices of the regions adjacent to this one: those that share a face with it.

        The azimuth wraps around; the shells just nearer and farther count. Azimuth loses its meaning at a pole, so a cell
        that reaches one also neighbours its whole own ring, which it meets there, and the whole ring next to that.
        The relation is symmetric.
        """
        self.coordinates(region)
        return self._neighbours[region]

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, ...]:
        sets: list[set[int]] = [set() for _ in range(len(self))]
        for region in range(len(self)):
            a, e, d = self.coordinates(region)
            adjacent = {self.index(a - 1, e, d), self.index(a + 1, e, d)}
            adjacent |= {self.index(a, band, d) for band in (e - 1, e + 1) if 0 <= band < self.elevation_bands}
            adjacent |= {self.index(a, e, shell) for shell in (d - 1, d + 1) if 0 <= shell < self.distance_shells}
            rings = []
            if self.elevation_edges[e] == -90.0:
                rings += [e, e + 1]
            if self.elevation_edges[e + 1] == 90.0:
                rings += [e, e - 1]
            adjacent |= {
                self.index(cell, band, d) for band in rings if 0 <= band < self.elevation_bands for cell in range(self.azimuth_bins)
            }
            for other in adjacent - {region}:
                sets[region].add(other)
                sets[other].add(region)
        return tuple(_read_only(np.array(sorted(s), dtype=np.int64)) for s in sets)


def orbit(first: np.ndarray, count: int) -> np.ndarray:
    """[count, 3] cameras evenly around the asset, at the elevation and distance of the first (azimuth, elevation, distance)."""
    cameras = np.tile(first, (count, 1))
    cameras[:, 0] += np.arange(count) * 360.0 / count
    return cameras


def _interval_of(value: float, edges: tuple[float, ...]) -> int:
    """Index of the interval that contains `value`, the nearest one where none does."""
    return int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2))


def _midpoints(edges: tuple[float, ...]) -> np.ndarray:
    return (np.array(edges[:-1]) + np.array(edges[1:])) / 2


def _read_only(array: np.ndarray) -> np.ndarray:
    """Cached arrays are shared between callers."""
    array.flags.writeable = False
    return array
