"""SDS with Perp-Neg: three pictures whose differences are known vectors."""

from __future__ import annotations

import pytest
import torch

from tests.backend.guidance.rules.toy import DEVIATION, ToyPrior, ask, call, make, noise_of, pictures, steps


def test_only_what_is_perpendicular_to_the_prompt_is_driven_away(prior: ToyPrior) -> None:
    """All deviations are equal, so a prediction differs from the empty prompt's by -k m, k = sqrt(a (1-a)) / (a s^2 + 1 - a).

    Red is (1, 0, 0): of orange, (1, .5, 0), the perpendicular part is (0, .5, 0), of purple, (1, 0, 2), it is (0, 0, 2).
    e_hat = e_u - k s ((1, 0, 0) + w_orange (0, .5, 0) + w_purple (0, 0, 2)).
    """
    z, t, s = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(500, 500), 3.0
    views = ask(prior, "red", count=2, opposing=[("orange", -2.0), ("purple", -0.25)])
    answer = call(make(prior, "perp_neg", scale=s), z, t, views)
    a = prior.alphas_cumprod[500].item()
    noise = noise_of(z)
    k = (a * (1 - a)) ** 0.5 / (a * DEVIATION**2 + 1 - a)
    unconditional = (1 - a) ** 0.5 * (a**0.5 * z + (1 - a) ** 0.5 * noise) / (a * DEVIATION**2 + 1 - a)
    direction = torch.tensor([1.0, -1.0, -0.5], dtype=torch.float64).view(1, 3, 1, 1)
    assert torch.allclose(answer.gradient, (1 - a) * (unconditional - k * s * direction - noise) / 2)


def test_every_view_has_its_own_weight(prior: ToyPrior) -> None:
    z, t = pictures(count=2), steps(500, 500)
    views = ask(prior, "red", count=2, opposing=[("orange", -1.0)])
    views.opposing[0][1][1] = 0
    rule = make(prior, "perp_neg", scale=3.0)
    both, plain = call(rule, z, t, views).gradient, call(rule, z, t, ask(prior, "red", count=2)).gradient
    assert torch.equal(both[1], plain[1])
    assert not torch.allclose(both[0], plain[0])


def test_a_negative_along_the_prompt_changes_nothing(prior: ToyPrior) -> None:
    """ "blurry" is -1 everywhere, "one" is 1 everywhere: the difference has no perpendicular part."""
    z, t = pictures(), steps(500)
    rule = make(prior, "perp_neg", scale=3.0)
    assert torch.allclose(call(rule, z, t, ask(prior, opposing=[("blurry", -2.0)])).gradient, call(rule, z, t).gradient)


def test_without_negatives_it_is_sds(prior: ToyPrior) -> None:
    z, t = pictures(), steps(500)
    assert torch.equal(call(make(prior, "perp_neg", scale=3.0), z, t).gradient, call(make(prior, "sds", scale=3.0), z, t).gradient)


@pytest.mark.parametrize(("scale", "rows"), [(0.0, 1), (1.0, 4), (7.5, 4)])
def test_all_branches_share_a_forward_pass(prior: ToyPrior, scale: float, rows: int) -> None:
    call(make(prior, "perp_neg", scale=scale), pictures(), steps(400), ask(prior, "red", opposing=[("orange", -1.0), ("purple", -1.0)]))
    assert prior.calls == [[400] * rows]


def test_the_rule_brings_its_negatives_with_it_and_the_setting_goes_before_it(prior: ToyPrior) -> None:
    assert make(prior, "sds").perp_neg_at(0.5) == 0
    assert make(prior, "sds", perp_neg=0.5).perp_neg_at(0.5) == 0.5
    assert make(prior, "perp_neg").perp_neg_at(0.5) == 1
    assert make(prior, "perp_neg", perp_neg=0.5).perp_neg_at(0.5) == 0.5
    assert make(prior, "perp_neg", perp_neg=0.0).perp_neg_at(0.5) == 0, "none asked for is none"
    assert make(prior, "perp_neg", perp_neg=((0.0, 0.0), (1.0, 2.0))).perp_neg_at(0.25) == 0.5
