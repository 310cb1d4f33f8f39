"""Asynchronous Score Distillation (Ma et al. 2024, "ScaleDreamer: Scalable Text-to-3D Synthesis with Asynchronous Score Distillation")."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, add_noise, combine_branches, draw_noise, guided_branches, mean_square, predict_together


class AsynchronousScoreDistillation(Rule):
    """g = w(t) (e_hat(z_t, t) - e_c(z_t+, t+)),  t+ = t + floor(gamma U (t - t_low)),  U uniform in 0..1.

    The paper's gradient of L_ASD. Variational score distillation compares the prior with a network that was fine-tuned on the renders.
    That network predicts their noise better than the prior does; the prior itself does so at a later timestep, and that takes
    the network's place: the same z under the same noise eps, seen at t+ with the prompt and without guidance.

    With gamma = 0 (`guidance.asd_shift`) this is (s - 1) times classifier score distillation. U is drawn anew for each view
    (for each group of views that are predicted together). t_low is the lowest timestep permitted at the moment; t+ stays below
    T. All branches of both predictions go through the prior at once.
    """

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        noise = draw_noise(z, generator)
        later = self.shifted(t, moment, generator)
        z_t, z_later = (add_noise(self.prior.alphas_cumprod, z, step, noise) for step in (t, later))
        scale = self.scale_at(moment.progress)
        *guided, reference = predict_together(self.prior, [*guided_branches(z_t, t, views, scale), (z_later, later, views.positive)])
        residual = combine_branches(guided, views, scale) - reference
        gradient = self.clamped(self.weight(t) * residual, moment.progress)
        return Guidance(gradient / len(z), mean_square(residual))

    def shifted(self, t: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """t+ for t [B]."""
        shares = self.draw_shares(len(t), generator).to(t.device)
        shift = (self.config.asd_shift * shares * (t - moment.t_low)).floor().long()
        return torch.maximum(t, (t + shift).clamp_max(self.last_timestep))
