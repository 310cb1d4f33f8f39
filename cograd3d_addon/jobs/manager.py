"""All jobs: those that wait, those that run, and those that lie on disk from earlier. No bpy."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...backend import environment, settings
from ...backend.command_file import send_command
from ...backend.config import GenerationConfig
from ...backend.errors import CoGradError, JobError
from ...backend.files import atomic_write_json, remove_quietly
from ...backend.job import JobFolder
from ...backend.protocol import Bye, Cancel, Command, Detach, Event, Failure, Hello, JobSpec, Pause, PreviewNow, Resume, Stop, Weight
from . import disk
from .channel import AT_ONCE, LEASE, Channel, FileChannel, PipeChannel
from .claim import Claim, read_claim, write_claim
from .job import Job, JobStatus
from .run import Listener, Patience, Run, unknown_failure
from .watch import FolderWatch

__all__ = ["JobManager", "end_waiting"]

TICK_BUDGET = 0.003
"""Seconds that the events of one tick may take; the rest waits for the next."""

_SCAN_BUDGET = 0.003

_log = logging.getLogger(__name__)


class JobManager:
    """The jobs in one folder.

    Nothing here waits for a process. `tick` is to be called some ten times a second, everything from the same thread.

    Args:
        root: the folder that holds the job folders; need not exist.
        command: the command line of the worker of a job; may raise `CoGradError`.
        max_running: how many workers of ours run at the same time.

    Attributes:
        jobs: the newest first.
        listeners: called with (job, event) after the job has taken the event. The event of an end is always a `Bye`.
    """

    def __init__(
        self,
        root: Path,
        command: Callable[[JobFolder], Sequence[str]],
        *,
        max_running: int = 1,
        environ: Callable[[], Mapping[str, str]] = environment.child_environ,
        patience: Patience = Patience(),  # noqa: B008 - it is frozen
    ) -> None:
        self.max_running = max_running
        self.jobs: list[Job] = []
        self.listeners: list[Listener] = []
        self._root = root
        self._command, self._environ, self._patience = command, environ, patience
        self._runs: dict[str, Run] = {}
        self._foreign: set[str] = set()  # running jobs that are not this Blender's
        self._queue: deque[Job] = deque()
        self._watch = FolderWatch(root)
        self._changed = False

    # --- which there are

    @property
    def root(self) -> Path:
        """The folder that holds the job folders. When it is changed, jobs of the old one stay only while they wait or run."""
        return self._root

    @root.setter
    def root(self, root: Path) -> None:
        if root != self._root:
            self._root = root
            self.jobs = [job for job in self.jobs if not (job.status.is_over or job.waits_elsewhere)]
            self._watch = FolderWatch(root)
            self._changed = True

    def get(self, id: str) -> Job | None:
        """The job of a folder's name."""
        return next((job for job in self.jobs if job.id == id), None)

    @property
    def running(self) -> list[Job]:
        """The jobs that a process works on."""
        return [job for job in self.jobs if job.status.is_live]

    @property
    def is_busy(self) -> bool:
        """Whether the next tick should come soon."""
        return bool(self._runs or self._queue or self._watch.unread)

    @property
    def queued(self) -> list[Job]:
        """The jobs that wait, the next first."""
        return list(self._queue)

    # --- ordering

    def submit(
        self, spec: JobSpec, config: GenerationConfig | Mapping[str, Any], *, extra: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Job:
        """Order a run.

        Args:
            spec, config: what was asked for, and every setting.
            extra: further JSON documents to put into the job folder, by file name.

        Raises:
            OutputError: the folder cannot be made or filled; there is none then, and no job.
        """
        folder = JobFolder.create(self._root, spec, config)
        try:
            for name, document in (extra or {}).items():
                atomic_write_json(folder.path / name, document)
            job = disk.read_job(folder.path)
            assert job is not None
            self._enqueue(job)
        except BaseException:
            remove_quietly(folder.path)
            raise
        self._insert(job)
        return job

    def resume(self, job: Job, changes: Mapping[str, Any] | None = None) -> None:
        """Take up a job that ended without a result, from its last checkpoint, or have a paused one go on.

        Args:
            changes: settings that are to be others from now on, by dotted name; those of a job that a process works on stay.

        Raises:
            CoGradError: it cannot be taken up, or its settings cannot be changed.
        """
        _refuse_if_elsewhere(job)
        if job.status is JobStatus.QUEUED:
            return
        if job.status is JobStatus.PAUSED:
            self.unpause(job)
            return
        if not job.is_resumable:
            raise JobError(f"The job is {job.status}: there is nothing to take up.", remedy="Choose one that was cancelled or interrupted.")
        if not self._attach_if_in_use(job):
            _change_settings(job, changes or {})
            self._enqueue(job)

    def _enqueue(self, job: Job, since: float | None = None) -> None:
        """Have a job wait for its turn. `since`: when it began to, seconds since 1970; now unless given."""
        job.waits_since = time.time() if since is None else since
        write_claim(job.path, Claim.mine(waits_since=job.waits_since))
        job.status, job.error = JobStatus.QUEUED, None
        self._queue = deque(sorted([*self._queue, job], key=lambda waiting: waiting.waits_since))
        self._touch(job)

    def discard(self, job: Job) -> None:
        """Delete a job's folder with everything in it.

        Raises:
            JobError: a process works on it, or is going to, or another job still has to begin with its result.
            OutputError: it cannot be deleted.
        """
        if job.id in self._runs:
            raise JobError("The job is still running.", remedy="Cancel it first, and wait until it has ended.")
        _refuse_if_elsewhere(job)
        if job.path.exists():
            if (other := self.needed_by(job)) is not None:
                raise JobError(
                    f"{job.id} is still needed: {other.id} begins with its result, and has saved no state of its own yet.",
                    remedy="Let that one go on until it has, or discard it first.",
                )
            disk.refuse_if_in_use(job.folder)
            job.folder.close()
            disk.delete(job.path)
        self._forget(job)

    def needed_by(self, job: Job) -> Job | None:
        """A job that has to begin with the result of this one, because it has no checkpoint to go on from yet; None if there is none."""
        return next((other for other in self.jobs if other is not job and _begins_with(other, job)), None)

    def _forget(self, job: Job) -> None:
        if job in self._queue:
            self._queue.remove(job)
        self.jobs.remove(job)
        self._watch.forget(job.id)
        self._changed = True

    # --- steering

    def send(self, job: Job, command: Command) -> None:
        """Tell a running job something. Raises `CoGradError` if it is not running or cannot be reached."""
        run = self._runs.get(job.id)
        if run is None:
            raise JobError("The job is not running.", remedy="Start or resume it first.")
        run.send(command)
        self._changed = True

    def pause(self, job: Job) -> None:
        """Have it stand still after its current step. Raises `JobError` where it would not."""
        if not job.can_pause:
            raise JobError("It is nearly done: this part cannot be paused.", remedy="Wait, or cancel it: its steps are saved.")
        self.send(job, Pause())

    def unpause(self, job: Job) -> None:
        """Have it go on."""
        self.send(job, Resume())

    def stop(self, job: Job) -> None:
        """Have it make the mesh of what is there."""
        self.send(job, Stop())

    def cancel(self, job: Job) -> None:
        """Have it write a checkpoint and end without a mesh. A second call ends a process that does not obey; one that waits, here or in
        another Blender, just ends.
        """
        if job.status is not JobStatus.QUEUED:
            self.send(job, Cancel())
            return
        if job.waits_elsewhere:
            disk.refuse_if_in_use(job.folder)  # it may have begun there meanwhile
        with contextlib.suppress(CoGradError), job.folder.lock():  # what cannot be noted stays as it was: not begun
            job.folder.update_state(status="cancelled")
        _unqueue(job)
        self._watch.note(job.path)
        self._wait_no_more(job)

    def _wait_no_more(self, job: Job) -> None:
        """A job that waited was cancelled, here or in another Blender."""
        if job in self._queue:
            self._queue.remove(job)
        job.waits_elsewhere = False
        self._tell(job, Bye(reason="cancelled"), apply=True)

    def set_weights(self, job: Job, regions: Sequence[int], factor: float) -> None:
        """Multiply the probability of regions: above 1 boosts, 0 freezes, 1 undoes both."""
        self.send(job, Weight(regions=tuple(regions), factor=factor))

    def request_preview(self, job: Job, region: int = -1) -> None:
        """Have it write a preview of the asset, or of what a region's middle camera sees."""
        self.send(job, PreviewNow(region=region))

    # --- the timer

    def tick(self) -> bool:
        """Hear what the workers say, start what waits, look for jobs on disk. Returns whether anything changed."""
        deadline = time.monotonic() + TICK_BUDGET
        for run in list(self._runs.values()):
            try:
                if run.tick(deadline):
                    self._changed = True
            except Exception as error:  # of one job: the others go on
                _log.exception("%s cannot be followed any more", run.job.id)
                run.break_off(error, leave=run.job.id not in self._foreign)
            if run.is_over:
                self._close_run(run)
        if self._queue and sum(id not in self._foreign for id in self._runs) < self.max_running:
            self._start_next()
        self._scan_on()
        changed, self._changed = self._changed, False
        return changed

    def _tell(self, job: Job, event: Event, *, apply: bool = False) -> None:
        if apply:
            job.apply(event)
        if isinstance(event, Hello) and event.pid:
            with contextlib.suppress(CoGradError):
                write_claim(job.path, Claim.mine(worker=event.pid))
        self._changed = True
        for listener in list(self.listeners):
            try:
                listener(job, event)
            except Exception:
                _log.exception("a listener failed at %s of %s", event.type, job.id)

    def _close_run(self, run: Run) -> None:
        job = run.job
        del self._runs[job.id]
        self._foreign.discard(job.id)
        job.reread_config()
        self._watch.note(job.path)
        if (claim := read_claim(job.path)) is not None and claim.is_mine:
            with contextlib.suppress(CoGradError):  # a folder that is gone needs none
                write_claim(job.path, Claim.mine())
        self._changed = True

    # --- starting

    def _start_next(self) -> None:
        """Start the job that has waited longest, unless another Blender has cancelled it meanwhile."""
        job = self._queue.popleft()
        if _is_taken(job):
            self._watch.forget(job.id)
            self._wait_no_more(job)
        else:
            self._start(job)

    def _start(self, job: Job) -> None:
        """Start the worker of a job that waited, or find out why that is not possible."""
        try:
            if self._attach_if_in_use(job):
                return
            job.begin(fresh=not job.folder.events_path.exists())
            log_start = job.folder.log_path.stat().st_size if job.folder.log_path.exists() else 0
            channel = PipeChannel(self._command(job.folder), self._environ(), job.folder)
        except CoGradError as error:
            self._fail(job, Failure(code=error.code, message=error.message, remedy=error.remedy))
            return
        except (OSError, ValueError) as error:
            message = f"The worker could not be started: {error}."
            self._fail(job, Failure(code="start", message=message, remedy="Check the environment in the preferences."))
            return
        except Exception as error:  # of one job: the others go on
            _log.exception("%s cannot be started", job.id)
            self._fail(job, unknown_failure(error))
            return
        self._follow(job, channel, log_start=log_start)
        with contextlib.suppress(CoGradError):  # without a claim it is only not recognised after a reload
            write_claim(job.path, Claim.mine(worker=channel.pid))

    def _fail(self, job: Job, failure: Failure) -> None:
        _unqueue(job)
        self._tell(job, failure, apply=True)
        self._tell(job, Bye(reason="failed", exit_code=1), apply=True)

    def _follow(self, job: Job, channel: Channel, *, log_start: int = 0) -> None:
        self._runs[job.id] = Run(job, channel, self._tell, self._patience, log_start=log_start)
        self._touch(job)

    def _touch(self, job: Job) -> None:
        job.changed()
        self._changed = True

    def _attach_if_in_use(self, job: Job) -> bool:
        """Follow a job that another process works on already; False if there is none."""
        claim = read_claim(job.path)
        in_use = disk.is_in_use(job.folder)
        if not in_use and (claim is None or not claim.has_worker):
            return False
        if claim is not None and (claim.is_mine or claim.is_abandoned):
            with contextlib.suppress(CoGradError):
                write_claim(job.path, Claim.mine(worker=claim.worker))
            worker, renew = claim.worker, True
        else:
            self._foreign.add(job.id)
            worker, renew = 0, False
        tail = disk.read_tail_of_events(job)
        job.status = JobStatus.PAUSED if tail.paused else JobStatus.RUNNING if in_use else JobStatus.STARTING
        job.error = None
        self._follow(job, FileChannel(job.folder, tail.offset, renew=renew, pid=worker, begins=not in_use))
        return True

    # --- what lies on disk

    def scan(self) -> None:
        """Find new and changed folders now, all of them. `tick` does the same now and then, a little at a time."""
        self._take_in(self._watch.list_now())
        while self._watch.unread:
            self._read_next()

    def _scan_on(self) -> None:
        began = time.monotonic()
        if (found := self._watch.list_beside()) is not None:
            self._take_in(found)
        while self._watch.unread and time.monotonic() - began < _SCAN_BUDGET:
            self._read_next()

    def _read_next(self) -> None:
        path = self._watch.unread.popleft()
        try:
            self._read(path)
        except Exception:  # of one folder: the others are looked at all the same, and this one again when it changes
            _log.exception("%s cannot be read", path)
            self._watch.note(path)

    def _take_in(self, found: Mapping[Path, int]) -> None:
        """Note which folders, of these with their stamps, are new or not as they were, and let go of jobs whose folder is gone."""
        there = {path.name for path in found}
        for job in [job for job in self.jobs if job.status.is_over or job.waits_elsewhere]:
            if job.id not in there and job.error is None and not job.path.exists():  # it may be newer than the listing
                self._forget(job)
            elif job.waits_elsewhere and not _waits_elsewhere(job.path):  # that Blender is gone
                self._watch.forget(job.id)
        self._watch.expect(found, besides=self._runs)

    def _read(self, path: Path) -> None:
        """Take in a folder that is new, or that another process has changed."""
        if path.name in self._runs:
            return
        if self._watch.is_as_read(path):
            return
        self._watch.note(path)  # before it is read: what changes meanwhile is read again
        found = disk.read_job(path)
        if found is None:
            return
        known = self.get(path.name)
        if known is not None and known in self._queue:
            if not _is_taken(known):
                return
            self._wait_no_more(known)
        if known is not None:
            found.version = known.version + 1
            self.jobs.remove(known)
        self._insert(found)
        if found.is_damaged or (found.status is not JobStatus.FINISHED and self._attach_if_in_use(found)):
            return
        disk.read_tail_of_events(found)
        claim = read_claim(path)
        if found.status is not JobStatus.FINISHED and claim is not None and claim.is_mine and claim.is_queued:
            self._enqueue(found, claim.waits_since)
            return
        if found.status is not JobStatus.FINISHED and claim is not None and claim.waits_elsewhere:
            found.status, found.error, found.waits_elsewhere = JobStatus.QUEUED, None, True
            return
        if not found.status.is_over:  # nobody works on it: its process was killed, or never began
            found.status = JobStatus.INTERRUPTED
        if claim is not None and claim.is_mine and claim.worker:
            self._tell_missed_end(found)

    def _tell_missed_end(self, job: Job) -> None:
        """The worker of this Blender ended while the add-on was being reloaded: nobody has heard of it."""
        with contextlib.suppress(CoGradError):
            write_claim(job.path, Claim.mine())
        if job.result is not None:
            self._tell(job, job.result)
        self._tell(job, Bye(reason=str(job.status), resumable=bool(job.checkpoint) and job.result is None))

    def _insert(self, job: Job) -> None:
        self.jobs.append(job)
        self.jobs.sort(key=lambda job: (job.created, job.id), reverse=True)
        self._watch.note(job.path)
        self._changed = True

    # --- going

    def close(self, keep_running: bool, *, at_once: bool = False) -> list[Path]:
        """Let go of all workers; takes at most some tenths of a second.

        Args:
            keep_running: they run to their end. Else they write a checkpoint and end, unless a new manager in this Blender finds them
                within some seconds, as after a reload of the add-on.
            at_once: Blender is quitting: they need not wait for a new manager.

        Returns:
            The folders of the jobs that wait for a new manager, those without a worker included; see `end_waiting`.
        """
        waiting = [job.path for job in self._queue]
        for id, run in self._runs.items():
            if id in self._foreign:
                continue
            with contextlib.suppress(CoGradError):
                if at_once and not keep_running:
                    run.channel.leave()
                else:
                    run.channel.detach(0.0 if keep_running else LEASE)
                    if not keep_running:
                        waiting.append(run.job.path)
            run.channel.release()
        self._runs.clear()
        self.listeners.clear()
        if at_once:
            end_waiting([job.path for job in self._queue])
            return []
        return waiting


def end_waiting(jobs: Sequence[Path]) -> None:
    """No new manager will come for these folders, which `JobManager.close` returned: have the workers write a checkpoint and end, and have
    other Blenders know that nobody is going to run what has none."""
    for path in jobs:
        claim = read_claim(path)
        with contextlib.suppress(CoGradError):
            if claim is not None and claim.is_queued:
                write_claim(path, Claim.mine())
            else:
                send_command(path, Detach(lease=AT_ONCE))


def _change_settings(job: Job, changes: Mapping[str, Any]) -> None:
    """Write settings of a job that nobody works on, where they differ. Raises `CoGradError`."""
    config = settings.from_dict(job.folder.config)
    changed = settings.changed(config, changes)
    if changed != config:
        with job.folder.lock():
            job.folder.write_config(settings.to_dict(changed))
        job.reread_config()


def _unqueue(job: Job) -> None:
    """Have neither a reload of the add-on nor the Blender that it waited in take the job for one that waits."""
    with contextlib.suppress(CoGradError):  # a folder that is gone needs none
        write_claim(job.path, Claim.mine())


def _begins_with(job: Job, other: Job) -> bool:
    """Whether a job that may still be run needs another one's folder for that. Names are compared: paths can be spelled in several ways."""
    if job.status is JobStatus.FINISHED or job.checkpoint or job.is_damaged or job.is_gone:
        return False
    return other.id in (Path(job.spec.refines).name, Path(job.spec.initial).parent.name)


def _is_taken(job: Job) -> bool:
    """Whether another Blender has cancelled a job that was queued here."""
    claim = read_claim(job.path)
    return claim is not None and not claim.is_mine


def _waits_elsewhere(path: Path) -> bool:
    claim = read_claim(path)
    return claim is not None and claim.waits_elsewhere


def _refuse_if_elsewhere(job: Job) -> None:
    if job.waits_elsewhere:
        raise JobError("The job waits in another Blender, which is going to run it.", remedy="Cancel it first.")
