"""Score distillation on a prior whose exact answer is known: images distributed as N(m, s^2 I)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from backend.config import GuidanceConfig
from backend.guidance.prior import Conditioning, DiffusionPrior, PriorDefaults
from backend.guidance.prompts import ViewPrompts
from backend.guidance.rules import add_noise, guided_noise, make_rule

DEVIATION = 0.5


class GaussianPrior(DiffusionPrior):
    """E[eps | z_t] for z ~ N(m, s^2 I), with m = 1 for "one", m = 0 for the empty prompt, in closed form."""

    def __init__(self) -> None:
        self.name, self.fingerprint, self.device = "gaussian", "none", torch.device("cpu")
        self.recommended = PriorDefaults(guidance_scale=1.0, weighting="sds", clamp=0.0, resolutions=(4,))
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
        self.calls: list[int] = []

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        means = torch.tensor([0.0 if prompt == "" else 1.0 for prompt in prompts])
        return Conditioning(tuple(prompts), {"mean": means})

    def encode_images(self, images: Tensor) -> Tensor:
        return images

    def decode(self, z: Tensor) -> Tensor:
        return z

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        self.calls.append(len(z_t))
        alpha_bar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        mean = conditioning.tensors["mean"].view(-1, 1, 1, 1)
        variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
        return (1 - alpha_bar).sqrt() * (z_t - alpha_bar.sqrt() * mean) / variance


@pytest.fixture
def prior() -> GaussianPrior:
    return GaussianPrior()


def rule(prior: GaussianPrior, **settings: object):
    return make_rule(prior, GuidanceConfig(**settings))


def expected_gradient(prior: GaussianPrior, z: float, t: int, weight: float) -> float:
    """E over eps of w (e_hat - eps): linear in eps, so eps = 0 gives it: w sqrt(1-a) sqrt(a) (z - m) / (a s^2 + 1 - a)."""
    a = prior.alphas_cumprod[t].item()
    return weight * (1 - a) ** 0.5 * a**0.5 * (z - 1) / (a * DEVIATION**2 + 1 - a)


@pytest.mark.parametrize(("weighting", "t"), [("sds", 300), ("x0", 300), ("uniform", 700)])
def test_the_mean_gradient_is_the_closed_form(prior: GaussianPrior, weighting: str, t: int) -> None:
    a = prior.alphas_cumprod[t].item()
    weight = {"sds": 1 - a, "x0": ((1 - a) / a) ** 0.5, "uniform": 1.0}[weighting]
    z = torch.full((1, 3, 200, 200), 0.2)
    positive, negative = prior.encode_prompts(["one"]), prior.encode_prompts([""])
    answer = rule(prior, weighting=weighting)(z, torch.tensor([t]), positive, negative, torch.Generator().manual_seed(0))
    standard_error = answer.gradient.std().item() / answer.gradient.numel() ** 0.5
    assert answer.gradient.mean().item() == pytest.approx(expected_gradient(prior, 0.2, t, weight), abs=4 * standard_error)
    assert expected_gradient(prior, 0.2, t, weight) < -4 * standard_error, "the test must be able to tell the sign"


def test_with_x0_weighting_the_gradient_is_z_minus_the_denoised_z(prior: GaussianPrior) -> None:
    z, t = torch.randn(2, 3, 4, 4), torch.tensor([100, 600])
    positive, negative = prior.encode_prompts(["one", "one"]), prior.encode_prompts(["", ""])
    answer = rule(prior, weighting="x0")(z, t, positive, negative, torch.Generator().manual_seed(5))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    z_t = add_noise(prior.alphas_cumprod, z, t, noise)
    a = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    denoised = (z_t - (1 - a).sqrt() * prior.predict_noise(z_t, t, positive)) / a.sqrt()
    assert torch.allclose(answer.gradient * 2, z - denoised, atol=1e-5)


def test_gradient_is_averaged_over_the_batch_and_the_loss_is_not(prior: GaussianPrior) -> None:
    z = torch.zeros(1, 3, 4, 4)
    single = rule(prior)(
        z, torch.tensor([500]), prior.encode_prompts(["one"]), prior.encode_prompts([""]), torch.Generator().manual_seed(1)
    )
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    z_t = add_noise(prior.alphas_cumprod, z, torch.tensor([500]), noise)
    residual = prior.predict_noise(z_t, torch.tensor([500]), prior.encode_prompts(["one"])) - noise
    assert single.loss.item() == pytest.approx(residual.square().mean().item())
    double = rule(prior)(
        z.repeat(2, 1, 1, 1), torch.tensor([500, 500]), prior.encode_prompts(["one"] * 2), prior.encode_prompts([""] * 2), torch.Generator()
    )
    assert double.loss.shape == (2,)


def test_clamp_bounds_every_element(prior: GaussianPrior) -> None:
    z = torch.full((1, 3, 4, 4), 50.0)
    answer = rule(prior, weighting="uniform", clamp=0.3)(
        z, torch.tensor([500]), prior.encode_prompts(["one"]), prior.encode_prompts([""]), torch.Generator()
    )
    assert torch.allclose(answer.gradient, torch.tensor(0.3))


@pytest.mark.parametrize(("scale", "calls"), [(0.0, [1]), (1.0, [1]), (7.5, [2])])
def test_guidance_scale_is_eu_plus_s_times_the_difference(prior: GaussianPrior, scale: float, calls: list[int]) -> None:
    z_t, t = torch.randn(1, 3, 4, 4), torch.tensor([400])
    positive, negative = prior.encode_prompts(["one"]), prior.encode_prompts([""])
    unconditional, conditional = prior.predict_noise(z_t, t, negative), prior.predict_noise(z_t, t, positive)
    prior.calls.clear()
    guided = guided_noise(prior, z_t, t, positive, negative, scale)
    assert torch.allclose(guided, unconditional + scale * (conditional - unconditional), atol=1e-6)
    assert prior.calls == calls


def test_the_same_generator_state_gives_the_same_gradient(prior: GaussianPrior) -> None:
    arguments = (torch.zeros(1, 3, 4, 4), torch.tensor([500]), prior.encode_prompts(["one"]), prior.encode_prompts([""]))
    first = rule(prior)(*arguments, torch.Generator().manual_seed(9)).gradient
    assert torch.equal(first, rule(prior)(*arguments, torch.Generator().manual_seed(9)).gradient)


def test_view_prompts_follow_the_cameras(prior: GaussianPrior) -> None:
    prompts = ViewPrompts(prior, "a dog", "blurry")
    assert prompts.positive([0, 90, 180, -100, 0], [0, 0, 0, 0, 80]).prompts == (
        "a dog, front view",
        "a dog, side view",
        "a dog, back view",
        "a dog, side view",
        "a dog, overhead view",
    )
    assert prompts.negative(2).prompts == ("blurry", "blurry")
    assert ViewPrompts(prior, "a dog", enabled=False).positive([180], [0]).prompts == ("a dog",)


def test_conditioning_rows_stay_with_their_prompts() -> None:
    both = Conditioning(("a", "b"), {"x": torch.tensor([1.0, 2.0])})
    joined = Conditioning.concatenate([both.select([1]), both.select([0, 1])])
    assert joined.prompts == ("b", "a", "b")
    assert joined.tensors["x"].tolist() == [2.0, 1.0, 2.0]
