"""Priors whose exact answer is known: every number of z is, independently, from a mixture of Gaussians that the prompt names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backend.config import GuidanceConfig
from backend.guidance.prior import Conditioning, DiffusionPrior, PriorDefaults
from backend.guidance.prompts import ViewConditioning
from backend.guidance.rules import Guidance, Moment, Rule, make_rule

DEVIATION = 0.5
PICTURES: dict[str, list[tuple[float | tuple[float, float, float], float]]] = {
    "": [(0.0, DEVIATION)],
    "one": [(1.0, DEVIATION)],
    "blurry": [(-1.0, DEVIATION)],
    "narrow": [(0.0, 0.1)],
    "point": [(1.0, 0.0)],
    "two": [(-1.0, 0.1), (1.0, 0.1)],
    "red": [((1.0, 0.0, 0.0), DEVIATION)],
    "orange": [((1.0, 0.5, 0.0), DEVIATION)],
    "purple": [((1.0, 0.0, 2.0), DEVIATION)],
}
"""(mean, the same or one for each channel; standard deviation) of a prompt's equally likely components."""

MOMENT = Moment(0.0, 20, 980)


class ToyPrior(DiffusionPrior):
    """E[eps | z_t] in closed form, in float64. `calls` has the timesteps of each forward pass's rows."""

    def __init__(self, **recommended: Any) -> None:
        self.name, self.fingerprint, self.device = "toy", "none", torch.device("cpu")
        defaults: dict[str, Any] = {"guidance_scale": 1.0, "weighting": "sds", "clamp": 0.0, "resolutions": (4,)}
        self.recommended = PriorDefaults(**defaults | recommended)
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        self.calls: list[list[int]] = []
        self.decoded = 0

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(tuple(prompts))

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def decode(self, z: Tensor) -> Tensor:
        self.decoded += 1
        return z * 0.5 + 0.5

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        assert len(z_t) == len(t) == len(conditioning)
        self.calls.append(t.tolist())
        rows = zip(z_t, self.alphas_cumprod[t].tolist(), conditioning.prompts, strict=True)
        return torch.stack([exact_noise(x, a, prompt) for x, a, prompt in rows])


class LatentToyPrior(ToyPrior):
    """Whose z is half as large as the pictures, as a latent is."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).repeat_interleave(2, -1).repeat_interleave(2, -2)


def exact_noise(x: Tensor, a: float, prompt: str) -> Tensor:
    """E[eps | x] at abar = a for one row. A component N(m, s^2) is N(sqrt(a) m, V) in x, V = a s^2 + 1 - a, and by itself has the answer
    sqrt(1 - a) (x - sqrt(a) m) / V; several are weighed by their likelihoods."""
    answers, likelihoods = [], []
    for mean, deviation in PICTURES[prompt]:
        variance = a * deviation**2 + 1 - a
        off = x - a**0.5 * torch.as_tensor(mean, dtype=x.dtype).view(-1, 1, 1)
        answers.append((1 - a) ** 0.5 * off / variance)
        likelihoods.append(-0.5 * off**2 / variance - 0.5 * torch.tensor(variance).log())
    return (torch.stack(answers) * torch.stack(likelihoods).softmax(0)).sum(0)


def make(prior: DiffusionPrior, name: str, **settings: Any) -> Any:
    return make_rule(prior, GuidanceConfig(rule=name, **settings))


def ask(
    prior: DiffusionPrior, positive: str = "one", negative: str = "", count: int = 1, opposing: Sequence[tuple[str, float]] = ()
) -> ViewConditioning:
    """What a rule is given for `count` views, all asked for the same."""
    words = {prompt: prior.encode_prompts([prompt] * count) for prompt in [positive, negative, "", *(prompt for prompt, _ in opposing)]}
    weights = tuple((words[prompt], torch.full((count,), weight, dtype=torch.float64)) for prompt, weight in opposing)
    return ViewConditioning(words[positive], words[negative], words[""], weights)


def pictures(value: float = 0.2, count: int = 1, edge: int = 4) -> Tensor:
    return torch.full((count, 3, edge, edge), value, dtype=torch.float64)


def steps(*t: int) -> Tensor:
    return torch.tensor(t)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_of(z: Tensor, seed: int = 0) -> Tensor:
    """What a rule that draws noise first draws."""
    return torch.randn(z.shape, generator=seeded(seed), dtype=z.dtype)


def sigma_of(a: float) -> float:
    return ((1 - a) / a) ** 0.5


def call(rule: Rule, z: Tensor, t: Tensor, views: ViewConditioning | None = None, seed: int = 0, moment: Moment = MOMENT) -> Guidance:
    return rule(z, t, views or ask(rule.prior, count=len(z)), moment, seeded(seed))


def descended(rule: Rule, z: Tensor, t: int, views: ViewConditioning, rate: float, count: int, seed: int = 0) -> Tensor:
    """z after so many plain gradient steps, each row a problem of its own."""
    generator = seeded(seed)
    for _ in range(count):
        z = z - rate * len(z) * rule(z, steps(t).repeat(len(z)), views, MOMENT, generator).gradient
    return z
