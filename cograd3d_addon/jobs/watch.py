"""Which job folders are new, or not as they were when they were read last. No bpy.

They are listed beside the timer: where they are on another computer, every look at one of them waits for that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Container, Mapping
from pathlib import Path

from . import disk

__all__ = ["FolderWatch", "listed"]

INTERVAL = 3.0
"""Seconds from one listing to the next."""


def listed(root: Path) -> dict[Path, int]:
    """The folders below `root` that may be jobs, the newest name first, with the `disk.stamp` of each."""
    return {path: disk.stamp(path) for path in disk.job_folders(root)}


class _Listing(threading.Thread):
    """One listing, in the background; nobody waits for it, even at the end."""

    def __init__(self, root: Path) -> None:
        super().__init__(name="CoGrad3D listing", daemon=True)
        self._root = root
        self.found: dict[Path, int] = {}

    def run(self) -> None:
        self.found = listed(self._root)


class FolderWatch:
    """The job folders below one root.

    Args:
        root: need not exist.

    Attributes:
        unread: those that are to be read, in this order.
    """

    def __init__(self, root: Path) -> None:
        self.unread: deque[Path] = deque()
        self._root = root
        self._stamps: dict[str, int] = {}
        self._listing: _Listing | None = None
        self._listed_at = -INTERVAL
        self._is_swept = False

    def list_now(self) -> dict[Path, int]:
        """What `listed` says, at once."""
        self._sweep()
        return listed(self._root)

    def list_beside(self) -> dict[Path, int] | None:
        """What `listed` says, when it is known; None meanwhile. What was not begun yet is begun when it is due."""
        if self._listing is not None and not self._listing.is_alive():
            found, self._listing = self._listing.found, None
            return found
        now = time.monotonic()
        if self._listing is None and not self.unread and now - self._listed_at >= INTERVAL:
            self._sweep()
            self._listed_at, self._listing = now, _Listing(self._root)
            self._listing.start()
        return None

    def expect(self, found: Mapping[Path, int], besides: Container[str]) -> None:
        """Have those be read, of these, that are not as they were. `besides`: names of folders that are of no interest."""
        self.unread = deque(path for path, stamp in found.items() if path.name not in besides and self._stamps.get(path.name) != stamp)

    def is_as_read(self, path: Path) -> bool:
        """Whether a folder is as it was: it may have been listed before we changed it ourselves."""
        return self._stamps.get(path.name) == disk.stamp(path)

    def note(self, path: Path) -> None:
        """A folder is known as it is now."""
        self._stamps[path.name] = disk.stamp(path)

    def forget(self, name: str) -> None:
        """Have a folder of this name be read when it is listed next, whatever it is like."""
        self._stamps.pop(name, None)

    def _sweep(self) -> None:
        """Have what was discarded before go for good, once."""
        if not self._is_swept:
            self._is_swept = True
            disk.sweep(self._root)
