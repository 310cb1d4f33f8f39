"""What an executor is given, and what it answers: plain strings and numbers, so that they travel to other computers as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import (
    ConfigError,
    InputError,
    OutputError,
    PriorError,
    PromptError,
    ProtocolError,
    SetupError,
    SurfaceError,
    UsageError,
)

__all__ = ["BACKEND", "Outcome", "Task", "is_worth_a_retry"]

BACKEND = ("-P", "-m", "backend.execution.attended")
"""This package's command line, in a process that ends with its parent."""

_SAME_AGAIN = frozenset(
    kind.exit_code
    for kind in (UsageError, PromptError, ConfigError, PriorError, SetupError, OutputError, InputError, ProtocolError, SurfaceError)
)
"""Exit codes that another attempt at once would end with too: what was asked has to change first. A job in use (`JobError`) and a lack of
memory (`ResourceError`) pass."""


@dataclass(frozen=True)
class Task:
    """One process to run. It must be safe to run again: its command goes on where it stopped.

    It ends when whoever started it is gone (`attended`).

    Attributes:
        key: names it among the tasks of a run.
        argv: what follows `python3 -m backend`; no shell reads it.
        gpus: how many GPUs it needs; a fraction below 1 shares one, more than 1 is a whole number.
        environ: variables on top of those that every task gets.
        program: what stands between the interpreter and `argv`.
    """

    key: str
    argv: tuple[str, ...]
    gpus: float = 0.0
    environ: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = BACKEND

    @property
    def arguments(self) -> tuple[str, ...]:
        """All that follows the interpreter."""
        return (*self.program, *self.argv)


@dataclass(frozen=True)
class Outcome:
    """How a task ended, after its last attempt.

    Attributes:
        key: the task's.
        exit_code: the process's; negative: killed by that signal.
        attempts: how many processes were started.
        seconds: how long they ran together.
        message: the last meaningful line of its standard error, or what killed it; empty if it said nothing.
        stopped: whether it was told to stop since its parent was; it may have come to its end nevertheless.
    """

    key: str
    exit_code: int
    attempts: int
    seconds: float
    message: str = ""
    stopped: bool = False


def is_worth_a_retry(exit_code: int) -> bool:
    """Whether the same task may do better: it was killed or interrupted from outside, or failed for a reason that may pass."""
    return exit_code != 0 and exit_code not in _SAME_AGAIN
