"""Distillation rules: from a prior's answer to a gradient on z. One file a rule; docs/methods.md has them in one notation.

A rule is bound to a prior and its settings, and called once an iteration::

    rule = make_rule(prior, config.guidance)
    guidance = rule(z, t, prompts.views(azimuths, elevations, viewmats), moment, generator)

What a rule remembers between iterations (`cds`' noise, `vsd`'s network) is in its `state_dict`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...config import PERP_NEG_OF_RULES, GuidanceConfig, Schedule, extremes, value_at
from .. import perpendicular
from ..prior import NOMINAL_SCALE, Conditioning, DiffusionPrior
from ..prompts import ViewConditioning

RULES = {
    "sds": ("sds", "ScoreDistillation"),
    "perp_neg": ("perp_neg", "PerpNeg"),
    "asd": ("asd", "AsynchronousScoreDistillation"),
    "cds": ("cds", "ConsistencyDistillation"),
    "ism": ("ism", "IntervalScoreMatching"),
    "hifa": ("hifa", "DenoisedTarget"),
    "vsd": ("vsd", "VariationalScoreDistillation"),
    "csd": ("csd", "ClassifierScoreDistillation"),
}
"""Module and class of each `guidance.rule`."""


@dataclass(frozen=True)
class Moment:
    """Where in the run a rule is asked.

    Attributes:
        progress: share of the iterations that is done, 0..1.
        t_low, t_high: the range of timesteps that is permitted now.
    """

    progress: float
    t_low: int
    t_high: int


@dataclass(frozen=True)
class Target:
    """What the renders are drawn to as well, by weight / 2 |x - images|^2 a view.

    Attributes:
        images: [B, 3, H, W] in 0..1.
        weight: [B].
    """

    images: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Guidance:
    """A rule's answer.

    Attributes:
        gradient: dL/dz, like z; already averaged over the batch.
        loss: [B] mean squared difference of the two predictions that the rule compares (for SDS of predicted and true noise), the raw loss
            of sections 3.2 and 3.3.
        target: pictures to come near to, if the rule has any.
    """

    gradient: Tensor
    loss: Tensor
    target: Target | None = None


class Rule(ABC):
    """A distillation rule bound to a prior; settings left at None are the prior's recommendation.

    Subclasses implement `__call__` without gradient (`torch.no_grad`), draw every random number from the generator, and call
    `scale_at`, `weight`, `clamped`.

    Attributes:
        own_weighting: w(t) that belongs to the rule and precedes the prior's recommendation; None where the rule works with any.
    """

    own_weighting: str | None = None

    def __init__(self, prior: DiffusionPrior, config: GuidanceConfig) -> None:
        self.prior, self.config = prior, config
        recommended = prior.recommended
        self.weighting = self.settled_weighting(config, recommended.weighting)
        self._clamp: Schedule = recommended.clamp if config.clamp is None else config.clamp

    @classmethod
    def settled_weighting(cls, config: GuidanceConfig, recommended: str) -> str:
        """Which w(t): `guidance.weighting`, else the rule's own, else the prior's."""
        return (cls.own_weighting or recommended) if config.weighting == "auto" else config.weighting

    @staticmethod
    def settled_perp_neg(config: GuidanceConfig) -> Schedule:
        """The factor of Perp-Neg's weights: `guidance.perp_neg`, 0 included, else the rule's own."""
        return PERP_NEG_OF_RULES.get(config.rule, 0.0) if config.perp_neg is None else config.perp_neg

    @abstractmethod
    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        """The gradient on z [B, ...] at timesteps t [B] for B views."""

    def scale_at(self, progress: float) -> float:
        """s: `guidance.scale`, else the prior's share of `guidance.nominal_scale` (or `least_scale`), else what the prior recommends."""
        nominal = self.config.nominal_scale
        return self._scale(None if nominal is None else value_at(nominal, progress))

    def _scale(self, nominal: float | None) -> float:
        """s where `guidance.nominal_scale` has this value."""
        recommended = self.prior.recommended.guidance_scale
        if self.config.scale is not None:
            return self.config.scale
        if nominal is None:
            return recommended
        return max(share_of_nominal(nominal, recommended), self.config.least_scale)

    def heeds_negative_prompt(self) -> bool:
        """Whether the negative prompt has a part in any step: at s = 1, without Perp-Neg's negatives, it is never asked for."""
        if self.config.view_prompts and extremes(self.settled_perp_neg(self.config))[1] > 0:
            return True
        nominal = self.config.nominal_scale
        return any(self._scale(value) != 1 for value in ((None,) if nominal is None else extremes(nominal)))

    def perp_neg_at(self, progress: float) -> float:
        """The factor of Perp-Neg's weights at this progress."""
        return value_at(self.settled_perp_neg(self.config), progress)

    def weight(self, t: Tensor) -> Tensor:
        """w(t) of eq. 5, [B, 1, 1, 1]."""
        alpha_bar = self.alpha_bar(t)
        if self.weighting == "sds":
            return 1 - alpha_bar
        ratio = ((1 - alpha_bar) / alpha_bar).sqrt()
        return {"x0": ratio, "flow": 1 + ratio, "uniform": torch.ones_like(ratio)}[self.weighting]

    def clamped(self, gradient: Tensor, progress: float) -> Tensor:
        """The gradient within the elementwise bound, if there is one."""
        bound = value_at(self._clamp, progress)
        return gradient.clamp(-bound, bound) if bound > 0 else gradient

    def alpha_bar(self, t: Tensor) -> Tensor:
        """abar_t [B, 1, 1, 1] for t [B]."""
        return self.prior.alphas_cumprod[t].view(-1, 1, 1, 1)

    @property
    def last_timestep(self) -> int:
        """The noisiest timestep that has any signal left: T - 1, unless the schedule ends in pure noise."""
        return int(torch.count_nonzero(self.prior.alphas_cumprod)) - 1

    def ddim_step(self, z_t: Tensor, noise: Tensor, t: Tensor, to: Tensor) -> Tensor:
        """z at timesteps `to` [B], on the straight way on from z_t at t [B] that the predicted noise points out (DDIM, eta = 0).

        Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12. It goes either way, to less noise or to more. Timestep 0
        stands for the clean z (abar = 1), which the schedule itself has no number for.
        """
        here, there = (torch.where(step.view(-1, 1, 1, 1) == 0, 1.0, self.alpha_bar(step)) for step in (t, to))
        clean = (z_t - (1 - here).sqrt() * noise) / here.sqrt()
        return there.sqrt() * clean + (1 - there).sqrt() * noise

    def draw_shares(self, count: int, generator: torch.Generator) -> Tensor:
        """[count] numbers uniform in 0..1, one for each group of views that the prior predicts together."""
        group = self.prior.views_per_prediction
        return torch.rand(-(-count // group), generator=generator, device=generator.device).repeat_interleave(group)[:count]

    def state_dict(self) -> dict[str, Any]:
        """What the next call depends on: nested dictionaries of tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - most rules remember nothing
        """The inverse of `state_dict`."""


def share_of_nominal(scale: float, recommended: float) -> float:
    """What a guidance scale published for Stable Diffusion means for a prior that recommends another one than 100.

    Guidance is s - 1 times the difference on top of the prompt alone, so it is s - 1 that is scaled: 100 becomes the
    recommended scale, 1 stays the prompt alone.
    """
    return 1 + (scale - 1) * (recommended - 1) / (NOMINAL_SCALE - 1)


def draw_noise(z: Tensor, generator: torch.Generator) -> Tensor:
    """eps, like z. It is drawn where the generator is: in main memory, so that a run goes on alike on whatever device it is taken up."""
    return torch.randn(z.shape, generator=generator, device=generator.device, dtype=z.dtype).to(z.device)


def add_noise(alphas_cumprod: Tensor, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """z_t of eqs. 1 and 4 for t [B]."""
    alpha_bar = alphas_cumprod[t].view(-1, 1, 1, 1)
    return (alpha_bar.sqrt() * z).add_((1 - alpha_bar).sqrt() * noise)


def predict_together(prior: DiffusionPrior, parts: list[tuple[Tensor, Tensor, Conditioning]]) -> list[Tensor]:
    """The predictions for several (z_t, t, conditioning), all of one size, in one forward pass."""
    if len(parts) == 1:
        return [prior.predict_noise(*parts[0])]
    z_t, t, conditioning = zip(*parts, strict=True)
    together = prior.predict_noise(torch.cat(z_t), torch.cat(t), Conditioning.concatenate(conditioning))
    return list(together.chunk(len(parts)))


def guided_branches(z_t: Tensor, t: Tensor, views: ViewConditioning, scale: float) -> list[tuple[Tensor, Tensor, Conditioning]]:
    """What `combine_branches` needs predicted; a branch whose weight is zero is left out."""
    rows = [views.positive] if scale == 1 and not views.opposing else [views.negative] if scale == 0 else [views.negative, views.positive]
    if scale != 0:
        rows += [words for words, _ in views.opposing]
    return [(z_t, t, words) for words in rows]


def combine_branches(predictions: list[Tensor], views: ViewConditioning, scale: float) -> Tensor:
    """e_u + s (e_c - e_u), with Perp-Neg's perpendicular parts where the views have opposing words."""
    if len(predictions) == 1:
        return predictions[0]
    unconditional, conditional, *others = predictions
    opposing = [(prediction, weights) for prediction, (_, weights) in zip(others, views.opposing, strict=True)]
    return perpendicular.guided(unconditional, conditional, opposing, scale)


def guided_noise(prior: DiffusionPrior, z_t: Tensor, t: Tensor, views: ViewConditioning, scale: float) -> Tensor:
    """e_hat with all branches in one forward pass."""
    return combine_branches(predict_together(prior, guided_branches(z_t, t, views, scale)), views, scale)


def mean_square(residual: Tensor) -> Tensor:
    """[B] mean over everything but the rows."""
    return residual.square().flatten(1).mean(1)


def rule_class(name: str) -> type[Rule]:
    """The class of a `guidance.rule`."""
    module, cls = RULES[name]
    return getattr(importlib.import_module(f".{module}", __package__), cls)


def make_rule(prior: DiffusionPrior, config: GuidanceConfig) -> Rule:
    """The rule that `config.rule` names."""
    return rule_class(config.rule)(prior, config)
