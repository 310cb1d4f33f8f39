"""An MLP's units as linear maps that gates switch, or weigh.

A unit passes on quick_gelu(argument + what it reads). Gates add to the argument: at `LINEAR` it passes on what it reads, `CLOSED` more
makes that nothing. In between, and if it reads little (`SLIGHT`), it passes on what it reads times the gelu's slope at the argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

LINEAR, CLOSED = 6.0, -20.0
READ, SLIGHT = 0.8, 0.08
"""Deviation of what a unit reads, where the gelu is linear and where its slope is to be that at the argument: more would bend what
it passes on, less would be lost in rounding."""


class Units:
    """Sets the units of an MLP, some at a time.

    Args:
        linear: the MLP's first map.
        norm: by which the layer norm before it multiplies.

    Attributes:
        left: units that are not set yet.
    """

    def __init__(self, linear: Any, norm: float) -> None:
        self.linear, self.norm, self.left = linear, norm, linear.out_features

    def add(self, reads: Tensor, argument: float, gates: Tensor | float = 0.0) -> None:
        """Units that read [n, W] from the residual stream, and are told by it along gates [W] what to add to their argument."""
        first = self.linear.out_features - self.left
        rows = slice(first, first + len(reads))
        self.left -= len(reads)
        assert self.left >= 0, "more units than there are"
        self.linear.weight[rows] = ((reads + gates) / self.norm).half()
        self.linear.bias[rows] = torch.tensor(argument).half()


def shares(energies: list[Tensor], units: int) -> list[int]:
    """How many of the numbers in each row, largest first, are among the `units` largest of all: what pays best gets units."""
    every = torch.cat(energies).sort(descending=True).values
    least = every[units] if units < len(every) else -torch.inf
    return [int((each > least).sum()) for each in energies]


def slope_argument(slope: Tensor) -> Tensor:
    """Where quick_gelu, x sigmoid(1.702 x), has slopes of 0..1."""
    x = np.linspace(-0.8, 1.2, 20_001)
    sigmoid = 1 / (1 + np.exp(-1.702 * x))
    slopes = sigmoid * (1 + 1.702 * x * (1 - sigmoid))
    return torch.as_tensor(np.interp(slope.numpy(), slopes, x)).float()
