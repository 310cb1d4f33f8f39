"""Jobs as their folders tell them. No bpy."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from ...backend.errors import CoGradError, JobError
from ...backend.files import is_temporary, output_error
from ...backend.job import JobFolder
from ...backend.protocol import CheckpointWritten, Failure, JobSpec, Paused, Phase, PreviewReady, Progress, Regions, Result, decode_event
from ...backend.wire import LineError
from .history import last_regions
from .job import Job, JobStatus

__all__ = [
    "Tail", "delete", "is_in_use", "job_folders", "lock_holder", "read_job", "read_tail_of_events", "stamp", "sweep",
]  # fmt: skip

_DISCARDED = ".discarded-"

_TAIL_BYTES = 1 << 18
"""How much of the end of a file of events is read to learn where a run stands."""

_REGIONS = b'{"type": "regions"'

_log = logging.getLogger(__name__)


def job_folders(root: Path) -> list[Path]:
    """The folders below `root` that may be jobs, the newest name first; empty if there is no such folder."""
    try:
        with os.scandir(root) as entries:
            found = [Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    return sorted((path for path in found if not is_temporary(path)), key=lambda path: path.name, reverse=True)


def delete(path: Path) -> None:
    """Take a job folder away at once, and delete what is in it in the background. Raises `OutputError`."""
    aside = path.with_name(f"{_DISCARDED}{path.name}")
    try:
        path.rename(aside)
    except OSError as error:
        raise output_error(error, path) from error
    _remove_in_background([aside])


def sweep(root: Path) -> None:
    """Delete, in the background, what `delete` had no time for when Blender was closed."""
    try:
        left = [path for path in root.iterdir() if path.name.startswith(_DISCARDED)]
    except OSError:
        return
    if left:
        _remove_in_background(left)


def _remove_in_background(paths: Iterable[Path]) -> None:
    def remove() -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)  # what stays is tried again next time

    threading.Thread(target=remove, name="CoGrad3D discarding", daemon=True).start()


def stamp(path: Path) -> int:
    """Changes whenever the state of a job changes on disk; 0 if it has none."""
    try:
        return os.stat(path / "state.json").st_mtime_ns
    except OSError:
        return 0


def is_in_use(folder: JobFolder) -> bool:
    """Whether another process works on a job; no for a folder that is gone or in which nothing can be written."""
    try:
        return folder.path.is_dir() and folder.in_use
    except CoGradError:
        return False


def lock_holder(folder: JobFolder) -> int:
    """The process that wrote its number into the lock file, 0 if none did; it holds the lock only if `is_in_use` says so."""
    try:
        return int(folder.lock_path.read_bytes()[:32])
    except (OSError, ValueError):
        return 0


def read_job(path: Path) -> Job | None:
    """A job as its folder tells it; None for a folder that is no job's. What is damaged or from a newer version comes as a failed job.

    The status is what the folder says: whoever finds it `RUNNING` has to look whether a process is there (`is_in_use`).
    """
    if not (path / "spec.json").is_file():
        return None
    try:
        folder = JobFolder.open(path)
        spec, config, state = folder.spec, folder.config, folder.state
    except CoGradError as error:
        _log.warning("%s", error)
        failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        return Job(JobFolder(path), JobSpec(prompt=path.name), JobStatus.FAILED, error=failure, is_damaged=True)
    job = Job(folder, spec, _STATUS.get(state.status, JobStatus.INTERRUPTED), config=config, created=state.created)
    job.phase = state.phase
    if job.status is JobStatus.FAILED:
        told = state.error or {}
        job.error = Failure(
            code=str(told.get("code", "error")), message=str(told.get("message", "The run failed.")), remedy=str(told.get("remedy", ""))
        )
    job.checkpoint = state.iteration
    return job


_STATUS = {
    "created": JobStatus.QUEUED,
    "running": JobStatus.RUNNING,
    "finished": JobStatus.FINISHED,
    "cancelled": JobStatus.CANCELLED,
    "interrupted": JobStatus.INTERRUPTED,
    "failed": JobStatus.FAILED,
}


class Tail:
    """What the end of a job's events tells: `read_tail_of_events` makes one."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        """Where the next event will be written."""
        self.paused = False


def read_tail_of_events(job: Job) -> Tail:
    """Give a job that was just read the latest of everything that its worker told: progress, regions, preview, result."""
    events, offset = _last_lines(job.folder.events_path)
    tail = Tail(offset)
    for line in events:
        if line.startswith(_REGIONS):
            continue  # all that counts of them stands in regions.json, and they are long
        try:
            event = decode_event(line)
        except LineError:
            continue
        match event:
            case Progress():
                job.progress = event
            case Paused():
                tail.paused = event.paused
            case Phase():
                job.phase, job.phase_message, tail.paused = event.name, event.message, False
            case PreviewReady(region=region) if region < 0:
                job.preview = event
            case PreviewReady():
                job.views[event.region] = event.iteration
            case CheckpointWritten():
                job.checkpoint = event.iteration
            case Result() if job.status is JobStatus.FINISHED:
                job.result = event
    regions = last_regions(job.folder)
    job.regions = regions if isinstance(regions, Regions) else None
    _look_for_files(job)
    job.changed()
    return tail


def _look_for_files(job: Job) -> None:
    """What lies in the folder although the event that told of it was too long ago to be found."""
    folder = job.folder
    if job.preview is None and folder.preview_image_path.is_file():
        splats = folder.preview_splats_path.name if folder.preview_splats_path.is_file() else ""
        job.preview = PreviewReady(iteration=job.checkpoint, image=folder.preview_image_path.name, splats=splats)
    if job.status is JobStatus.FINISHED and job.result is None and folder.asset_path.is_file():
        job.result = Result(asset=folder.asset_path.name, iterations=job.checkpoint)


def _last_lines(path: Path) -> tuple[list[bytes], int]:
    """The last whole lines of a file, and where the last of them ends."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = max(end - _TAIL_BYTES, 0)
            file.seek(start)
            data = file.read(end - start)
    except OSError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    lines = data[:whole].split(b"\n")
    return (lines[1:] if start else lines)[:-1] if whole else [], start + whole


def refuse_if_in_use(folder: JobFolder) -> None:
    """Raises `JobError` if another process works on a job."""
    if is_in_use(folder):
        raise JobError(f"A process is still working on {folder.path}.", remedy="Cancel the job and wait until it has ended.")
