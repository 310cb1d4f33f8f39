"""Score distillation: eq. 5 worked by hand."""

from __future__ import annotations

import pytest
import torch

from tests.backend.guidance.rules.toy import DEVIATION, ToyPrior, ask, call, descended, exact_noise, make, noise_of, pictures, steps


@pytest.mark.parametrize("weighting", ["sds", "x0", "uniform", "flow"])
def test_gradient_is_the_weighted_difference_of_predicted_and_true_noise_averaged_over_the_batch(prior: ToyPrior, weighting: str) -> None:
    z, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(100, 600)
    answer = call(make(prior, "sds", weighting=weighting), z, t)
    for row, noise in enumerate(noise_of(z)):
        a = prior.alphas_cumprod[t[row]].item()
        ratio = ((1 - a) / a) ** 0.5
        weight = {"sds": 1 - a, "x0": ratio, "uniform": 1.0, "flow": 1 + ratio}[weighting]
        residual = exact_noise(a**0.5 * z[row] + (1 - a) ** 0.5 * noise, a, "one") - noise
        assert torch.allclose(answer.gradient[row], weight * residual / 2)
        assert answer.loss[row].item() == pytest.approx(residual.square().mean().item()), "the loss is a row's own, without weight"
    assert answer.target is None


@pytest.mark.parametrize(("weighting", "t"), [("sds", 300), ("x0", 300), ("uniform", 700)])
def test_the_mean_gradient_is_the_closed_form(prior: ToyPrior, weighting: str, t: int) -> None:
    """e_hat is linear in eps, so eps = 0 gives the mean: w sqrt(1-a) sqrt(a) (z - m) / (a s^2 + 1 - a)."""
    a = prior.alphas_cumprod[t].item()
    weight = {"sds": 1 - a, "x0": ((1 - a) / a) ** 0.5, "uniform": 1.0}[weighting]
    expected = weight * (1 - a) ** 0.5 * a**0.5 * (0.2 - 1) / (a * DEVIATION**2 + 1 - a)
    gradient = call(make(prior, "sds", weighting=weighting), pictures(0.2, edge=200), steps(t)).gradient
    standard_error = gradient.std().item() / gradient.numel() ** 0.5
    assert gradient.mean().item() == pytest.approx(expected, abs=4 * standard_error)
    assert expected < -4 * standard_error, "the test must be able to tell the sign"


def test_with_x0_weighting_the_gradient_is_z_minus_the_denoised_z(prior: ToyPrior) -> None:
    z, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(100, 600)
    a = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    z_t = a.sqrt() * z + (1 - a).sqrt() * noise_of(z)
    denoised = (z_t - (1 - a).sqrt() * prior.predict_noise(z_t, t, ask(prior, count=2).positive)) / a.sqrt()
    assert torch.allclose(call(make(prior, "sds", weighting="x0"), z, t).gradient * 2, z - denoised)


def test_with_flow_weighting_the_gradient_is_the_difference_of_velocities(prior: ToyPrior) -> None:
    """A flow model sees x = (1 - u) z + u eps = z_t / (sqrt(a) + sqrt(1-a)), and answers v = eps_hat - z_hat where eps - z is true."""
    z, t = torch.randn(1, 3, 4, 4, dtype=torch.float64), steps(400)
    a = prior.alphas_cumprod[400]
    noise = noise_of(z)
    z_t = a.sqrt() * z + (1 - a).sqrt() * noise
    predicted = exact_noise(z_t[0], a.item(), "one")[None]
    velocity = predicted - (z_t - (1 - a).sqrt() * predicted) / a.sqrt()
    assert torch.allclose(call(make(prior, "sds", weighting="flow"), z, t).gradient, velocity - (noise - z))


def test_descending_leads_to_the_prompts_picture_and_to_the_nearer_of_two(prior: ToyPrior) -> None:
    rule = make(prior, "sds", weighting="x0")
    assert descended(rule, pictures(-1.0, edge=32), 300, ask(prior), 0.1, 150).mean().item() == pytest.approx(1.0, abs=0.05)
    z = torch.cat([pictures(-0.6), pictures(0.6)])
    left, right = descended(rule, z, 60, ask(prior, "two", count=2), 0.1, 150)
    assert left.mean().item() == pytest.approx(-1, abs=0.1)
    assert right.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("scale", "rows"), [(0.0, 2), (1.0, 2), (7.5, 4)])
def test_all_branches_share_a_forward_pass(prior: ToyPrior, scale: float, rows: int) -> None:
    call(make(prior, "sds", scale=scale), pictures(count=2), steps(400, 400))
    assert prior.calls == [[400] * rows]
