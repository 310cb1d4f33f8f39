"""How much disk folders take, counted in the background: tens of thousands of files are a second or more. No bpy."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def folder_bytes(folder: Path, is_wanted: Callable[[], bool] = lambda: True) -> int:
    """Bytes of all files below `folder`, links not followed; what cannot be read counts as nothing.

    Args:
        folder: may be absent.
        is_wanted: asked once a folder; counting ends early where it says no.
    """
    total, waiting = 0, [str(folder)]
    while waiting and is_wanted():
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


class DiskUsage:
    """Sizes of some folders; nothing here waits.

    Args:
        period: seconds after which a count is out of date.
    """

    def __init__(self, period: float = 30.0) -> None:
        self._period = period
        self._sizes: dict[Path, int] = {}
        self._wanted: tuple[Path, ...] = ()
        self._due = 0.0
        self._generation = 0
        self._news = False
        self._lock = threading.Lock()

    def keep_counted(self, folders: Iterable[Path]) -> None:
        """Count these folders, unless that was done a moment ago; may be called at every redraw."""
        wanted = tuple(folders)
        if wanted == self._wanted and time.monotonic() < self._due:
            return
        self._wanted, self._due = wanted, time.monotonic() + self._period
        self._generation += 1  # a count that is still under way is given up
        threading.Thread(target=self._count, args=(wanted, self._generation), name="CoGrad3D disk usage", daemon=True).start()

    def get(self, folder: Path) -> int | None:
        """Bytes at the last count; None where it was not counted yet."""
        with self._lock:
            return self._sizes.get(folder)

    def has_news(self) -> bool:
        """Whether a folder's size was found since this was asked last."""
        with self._lock:
            news, self._news = self._news, False
        return news

    def outdated(self) -> None:
        """Something was removed or made: the next `keep_counted` counts."""
        self._due = 0.0

    def close(self) -> None:
        """Give up counting."""
        self._generation += 1
        self._due = 0.0

    def _count(self, folders: tuple[Path, ...], generation: int) -> None:
        for folder in folders:
            size = folder_bytes(folder, lambda: generation == self._generation)
            with self._lock:
                if generation != self._generation:
                    return
                self._sizes[folder] = size
                self._news = True
