"""Interval Score Matching (Liang et al. 2024, "LucidDreamer: Towards High-Fidelity Text-to-3D Generation via Interval Score Matching")."""

from __future__ import annotations

import torch
from torch import Tensor

from ...config import value_at
from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, guided_noise, mean_square


class IntervalScoreMatching(Rule):
    """g = w(t) (e_hat(z_t, t) - e_empty(z_s, s)),  s = t - d,  w = sqrt((1 - abar_t) / abar_t).

    The paper's L_ISM and algorithm 1: z_s and z_t are not z under random noise but its DDIM inversion with the empty prompt, from
    the clean z to s in strides (`guidance.ism_stride`), then one step to t. The interval d is `guidance.ism_step`. Where t < d
    the inversion begins and ends at the clean z: s = 0.

    The weight is that of the authors' code and the rule's own; one that `guidance.weighting` names replaces it. Their
    code's factor 0.1 is left out: Adam does not see it, and the elementwise bound would. Nor is random noise mixed into the inversion,
    so nothing is drawn at all. The last prediction of the inversion is the one compared with: s / stride + 1 predictions
    of a view with the empty prompt, and the guided one.
    """

    own_weighting = "x0"

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        interval = max(1, round(value_at(self.config.ism_step, moment.progress) * self.prior.num_train_timesteps))
        s = (t - interval).clamp_min(0)
        z_s = self.invert(z, s, views)
        reference = self.prior.predict_noise(z_s, s, views.empty)
        z_t = self.ddim_step(z_s, reference, s, t)
        residual = guided_noise(self.prior, z_t, t, views, self.scale_at(moment.progress)) - reference
        gradient = self.clamped(self.weight(t) * residual, moment.progress)
        return Guidance(gradient / len(z), mean_square(residual))

    def invert(self, z: Tensor, s: Tensor, views: ViewConditioning) -> Tensor:
        """z_s for s [B]: the clean z led to where the prior, asked for nothing in particular, believes that it came from.

        Views that have arrived are not asked for any more.
        """
        stride = max(1, round(self.config.ism_stride * self.prior.num_train_timesteps))
        z, level = z.clone(), torch.zeros_like(s)
        while len(rows := torch.nonzero(level < s).flatten()):
            now, following = level[rows], torch.minimum(level[rows] + stride, s[rows])
            noise = self.prior.predict_noise(z[rows], now, views.empty.select(rows.tolist()))
            z[rows], level[rows] = self.ddim_step(z[rows], noise, now, following), following
        return z
