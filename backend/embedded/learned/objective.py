"""What a training step compares: noisy pictures, in the coefficients of a basis, and what the denoiser should make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import model as parts
from .block_basis import BlockBasis
from .dataset import stable_target
from .pools import PoolBank
from .replicas import Replica


@dataclass(frozen=True)
class Batch:
    """D pools of S noisy pictures.

    Attributes:
        noisy, wanted: [D, S, K, n, n] coefficients of z_t and of E[x0 | z_t, words], estimated over the pool.
        t: [D, S] timesteps.
        tokens: [D, L] the pools' captions.
    """

    noisy: Tensor
    wanted: Tensor
    t: Tensor
    tokens: Tensor


class Objective:
    """The mean square error of x0 where the pool's posterior mean is the target.

    Args:
        bank: where pictures come from.
        basis: the bank's.
        tokenizer: of the captions.
        device: where the denoiser computes.
    """

    def __init__(self, bank: PoolBank, basis: BlockBasis, tokenizer: Any, device: torch.device) -> None:
        self._bank = bank
        self._tokenizer = tokenizer
        self._device = device
        self._alphas_cumprod = parts.build_scheduler().alphas_cumprod.to(device)
        self._input_scale = basis.input_scale(parts.input_alpha_bar()).to(device).view(-1, 1, 1)
        self._output_scale = basis.output_scale().to(device).view(-1, 1, 1)

    def draw(self, t: Tensor, references: int, generator: torch.Generator) -> Batch:
        """A batch.

        Args:
            t: [D, S] its timesteps.
            references: views a pool; at least S.
            generator: of the noise, on the CPU; the rest is drawn from the bank's own.
        """
        pools, images = t.shape
        drawn = self._bank.draw(pools, max(references, images))
        t = t.to(self._device)
        alpha_bar = self._alphas_cumprod[t]
        clean = drawn.coefficients[:, :images]
        noise = torch.randn(clean.shape, generator=generator).to(self._device)
        noisy = alpha_bar.sqrt()[..., None] * clean + (1 - alpha_bar).sqrt()[..., None] * noise
        wanted = stable_target(noisy, alpha_bar, drawn.coefficients)
        tokens = self._tokenizer(
            drawn.captions, padding="max_length", max_length=parts.MAX_TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
        grid = (len(self._input_scale), parts.GRID, parts.GRID)
        return Batch(noisy.unflatten(2, grid), wanted.unflatten(2, grid), t, tokens.to(self._device))

    def errors(self, batch: Batch, replica: Replica, rows: slice) -> Tensor:
        """[d, S] mean square errors of x0, pictures in -1..1, of some of the pools; what the basis leaves out is not counted."""
        predicted = replica.predict(self._input_scale * batch.noisy[rows], batch.t[rows], batch.tokens[rows])
        return (self._output_scale * predicted - batch.wanted[rows]).square().sum((2, 3, 4)) / parts.PIXELS
