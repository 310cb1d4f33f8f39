"""Distillation rules: from a prior's answer to a gradient on z. One file a rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config import GuidanceConfig
from ..prior import Conditioning, DiffusionPrior


@dataclass(frozen=True)
class Guidance:
    """A rule's answer.

    Attributes:
        gradient: dL/dz, like z; already averaged over the batch.
        loss: [B] mean squared difference of predicted and true noise, the raw loss of sections 3.2 and 3.3.
    """

    gradient: Tensor
    loss: Tensor


class Rule(ABC):
    """A distillation rule bound to a prior; settings left at None are the prior's recommendation."""

    def __init__(self, prior: DiffusionPrior, config: GuidanceConfig) -> None:
        recommended = prior.recommended
        self.prior = prior
        self.scale = recommended.guidance_scale if config.scale is None else config.scale
        self.weighting = recommended.weighting if config.weighting == "auto" else config.weighting
        self.clamp = recommended.clamp if config.clamp is None else config.clamp

    @abstractmethod
    def __call__(self, z: Tensor, t: Tensor, positive: Conditioning, negative: Conditioning, generator: torch.Generator) -> Guidance:
        """The gradient on z [B, ...] at timesteps t [B], for B rows of positive and negative prompts."""

    def weight(self, t: Tensor) -> Tensor:
        """w(t) of eq. 5, [B, 1, 1, 1]."""
        alpha_bar = self.prior.alphas_cumprod[t].view(-1, 1, 1, 1)
        if self.weighting == "sds":
            return 1 - alpha_bar
        if self.weighting == "x0":
            return ((1 - alpha_bar) / alpha_bar).sqrt()
        return torch.ones_like(alpha_bar)


def add_noise(alphas_cumprod: Tensor, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """z_t of eqs. 1 and 4 for t [B]."""
    alpha_bar = alphas_cumprod[t].view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise


def guided_noise(prior: DiffusionPrior, z_t: Tensor, t: Tensor, positive: Conditioning, negative: Conditioning, scale: float) -> Tensor:
    """e_u + s (e_c - e_u) with both branches in one forward pass; a branch whose weight is zero is not computed."""
    if scale == 1:
        return prior.predict_noise(z_t, t, positive)
    if scale == 0:
        return prior.predict_noise(z_t, t, negative)
    both = prior.predict_noise(torch.cat([z_t, z_t]), torch.cat([t, t]), Conditioning.concatenate([positive, negative]))
    conditional, unconditional = both.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def make_rule(prior: DiffusionPrior, config: GuidanceConfig) -> Rule:
    """The rule that `config.rule` names."""
    from .sds import ScoreDistillation

    return {"sds": ScoreDistillation}[config.rule](prior, config)
