"""Variational score distillation: the network that learns the renders' own score."""

from __future__ import annotations

import pytest
import torch

from backend.checkpoint import flatten, unflatten
from backend.guidance.rules.vsd import ScoreCorrection
from tests.backend.guidance.rules.toy import (
    DEVIATION,
    MOMENT,
    ToyPrior,
    ask,
    call,
    descended,
    exact_noise,
    make,
    noise_of,
    pictures,
    seeded,
    steps,
)


@pytest.mark.parametrize(("scale", "factor"), [(7.5, 6.5), (1.0, 0.0), (0.0, -1.0)])
def test_before_anything_is_learned_it_is_guidance_alone(prior: ToyPrior, scale: float, factor: float) -> None:
    rule, views = make(prior, "vsd", scale=scale, vsd_rate=0.0), ask(prior, "two", "blurry", 2)
    z, t = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(300, 700)
    call(rule, z, t, views)
    assert torch.allclose(call(rule, z, t, views).gradient, factor * call(make(prior, "csd"), z, t, views).gradient)


def test_perp_negs_negatives_are_in_the_guided_prediction_alone(prior: ToyPrior) -> None:
    """As in test_perp_neg: e_hat = e_u - k s ((1, 0, 0) - .5 (0, .5, 0)), e_c = e_u - k (1, 0, 0)."""
    a = prior.alphas_cumprod[500].item()
    k = (a * (1 - a)) ** 0.5 / (a * DEVIATION**2 + 1 - a)
    rule = make(prior, "vsd", scale=3.0, vsd_rate=0.0, weighting="uniform")
    gradient = call(rule, pictures(), steps(500), ask(prior, "red", opposing=[("orange", -0.5)])).gradient
    expected = -k * torch.tensor([2.0, -0.75, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert torch.allclose(gradient, expected.expand_as(gradient))


def test_gradient_compares_the_guided_prediction_with_the_prompts_and_the_correction(
    prior: ToyPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that answers 0.3 z_t + 2 e_c + abar, whatever it has learned."""
    monkeypatch.setattr(
        ScoreCorrection, "forward", lambda self, z_t, e_c, alpha_bar: 0.3 * z_t + 2 * e_c + alpha_bar + 0 * self.leave.bias[0]
    )
    z, t, s = torch.randn(2, 3, 4, 4, dtype=torch.float64), steps(300, 700), 3.0
    rule = make(prior, "vsd", scale=s)
    call(rule, z, t, seed=5)
    answer = call(rule, z, t, ask(prior, "two", "blurry", 2))
    for row in range(2):
        a = prior.alphas_cumprod[t[row]].item()
        z_t = a**0.5 * z[row] + (1 - a) ** 0.5 * noise_of(z)[row]
        e_u, e_c = exact_noise(z_t, a, "blurry"), exact_noise(z_t, a, "two")
        residual = e_u + s * (e_c - e_u) - (e_c + 0.3 * z_t + 2 * e_c + a)
        assert torch.allclose(answer.gradient[row], (1 - a) * residual / 2)
        assert answer.loss[row].item() == pytest.approx(residual.square().mean().item())


def test_the_network_learns_the_noise_on_the_renders(prior: ToyPrior) -> None:
    """z is always the same, so the noise can be told from z_t, (z_t - sqrt(a) z) / sqrt(1-a); the prior alone does not know z."""
    rule, z, t = make(prior, "vsd", vsd_rate=1e-2), pictures(-1.0, edge=8), steps(500)
    generator = seeded()
    for _ in range(150):
        rule(z, t, ask(prior), MOMENT, generator)
    a = prior.alphas_cumprod[500]
    noise = noise_of(z, 77)
    z_t = a.sqrt() * z + (1 - a).sqrt() * noise
    e_c = exact_noise(z_t[0], a.item(), "one")[None]
    network, _ = rule._learner
    with torch.no_grad():
        learned = e_c + network(z_t, e_c, a.view(1, 1, 1, 1))
    assert (learned - noise).square().mean() < 0.1 * (e_c - noise).square().mean()


def test_the_lesson_is_on_another_noise_than_the_gradient(prior: ToyPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        ScoreCorrection,
        "forward",
        lambda self, z_t, e_c, alpha_bar: seen.append((z_t, e_c)) or torch.zeros_like(z_t) + self.leave.bias.sum(),
    )
    z, t, generator = pictures(), steps(500), seeded(3)
    rule = make(prior, "vsd")
    call(rule, z, t, seed=1)
    seen.clear()
    rule(z, t, ask(prior), MOMENT, generator)
    again = seeded(3)
    first, second = (torch.randn(z.shape, generator=again, dtype=z.dtype) for _ in range(2))
    a = prior.alphas_cumprod[500]
    for (z_t, e_c), noise in zip(seen, (second, first), strict=True):
        assert torch.allclose(z_t, a.sqrt() * z + (1 - a).sqrt() * noise)
        assert torch.allclose(e_c[0], exact_noise(z_t[0], a.item(), "one"))


def test_once_the_network_knows_the_only_render_it_is_sds(prior: ToyPrior) -> None:
    """e_phi = eps is then the best prediction; until then the two differ by guidance's whole distance."""
    rule, z, t = make(prior, "vsd", vsd_rate=1e-2, scale=3.0, weighting="uniform"), pictures(-1.0, edge=8), steps(200)
    sds = call(make(prior, "sds", scale=3.0, weighting="uniform"), z, t, seed=8).gradient
    before = (call(make(prior, "vsd", scale=3.0, weighting="uniform", vsd_rate=0.0), z, t, seed=8).gradient - sds).square().mean()
    descended(rule, z, 200, ask(prior), 0.0, 200)
    gradient = call(rule, z, t, seed=8).gradient
    assert gradient.mean().item() == pytest.approx(sds.mean().item(), rel=0.1)
    assert (gradient - sds).square().mean() < 0.05 * before
    assert descended(rule, z, 200, ask(prior), 0.05, 100).mean() > 0, (
        "it leads from -1 to the prompt's picture and beyond, as guidance does"
    )


@pytest.mark.parametrize(("scale", "rows", "opposing"), [(0.0, 3, ()), (1.0, 2, ()), (7.5, 3, ()), (7.5, 4, [("blurry", -1.0)])])
def test_everything_goes_through_the_prior_at_once(prior: ToyPrior, scale: float, rows: int, opposing: list[tuple[str, float]]) -> None:
    call(make(prior, "vsd", scale=scale), pictures(count=2), steps(500, 500), ask(prior, count=2, opposing=opposing))
    assert prior.calls == [[500] * 2 * rows]


def test_the_network_begins_with_the_generators_weights_and_leaves_the_global_one_alone(prior: ToyPrior) -> None:
    before = torch.get_rng_state()
    rules = [make(prior, "vsd") for _ in range(3)]
    for rule, seed in zip(rules, (1, 1, 2)):
        call(rule, pictures(), steps(500), seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (rule.state_dict()["network"]["enter.weight"] for rule in rules)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert 0.5 < first.std() / (2 / 54) ** 0.5 < 1.5, "as large as keeps a signal's size: sqrt(2 / inputs)"
    assert rules[0].state_dict()["network"]["enter.bias"].abs().max() < 2e-3, "zero, but for one step of Adam"


def test_any_size_and_any_number_of_channels(prior: ToyPrior) -> None:
    rule = make(prior, "vsd")
    for edge in (4, 1, 9):
        assert call(rule, pictures(edge=edge), steps(500)).gradient.shape == (1, 3, edge, edge)
    for channels in (1, 16):
        network = ScoreCorrection.empty(channels, torch.device("cpu"))
        network.initialise(seeded())
        z = torch.randn(2, channels, 6, 10)
        answer = network(z, z, torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
        assert answer.shape == z.shape
        assert not answer.any(), "it is zero at first, and finite for pure noise and for none"


def test_the_network_tells_views_and_noise_levels_apart(prior: ToyPrior) -> None:
    network = ScoreCorrection.empty(3, torch.device("cpu"))
    network.initialise(seeded())
    torch.nn.init.normal_(network.leave.weight, 0, 0.02, generator=seeded(1))
    z = torch.randn(1, 3, 8, 8, generator=seeded(2))
    reference = network(z, z, torch.tensor(0.5))
    assert not torch.allclose(network(z, -z, torch.tensor(0.5)), reference)
    assert not torch.allclose(network(-z, z, torch.tensor(0.5)), reference)
    assert not torch.allclose(network(z, z, torch.tensor(0.6)), reference)
    pair = network(torch.cat([z, -z]), torch.cat([z, z]), torch.tensor([0.5, 0.6]).view(2, 1, 1, 1))
    assert torch.allclose(pair[:1], reference, atol=1e-5)
    assert torch.allclose(pair[1:], network(-z, z, torch.tensor(0.6)), atol=1e-5)


def test_every_part_of_the_network_has_a_say() -> None:
    network = ScoreCorrection.empty(3, torch.device("cpu"))
    network.initialise(seeded())
    torch.nn.init.normal_(network.leave.weight, 0, 0.02, generator=seeded(1))
    z = torch.randn(1, 3, 8, 8, generator=seeded(2))
    level = torch.tensor(0.3)
    with torch.no_grad():
        reference = network(z, -z, level)
        gains, shifts = network.level.weight.chunk(2)
        for part in (gains, shifts, network.enter.weight, network.fine.weight, network.coarse.weight, network.leave.weight):
            kept = part.clone()
            part.mul_(1.5)
            assert not torch.allclose(network(z, -z, level), reference, rtol=1e-3, atol=1e-4)
            part.copy_(kept)
        assert torch.equal(network(z, -z, level), reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_network_answers_in_zs_type(dtype: torch.dtype) -> None:
    network = ScoreCorrection.empty(3, torch.device("cpu"))
    network.initialise(seeded())
    z = torch.zeros(1, 3, 8, 8, dtype=dtype)
    assert network(z, z, torch.tensor(0.3, dtype=dtype)).dtype == dtype


def test_a_resumed_network_learns_on_exactly(prior: ToyPrior) -> None:
    rule, z, t = make(prior, "vsd", vsd_rate=1e-2), pictures(count=2), steps(500, 400)
    assert rule.state_dict() == {}
    generator = seeded(4)
    for _ in range(3):
        rule(z, t, ask(prior, count=2), MOMENT, generator)
    saved, state = unflatten(*flatten(rule.state_dict())), generator.get_state()
    expected = [rule(z, t, ask(prior, count=2), MOMENT, generator).gradient for _ in range(3)]
    resumed = make(prior, "vsd", vsd_rate=1e-2)
    resumed.load_state_dict(saved)
    generator.set_state(state)
    assert all(torch.equal(resumed(z, t, ask(prior, count=2), MOMENT, generator).gradient, gradient) for gradient in expected)
    resumed.load_state_dict({})
    assert torch.equal(call(resumed, z, t).gradient, call(make(prior, "vsd", vsd_rate=1e-2), z, t).gradient), "as before the first call"
