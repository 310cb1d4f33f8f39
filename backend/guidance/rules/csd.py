"""Classifier Score Distillation (Yu et al. 2024, "Text-to-3D with Classifier Score Distillation")."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, add_noise, combine_branches, draw_noise, mean_square, predict_together


class ClassifierScoreDistillation(Rule):
    """g = w(t) (e_c - e_u).

    The paper's gradient of L_CSD: of SDS only what guidance adds, the score of the implicit classifier p(prompt | z_t). The
    difference e_u - eps is gone. With a negative prompt e_u is that prompt's prediction: the paper's use of negative prompts, with
    equal weights. With Perp-Neg's negatives the difference is that of guidance at s = 1, d_pos + sum_i w_i d_i_perp.

    The scale s of classifier-free guidance does not enter: it would be a mere factor of g. Where the prompt explains z_t no
    better and no worse than the negative one there is no gradient.
    """

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        z_t = add_noise(self.prior.alphas_cumprod, z, t, draw_noise(z, generator))
        rows = [views.negative, views.positive, *(words for words, _ in views.opposing)]
        predictions = predict_together(self.prior, [(z_t, t, words) for words in rows])
        residual = combine_branches(predictions, views, 1.0) - predictions[0]
        gradient = self.clamped(self.weight(t) * residual, moment.progress)
        return Guidance(gradient / len(z), mean_square(residual))

    def heeds_negative_prompt(self) -> bool:
        """Always: e_u is in the difference, whatever s is."""
        return True
