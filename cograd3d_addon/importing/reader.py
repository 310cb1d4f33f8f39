"""Reads previews on a thread of its own, so that Blender does not wait for tens of thousands of Gaussians. No bpy."""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path

from ...backend.errors import CoGradError
from .gaussian_mesh import GaussianMesh, read_gaussian_mesh

_log = logging.getLogger(__name__)


class PreviewReader:
    """`request` and `take` never wait. Of several requests for one job only the newest is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, tuple[Path, int]] = {}
        self._read: queue.SimpleQueue[tuple[str, GaussianMesh]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be read or taken."""
        with self._lock:
            return self._thread is not None or not self._read.empty()

    def request(self, job: str, path: Path, limit: int) -> None:
        """Read the Gaussians in this file, at most so many, for this job."""
        with self._lock:
            self._wanted[job] = (path, limit)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="CoGrad3D preview", daemon=True)
                self._thread.start()

    def take(self) -> dict[str, GaussianMesh]:
        """What was read since the last call: the newest of each job."""
        found = {}
        while not self._read.empty():
            job, gaussians = self._read.get()
            found[job] = gaussians
        return found

    def close(self) -> None:
        """Forget what is wanted, and wait for what is being read."""
        with self._lock:
            self._wanted.clear()
            thread = self._thread
        if thread is not None:
            thread.join()
        self.take()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                job, (path, limit) = self._wanted.popitem()
            try:
                self._read.put((job, read_gaussian_mesh(path, limit)))
            except CoGradError as error:  # the job was discarded meanwhile; the next preview will do
                _log.info("a preview was left out: %s", error.message)
            except Exception:
                _log.exception("a preview could not be read: %s", path)
