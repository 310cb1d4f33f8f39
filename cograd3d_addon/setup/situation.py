"""The state machine of the environment, as plain values. No bpy."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Phase(enum.StrEnum):
    """What the environment is, or what is being done to it."""

    UNKNOWN = "unknown"  # nobody has looked yet
    ABSENT = "absent"
    INSTALLING = "installing"  # also: completing, repairing
    READY = "ready"
    INTERRUPTED = "interrupted"
    OUTDATED = "outdated"
    DAMAGED = "damaged"
    FOREIGN = "foreign"
    VERIFYING = "verifying"
    REMOVING = "removing"
    FAILED = "failed"

    @property
    def is_busy(self) -> bool:
        """Whether a process is at work."""
        return self in (Phase.INSTALLING, Phase.VERIFYING, Phase.REMOVING)


@dataclass(frozen=True)
class Situation:
    """Everything there is to say about the environment at one moment.

    Attributes:
        phase: see `Phase`.
        message: one sentence about it.
        remedy: what to do about it, one sentence; empty where nothing is wrong.
        python: what workers may run with now; None while they may not.
        root: the folder of our own environment, whether it is used or not.
        is_existing: an existing Python is used, not our own environment.
        can_remove: our own environment, or a part of it, is there.
        can_verify: there is something whole to try out.
        needs_network: completing our own environment means downloading something.
        progress: what the process that is at work is doing, in its words.
        fraction: 0..1 of that step, where it can be told.
        details: what was verified in it: `python`, `torch`, `device`, `gpus`, `threads`, `rasterizer`.
        log: what the last process said; None where there is no such file.
    """

    phase: Phase
    message: str
    remedy: str = ""
    python: Path | None = None
    root: Path | None = None
    is_existing: bool = False
    can_remove: bool = False
    can_verify: bool = False
    needs_network: bool = True
    progress: str = ""
    fraction: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    log: Path | None = None

    @property
    def is_ready(self) -> bool:
        """Whether workers can run."""
        return self.python is not None

    @property
    def problem(self) -> tuple[str, str] | None:
        """(message, remedy) where no worker can run."""
        return None if self.is_ready else (self.message, self.remedy)

    def describe(self) -> str:
        """What workers would run with, in a line: `PyTorch 2.13.0 on this computer's processor (8 threads)`."""
        if not self.details:
            return self.message
        device = self.details.get("device", "cpu")
        gpus = ", ".join(self.details.get("gpus") or ())
        threads = self.details.get("threads")
        where = {"cuda": gpus or "an NVIDIA GPU", "mps": "this Mac's GPU"}.get(
            str(device), "this computer's processor" + (f" ({threads} threads)" if threads else "")
        )
        return f"PyTorch {self.details.get('torch', '')} on {where}"
