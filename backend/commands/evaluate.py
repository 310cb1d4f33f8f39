"""`evaluate`: results against the true objects of the built-in world."""

from __future__ import annotations

from ..evaluation.command import add_arguments, run

__all__ = ["add_arguments", "run"]
