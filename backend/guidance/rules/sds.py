"""Score Distillation Sampling (Poole et al. 2022, "DreamFusion"; the paper's eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, add_noise, draw_noise, guided_noise, mean_square


class ScoreDistillation(Rule):
    """g = w(t) (e_hat - eps).

    With w = sqrt((1 - abar) / abar) this is z minus the prior's estimate of the clean z: the gradient has z's own
    units at every t, and the elementwise clamp bounds how far one estimate may pull. With w = 1 + sqrt((1 - abar) / abar)
    it is the difference of velocities, v_hat - (eps - z), which flow-matching models are distilled with.
    """

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        noise = draw_noise(z, generator)
        z_t = add_noise(self.prior.alphas_cumprod, z, t, noise)
        residual = guided_noise(self.prior, z_t, t, views, self.scale_at(moment.progress)) - noise
        gradient = self.clamped(self.weight(t) * residual, moment.progress)
        return Guidance(gradient.div_(len(z)), mean_square(residual))
