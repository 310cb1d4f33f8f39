"""Tasks as processes of this computer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .. import machine
from ..environment import thread_environ
from ..errors import ResourceError
from .child import Child
from .executor import GRACE_SECONDS, Ended, Executor
from .gpus import GpuPool, share_of_gpu, usable_gpus
from .task import Task

__all__ = ["LocalExecutor", "default_processes", "fitting_processes"]


def default_processes(gpus: int, cores: int) -> int:
    """One for each GPU; without any, one for every two cores.

    A run alone fills a GPU's memory or its time. On the CPU a second thread helps a run little: two runs of one thread each, side by side
    on two cores, take 21 s each where one of two threads takes 19 s. But each holds 1 to 2 GiB, which computers have not in proportion to
    their cores, and some of both is left to whoever works here meanwhile. More is for the user to say.
    """
    return gpus or max(1, cores // 2)


def fitting_processes(wanted: int | None, tasks: int, *, gpus: int, memory: float) -> int:
    """How many of so many tasks to do at once: as many as wanted, or else as are usual and this computer's free memory holds.

    Args:
        wanted: None: `default_processes`.
        gpus: how many the tasks may use.
        memory: bytes that each needs.

    Raises:
        ResourceError: more are wanted than the memory holds.
    """
    _, available = machine.memory()
    count = min(wanted or default_processes(gpus, machine.cores()), tasks)
    fitting = count if available is None else max(1, int(available // memory))
    if wanted and count > fitting:
        raise ResourceError(
            f"{count} runs at once need about {machine.format_bytes(count * memory)} of memory, and {machine.format_bytes(available or 0)} "
            "are free.",
            remedy=f"Take --processes {fitting}, or close other programs.",
        )
    return min(count, fitting)


@dataclass(frozen=True)
class _Running:
    task: Task
    child: Child
    lease: dict[str, float]


class LocalExecutor(Executor):
    """A pool of processes.

    Args:
        processes: at once; None: `default_processes`.
        threads: of each; None: its share of the cores.
        gpus: names of the GPUs to lease, as CUDA_VISIBLE_DEVICES has them; None: all that this process may use.
        grace, pause: as in `Executor`.
    """

    def __init__(
        self,
        processes: int | None = None,
        threads: int | None = None,
        gpus: Sequence[str] | None = None,
        *,
        grace: float = GRACE_SECONDS,
        pause: float = 1.0,
    ) -> None:
        super().__init__(grace=grace, pause=pause)
        self._gpus = GpuPool(usable_gpus() if gpus is None else gpus)
        self._processes = default_processes(len(self._gpus), machine.cores()) if processes is None else processes
        self.threads = threads or max(1, machine.cores() // self._processes)
        self._running: list[_Running] = []

    @property
    def processes(self) -> int:
        return self._processes

    @property
    def gpu_share(self) -> float:
        return share_of_gpu(self._processes, len(self._gpus))

    def has_room(self, task: Task) -> bool:
        if not self._gpus.serves(task.gpus):
            raise ResourceError(
                f"{task.key} needs {task.gpus:g} GPUs, and {len(self._gpus)} can be used.",
                remedy="Choose another device, or let CUDA_VISIBLE_DEVICES name more of them.",
            )
        if len(self._running) >= self._processes or (lease := self._gpus.lease(task.gpus)) is None:
            return False
        self._gpus.give_back(lease)
        return True

    def start(self, task: Task) -> None:
        lease = self._gpus.lease(task.gpus)
        assert lease is not None, "has_room was asked"
        # Where there are GPUs, a task that leased none must not take one either.
        devices = {"CUDA_VISIBLE_DEVICES": ",".join(lease)} if len(self._gpus) else {}
        child = Child(task.arguments, thread_environ(self.threads) | devices | dict(task.environ))
        self._running.append(_Running(task, child, lease))

    def running(self) -> int:
        return len(self._running)

    def ended(self, timeout: float) -> list[Ended]:
        ended = self._collect()
        if not ended:
            time.sleep(timeout)
            ended = self._collect()
        return ended

    def _collect(self) -> list[Ended]:
        return [self._end(run, code) for run in list(self._running) if (code := run.child.poll()) is not None]

    def _end(self, run: _Running, code: int) -> Ended:
        self._running.remove(run)
        self._gpus.give_back(run.lease)
        ended = Ended(run.task, code, run.child.seconds, run.child.message(code))
        run.child.close()
        return ended

    def interrupt(self) -> None:
        for run in self._running:
            run.child.interrupt()

    def kill(self) -> list[Ended]:
        return [self._end(run, run.child.kill()) for run in list(self._running)]
