"""Interval score matching: the inversion, in the coordinates where it is an Euler method, and the interval."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from backend.guidance.rules import Moment
from tests.backend.guidance.rules.toy import (
    DEVIATION,
    MOMENT,
    ToyPrior,
    ask,
    call,
    descended,
    exact_noise,
    make,
    pictures,
    seeded,
    sigma_of,
    steps,
)


def inverted(prior: ToyPrior, z: torch.Tensor, *levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(z at the last level, the prediction at the one before it): Euler steps of x = z / sqrt(abar) in sigma, from the clean z at 0."""
    x, e = z, z
    for here, there in pairwise(levels):
        a, b = prior.alphas_cumprod[here].item(), prior.alphas_cumprod[there].item()
        sigma = 0.0 if here == 0 else sigma_of(a)
        seen = x if here == 0 else a**0.5 * x
        e = exact_noise(seen, a, "")
        x = x + (sigma_of(b) - sigma) * e
    return b**0.5 * x, e


def test_gradient_compares_the_guided_prediction_with_the_inversions_last(prior: ToyPrior) -> None:
    z, s = torch.randn(2, 3, 4, 4, dtype=torch.float64), 7.5
    a = prior.alphas_cumprod[550].item()
    answer = call(make(prior, "ism", scale=s, ism_step=0.1), z, steps(550, 550), ask(prior, "two", "blurry", 2))
    for row in range(2):
        z_t, reference = inverted(prior, z[row], 0, 200, 400, 450, 550)
        e_u = exact_noise(z_t, a, "blurry")
        residual = e_u + s * (exact_noise(z_t, a, "two") - e_u) - reference
        assert torch.allclose(answer.gradient[row], sigma_of(a) * residual / 2)
        assert answer.loss[row].item() == pytest.approx(residual.square().mean().item())


def test_below_the_interval_the_inversion_begins_and_ends_at_the_clean_picture(prior: ToyPrior) -> None:
    """One step from z: e_0 = sqrt(1-a0) z / (a0 s^2 + 1 - a0), z_t = sqrt(a) z + sqrt(1-a) e_0."""
    a0, a = prior.alphas_cumprod[0].item(), prior.alphas_cumprod[60].item()
    gradient = call(make(prior, "ism", ism_step=0.1), pictures(0.2), steps(60)).gradient
    reference = (1 - a0) ** 0.5 * 0.2 / (a0 * DEVIATION**2 + 1 - a0)
    z_t = a**0.5 * 0.2 + (1 - a) ** 0.5 * reference
    prediction = (1 - a) ** 0.5 * (z_t - a**0.5) / (a * DEVIATION**2 + 1 - a)
    assert torch.allclose(gradient, torch.tensor(sigma_of(a) * (prediction - reference), dtype=torch.float64))
    assert prior.calls == [[0], [60]]


@pytest.mark.parametrize(
    ("t", "stride", "scale", "calls"),
    [
        (550, 0.2, 7.5, [[0], [200], [400], [450], [550, 550]]),
        (500, 0.2, 1.0, [[0], [200], [400], [500]]),
        (500, 1.0, 0.0, [[0], [400], [500]]),
        (100, 0.2, 1.0, [[0], [100]]),
    ],
)
def test_calls_are_the_strides_the_interval_and_the_guided_prediction(
    prior: ToyPrior, t: int, stride: float, scale: float, calls: list[list[int]]
) -> None:
    call(make(prior, "ism", ism_step=0.1, ism_stride=stride, scale=scale), pictures(), steps(t))
    assert prior.calls == calls


def test_the_interval_follows_its_schedule(prior: ToyPrior) -> None:
    rule = make(prior, "ism", ism_stride=1.0)
    for progress, s in ((0.0, 400), (0.15, 410), (0.9, 420)):
        prior.calls.clear()
        call(rule, pictures(), steps(500), moment=Moment(progress, 20, 980))
        assert prior.calls == [[0], [s], [500]]


def test_views_at_different_timesteps_are_as_each_alone(prior: ToyPrior) -> None:
    z, t = torch.randn(3, 3, 4, 4, dtype=torch.float64), steps(70, 550, 320)
    together = call(make(prior, "ism"), z, t).gradient
    asked = sorted(step for call in prior.calls for step in call)
    prior.calls.clear()
    for row in range(3):
        assert torch.allclose(together[row] * 3, call(make(prior, "ism"), z[row : row + 1], t[row : row + 1]).gradient[0])
    assert asked == sorted(step for call in prior.calls for step in call), "no more is asked than for each alone"


def test_nothing_is_drawn(prior: ToyPrior) -> None:
    generator = seeded(3)
    make(prior, "ism")(pictures(), steps(500), ask(prior), MOMENT, generator)
    assert torch.equal(generator.get_state(), seeded(3).get_state())


def test_the_inversion_asks_the_empty_prompt_whatever_the_negative_one(prior: ToyPrior) -> None:
    """At s = 1 the negative prompt is not asked at all."""
    z, t = pictures(), steps(500)
    plain = call(make(prior, "ism"), z, t, ask(prior, "one", "")).gradient
    assert torch.equal(call(make(prior, "ism"), z, t, ask(prior, "one", "blurry")).gradient, plain)


def test_its_weight_is_its_own_unless_one_is_asked_for(prior: ToyPrior) -> None:
    z, t = pictures(), steps(500)
    a = prior.alphas_cumprod[500].item()
    own, uniform, sds = (call(make(prior, "ism", weighting=name), z, t).gradient for name in ("auto", "uniform", "sds"))
    assert torch.allclose(own, sigma_of(a) * uniform)
    assert torch.allclose(sds, (1 - a) * uniform)


def test_at_the_prior_s_only_picture_there_is_no_gradient(prior: ToyPrior) -> None:
    assert call(make(prior, "ism"), pictures(0.0), steps(500), ask(prior, "", "")).gradient.abs().max() < 1e-12


def test_descending_leads_to_the_picture_and_guidance_to_the_prompts(prior: ToyPrior) -> None:
    z = descended(make(prior, "ism"), pictures(-1.0), 500, ask(prior, "", ""), 1.0, 200)
    assert torch.allclose(z, torch.tensor(0.0, dtype=torch.float64), atol=0.05)
    assert call(make(prior, "ism"), pictures(0.0), steps(500), ask(prior, "one", "")).gradient.max() < 0
