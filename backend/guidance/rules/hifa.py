"""HiFA (Zhu et al. 2024, "HiFA: High-fidelity Text-to-3D Generation with Advanced Diffusion Guidance")."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, Target, add_noise, draw_noise, guided_noise, mean_square


class DenoisedTarget(Rule):
    """g = z - z_hat, and images are drawn to the decoded z_hat as well: |z - z_hat|^2 / 2 + lambda |x - x_hat|^2 / 2.

    The paper's losses on latents and images. SDS with w = sqrt((1 - abar) / abar) is z minus a one-step estimate of the clean z;
    here z_hat takes several deterministic DDIM steps (`guidance.hifa_steps`, at most one a timestep) from z_t down to the clean z,
    and the same residual is taken between images in 0..1 too, with lambda = `guidance.hifa_image_weight`. What is approximated:
    the steps are evenly spaced. The paper's other parts, its schedule of t and its losses on density and depth, belong to
    the preset.

    The constant weight is the rule's own. One that `guidance.weighting` names goes with the residual in units of noise, as in
    every rule: g = w(t) sqrt(abar / (1 - abar)) (z - z_hat), the same factor before lambda; so one step is SDS for any w.
    Where z has the pictures' own size it is a picture, and the residual between images would be the same once more: then
    there is no target. lambda = 0 saves the decoding.
    """

    own_weighting = "x0"

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        z_t = add_noise(self.prior.alphas_cumprod, z, t, draw_noise(z, generator))
        z_hat = self.denoise(z_t, t, views, self.scale_at(moment.progress))
        alpha_bar = self.alpha_bar(t)
        per_noise = (alpha_bar / (1 - alpha_bar)).sqrt()
        residual = per_noise * (z - z_hat)
        gradient = self.clamped(self.weight(t) * residual, moment.progress) / len(z)
        images = self.prior.decode(z_hat) if self.config.hifa_image_weight > 0 else None
        if images is None or images.shape == z.shape:
            return Guidance(gradient, mean_square(residual))
        weight = self.config.hifa_image_weight * (self.weight(t) * per_noise).flatten()
        return Guidance(gradient, mean_square(residual), Target(images, weight))

    def denoise(self, z_t: Tensor, t: Tensor, views: ViewConditioning, scale: float) -> Tensor:
        """z_hat."""
        steps = max(1, min(self.config.hifa_steps, int(t.max())))
        level = t
        for left in reversed(range(steps)):
            following = t * left // steps
            z_t = self.ddim_step(z_t, guided_noise(self.prior, z_t, level, views, scale), level, following)
            level = following
        return z_t
