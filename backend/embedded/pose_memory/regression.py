"""Weighted ridge regression of many outputs on many inputs, from rows that come one part at a time."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_ONCE = 6000
"""Rows that are gathered before their products are summed: few large products cost less than many small ones."""


class Products:
    """Sums over rows for the regression of outputs [n, O] on inputs [n, I], kept in double precision.

    Args:
        inputs: I.
        outputs: O.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.gram = torch.zeros(inputs, inputs, dtype=torch.float64)
        self.cross = torch.zeros(inputs, outputs, dtype=torch.float64)
        self.energy, self.weight = 0.0, 0.0
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, inputs: Tensor, outputs: Tensor, weights: Tensor) -> None:
        """Take in some rows, whose square errors count by weights [n]."""
        self.weight += weights.sum().item()
        root = weights.sqrt()[:, None]
        self._waiting.append((root * inputs, root * outputs))
        if sum(len(x) for x, _ in self._waiting) >= ROWS_AT_ONCE:
            self._sum()

    def _sum(self) -> None:
        if self._waiting:
            inputs, outputs = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting.clear()
            self.gram += (inputs.T @ inputs).double()
            self.cross += (inputs.T @ outputs).double()
            self.energy += outputs.double().square().sum().item()

    def solve(self, ridge: float) -> Tensor:
        """[I, O] a linear map; `ridge` is relative to the inputs' mean energy."""
        self._sum()
        gram = self.gram.clone()
        gram.diagonal().add_(ridge * gram.diagonal().mean())
        return torch.linalg.solve(gram, self.cross)

    def residual(self, linear: Tensor) -> float:
        """Weighted mean over the rows of the square error that a map [I, O] leaves, summed over the outputs; after `solve`."""
        w = linear.double()
        return ((w * (self.gram @ w)).sum() - 2 * (w * self.cross).sum() + self.energy).item() / self.weight
