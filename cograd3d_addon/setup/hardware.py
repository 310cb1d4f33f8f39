"""What graphics cards there are, found out in the background: the driver's own tool may take many seconds. No bpy."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...backend import machine


class GraphicsCards:
    """The NVIDIA GPUs of this computer; nothing here waits.

    Args:
        look: finds them.
    """

    def __init__(self, look: Callable[[], list[str]] = machine.nvidia_gpus) -> None:
        self._look = look
        self._found: tuple[str, ...] | None = None
        self._thread: threading.Thread | None = None

    @property
    def found(self) -> tuple[str, ...] | None:
        """Their names; None while that is not known."""
        return self._found

    def look(self) -> None:
        """Have them looked for, unless that was done or is being done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="CoGrad3D graphics cards", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._found = tuple(self._look())
        except OSError:  # the driver's folder cannot be read: none that could be used
            self._found = ()
