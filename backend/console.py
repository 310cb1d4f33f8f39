"""Plain words on a terminal: notes, one line of progress that rewrites itself, a yes-or-no question."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import TextIO

from .pip_process import Progress


def printable(text: str, limit: int = 200) -> str:
    """`text` with control characters shown as escapes, cut at `limit`: what a user typed is safe to print back."""
    escaped = ("Cc", "Cs", "Cf")
    shown = "".join(c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in escaped else c for c in text[:limit])
    return shown + ("..." if len(text) > limit else "")


def give_up(stream: TextIO) -> None:
    """For output that nobody reads any more: what is still written to it goes nowhere, and the interpreter does not try again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Console:
    """Notes and progress go to stderr, so that stdout carries results alone."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.quiet = quiet
        self.stream = sys.stderr if stream is None else stream
        self._alive = self.stream.isatty()
        self._text = ""
        self._shown = 0  # characters of the line that is being rewritten
        self._told = (0.0, -1.0)  # when, and at which fraction, a line that cannot be rewritten was printed last

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self._end_line()
            print(text, file=self.stream, flush=True)

    def progress(self, progress: Progress) -> None:
        """A step of a long task: rewritten in place on a terminal, elsewhere a line for each step and each tenth of it."""
        if self.quiet:
            return
        percent = "" if progress.fraction is None else f"{100 * progress.fraction:3.0f}%  "
        if self._alive:
            if progress.fraction is None:
                self._end_line()
            line = f"  {percent}{progress.text}"[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self._shown), end="", file=self.stream, flush=True)
            self._shown = len(line)
            return
        moment, last = self._told
        fraction = progress.fraction
        if fraction is None or fraction < last or fraction >= last + 0.1 or (fraction == 1 and last < 1) or time.monotonic() > moment + 30:
            print(f"  {percent}{progress.text}", file=self.stream, flush=True)
            self._told = (time.monotonic(), last if fraction is None else fraction)

    def confirm(self, question: str) -> bool:
        """Ask, if there is a person to answer; yes otherwise and when they just press Enter, no when they end the input (Ctrl-D)."""
        if not (self._alive and sys.stdin is not None and sys.stdin.isatty()):
            return True
        self._end_line()
        print(f"{question} [Y/n] ", end="", file=self.stream, flush=True)
        answer = sys.stdin.readline()
        if not answer:  # not even a line's end
            print(file=self.stream, flush=True)
            return False
        return answer.strip().lower() in ("", "y", "yes")

    @contextlib.contextmanager
    def own_line(self) -> Iterator[None]:
        """A long task that shows its progress: whatever is printed after it, an error above all, begins on a line of its own."""
        try:
            yield
        finally:
            self._end_line()

    def _end_line(self) -> None:
        if self._shown:
            print(file=self.stream, flush=True)
            self._shown = 0
