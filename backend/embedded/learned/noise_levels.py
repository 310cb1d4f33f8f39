"""Which noise levels the learned prior trains on, and how much an error counts at each.

Distillation asks for the levels between its start and its end (`RECOMMENDED["t_start"]` and `t_end`), drawing pictures
for all of them: most draws are of the former. An error counts relative to the usual error of its level (the uncertainty
weighting of Karras et al. 2024, EDM2, with running means in the place of a network): no level drowns the others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

USEFUL = (0.3, 0.85)
"""t / T between which most draws lie, a little beyond where distillation ends and starts."""
EVERYWHERE = 0.2
"""Share of draws from all levels."""
BIN = 20
"""Timesteps that share a running mean."""
MOMENTUM = 0.01
"""How far a running mean moves towards one new error."""
INITIAL_ERROR = 0.03


class NoiseLevels:
    """Draws timesteps below `timesteps` and weighs their errors."""

    def __init__(self, timesteps: int) -> None:
        self.timesteps = timesteps
        self.usual = torch.full((-(-timesteps // BIN),), INITIAL_ERROR)

    def draw(self, rng: np.random.Generator, count: int) -> Tensor:
        """[count] int64 timesteps."""
        everywhere = rng.random(count) < EVERYWHERE
        first, last = (np.where(everywhere, end, useful) for end, useful in zip((0.0, 1.0), USEFUL, strict=True))
        return torch.from_numpy(((first + rng.random(count) * (last - first)) * self.timesteps).astype(np.int64))

    def usual_at(self, t: Tensor) -> Tensor:
        """[B] the usual errors at timesteps t [B], on its device."""
        return self.usual[(t // BIN).cpu()].to(t.device)

    def record(self, t: Tensor, errors: Tensor) -> None:
        """Lets the usual errors follow those [B] at timesteps t [B]."""
        for index, error in zip((t // BIN).tolist(), errors.tolist(), strict=True):
            self.usual[index] += MOMENTUM * (error - self.usual[index])
