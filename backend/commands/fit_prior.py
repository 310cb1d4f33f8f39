"""`fit-prior`: make the weights of the built-in learned image model."""

from __future__ import annotations

from ..embedded.pose_memory.fit import add_arguments, check, run

__all__ = ["add_arguments", "check", "run"]
