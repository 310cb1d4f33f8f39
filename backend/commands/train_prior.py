"""`train-prior`: make the weights of the built-in learned image model."""

from __future__ import annotations

from ..embedded.learned.train import add_arguments, check, run

__all__ = ["add_arguments", "check", "run"]
