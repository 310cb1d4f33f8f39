"""Classifier score distillation: on Gaussians of one width a constant push from one mean to the other."""

from __future__ import annotations

import pytest
import torch

from tests.backend.guidance.rules.toy import DEVIATION, ToyPrior, ask, call, descended, exact_noise, make, noise_of, pictures, steps


def push(prior: ToyPrior, t: int) -> float:
    """k = sqrt(a (1-a)) / (a s^2 + 1 - a): e_c - e_u = -k (m_c - m_u)."""
    a = prior.alphas_cumprod[t].item()
    return (a * (1 - a)) ** 0.5 / (a * DEVIATION**2 + 1 - a)


@pytest.mark.parametrize(("negative", "distance"), [("", 1.0), ("blurry", 2.0)])
def test_gradient_leads_from_the_negative_prompts_picture_to_the_prompts(prior: ToyPrior, negative: str, distance: float) -> None:
    a = prior.alphas_cumprod[300].item()
    z = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    answer = call(make(prior, "csd"), z, steps(300, 300), ask(prior, "one", negative, 2))
    assert torch.allclose(answer.gradient * 2, torch.tensor(-(1 - a) * push(prior, 300) * distance, dtype=torch.float64))
    assert torch.allclose(answer.loss, torch.tensor((push(prior, 300) * distance) ** 2, dtype=torch.float64))


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_the_guidance_scale_does_not_enter(prior: ToyPrior, scale: float) -> None:
    z, t = pictures(count=2), steps(300, 500)
    assert torch.equal(call(make(prior, "csd", scale=scale), z, t).gradient, call(make(prior, "csd"), z, t).gradient)
    assert prior.calls == [[300, 500] * 2] * 2, "both branches in one forward pass"


def test_it_is_what_guidance_adds_to_sds(prior: ToyPrior) -> None:
    z, t = torch.randn(1, 3, 4, 4, dtype=torch.float64), steps(300)
    views = ask(prior, "two", "blurry")
    with_guidance, without = (call(make(prior, "sds", scale=scale), z, t, views).gradient for scale in (3.0, 1.0))
    assert torch.allclose(with_guidance - without, 2 * call(make(prior, "csd"), z, t, views).gradient)


def test_negatives_of_perp_neg_are_part_of_the_difference(prior: ToyPrior) -> None:
    """As in test_perp_neg: red with half of orange's perpendicular part away from it, (1, -.25, 0)."""
    a = prior.alphas_cumprod[300].item()
    gradient = call(make(prior, "csd"), pictures(), steps(300), ask(prior, "red", opposing=[("orange", -0.5)])).gradient
    expected = -(1 - a) * push(prior, 300) * torch.tensor([1.0, -0.25, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert torch.allclose(gradient, expected.expand_as(gradient))


def test_noise_is_added_at_the_timestep(prior: ToyPrior) -> None:
    z, t = torch.randn(1, 3, 4, 4, dtype=torch.float64), steps(200)
    a = prior.alphas_cumprod[200].item()
    z_t = a**0.5 * z[0] + (1 - a) ** 0.5 * noise_of(z)[0]
    expected = (1 - a) * (exact_noise(z_t, a, "two") - exact_noise(z_t, a, "one"))
    assert torch.allclose(call(make(prior, "csd"), z, t, ask(prior, "two", "one")).gradient[0], expected)


def test_a_sharper_picture_of_the_same_mean_is_converged_to(prior: ToyPrior) -> None:
    """e_c - e_u = sqrt(1-a) (z_t - sqrt(a) m) (1/V_c - 1/V_u), with V_c < V_u."""
    z = descended(make(prior, "csd", weighting="uniform"), pictures(1.5, edge=32), 200, ask(prior, "narrow", ""), 0.1, 100)
    assert z.mean().item() == pytest.approx(0, abs=0.05)
