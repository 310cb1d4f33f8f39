"""What goes on, told on standard output where no window shows it, as Blender tells of its own renders there. No bpy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ..backend.protocol import PHASES
from .jobs import Job
from .settings import wording
from .setup.situation import Situation

INTERVAL = 5.0
"""Seconds between two lines about the same step: a log of an hour stays readable."""
_PROMPT_LETTERS = 60


class Narrator:
    """Prints how things stand: at once when a step begins, and of one that goes on now and then, where there is anything new."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._step, self._text, self._told_at = "", "", 0.0

    def tell(self, step: str, text: str) -> None:
        """Say this, if it is time to. `step` is what has to change for a line of its own; nothing is said while there is no text."""
        now = self._clock()
        is_due = step != self._step or now - self._told_at >= INTERVAL
        if not text or text == self._text or not is_due:
            return
        self._step, self._text, self._told_at = step, text, now
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or a letter that the terminal does not have
            print(f"CoGrad3D | {text}", flush=True)


def of_job(job: Job) -> tuple[str, str]:
    """A job's step, and how far it is: `a red cat | Shaping  120 of 400 | Time left 12 s`."""
    if not job.phase or job.status.is_over:
        return "", ""
    progress = job.progress if job.progress is not None and job.progress.phase == job.phase else None
    parts = [wording.shortened(job.spec.prompt, _PROMPT_LETTERS), wording.progress_text(progress, job.phase)]
    if progress is not None and progress.seconds_left >= 0:
        parts.append(f"Time left {wording.duration(progress.seconds_left)}")
    elif job.phase_message:
        parts.append(job.phase_message)
    return PHASES.get(job.phase, job.phase), " | ".join(parts)


def of_environment(situation: Situation) -> tuple[str, str]:
    """What is done to the environment, and how far that is: `Fetching torch | 40%`."""
    done = "" if situation.fraction is None else f" | {situation.fraction:.0%}"
    return situation.progress, f"{situation.progress}{done}" if situation.progress else ""
