"""Score Distillation Sampling (DreamFusion; the paper's eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prior import Conditioning
from . import Guidance, Rule, add_noise, guided_noise


class ScoreDistillation(Rule):
    """g = w(t) (e_hat - eps).

    With w = sqrt((1 - abar) / abar) this is z minus the prior's estimate of the clean z: the gradient has z's own
    units at every t, and the elementwise clamp bounds how far one estimate may pull.
    """

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, positive: Conditioning, negative: Conditioning, generator: torch.Generator) -> Guidance:
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        z_t = add_noise(self.prior.alphas_cumprod, z, t, noise)
        residual = guided_noise(self.prior, z_t, t, positive, negative, self.scale) - noise
        gradient = self.weight(t) * residual
        if self.clamp > 0:
            gradient = gradient.clamp(-self.clamp, self.clamp)
        return Guidance(gradient / len(z), residual.square().flatten(1).mean(1))
