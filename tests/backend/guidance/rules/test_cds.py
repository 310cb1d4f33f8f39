"""Consistency distillation sampling: two points of one deterministic trajectory."""

from __future__ import annotations

import pytest
import torch

from backend.checkpoint import flatten, unflatten
from tests.backend.guidance.rules.toy import (
    DEVIATION,
    MOMENT,
    PICTURES,
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


def sigma(prior: ToyPrior, t: int) -> float:
    return sigma_of(prior.alphas_cumprod[t].item())


@pytest.mark.parametrize(("weighting", "t"), [("auto", 300), ("sds", 300), ("x0", 600)])
def test_gradient_on_a_gaussian_is_the_closed_form(prior: ToyPrior, weighting: str, t: int) -> None:
    """e(x) = sigma (x - m) / (s^2 + sigma^2) in sigma space, and x2 - m = (x1 - m) (s^2 + sigma1 sigma2) / (s^2 + sigma1^2).

    e1 - e2 = (x1 - m) s^2 (sigma1 - sigma2) / ((s^2 + sigma1^2) (s^2 + sigma2^2)): it leads to m.
    """
    z = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    answer = call(make(prior, "cds", weighting=weighting, cds_gap=(0.2, 0.2)), z, steps(t, t))
    one, two, s2 = sigma(prior, t + 200), sigma(prior, t), DEVIATION**2
    x1 = z + one * noise_of(z[:1])
    residual = (x1 - 1.0) * s2 * (one - two) / ((s2 + one**2) * (s2 + two**2))
    weight = {"auto": 1.0, "sds": 1 - prior.alphas_cumprod[t].item(), "x0": two}[weighting]
    assert torch.allclose(answer.gradient, weight * residual / 2)
    assert torch.allclose(answer.loss, residual.square().mean((1, 2, 3)))


def test_trajectory_is_that_of_the_guided_prediction_in_sigma_space(prior: ToyPrior) -> None:
    z, s = torch.randn(1, 3, 4, 4, dtype=torch.float64), 3.0
    a1, a2 = (prior.alphas_cumprod[t].item() for t in (500, 400))

    def guided(x: torch.Tensor, a: float) -> torch.Tensor:
        seen = x / (1 + sigma_of(a) ** 2) ** 0.5
        e_u = exact_noise(seen, a, "blurry")
        return e_u + s * (exact_noise(seen, a, "two") - e_u)

    x1 = z[0] + sigma_of(a1) * noise_of(z)[0]
    first = guided(x1, a1)
    second = guided(x1 + (sigma_of(a2) - sigma_of(a1)) * first, a2)
    answer = call(make(prior, "cds", scale=s, cds_gap=(0.1, 0.1)), z, steps(400), ask(prior, "two", "blurry"))
    assert torch.allclose(answer.gradient[0], first - second)
    assert prior.calls == [[500, 500], [400, 400]], "the branches of each prediction share a forward pass"


def test_the_gap_is_drawn_between_its_bounds_and_ends_with_the_schedule(prior: ToyPrior) -> None:
    call(make(prior, "cds"), pictures(count=300), steps(400).repeat(300))
    call(make(prior, "cds"), pictures(count=20), steps(850).repeat(20))
    assert (min(prior.calls[0]), max(prior.calls[0])) == (500, 699), "randint(100, 300) above"
    assert max(prior.calls[2]) == 999
    assert min(prior.calls[2]) >= 950
    prior.views_per_prediction = 10
    call(make(prior, "cds"), pictures(count=20), steps(400).repeat(20))
    assert [len(set(prior.calls[4][:10])), len(set(prior.calls[4][10:]))] == [1, 1], "views that are predicted together share the gap"


def test_pure_noise_at_the_schedules_end_is_not_begun_with(prior: ToyPrior) -> None:
    prior.alphas_cumprod = torch.linspace(0.9999, 0, 1000, dtype=torch.float64)
    answer = call(make(prior, "cds"), pictures(), steps(980))
    assert prior.calls[0] == [998]
    assert answer.gradient.isfinite().all()


def test_one_noise_serves_all_views_and_the_whole_run(prior: ToyPrior) -> None:
    rule, generator = make(prior, "cds", cds_gap=(0.2, 0.2)), seeded()
    t = steps(300)
    first = rule(pictures(0.2), t, ask(prior), MOMENT, generator).gradient
    for _ in range(2):
        again = rule(pictures(0.2, count=3), t.repeat(3), ask(prior, count=3), MOMENT, generator).gradient
        assert torch.allclose(again * 3, first.expand(3, -1, -1, -1))
    larger = rule(pictures(0.2, edge=8), t, ask(prior), MOMENT, generator).gradient
    assert larger.shape[-1] == 8, "another size has a noise of its own"
    assert larger.std() > 0


def test_the_noise_is_part_of_the_state(prior: ToyPrior) -> None:
    rule = make(prior, "cds")
    assert rule.state_dict() == {}
    z, t = pictures(), steps(300)
    call(rule, z, t, seed=1)
    resumed = make(prior, "cds")
    resumed.load_state_dict(unflatten(*flatten(rule.state_dict())))
    assert torch.equal(call(rule, z, t, seed=7).gradient, call(resumed, z, t, seed=7).gradient)
    resumed.load_state_dict({})
    assert torch.equal(call(resumed, z, t, seed=1).gradient, call(make(prior, "cds"), z, t, seed=1).gradient), "as before the first call"


def test_a_prior_that_knows_one_picture_has_straight_trajectories(prior: ToyPrior) -> None:
    assert call(make(prior, "cds"), pictures(), steps(300), ask(prior, "point")).gradient.abs().max() < 1e-12


def test_descending_leads_to_the_picture_up_to_the_fixed_noise(prior: ToyPrior) -> None:
    z = descended(make(prior, "cds", cds_gap=(0.2, 0.2)), pictures(-1.0), 300, ask(prior), 2.0, 800)
    assert torch.allclose(z, 1 - sigma(prior, 500) * noise_of(z), atol=0.02)


def test_descending_at_low_noise_leads_to_the_nearer_of_two_pictures(prior: ToyPrior) -> None:
    """Between well separated pictures the nearer one is all that the prior sees: the Gaussian's case, sigma1 eps* small."""
    z = descended(
        make(prior, "cds", cds_gap=(0.02, 0.02)), torch.cat([pictures(-1.3), pictures(0.7)]), 30, ask(prior, "two", count=2), 0.1, 400
    )
    off = sigma(prior, 50) * noise_of(z[:1])[0]
    assert PICTURES["two"] == [(-1.0, 0.1), (1.0, 0.1)]
    assert torch.allclose(z[0], -1 - off, atol=0.02)
    assert torch.allclose(z[1], 1 - off, atol=0.02)
