"""HiFA's target: several denoising steps, and the same residual between images."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tests.backend.guidance.rules.toy import (
    DEVIATION,
    LatentToyPrior,
    ToyPrior,
    ask,
    call,
    descended,
    exact_noise,
    make,
    noise_of,
    pictures,
    sigma_of,
    steps,
)


@pytest.mark.parametrize(("weighting", "same"), [("auto", "x0"), ("sds", "sds"), ("uniform", "uniform"), ("flow", "flow")])
def test_with_one_step_it_is_sds(prior: ToyPrior, weighting: str, same: str) -> None:
    z, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(300, 700)
    views = ask(prior, "two", "blurry", 2)
    hifa = call(make(prior, "hifa", hifa_steps=1, scale=3.0, weighting=weighting), z, t, views)
    sds = call(make(prior, "sds", scale=3.0, weighting=same), z, t, views)
    assert torch.allclose(hifa.gradient, sds.gradient)
    assert torch.allclose(hifa.loss, sds.loss)


def denoised(prior: ToyPrior, z: torch.Tensor, noise: torch.Tensor, levels: list[int], s: float) -> torch.Tensor:
    """Euler steps of x = z_t / sqrt(abar) in sigma, down to sigma = 0."""
    a = prior.alphas_cumprod[levels[0]].item()
    x = z + sigma_of(a) * noise
    for here, there in pairwise(levels):
        a = prior.alphas_cumprod[here].item()
        e_u, e_c = (exact_noise(a**0.5 * x, a, prompt) for prompt in ("blurry", "two"))
        below = sigma_of(prior.alphas_cumprod[there].item()) if there else 0.0
        x = x + (below - sigma_of(a)) * (e_u + s * (e_c - e_u))
    return x


def test_gradient_is_z_minus_the_z_that_evenly_spaced_steps_lead_to(prior: ToyPrior) -> None:
    z, s = torch.randn(2, 3, 4, 4, dtype=torch.float64), 3.0
    answer = call(make(prior, "hifa", hifa_steps=4, scale=s), z, steps(602, 100), ask(prior, "two", "blurry", 2))
    for row, levels in enumerate(([602, 451, 301, 150, 0], [100, 75, 50, 25, 0])):
        z_hat = denoised(prior, z[row], noise_of(z)[row], levels, s)
        assert torch.allclose(answer.gradient[row], (z[row] - z_hat) / 2)
        a = prior.alphas_cumprod[levels[0]].item()
        assert answer.loss[row].item() == pytest.approx(((z[row] - z_hat) / sigma_of(a)).square().mean().item())
    assert prior.calls == [[602, 100] * 2, [451, 75] * 2, [301, 50] * 2, [150, 25] * 2]


def test_many_steps_end_where_the_deterministic_flow_does(prior: ToyPrior) -> None:
    """On N(m, s^2) the flow keeps (z_t - sqrt(a) m) / sqrt(a s^2 + 1 - a), so z_hat = m + s times that."""
    z = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    a = prior.alphas_cumprod[500].item()
    z_t = a**0.5 * z + (1 - a) ** 0.5 * noise_of(z)
    z_hat = 1 + DEVIATION * (z_t - a**0.5) / (a * DEVIATION**2 + 1 - a) ** 0.5
    assert torch.allclose(call(make(prior, "hifa", hifa_steps=50), z, steps(500)).gradient, z - z_hat, atol=0.05)


@pytest.mark.parametrize(("t", "most", "calls"), [(500, 4, 4), (500, 1, 1), (3, 4, 3), (0, 4, 1)])
def test_steps_are_at_most_one_a_timestep(prior: ToyPrior, t: int, most: int, calls: int) -> None:
    assert call(make(prior, "hifa", hifa_steps=most), pictures(), steps(t)).gradient.isfinite().all()
    assert len(prior.calls) == calls


def test_a_view_near_the_clean_picture_does_not_take_steps_from_the_others(prior: ToyPrior) -> None:
    call(make(prior, "hifa"), pictures(count=2), steps(2, 500))
    assert prior.calls == [[2, 500], [1, 375], [1, 250], [0, 125]]


def test_renders_are_drawn_to_the_decoded_target_as_well() -> None:
    prior = LatentToyPrior()
    z, t = pictures(count=2), steps(500, 500)
    answer = call(make(prior, "hifa"), z, t)
    z_hat = z - answer.gradient * 2
    assert answer.target is not None
    assert torch.allclose(answer.target.images, (z_hat * 0.5 + 0.5).repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert answer.target.weight.tolist() == pytest.approx([0.1, 0.1])


def test_the_weighting_of_the_residual_is_that_of_the_target_view_by_view() -> None:
    prior = LatentToyPrior()
    z, t = pictures(count=2), steps(300, 700)
    plain, weighed = (call(make(prior, "hifa", hifa_image_weight=0.3, weighting=weighting), z, t) for weighting in ("auto", "uniform"))
    factors = torch.tensor([1 / sigma_of(prior.alphas_cumprod[step].item()) for step in (300, 700)])
    assert weighed.target is not None
    assert torch.allclose(weighed.target.weight.float(), 0.3 * factors), "the factor of the residual on z, before lambda"
    assert torch.allclose(weighed.gradient, plain.gradient * factors.view(-1, 1, 1, 1))


def test_no_target_where_z_is_the_picture_itself_or_where_it_has_no_weight(prior: ToyPrior) -> None:
    assert call(make(prior, "hifa"), pictures(), steps(500)).target is None
    latent = LatentToyPrior()
    assert call(make(latent, "hifa", hifa_image_weight=0.0), pictures(), steps(500)).target is None
    assert latent.decoded == 0


def test_descending_leads_to_the_nearer_of_two_pictures(prior: ToyPrior) -> None:
    z = descended(make(prior, "hifa"), torch.cat([pictures(-0.5), pictures(0.5)]), 60, ask(prior, "two", count=2), 0.1, 100)
    assert z[0].mean().item() == pytest.approx(-1, abs=0.1)
    assert z[1].mean().item() == pytest.approx(1, abs=0.1)
