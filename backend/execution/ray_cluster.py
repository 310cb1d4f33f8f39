"""Tasks on the computers of a Ray cluster.

Each task is a Ray task that runs the same process as `local` does, on whichever node has room. What Ray is given and gives back are plain
strings and numbers; results stay in files, so the folders that tasks work in have to be on storage that every node sees, under one path.
So have CoGrad3D's folder and its environment. Ray is optional and imported when it is asked for.
"""

from __future__ import annotations

import os
import platform
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import machine
from ..console import printable
from ..environment import PACKAGE_ROOT, thread_environ
from ..errors import OutputError, ResourceError
from ..files import atomic_write_text, remove_quietly
from .child import LOST, Child
from .executor import GRACE_SECONDS, Ended, Executor
from .task import Task

__all__ = ["LOCAL", "REQUIREMENTS", "RayExecutor", "run_on_node"]

LOCAL = "local"
"""The address that starts a Ray of its own on this computer, and ends it."""

REQUIREMENTS = Path(__file__).parent.parent / "requirements-ray.txt"

CORES_PER_TASK = 2
"""As on one computer without a GPU: see `local.default_processes`."""

_NODE_SECONDS = 60.0
"""How long a node may take to say whether it sees the shared folder; it may have to start Python first."""

_CANCEL_SECONDS = 15.0
"""How long the end of a Ray task takes to arrive here after that of its process."""


def run_on_node(arguments: Sequence[str], environ: Mapping[str, str], sentinel: str, token: str, grace: float) -> tuple[int, float, str]:
    """What runs on a node: one process, waited for. Returns exit code, seconds and message, as `Ended` has them.

    A cancelled Ray task is a `KeyboardInterrupt` here, which the process is told of.
    """
    if not sees(sentinel, token):
        return OutputError.exit_code, 0.0, f"{platform.node()} does not see {os.path.dirname(sentinel)}"
    child = Child(arguments, environ)
    code = None
    try:
        while (code := child.poll()) is None:
            time.sleep(0.1)
    finally:
        code = child.stop(grace) if code is None else code
        ended = code, child.seconds, child.message(code)
        child.close()
    return ended


def sees(sentinel: str, token: str) -> bool:
    """Whether the file that was left in the shared folder can be read here. Without a name, nothing has to be shared."""
    if not sentinel:
        return True
    try:
        return Path(sentinel).read_text(encoding="ascii") == token
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class _Running:
    task: Task
    started: float


class RayExecutor(Executor):
    """Tasks as Ray tasks.

    Args:
        address: `auto` for the cluster that this computer is part of, `local` for a Ray of its own here, else `host:port`.
        cores: what a task takes of a node, and the threads of its process.
        shared: the folder that every node has to see; checked on all of them at once, and again before each task, since nodes may join.
        grace, pause: as in `Executor`. The pause is longer than on one computer: the process of a lost Ray worker may still be writing its
            checkpoint, and the job is locked meanwhile.

    Raises:
        ResourceError: Ray is not installed.
    """

    def __init__(
        self,
        address: str,
        *,
        cores: int = CORES_PER_TASK,
        shared: Path | None = None,
        grace: float = GRACE_SECONDS,
        pause: float = 10.0,
    ) -> None:
        super().__init__(grace=grace, pause=pause)
        self.address, self.cores, self.shared = address, cores, shared
        self._ray = _import_ray()
        self._running: dict[Any, _Running] = {}
        self._sentinel, self._token = "", secrets.token_hex(16)

    # --- the cluster

    def open(self) -> None:
        """Raises `ResourceError` where there is no cluster, and `OutputError` where a node does not see the shared folder."""
        try:
            self._connect()
            self._remote = self._ray.remote(run_on_node)
            if self.shared is not None:
                self._share(self.shared)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        # The nodes' Python finds this package, and so the function that a task is, at the same path as here.
        environ = {"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONSAFEPATH": "1"}
        options: dict[str, Any] = {"runtime_env": {"env_vars": environ}, "log_to_driver": False, "logging_level": "ERROR"}
        if self.address == LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to Ray's makers from here
            options |= {"num_cpus": max(machine.cores(), self.cores), "include_dashboard": False}
        try:
            self._ray.init(address=self.address, **options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ResourceError(
                f"There is no Ray cluster at {printable(self.address)}: {_first_line(error)}.",
                remedy="Start one with `ray start --head` in CoGrad3D's environment, name its address, or take --ray local.",
            ) from error
        self.cores = min(self.cores, max(1, int(self._largest("CPU"))))  # no node could ever hold a task that asks for more

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _largest(self, resource: str) -> float:
        """The most of a resource that one node has."""
        return max((node["Resources"].get(resource, 0.0) for node in self._nodes()), default=0.0)

    def _share(self, folder: Path) -> None:
        self._sentinel = str(folder.absolute() / f".shared-{self._token[:12]}")
        atomic_write_text(self._sentinel, self._token)
        ask = self._ray.remote(sees)
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        answers = {
            ask.options(num_cpus=0, scheduling_strategy=strategy(node_id=node["NodeID"], soft=False), max_retries=0).remote(
                self._sentinel, self._token
            ): node["NodeManagerHostname"]
            for node in self._nodes()
        }
        blind = []
        for answer, name in answers.items():
            try:
                if not self._ray.get(answer, timeout=_NODE_SECONDS):
                    blind.append(name)
            except self._ray.exceptions.RayError:  # its Python lacks this package, or does not start
                blind.append(name)
        if blind:
            raise OutputError(
                f"{', '.join(map(printable, blind))} of the Ray cluster cannot work in {folder}.",
                remedy="Choose a folder on storage that all nodes share under the same path; CoGrad3D has to be there under its path, too.",
            )

    def close(self) -> None:
        if self._sentinel:
            remove_quietly(Path(self._sentinel))
        self._ray.shutdown()

    # --- tasks

    @property
    def processes(self) -> int:
        resources = self._ray.cluster_resources()
        most = int(resources.get("CPU", 0) // self.cores)
        return max(1, min(most, int(resources["GPU"])) if resources.get("GPU") else most)

    @property
    def gpu_share(self) -> float:
        return 1.0 if self._largest("GPU") else 0.0

    def has_room(self, task: Task) -> bool:
        """Always, for what is too much waits in Ray, where a cluster that grows by itself looks."""
        if task.gpus > (most := self._largest("GPU")):
            raise ResourceError(
                f"{task.key} needs {task.gpus:g} GPUs, and no node of the Ray cluster has more than {most:g}.",
                remedy="Choose another device, or add such a node.",
            )
        return True

    def start(self, task: Task) -> None:
        # Ray hides no GPU from a task that asked for none.
        devices = {} if task.gpus or not self._largest("GPU") else {"CUDA_VISIBLE_DEVICES": ""}
        environ = thread_environ(self.cores) | devices | dict(task.environ)
        remote = self._remote.options(num_cpus=self.cores, num_gpus=task.gpus, max_retries=0, name=task.key)
        reference = remote.remote(list(task.arguments), environ, self._sentinel, self._token, self.grace)
        self._running[reference] = _Running(task, time.monotonic())

    def running(self) -> int:
        return len(self._running)

    def ended(self, timeout: float) -> list[Ended]:
        if not self._running:
            time.sleep(timeout)
            return []
        waited = list(self._running)
        ready, _ = self._ray.wait(waited, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self._ray.wait(waited, num_returns=len(waited), timeout=0)
        return [self._end(reference) for reference in ready]

    def _end(self, reference: Any) -> Ended:
        run = self._running.pop(reference)
        try:
            code, seconds, message = self._ray.get(reference)
        except (self._ray.exceptions.RayError, KeyboardInterrupt) as error:
            # The worker or its node is gone, it was cancelled, or it could not even begin.
            return Ended(run.task, LOST, time.monotonic() - run.started, _first_line(error))
        return Ended(run.task, code, seconds, message)

    def interrupt(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=False)

    def kill(self) -> list[Ended]:
        if not self._running:
            return []
        for reference in self._running:
            self._ray.cancel(reference, force=True)  # ends Ray's worker, and its end the process
        self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_CANCEL_SECONDS)
        killed = [Ended(run.task, LOST, time.monotonic() - run.started, "killed") for run in self._running.values()]
        self._running.clear()
        return killed


def _import_ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise ResourceError("Ray is not installed.", remedy=f"Run `{install_command()}`.") from error
    return ray


def install_command() -> str:
    """What installs Ray in the environment that this process runs in."""

    return shlex.join((sys.executable, "-m", "pip", "install", "-r", str(REQUIREMENTS)))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable((lines or [type(error).__name__])[0].rstrip("."), 300)
