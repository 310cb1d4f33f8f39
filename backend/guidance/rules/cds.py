"""Consistency Distillation Sampling (Wu et al. 2024, "Consistent3D: Towards Consistent High-Fidelity Text-to-3D Generation ...")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...config import GuidanceConfig
from ..prior import DiffusionPrior
from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, add_noise, draw_noise, guided_noise, mean_square


class ConsistencyDistillation(Rule):
    """g = e_hat(x1, t1) - e_hat(x2, t2),  x1 = z + sigma1 eps*,  x2 = x1 + (sigma2 - sigma1) e_hat(x1, t1).

    The paper's L_CDS, as its authors' code has it: two points of one deterministic trajectory, with sigma = sqrt((1 - abar) / abar)
    and x / sqrt(1 + sigma^2) for what the prior sees. That input is z_t of eq. 1, and an Euler step in sigma is a DDIM step
    on it, so this is written with `add_noise` and `ddim_step`. The less noisy t2 is the schedule's, t1 lies above it by a gap
    that is drawn (`guidance.cds_gap`), below T. eps* is one noise for all views and the whole run.

    Sign: sigma2 g = D(x2) - D(x1), with D = x - sigma e_hat the denoised z. Read as a loss |D(x1) - D(x2)|^2 whose second term is
    held fixed, with dD(x1)/dz for 1, it would be the other way round; the authors' code descends along g as it stands here, and
    that leads to the prompt: on N(m, s^2 I), g = (x1 - m) s^2 (sigma1 - sigma2) / ((s^2 + sigma1^2) (s^2 + sigma2^2)), so that
    z goes to m, up to sigma1 eps*. A prior without any spread has straight trajectories: there g = 0.

    Weight: the constant 1 of the authors' code is the rule's own. One that `guidance.weighting` names is taken at t2, so that "x0"
    makes g the difference of the two denoised estimates.
    """

    own_weighting = "uniform"

    def __init__(self, prior: DiffusionPrior, config: GuidanceConfig) -> None:
        super().__init__(prior, config)
        self._noise: Tensor | None = None

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        noise = self.fixed_noise(z, generator)
        above = self.noisier(t, generator)
        scale = self.scale_at(moment.progress)
        z_above = add_noise(self.prior.alphas_cumprod, z, above, noise)
        first = guided_noise(self.prior, z_above, above, views, scale)
        second = guided_noise(self.prior, self.ddim_step(z_above, first, above, t), t, views, scale)
        residual = first - second
        gradient = self.clamped(self.weight(t) * residual, moment.progress)
        return Guidance(gradient / len(z), mean_square(residual))

    def fixed_noise(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """eps*, the same for every view; drawn anew only if the size of z changes."""
        if self._noise is None or self._noise.shape[1:] != z.shape[1:]:
            self._noise = draw_noise(z[:1], generator)
        return self._noise.expand_as(z)

    def noisier(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """t1 for t2 = t [B]."""
        low, high = self.config.cds_gap
        shares = low + (high - low) * self.draw_shares(len(t), generator).to(t.device)
        return torch.maximum(t, (t + (shares * self.prior.num_train_timesteps).long()).clamp_max(self.last_timestep))

    def state_dict(self) -> dict[str, Any]:
        return {} if self._noise is None else {"noise": self._noise}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._noise = state["noise"].to(self.prior.device) if state else None
