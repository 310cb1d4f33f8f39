"""Variational Score Distillation (Wang et al. 2023, "ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with VSD")."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import GuidanceConfig
from ..prior import DiffusionPrior
from ..prompts import ViewConditioning
from . import Guidance, Moment, Rule, add_noise, combine_branches, draw_noise, guided_branches, mean_square, predict_together

WIDTH = 32
"""Channels inside the network."""
FAR = 4
"""The network's coarse branch sees blocks of so many pixels."""


class VariationalScoreDistillation(Rule):
    """g = w(t) (e_hat(z_t, t) - e_phi(z_t, t)),  e_phi = e_c + delta_phi.

    The paper's L_VSD and algorithm 1: e_phi is the score of the renders themselves under noise. Each call first takes one Adam step
    (`guidance.vsd_rate`) on phi's own loss there, |e_phi(z_t, t) - eps|^2 at a fresh noise, then gives the gradient at another one.

    What is approximated: the paper's phi is a LoRA of the prior. A prior need not be a network here, so `ScoreCorrection`, a
    small network of its own that is zero at first, stands in for it: what it adds to the prior's answer to the prompt
    depends on z_t, that answer and t, but on no camera. It learns at the timestep of the step, not over all of them, since it
    is asked nowhere else. There is one asset ("particle"). While delta is zero, g is (s - 1) times classifier score
    distillation; were it to tell all noise from a render of which there is only one, e_phi = eps, g would be that of SDS.
    """

    def __init__(self, prior: DiffusionPrior, config: GuidanceConfig) -> None:
        super().__init__(prior, config)
        self._learner: tuple[ScoreCorrection, torch.optim.Adam] | None = None

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        if self._learner is None:
            self._learner = self._make_learner(z.shape[1])
            self._learner[0].initialise(generator)
        network, adam = self._learner
        noise, lesson_noise = draw_noise(z, generator), draw_noise(z, generator)
        z_t, z_lesson = (add_noise(self.prior.alphas_cumprod, z, t, eps) for eps in (noise, lesson_noise))
        scale = self.scale_at(moment.progress)
        branches = guided_branches(z_t, t, views, scale)
        places = [place for place, (_, _, words) in enumerate(branches) if words is views.positive]  # none at s = 0
        asked = branches if places else [*branches, (z_t, t, views.positive)]
        *predictions, lesson = predict_together(self.prior, [*asked, (z_lesson, t, views.positive)])
        conditional = predictions[places[0] if places else -1]
        learn(network, adam, z_lesson, lesson, self.alpha_bar(t), lesson_noise)
        renders = conditional + network(z_t, conditional, self.alpha_bar(t))
        residual = combine_branches(predictions[: len(branches)], views, scale) - renders
        gradient = self.clamped(self.weight(t) * residual, moment.progress)
        return Guidance(gradient / len(z), mean_square(residual))

    def _make_learner(self, channels: int) -> tuple[ScoreCorrection, torch.optim.Adam]:
        """delta_phi, its weights without values yet, and its Adam before the first step."""
        network = ScoreCorrection.empty(channels, self.prior.device)
        return network, torch.optim.Adam(network.parameters(), lr=self.config.vsd_rate)

    def state_dict(self) -> dict[str, Any]:
        if self._learner is None:
            return {}
        network, adam = self._learner
        moments = {name: dict(adam.state[parameter]) for name, parameter in network.named_parameters()}
        return {"network": dict(network.state_dict()), "adam": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if not state:
            self._learner = None
            return
        network, adam = self._learner = self._make_learner(len(state["network"]["leave.bias"]))
        network.load_state_dict(state["network"])
        for name, parameter in network.named_parameters():
            moments = state["adam"][name]  # the count of steps stays on the CPU, as Adam wants it
            adam.state[parameter] = {key: value.clone().to("cpu" if key == "step" else parameter.device) for key, value in moments.items()}


def learn(network: ScoreCorrection, adam: torch.optim.Adam, z_t: Tensor, prediction: Tensor, alpha_bar: Tensor, noise: Tensor) -> None:
    """One step of Adam on |e_phi - eps|^2."""
    adam.zero_grad()
    with torch.enable_grad():
        error = prediction + network(z_t, prediction, alpha_bar) - noise
        error.square().mean().backward()
    adam.step()


class ScoreCorrection(nn.Module):
    """delta_phi(z_t, e_c, t): a fine branch and a coarse one, modulated by the noise level, and a linear one; for z of any size.

    On a flat render the true answer is linear in z_t, and that part is learned first. In float32 whatever the prior computes in.
    """

    FREQUENCIES = (0.25, 0.5, 1.0)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2 * channels, WIDTH, 3, padding=1)
        self.level = nn.Linear(2 * len(self.FREQUENCIES), 2 * WIDTH)
        self.fine = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.coarse = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.leave = nn.Conv2d(WIDTH + 2 * channels, channels, 3, padding=1)

    @staticmethod
    def empty(channels: int, device: torch.device) -> ScoreCorrection:
        """With weights that have no values yet: made without a draw from torch's global generator."""
        with torch.device("meta"):
            network = ScoreCorrection(channels)
        return network.to_empty(device=device)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Weights of the size that keeps a signal's, biases zero, and zero what comes out."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.startswith("leave"):
                parameter.zero_()
            else:
                drawn = torch.empty(parameter.shape, device=generator.device)
                drawn.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
                parameter.copy_(drawn)

    def forward(self, z_t: Tensor, prediction: Tensor, alpha_bar: Tensor) -> Tensor:
        signal = alpha_bar.flatten().float().clamp(1e-6, 1 - 1e-6)
        angles = (signal / (1 - signal)).log()[:, None] * torch.tensor(self.FREQUENCIES, device=signal.device)
        gain, shift = self.level(torch.cat([angles.sin(), angles.cos()], 1))[:, :, None, None].chunk(2, 1)
        given = torch.cat([z_t, prediction], 1).float()
        h = F.silu(self.enter(given) * (1 + gain) + shift)
        size = h.shape[-2:]
        blocks = F.adaptive_avg_pool2d(h, [max(1, edge // FAR) for edge in size])
        coarse = F.interpolate(F.silu(self.coarse(blocks)), size, mode="bilinear")
        return self.leave(torch.cat([h + F.silu(self.fine(h)) + coarse, given], 1)).to(z_t.dtype)
