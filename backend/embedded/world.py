"""The built-in world: true pictures and meshes of what a prompt describes, and banks of views for the priors."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..environment import cache_folder
from ..errors import OutputError
from ..files import LEFT_BESIDE_SECONDS, atomic_path, is_temporary, remove_leftovers, remove_quietly
from . import appearance, renderer
from .renderer import CHANNEL_SCALE, CHANNELS, FOV
from .vocabulary import COLOURS, NATURAL_COLOURS, Description

__all__ = [
    "FOV",
    "TrueMesh",
    "ViewBank",
    "bank_cameras",
    "cache_folder",
    "front_bias_log_weights",
    "true_mesh",
    "true_views",
    "version",
    "view_bank",
]

ELEVATIONS = (-12.0, 72.0)
"""Range of the banks' cameras, degrees."""
DISTANCES = (3.1, 3.5)
"""Range of the banks' cameras, in units of the object's radius."""

STEPS = (0.7548776662466927, 0.5698402909980532, 0.41421356237309515)
"""A bank's cameras advance by these shares of the range of azimuth, sine of elevation and distance: 1 / p and 1 / p^2
with p^3 = p + 1, which spread points evenly over two dimensions (Roberts' R2 sequence), and sqrt(2) - 1."""

FRONT_BIAS_SHARE, FRONT_BIAS_WIDTH = 0.45, 35.0
"""Share of photographs taken at the front, and the standard deviation (degrees) of their azimuth."""
DISTANCE = 3.3
"""From how far photographs are taken, in units of the object's radius."""
BACKDROPS = ((0.2, 0.04), (0.9, 0.04))
"""Photographs are taken before a dark or a light backdrop: its grey level, and the standard deviation of that."""
BACKDROP_TINT = 0.02
"""Standard deviation of a backdrop's colour in each channel, on top."""

VIEWS_AT_ONCE = 250
"""Views that are rendered before the channels that nobody asked for are dropped, to bound the memory."""
CACHE_BYTES = 3 * 2**30
"""The banks on disk are kept below this."""

_log = logging.getLogger(__name__)


def true_views(
    description: Description,
    azimuths: np.ndarray,
    elevations: np.ndarray,
    distances: np.ndarray,
    resolution: int,
    background: np.ndarray | tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the described object.

    Args:
        azimuths, elevations: [V] degrees; distances: [V]; as in `cameras.py`.
        resolution: pixels along an edge.
        background: [3] or [V, 3] display-space colour.

    Returns:
        images [V, 3, H, W] float32 in 0..1, coverage [V, H, W] float32.
    """
    channels = renderer.render_channels(description.object, azimuths, elevations, distances, resolution)
    images = appearance.compose(channels, appearance.description_weights(description), background)
    return images, channels[:, CHANNELS.index("alpha")] * np.float32(CHANNEL_SCALE)


@dataclass(frozen=True)
class TrueMesh:
    """The described object as triangles, coloured as in its pictures (light included).

    Attributes:
        vertices, normals: [N, 3] float32, inside the unit ball.
        faces: [F, 3] int32, counter-clockwise seen from outside.
        face_paint: [F, 4] float32, share of the prompt's colour and fixed RGB.
        light: [N, 2] float32, shading of paint and reflections of metal.
        weights: [C, 3] of `appearance.channel_weights`.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    face_paint: np.ndarray
    light: np.ndarray
    weights: np.ndarray

    def colours(self, face_index: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """[P, 3] display-space colours of surface points, given by face [P] and barycentric coordinates [P, 3]."""
        corners = self.faces[face_index]
        points = np.einsum("pk,pkd->pd", barycentric, self.vertices[corners])
        paint_light, metal_light = np.einsum("pk,pkd->dp", barycentric, self.light[corners])
        paint = self.face_paint[face_index]
        channels = np.empty((len(points), len(CHANNELS)), dtype=np.float32)
        channels[:, 0] = 1.0
        channels[:, 1:4] = paint_light[:, None] * paint[:, 1:]
        channels[:, 4] = paint_light * paint[:, 0]
        channels[:, 5:8] = channels[:, 4:5] * renderer.pattern_masks(points)
        channels[:, 8] = metal_light * paint[:, 0]
        return channels @ self.weights


def true_mesh(description: Description) -> TrueMesh:
    """The object that `true_views` shows."""
    lit = renderer.lit_shape(description.object)
    shape = lit.shape
    return TrueMesh(shape.positions, shape.normals, shape.faces, shape.face_paint(), lit.light, appearance.description_weights(description))


def front_bias_log_weights(azimuth: np.ndarray) -> np.ndarray:
    """[V] log weights, summing to 1 in all, that favour the front as collections of photographs do.

    A share of the pictures is spread like the cameras given, the rest is concentrated around azimuth 0: this is what
    makes a 2D prior put a face on every side (the Janus problem).
    """
    turned = (np.asarray(azimuth, dtype=np.float64) + 180) % 360 - 180
    frontal = np.exp(-0.5 * (turned / FRONT_BIAS_WIDTH) ** 2)
    return np.log((1 - FRONT_BIAS_SHARE) / len(turned) + FRONT_BIAS_SHARE * frontal / frontal.sum())


@dataclass(frozen=True)
class ViewBank:
    """Many views of one object, evenly spread over the directions.

    Attributes:
        channels: [V, K, H, W] uint8: all of `renderer.CHANNELS`, or those that were asked for.
        azimuth, elevation: [V] float32 degrees; distance: [V] float32.
    """

    channels: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.channels)


def bank_cameras(count: int, distance: tuple[float, float] = DISTANCES) -> np.ndarray:
    """[V, 3] azimuth (-180..180), elevation and distance of a bank's cameras; a larger bank begins with a smaller one's.

    A low-discrepancy sequence, uniform in azimuth, in the sine of the elevation and in distance.
    """
    share = (0.5 + np.arange(1, count + 1)[:, None] * STEPS) % 1
    low, high = np.sin(np.radians(ELEVATIONS))
    elevation = np.degrees(np.arcsin(low + share[:, 1] * (high - low)))
    return np.stack([360 * share[:, 0] - 180, elevation, distance[0] + share[:, 2] * (distance[1] - distance[0])], axis=1)


def view_bank(
    name: str,
    count: int,
    resolution: int,
    *,
    distance: tuple[float, float] = DISTANCES,
    kinds: Sequence[int] | None = None,
    cache_dir: Path | None = None,
) -> ViewBank:
    """The bank of an object's views, from the cache on disk or rendered now and put there.

    Args:
        name: one of `vocabulary.OBJECTS`.
        count: views.
        resolution: pixels along an edge.
        distance: range of the camera distances.
        kinds: indices into `renderer.CHANNELS` of the channels that are kept; None: all. A plain colour needs five of the nine.
        cache_dir: folder of the cache, `cache_folder()` if None. A file that is damaged is rendered anew, one of
            another version of the world is replaced; a cache that cannot be written costs time only.
    """
    folder = cache_dir or cache_folder() / "views"
    kept = tuple(range(len(CHANNELS))) if kinds is None else tuple(kinds)
    stem = f"{name}-{count}-{resolution}-{distance[0]:g}-{distance[1]:g}-{'.'.join(map(str, kept))}"
    path = folder / f"{stem}-{_channel_version()}.safetensors"
    cameras = bank_cameras(count, distance).astype(np.float32)
    azimuth, elevation, distances = cameras.T.copy()
    channels = _read_channels(path, (count, len(kept), resolution, resolution))
    if channels is None:
        channels = np.empty((count, len(kept), resolution, resolution), dtype=np.uint8)
        for start in range(0, count, VIEWS_AT_ONCE):
            block = slice(start, start + VIEWS_AT_ONCE)
            channels[block] = renderer.render_channels(name, azimuth[block], elevation[block], distances[block], resolution)[:, kept]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(path, durable=False) as temporary:
                save_file({"channels": channels}, temporary, metadata={"crc32": _checksum(channels)})
            for other in folder.glob(f"{stem}-*.safetensors"):
                if other != path:
                    remove_quietly(other)
            _trim(folder, path)
        except (OSError, SafetensorError, OutputError) as error:
            _log.warning("the views of a %s could not be kept: %s", name, error)
    return ViewBank(channels, azimuth, elevation, distances)


def _trim(folder: Path, keep: Path) -> None:
    """Removes the banks that were not used for longest, until the rest fits `CACHE_BYTES`; `keep` stays."""
    remove_leftovers(folder, LEFT_BESIDE_SECONDS)
    banks = []
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):  # another process may trim, too
            found = path.stat()
            banks.append((found.st_mtime, found.st_size, path))
    total = 0
    for _, size, path in sorted(banks, reverse=True):
        total += size
        if total > CACHE_BYTES and path != keep and not is_temporary(path):  # nor what another process is writing
            remove_quietly(path)


def _checksum(channels: np.ndarray) -> str:
    return str(zlib.crc32(channels.data))


def _read_channels(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached channels, or None if there are none that can be trusted."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            channels, checksum = file.get_tensor("channels"), file.metadata()["crc32"]
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        _log.warning("%s is damaged and will be rendered anew: %s", path, error)
        return None
    if channels.shape != shape or channels.dtype != np.uint8 or _checksum(channels) != checksum:
        _log.warning("%s is damaged and will be rendered anew", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # marks it as used, see `_trim`
    return channels


@functools.cache
def version() -> str:
    """16 hexadecimal digits that change whenever a picture of the world could: a hash of the code and data that make it."""
    package = Path(__file__).parent
    return _digest(_channel_version(), (package / "appearance.py").read_text("utf-8"), repr((COLOURS, NATURAL_COLOURS)))


@functools.cache
def _channel_version() -> str:
    """The same for the banks, which know no colours."""
    package = Path(__file__).parent
    code = [package.parent / "cameras.py", package / "renderer.py", *sorted((package / "shapes").glob("*.py"))]
    data = sorted((package / "shapes").glob("*.safetensors"))
    return _digest(repr((ELEVATIONS, STEPS)), *(path.read_text("utf-8") for path in code), *(path.read_bytes().hex() for path in data))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
