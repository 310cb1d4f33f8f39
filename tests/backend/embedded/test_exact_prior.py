"""The closed form of the exact prior against dense Gaussian algebra in float64."""

from __future__ import annotations

import math

import pytest
import torch

from backend.embedded import exact_prior, vocabulary
from backend.embedded.exact_prior import GREY_BASIS, ExactPrior, _Bank
from backend.embedded.renderer import CHANNEL_SCALE
from backend.embedded.world import BACKDROP_TINT, BACKDROPS
from backend.errors import PromptError

VIEWS, CHANNELS, PIXELS, APPEARANCES = 5, 3, 16, 2


@pytest.fixture
def bank() -> _Bank:
    generator = torch.Generator().manual_seed(0)
    channels = torch.randint(0, 128, (VIEWS, CHANNELS, PIXELS), generator=generator, dtype=torch.uint8)
    values = channels.double() * CHANNEL_SCALE
    return _Bank(
        channels,
        (0, 1, 2),
        values @ values.transpose(1, 2),
        values.sum(2),
        torch.linspace(-1, 0, VIEWS).double(),
        {"front": slice(0, VIEWS)},
    )


@pytest.fixture
def weights() -> torch.Tensor:
    """[M, K, 3]; coverage, channel 0, has no colour of its own."""
    weights = torch.rand(APPEARANCES, CHANNELS, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights[:, 0] = 0
    return weights


def dense_posterior(bank: _Bank, weights: torch.Tensor, z: torch.Tensor, alpha_bar: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(log evidence [V, M], E[x | z] given v, m: [V, M, 3, P]) for z [3, P] in RGB, by one dense Gaussian over all channels and pixels.

    m runs over the appearances, each before every backdrop: b ~ N(level, deviation^2 1 1^T + tint^2 I) in RGB.
    """
    values = bank.channels.double() * CHANNEL_SCALE
    evidence = torch.zeros(VIEWS, APPEARANCES * len(BACKDROPS), dtype=torch.float64)
    means = torch.zeros(*evidence.shape, 3, PIXELS, dtype=torch.float64)
    signal, noise = math.sqrt(alpha_bar), 1 - alpha_bar
    hypotheses = [(appearance, *backdrop) for appearance in weights for backdrop in BACKDROPS]
    for v in range(VIEWS):
        h = 2 * (1 - values[v, 0])
        for m, (appearance, level, deviation) in enumerate(hypotheses):
            x_mean = (2 * appearance.T @ values[v] - 1 + level * h).flatten()
            colour_cov = deviation**2 * torch.ones(3, 3, dtype=torch.float64) + BACKDROP_TINT**2 * torch.eye(3, dtype=torch.float64)
            x_cov = torch.kron(colour_cov, torch.outer(h, h))
            z_cov = signal**2 * x_cov + noise * torch.eye(3 * PIXELS, dtype=torch.float64)
            evidence[v, m] = torch.distributions.MultivariateNormal(signal * x_mean, z_cov).log_prob(z.flatten())
            means[v, m] = (x_mean + signal * x_cov @ torch.linalg.solve(z_cov, z.flatten() - signal * x_mean)).view(3, PIXELS)
    return evidence + bank.log_prior[:, None], means


@pytest.mark.parametrize("alpha_bar", [0.01, 0.3, 0.9])
def test_posterior_mean_is_that_of_the_dense_gaussians(bank: _Bank, weights: torch.Tensor, alpha_bar: float) -> None:
    z = torch.randn(3, PIXELS, generator=torch.Generator().manual_seed(2))
    rotated = (GREY_BASIS.float() @ z)[None]
    hypotheses = bank.hypotheses(weights, None)
    log_weight, background = hypotheses.explain(rotated, torch.tensor([alpha_bar], dtype=torch.float64))
    expected_log, expected_means = dense_posterior(bank, weights, z.double(), alpha_bar)
    assert torch.allclose(log_weight[0] - log_weight[0, 0, 0], expected_log - expected_log[0, 0], atol=1e-3)
    posterior = log_weight.flatten(1).softmax(1).view(log_weight.shape)
    expected = expected_log.flatten().softmax(0).view(expected_log.shape)
    assert torch.allclose(posterior[0], expected, atol=1e-4)
    mean = GREY_BASIS.T @ hypotheses.mix(posterior, background)[0].double()
    assert torch.allclose(mean, torch.einsum("vm,vmcp->cp", expected, expected_means), atol=1e-4)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> ExactPrior:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        prior = ExactPrior(views=240)
        prior.encode_prompts(["a red cat, front view", "a red cat, back view", "a red cat", ""])
    return prior


def one_view(prior: ExactPrior, direction: str, background: float) -> torch.Tensor:
    """One of the prior's own views of a red cat, [1, 3, 64, 64] in -1..1."""
    bank = prior._banks["cat", 64]
    row = bank.segments[direction].start + 3
    weights = exact_prior._appearances(vocabulary.parse("a red cat"))[0, bank.kinds]
    values = bank.channels[row].double() * CHANNEL_SCALE
    image = torch.einsum("kc,kp->cp", weights, values) + (1 - values[0]) * background
    return (image * 2 - 1).float().view(1, 3, 64, 64)


@pytest.mark.parametrize("background", [0.2, 0.9])
def test_a_lightly_noised_view_is_recovered_on_any_background(prior: ExactPrior, background: float) -> None:
    x = one_view(prior, "front", background)
    t = torch.tensor([50])
    alpha_bar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    z_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    predicted = prior.predict_noise(z_t, t, prior.encode_prompts(["a red cat, front view"]))
    assert (predicted - noise).abs().max() < 0.1  # the background is known to 1 / sqrt(pixels) only


def test_a_wrong_view_word_is_obeyed_only_when_reliable(prior: ExactPrior) -> None:
    x = one_view(prior, "back", 0.9)
    t = torch.tensor([300])
    alpha_bar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    z_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    wrong = prior.encode_prompts(["a red cat, front view"])
    obedient = (prior.predict_noise(z_t, t, wrong) - noise).square().mean()
    prior.reliability = 0.0
    try:
        free = (prior.predict_noise(z_t, t, wrong) - noise).square().mean()
    finally:
        prior.reliability = 1.0
    assert free < 0.01 * obedient


def test_the_empty_prompt_covers_every_colour(prior: ExactPrior) -> None:
    x = one_view(prior, "front", 0.9)
    t = torch.tensor([200])
    alpha_bar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    z_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    assert (prior.predict_noise(z_t, t, prior.encode_prompts([""])) - noise).abs().max() < 0.1


def test_unknown_words_are_refused() -> None:
    with pytest.raises(PromptError, match="giraffe"):
        ExactPrior(views=10).encode_prompts(["a red giraffe"])


def test_state_continues_the_draws() -> None:
    prior = ExactPrior(reliability=0.5, seed=3, views=10)
    state = prior.state_dict()
    first = torch.rand(4, generator=prior._generator)
    prior.load_state_dict(state)
    assert torch.equal(first, torch.rand(4, generator=prior._generator))


@pytest.mark.parametrize("law", ["BACKDROPS", "BACKDROP_TINT", "DISTANCE", "FRONT_BIAS_SHARE", "FRONT_BIAS_WIDTH"])
def test_fingerprint_names_the_law_of_the_photographs(monkeypatch: pytest.MonkeyPatch, law: str) -> None:
    before = ExactPrior(views=8).fingerprint
    assert before == ExactPrior(views=8, reliability=0.3, seed=1).fingerprint != ExactPrior(views=9).fingerprint
    monkeypatch.setattr(exact_prior, law, ((0.5, 0.1),) if law == "BACKDROPS" else 0.5)
    assert ExactPrior(views=8).fingerprint != before
