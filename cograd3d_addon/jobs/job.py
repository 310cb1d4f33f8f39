"""One job folder as Blender sees it. No bpy."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...backend.errors import CoGradError
from ...backend.job import JobFolder
from ...backend.protocol import (
    Bye,
    CheckpointWritten,
    Event,
    Failure,
    Hello,
    JobSpec,
    Notice,
    Paused,
    Phase,
    PreviewReady,
    Progress,
    Regions,
    Result,
)
from .history import RegionHistory

__all__ = ["Job", "JobStatus", "Wish"]

BEFORE_THE_MESH = ("", "prior", "prepare", "optimise")
"""Phases, one not begun included, in which a run can still be told to stand still, to optimise no further, or to weigh regions."""

_MAX_NOTICES = 50
_LOG_TAIL_BYTES = 1 << 14


class JobStatus(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def is_live(self) -> bool:
        """Whether a process works on it."""
        return self in (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.STOPPING)

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more unless somebody asks for it."""
        return self in (JobStatus.FINISHED, JobStatus.CANCELLED, JobStatus.INTERRUPTED, JobStatus.FAILED)


class Wish(enum.StrEnum):
    """What the user asked of a running job and has not got yet."""

    NONE = ""
    PAUSE = "pause"
    UNPAUSE = "unpause"
    STOP = "stop"
    CANCEL = "cancel"


@dataclass(eq=False)
class Job:
    """A job, whoever runs it.

    Attributes:
        folder: the truth about it, on disk.
        spec: what was asked for.
        config: config.json; reread when the worker has settled it.
        status: where it stands.
        created: UTC, ISO 8601; empty if unknown.
        phase, phase_message: a key of `protocol.PHASES`, and what the worker says about it.
        progress, regions: the latest.
        preview: the latest preview of the whole asset.
        views: the iteration of the latest picture of a region, by region.
        checkpoint: the iteration that a resumed run goes on from; 0: from the beginning.
        result: the asset, once it is there.
        error: why it ended without one; None if it was asked to.
        notices: what the user should know, the oldest first.
        wish: what was asked of it and did not happen yet.
        silent: seconds without a word from a worker that should have said something; 0 while all is well.
        bad_lines: lines of its worker that nobody could read.
        is_damaged: the folder cannot be read, or was made by a newer version; `error` says which.
        is_gone: the folder was deleted while a process worked on it.
        waits_elsewhere: it is queued in another Blender on this machine, which will run it.
        waits_since: when it was queued here, seconds since 1970.
        version: raised at every change, for caches.
    """

    folder: JobFolder
    spec: JobSpec
    status: JobStatus
    config: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    phase: str = ""
    phase_message: str = ""
    progress: Progress | None = None
    regions: Regions | None = None
    preview: PreviewReady | None = None
    views: dict[int, int] = field(default_factory=dict)
    checkpoint: int = 0
    result: Result | None = None
    error: Failure | None = None
    notices: list[Notice] = field(default_factory=list)
    wish: Wish = Wish.NONE
    silent: float = 0.0
    bad_lines: int = 0
    is_damaged: bool = False
    is_gone: bool = False
    waits_elsewhere: bool = False
    waits_since: float = 0.0
    version: int = 0
    _history: RegionHistory | None = None

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.path.name

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def is_resumable(self) -> bool:
        """Whether `JobManager.resume` can take it up (from its last checkpoint, or from the beginning)."""
        return self.status.is_over and self.status is not JobStatus.FINISHED and not (self.is_damaged or self.is_gone)

    @property
    def can_pause(self) -> bool:
        """Whether a run at this point would ever stand still: the mesh is made in one go."""
        return self.phase in BEFORE_THE_MESH

    @property
    def fov(self) -> float | None:
        """The vertical field of view of the regions' cameras, degrees; None until the worker has settled it."""
        grid = self.config.get("grid")
        fov = grid.get("fov") if isinstance(grid, dict) else None
        return float(fov) if isinstance(fov, (int, float)) else None

    @property
    def history(self) -> RegionHistory:
        """How the regions fared; read from the folder at the first use, unless this process saw the run from its beginning."""
        if self._history is None:
            self._history = RegionHistory.of_job(self.folder)
        return self._history

    @property
    def asset_path(self) -> Path | None:
        """The textured mesh, if there is one."""
        path = self.path / (self.result.asset if self.result else self.folder.asset_path.name)
        return path if path.is_file() else None

    @property
    def preview_splats(self) -> Path | None:
        """The Gaussians of the latest preview, if there are any."""
        return self._preview_file(self.preview.splats if self.preview else "")

    def view_image(self, region: int) -> Path | None:
        """The latest picture of what the middle camera of a region sees, if there is one."""
        path = self.folder.view_path(region)
        return path if path.is_file() else None

    def _preview_file(self, name: str) -> Path | None:
        path = self.path / name
        return path if name and path.is_file() else None

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the worker's log."""
        return "\n".join(read_tail(self.folder.log_path).splitlines()[-lines:])

    def changed(self) -> None:
        """Say that something is not as it was."""
        self.version += 1

    def begin(self, *, fresh: bool) -> None:
        """A worker is about to be started. `fresh`: it is the first, so that nothing needs to be read from the folder."""
        self.status, self.wish, self.error, self.result = JobStatus.STARTING, Wish.NONE, None, None
        self.phase = self.phase_message = ""
        self.silent, self.bad_lines = 0.0, 0
        self._history = RegionHistory() if fresh else self._history
        self.changed()

    def tell(self, notice: Notice) -> None:
        """Keep something that the user should know."""
        self.notices.append(notice)
        del self.notices[:-_MAX_NOTICES]
        self.changed()

    def reread_config(self) -> None:
        """Take what the worker made of the settings; what cannot be read leaves them as they were."""
        with contextlib.suppress(CoGradError):
            self.config = self.folder.config

    def apply(self, event: Event) -> None:
        """Become what an event tells."""
        match event:
            case Hello():
                self._go_on()
            case Phase():
                self.phase, self.phase_message = event.name, event.message
                if self.wish in (Wish.STOP, Wish.PAUSE) and not self.can_pause:
                    self.wish = Wish.NONE
                self._go_on()
                if event.name in ("prepare", "optimise"):
                    self.reread_config()
            case Progress():
                self.progress = event
            case Regions():
                self.regions = event
                if self._history is not None:
                    self._history.append(event)
            case PreviewReady():
                if event.region < 0:
                    self.preview = event
                else:
                    self.views[event.region] = event.iteration
            case CheckpointWritten():
                self.checkpoint = event.iteration
            case Paused():
                if self.wish is (Wish.PAUSE if event.paused else Wish.UNPAUSE):
                    self.wish = Wish.NONE
                self._go_on(paused=event.paused)
            case Notice():
                self.tell(event)
            case Result():
                self.result = event
            case Failure():
                self.error = event
            case Bye():
                self._end(event.reason)
        self.changed()

    def _go_on(self, *, paused: bool = False) -> None:
        if self.wish in (Wish.STOP, Wish.CANCEL):
            self.status = JobStatus.STOPPING
        else:
            self.status = JobStatus.PAUSED if paused else JobStatus.RUNNING

    def _end(self, reason: str) -> None:
        """`reason` is that of `Bye`, or a status of `JobState`."""
        self.status = JobStatus(reason) if reason in ("finished", "cancelled", "interrupted", "failed") else JobStatus.INTERRUPTED
        self.wish, self.silent = Wish.NONE, 0.0
        if self.status in (JobStatus.FINISHED, JobStatus.CANCELLED):
            self.error = None
        elif self.status is JobStatus.FAILED and self.error is None:
            self.error = Failure(code="failed", message="The run failed.", remedy="Its log says more.")


def read_tail(path: Path, start: int = 0, limit: int = _LOG_TAIL_BYTES) -> str:
    """The end of a text file, at most `limit` bytes and nothing before `start`; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            file.seek(max(end - limit, min(start, end), 0))
            return file.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""
