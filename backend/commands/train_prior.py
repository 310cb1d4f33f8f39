"""`train-prior`: train a convolutional image model of the built-in world."""

from __future__ import annotations

from ..embedded.learned.train import add_arguments, check, run

__all__ = ["add_arguments", "check", "run"]
