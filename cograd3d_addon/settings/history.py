"""The prompts used last, in one small file. No bpy."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from ...backend.errors import OutputError
from ...backend.files import atomic_write_json

LONGEST = 20
"""How many prompts are kept."""


class PromptHistory:
    """The prompts used last, newest first, each once. The file is read when it is first asked for.

    A file that cannot be read or written costs the history, never the work: it then lives until Blender ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prompts: list[str] | None = None

    @property
    def prompts(self) -> tuple[str, ...]:
        """Newest first."""
        return tuple(self._read())

    def add(self, prompt: str) -> None:
        """Put a prompt in front and write the file."""
        if not prompt.strip():
            return
        kept = [prompt, *(other for other in self._read() if other != prompt)][:LONGEST]
        if kept != self._prompts:
            self._prompts = kept
            self._write()

    def clear(self) -> None:
        """Forget all."""
        self._prompts = []
        self._write()

    def _read(self) -> list[str]:
        if self._prompts is None:
            try:
                value = json.loads(self.path.read_bytes())
            except (OSError, ValueError, RecursionError):
                value = []
            self._prompts = [text for text in value if isinstance(text, str) and text.strip()][:LONGEST] if isinstance(value, list) else []
        return self._prompts

    def _write(self) -> None:
        """Where that cannot be done, the prompts are known until Blender quits."""
        with contextlib.suppress(OSError, OutputError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_json(self.path, self._prompts, durable=False)
