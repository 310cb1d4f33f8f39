"""The interface of all executors: many tasks in, their outcomes out as they end, and nothing left running behind.

::

    with make_executor(processes=4) as executor:
        for outcome in executor.run(tasks, retries=1):
            ...

What they have in common is here: the order, the retries, the signals. An executor adds how a process is started, noticed to have ended,
and stopped.
"""

from __future__ import annotations

import abc
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ..worker import GRACE_SECONDS as WORKER_GRACE_SECONDS
from .task import Outcome, Task, is_worth_a_retry

__all__ = ["Ended", "Executor", "make_executor"]

GRACE_SECONDS = WORKER_GRACE_SECONDS + 10.0
"""How long children that were told to stop may take; a worker leaves by itself before."""

POLL_SECONDS = 0.1
"""Between two looks at what has ended: short beside any run, and a signal waits no longer."""


@dataclass(frozen=True)
class Ended:
    """One attempt at a task that is over; `exit_code`, `seconds` and `message` as in `Outcome`."""

    task: Task
    exit_code: int
    seconds: float
    message: str = ""


@dataclass
class _Tally:
    """What the attempts at a task came to so far."""

    attempts: int = 0
    seconds: float = 0.0


class Executor(abc.ABC):
    """Runs tasks side by side. Use it as a context manager: it takes SIGINT, SIGTERM and SIGHUP over meanwhile.

    The first of them asks the children to stop; `run` waits for them and raises `KeyboardInterrupt`. The second ends them at once.

    Attributes:
        notify: told, a sentence each, what happens besides the outcomes: retries, an interruption.
        reason: what is known elsewhere of why a task failed whose process did not say.
        grace: seconds that children may take to stop.
        pause: seconds before a failed task is tried again, for what made it fail to pass.
    """

    def __init__(self, *, grace: float = GRACE_SECONDS, pause: float = 1.0) -> None:
        self.notify: Callable[[str], None] = lambda sentence: None
        self.reason: Callable[[Task], str] = lambda task: ""
        self.grace, self.pause = grace, pause
        self._asked_to_stop = 0
        self._handlers: dict[int, Any] = {}

    @property
    @abc.abstractmethod
    def processes(self) -> int:
        """How many tasks run at once, as far as can be told."""

    @property
    @abc.abstractmethod
    def gpu_share(self) -> float:
        """What one of many equal tasks is to ask of the GPUs; 0 where there are none."""

    # --- what an executor adds

    def open(self) -> None:  # noqa: B027 - most have nothing to open
        """Get ready."""

    def close(self) -> None:  # noqa: B027
        """Nothing runs any more: give up what was opened."""

    @abc.abstractmethod
    def has_room(self, task: Task) -> bool:
        """Whether the task can be started now. Raises `ResourceError` if it never can."""

    @abc.abstractmethod
    def start(self, task: Task) -> None:
        """Start a process for the task."""

    @abc.abstractmethod
    def running(self) -> int:
        """How many were started and not yet told by `ended`."""

    @abc.abstractmethod
    def ended(self, timeout: float) -> list[Ended]:
        """What has ended since the last call; waits a while for the first."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Ask all that run to stop where they can go on later."""

    @abc.abstractmethod
    def kill(self) -> list[Ended]:
        """End all that run at once; what became of them, which `ended` does not tell."""

    # --- what all do

    def __enter__(self) -> Executor:
        self.open()
        if threading.current_thread() is threading.main_thread():  # no other may change handlers
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` wants it ignored
                    self._handlers[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._stop_all()
        finally:
            while self._handlers:
                signal.signal(*self._handlers.popitem())
            self.close()

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        """A signal is obeyed between two steps of `run`: in the middle of one, a child could be started and forgotten."""
        self._asked_to_stop += 1

    def run(self, tasks: Sequence[Task], *, retries: int = 1) -> Iterator[Outcome]:
        """The tasks' outcomes, in the order in which they end. Tasks are started in theirs. Those that were told to stop come last.

        Args:
            tasks: of different keys.
            retries: how often a task is tried again that was killed or failed for a reason that may pass (`is_worth_a_retry`).

        Raises:
            KeyboardInterrupt: somebody asked this process to stop; no child runs any more.
            ResourceError: a task that needs more than there is.
        """
        tallies = {task.key: _Tally() for task in tasks}
        if len(tallies) < len(tasks):
            raise ValueError("two tasks have the same key")
        waiting: deque[tuple[float, Task]] = deque((0.0, task) for task in tasks)  # with the time before which not to start it
        try:
            while waiting or self.running():
                if self._asked_to_stop:
                    yield from [_outcome(ended, tallies[ended.task.key], stopped=True) for ended in self._stop_all()]
                    raise KeyboardInterrupt
                self._start_what_can(waiting, tallies)
                for ended in self.ended(POLL_SECONDS):
                    outcome = _outcome(ended, tallies[ended.task.key])
                    if outcome.attempts <= retries and is_worth_a_retry(ended.exit_code):
                        why = ended.message or self.reason(ended.task) or f"exit code {ended.exit_code}"
                        self.notify(f"{ended.task.key}: {why.rstrip('.')}. Trying again.")
                        # Behind the others: what it lacks, memory most of all, may be there by then.
                        waiting.append((time.monotonic() + self.pause, ended.task))
                    else:
                        yield outcome
        finally:
            self._stop_all()

    def _start_what_can(self, waiting: deque[tuple[float, Task]], tallies: dict[str, _Tally]) -> None:
        for _ in range(len(waiting)):
            earliest, task = waiting[0]
            if earliest > time.monotonic():
                waiting.rotate(-1)
                continue
            if not self.has_room(task):
                return
            waiting.popleft()
            tallies[task.key].attempts += 1
            self.start(task)

    def _stop_all(self) -> list[Ended]:
        if not self.running():
            return []
        self.notify(f"Stopping {self.running()} after a checkpoint. Ctrl-C again stops at once.")
        deadline, asked = time.monotonic() + self.grace, self._asked_to_stop
        self.interrupt()
        stopped: list[Ended] = []
        while self.running() and time.monotonic() < deadline and self._asked_to_stop == asked:
            stopped += self.ended(POLL_SECONDS)
        return stopped + self.kill()


def _outcome(ended: Ended, tally: _Tally, *, stopped: bool = False) -> Outcome:
    """The outcome of a task of which this is the last attempt, which is added to its tally."""
    tally.seconds += ended.seconds
    return Outcome(ended.task.key, ended.exit_code, tally.attempts, tally.seconds, ended.message, stopped)


def make_executor(
    processes: int | None = None, ray_address: str | None = None, gpus: Sequence[str] | None = None, *, shared: Path | None = None
) -> Executor:
    """The executor for so many processes on this computer, or for a Ray cluster.

    Args:
        processes: at once on this computer; None: as many as there are GPUs, else half the cores.
        ray_address: `auto`, `local` or the address of a cluster; None: no Ray.
        gpus: those of this computer that may be used, as CUDA_VISIBLE_DEVICES names them; None: all. Ray knows its own.
        shared: a folder that all computers of the cluster have to see.

    Raises:
        ResourceError: Ray is asked for and not installed.
    """
    if ray_address is not None:
        from .ray_cluster import RayExecutor

        return RayExecutor(ray_address, shared=shared)
    from .local import LocalExecutor

    return LocalExecutor(processes, gpus=gpus)
