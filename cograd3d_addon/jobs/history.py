"""How every region of the view grid fared in the course of a run. No bpy."""

from __future__ import annotations

import base64
import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...backend.job import JobFolder
from ...backend.protocol import Regions, decode_event
from ...backend.wire import LineError, from_fields

__all__ = ["MEASURES", "SAVED_POINTS", "RegionHistory", "last_regions", "parse_regions"]

MEASURES = ("loss", "indicator", "probability", "visits", "timestep")
"""The measures that are kept; each is a field of the `Regions` event."""

SAVED_POINTS = 64
"""Points of a saved series at most."""

_ROWS = 256
_VERSION = 1


class RegionHistory:
    """A table of moments of a run, each with the measures of all N regions.

    It is as cheap at the end of a run as at its beginning: once `_ROWS` moments are held, every second one is dropped and from then on only
    every second one is taken. The latest moment is always there.
    """

    def __init__(self) -> None:
        self._iterations: list[int] = []
        self._rows: list[NDArray[np.float32]] = []  # [len(MEASURES), N] each; NaN: unknown
        self._spacing = 1
        self._latest: Regions | None = None  # not yet in the table

    def __len__(self) -> int:
        """How many moments are held."""
        return len(self._iterations) + (self._latest is not None)

    @property
    def region_count(self) -> int:
        """N; 0 before the first moment."""
        if self._latest is not None:
            return len(self._latest.azimuth)
        return self._rows[-1].shape[1] if self._rows else 0

    def append(self, regions: Regions) -> None:
        """Take a moment. A run that was taken up from a checkpoint begins again there: what came after that moment is forgotten."""
        self._forget_from(regions.iteration)
        if len(regions.azimuth) != self.region_count and self._rows:
            self.__init__()  # type: ignore[misc]  # another grid: nothing can be compared
        if not self._iterations or regions.iteration - self._iterations[-1] >= self._spacing:
            self._take(regions)
            self._latest = None
        else:
            self._latest = regions

    def _forget_from(self, iteration: int) -> None:
        if self._latest is not None and self._latest.iteration >= iteration:
            self._latest = None
        while self._iterations and self._iterations[-1] >= iteration:
            self._iterations.pop()
            self._rows.pop()

    def _take(self, regions: Regions) -> None:
        if len(self._rows) >= _ROWS:
            del self._rows[1::2], self._iterations[1::2]
            self._spacing = max(2 * self._spacing, (self._iterations[-1] - self._iterations[0]) // len(self._iterations))
        self._iterations.append(regions.iteration)
        self._rows.append(_row(regions))

    def series(self, measure: str, region: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A measure of a region over the run: iterations [K] and values [K], unknown ones left out; empty for a region that is not there.

        Raises:
            KeyError: there is no such measure.
        """
        if measure not in MEASURES:
            raise KeyError(measure)
        iterations, values = self._table()
        if not 0 <= region < values.shape[2]:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        column = values[:, MEASURES.index(measure), region]
        known = np.isfinite(column)
        return iterations[known], column[known]

    def mean(self, measure: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same averaged over all regions, those of which nothing is known left out. Raises `KeyError` as `series` does."""
        if measure not in MEASURES:
            raise KeyError(measure)
        iterations, values = self._table()
        columns = values[:, MEASURES.index(measure)]
        known = np.isfinite(columns).any(axis=1)
        return iterations[known], np.nanmean(columns[known], axis=1)

    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Iterations [K], values [K, len(MEASURES), N]."""
        rows, iterations = list(self._rows), list(self._iterations)
        if self._latest is not None:
            rows.append(_row(self._latest))
            iterations.append(self._latest.iteration)
        values = np.stack(rows) if rows else np.zeros((0, len(MEASURES), 0), np.float32)
        return np.array(iterations, np.int64), values

    # --- to be kept with the finished object

    def to_json(self) -> str:
        """At most `SAVED_POINTS` moments as text: the iterations as they are, the rest as packed half-precision numbers."""
        iterations, values = self._table()
        if len(iterations) > SAVED_POINTS:
            chosen = np.unique(np.linspace(0, len(iterations) - 1, SAVED_POINTS).round().astype(int))
            iterations, values = iterations[chosen], values[chosen]
        with np.errstate(over="ignore"):
            packed = zlib.compress(np.ascontiguousarray(values.transpose(1, 2, 0), "<f2").tobytes(), 9)
        document = {
            "version": _VERSION,
            "measures": MEASURES,
            "regions": int(values.shape[2]),
            "iterations": iterations.tolist(),
            "values": base64.b64encode(packed).decode("ascii"),
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RegionHistory:
        """The inverse of `to_json`. Raises `ValueError` for a text that is damaged or was made by a newer version."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']!r} is not known")
            iterations = [int(iteration) for iteration in document["iterations"]]
            shape = (len(document["measures"]), int(document["regions"]), len(iterations))
            size = 2 * math.prod(shape)
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(base64.b64decode(document["values"]), size + 1)
            if len(data) != size:
                raise ValueError("it holds another number of values than it says")
            values = np.frombuffer(data, "<f2").reshape(shape).transpose(2, 0, 1).astype(np.float32)
            columns = {name: values[:, index] for index, name in enumerate(document["measures"])}
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise ValueError(f"This is no history of regions: {error}.") from error
        history = cls()
        history._iterations = iterations
        unknown = np.full(values.shape[::2], np.nan, np.float32)
        history._rows = list(np.stack([columns.get(name, unknown) for name in MEASURES], axis=1))
        return history

    # --- of a job folder

    @classmethod
    def of_job(cls, folder: JobFolder, points: int = SAVED_POINTS) -> RegionHistory:
        """What the events of a job folder tell, at about `points` moments of the run; empty if there is nothing to read.

        The events of a long run fill hundreds of megabytes, so the file is looked into at places evenly spaced, some tens of milliseconds
        in all.
        """
        moments: dict[int, Regions] = {}
        for regions in _sampled(folder.events_path, points):
            for later in [iteration for iteration in moments if iteration > regions.iteration]:  # it was taken up from a checkpoint
                del moments[later]
            moments[regions.iteration] = regions
        last = last_regions(folder)
        if last is not None:
            moments[last.iteration] = last
        history = cls()
        for iteration in sorted(moments):
            history.append(moments[iteration])
        return history


def last_regions(folder: JobFolder) -> Regions | None:
    """The latest state of the regions, from `regions.json`."""
    try:
        return parse_regions(folder.regions_path.read_bytes())
    except OSError:
        return None


def parse_regions(document: str | bytes) -> Regions | None:
    """The state of the regions from the content of a `regions.json`; None if it cannot be understood."""
    try:
        value = json.loads(document)
        if not isinstance(value, dict):
            return None
        return from_fields(Regions, {name: field for name, field in value.items() if name != "type"}, "regions")
    except (ValueError, RecursionError, LineError):
        return None


def _sampled(path: Path, points: int) -> Iterator[Regions]:
    """The next region event behind each of `points` places of a file of events."""
    try:
        with open(path, "rb") as file:
            end = os.fstat(file.fileno()).st_size
            for start in range(0, end, max(end // points, 1)):
                if start < file.tell() and start:
                    continue  # a line that reaches beyond the next place was read already
                file.seek(start)
                if start:
                    file.readline()
                regions = _next_regions(file.readline() for _ in range(16))
                if regions is not None:
                    yield regions
    except OSError:
        return


def _next_regions(lines: Iterator[bytes]) -> Regions | None:
    for line in lines:
        if line.startswith(b'{"type": "regions"'):
            try:
                event = decode_event(line)
            except LineError:
                continue
            if isinstance(event, Regions):
                return event
    return None


def _row(regions: Regions) -> NDArray[np.float32]:
    """[len(MEASURES), N]; None and fields that an older worker does not send become NaN."""
    row = np.full((len(MEASURES), len(regions.azimuth)), np.nan, np.float32)
    for values, name in zip(row, MEASURES):
        told = getattr(regions, name)
        if len(told) == len(values):
            values[:] = told  # numpy takes None for NaN
    return row
