"""Asynchronous score distillation: the same noise at two timesteps."""

from __future__ import annotations

import pytest
import torch

from backend.guidance.rules import Moment
from tests.backend.guidance.rules.toy import (
    DEVIATION,
    ToyPrior,
    ask,
    call,
    descended,
    exact_noise,
    make,
    noise_of,
    pictures,
    seeded,
    sigma_of,
    steps,
)


def test_gradient_compares_the_guided_prediction_with_a_later_unguided_one_under_the_same_noise(prior: ToyPrior) -> None:
    z, t, s = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(500, 800), 3.0
    generator = seeded()
    noise = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    shares = torch.rand(2, generator=generator)
    answer = call(make(prior, "asd", scale=s, asd_shift=0.5), z, t, ask(prior, "one", "blurry", 2), moment=Moment(0.0, 100, 980))
    for row in range(2):
        later = int(t[row] + 0.5 * shares[row] * (t[row] - 100))
        assert later > t[row]
        a, b = prior.alphas_cumprod[t[row]].item(), prior.alphas_cumprod[later].item()
        z_t, z_later = (alpha**0.5 * z[row] + (1 - alpha) ** 0.5 * noise[row] for alpha in (a, b))
        e_u, e_c = exact_noise(z_t, a, "blurry"), exact_noise(z_t, a, "one")
        residual = e_u + s * (e_c - e_u) - exact_noise(z_later, b, "one")
        assert torch.allclose(answer.gradient[row], (1 - a) * residual / 2)
        assert answer.loss[row].item() == pytest.approx(residual.square().mean().item())


def test_on_a_single_picture_the_gradient_is_a_share_of_the_distance(prior: ToyPrior) -> None:
    """e_c = eps + (z - m) / sigma there: the noise cancels, (1 / sigma_t - 1 / sigma_t+) (z - m) is left, and it leads to m."""
    gradient = call(make(prior, "asd", weighting="uniform"), pictures(0.2), steps(500), ask(prior, "point")).gradient
    later = prior.calls[0][1]
    a, b = prior.alphas_cumprod[500].item(), prior.alphas_cumprod[later].item()
    assert torch.allclose(gradient, torch.tensor((1 / sigma_of(a) - 1 / sigma_of(b)) * (0.2 - 1.0), dtype=torch.float64))
    assert gradient.max() < 0


def test_the_shift_is_a_share_of_the_way_from_the_lowest_timestep(prior: ToyPrior) -> None:
    call(make(prior, "asd", asd_shift=0.1), pictures(count=300, edge=1), steps(600).repeat(300), moment=Moment(0.0, 100, 980))
    (rows,) = prior.calls
    assert rows[:300] == [600] * 300
    assert min(rows[300:]) == 600
    assert 647 <= max(rows[300:]) <= 649, "600 + 0.1 (600 - 100), which U = 1 alone would reach"
    assert len(set(rows[300:])) > 40, "each view has a draw of its own"


def test_the_shift_is_nothing_at_the_lowest_timestep_and_ends_with_the_schedule(prior: ToyPrior) -> None:
    z = pictures(count=40)
    call(make(prior, "asd", asd_shift=1.0), z, steps(100).repeat(40), moment=Moment(0.0, 100, 980))
    call(make(prior, "asd", asd_shift=1.0), z, steps(50).repeat(40), moment=Moment(0.0, 100, 980))
    call(make(prior, "asd", asd_shift=1.0), z, steps(980).repeat(40))
    at_the_lowest, below, high = prior.calls
    assert at_the_lowest == [100] * 80
    assert below == [50] * 80
    assert max(high) == 999
    assert min(high) == 980


def test_without_a_shift_it_is_guidance_alone(prior: ToyPrior) -> None:
    z, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(300, 700)
    views = ask(prior, "two", "blurry", 2)
    shiftless = call(make(prior, "asd", scale=7.5, asd_shift=0.0), z, t, views)
    assert torch.allclose(shiftless.gradient, 6.5 * call(make(prior, "csd"), z, t, views).gradient)
    assert call(make(prior, "asd", scale=1.0, asd_shift=0.0), z, t, views).gradient.abs().max() == 0


@pytest.mark.parametrize(("scale", "branches", "opposing"), [(0.0, 1, ()), (1.0, 1, ()), (7.5, 2, ()), (7.5, 3, [("blurry", -1.0)])])
def test_everything_goes_through_the_prior_at_once(prior: ToyPrior, scale: float, branches: int, opposing: list[tuple[str, float]]) -> None:
    call(make(prior, "asd", scale=scale), pictures(count=2), steps(500, 500), ask(prior, count=2, opposing=opposing))
    (rows,) = prior.calls
    assert rows[:-2] == [500] * 2 * branches
    assert min(rows[-2:]) > 500


def test_views_that_are_predicted_together_share_their_later_timestep(prior: ToyPrior) -> None:
    prior.views_per_prediction = 4
    call(make(prior, "asd"), pictures(count=8), steps(900).repeat(8))
    first, second = prior.calls[0][8:12], prior.calls[0][12:]
    assert len(set(first)) == len(set(second)) == 1
    assert first != second


def test_guidance_leads_to_the_prompts_picture_and_the_second_prediction_holds_it_there(prior: ToyPrior) -> None:
    """On N(m, s^2) the mean of e is f(t) (z - m), f = sqrt(a (1-a)) / (a s^2 + 1 - a), which falls where a s^2 < 1 - a."""
    z = descended(make(prior, "asd", weighting="uniform", asd_shift=1.0), pictures(-1.0, edge=16), 600, ask(prior), 0.5, 200)
    assert z.mean().item() == pytest.approx(1, abs=0.1)
    a = prior.alphas_cumprod[600].item()
    assert a * DEVIATION**2 < 1 - a


def test_both_predictions_see_the_noise_that_was_drawn_first(prior: ToyPrior) -> None:
    z = pictures(0.0)
    a = prior.alphas_cumprod[500].item()
    gradient = call(make(prior, "asd", scale=0.0, weighting="uniform", asd_shift=0.0), z, steps(500), ask(prior, "one", "")).gradient
    z_t = (1 - a) ** 0.5 * noise_of(z)[0]
    assert torch.allclose(gradient[0], exact_noise(z_t, a, "") - exact_noise(z_t, a, "one"))
