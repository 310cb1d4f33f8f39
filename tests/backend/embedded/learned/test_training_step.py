"""How the learned prior's weights move: which optimiser takes which, how much each noise level counts, what a step compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backend.embedded.learned import model, noise_levels
from backend.embedded.learned.block_basis import BlockBasis
from backend.embedded.learned.dataset import WorldDataset
from backend.embedded.learned.noise_levels import NoiseLevels
from backend.embedded.learned.objective import Objective
from backend.embedded.learned.optimizers import Optimizers, Rates
from backend.embedded.learned.pools import PoolBank
from backend.embedded.learned.replicas import Replica, Replicas, named


def named_weights() -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "unet/conv_in.weight": (128, 48, 3, 3),
        "unet/mid.conv.weight": (64, 72, 3, 3),
        "unet/mid.conv.bias": (64,),
        "unet/small.weight": (32, 256),
        "unet/time_embedding.linear_1.weight": (128, 64),
        "text_encoder/fc1.weight": (128, 128),
    }
    return {name: torch.nn.Parameter(0.02 * torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def with_gradients(weights: dict[str, torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for value in weights.values():
        value.grad = torch.randn(value.shape, generator=generator) * 1e-3


def test_a_hidden_matrix_moves_by_the_rate_in_every_direction_and_the_others_by_adams() -> None:
    weights = named_weights()
    before = {name: value.detach().clone() for name, value in weights.items()}
    with_gradients(weights, 1)
    Optimizers(weights, Rates(muon=0.02, ends=4e-3, adam=1e-3, text=2e-3)).step(0.5)
    moved = {name: value.detach() - before[name] for name, value in weights.items()}
    singular = torch.linalg.svdvals(moved["unet/mid.conv.weight"].flatten(1))
    assert singular.min() > 0.01 * 0.6  # Newton-Schulz in five steps ends between 0.7 and 1.2
    assert singular.max() < 0.01 * 1.3
    rates = {
        "unet/conv_in.weight": 4e-3,
        "unet/mid.conv.bias": 1e-3,
        "unet/small.weight": 1e-3,
        "unet/time_embedding.linear_1.weight": 1e-3,
        "text_encoder/fc1.weight": 2e-3,
    }
    for name, rate in rates.items():
        assert moved[name].abs().median().item() == pytest.approx(rate / 2, rel=0.01)  # Adam's first step is its rate
    assert all(value.grad is None for value in weights.values())


def test_the_rate_of_each_step_is_a_share_of_the_highest() -> None:
    weights = named_weights()
    both = Optimizers(weights, Rates(ends=4e-3))
    moves = []
    for factor in (0.1, 1.0, 0.5):
        before = weights["unet/conv_in.weight"].detach().clone()
        with_gradients(weights, 1)
        both.step(factor)
        moves.append((weights["unet/conv_in.weight"].detach() - before).abs().median().item())
    assert moves == [pytest.approx(4e-3 * factor, rel=0.02) for factor in (0.1, 1.0, 0.5)]  # the same gradient each time


def test_a_step_is_against_the_gradient() -> None:
    weights = named_weights()
    before = weights["unet/mid.conv.weight"].detach().clone()
    with_gradients(weights, 1)
    gradient = weights["unet/mid.conv.weight"].grad
    assert gradient is not None
    Optimizers(weights, Rates()).step(1.0)
    assert ((weights["unet/mid.conv.weight"].detach() - before) * gradient).sum() < 0


def test_moments_go_on_where_they_were_kept() -> None:
    runs = []
    for interrupted in (False, True):
        weights = named_weights()
        both = Optimizers(weights, Rates())
        for step in range(4):
            if interrupted and step == 2:
                state = {name: value.clone() for name, value in both.state_dict().items()}
                both = Optimizers(weights, Rates())
                both.load_state_dict(state, step)
            with_gradients(weights, step)
            both.step(1.0)
        runs.append(weights)
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, rtol=0, atol=0)


def test_what_is_kept_of_each_weight() -> None:
    weights = named_weights()
    both = Optimizers(weights, Rates())
    assert both.state_dict() == {}
    with_gradients(weights, 0)
    both.step(1.0)
    state = both.state_dict()
    assert [name for name in state if name.startswith("momentum/")] == ["momentum/unet/mid.conv.weight"]
    assert {name.partition("/")[2] for name in state if name.startswith(("first/", "second/"))} == weights.keys() - {"unet/mid.conv.weight"}


def test_rates_keep_their_proportion() -> None:
    assert Rates(0.02, 0.01, 4e-3, 2e-3).scaled_to(0.01) == Rates(0.01, 5e-3, 2e-3, 1e-3)


def test_most_levels_are_those_that_distillation_uses() -> None:
    t = NoiseLevels(1000).draw(np.random.default_rng(0), 20_000).numpy()
    assert t.min() == 0
    assert t.max() == 999
    first, last = noise_levels.USEFUL
    useful = (1 - noise_levels.EVERYWHERE) + noise_levels.EVERYWHERE * (last - first)
    assert np.mean((t >= 1000 * first) & (t < 1000 * last)) == pytest.approx(useful, abs=0.01)
    assert np.mean(t < 1000 * first) == pytest.approx(noise_levels.EVERYWHERE * first, abs=0.01)
    middle = 500 * (first + last)
    assert np.mean((t >= 1000 * first) & (t < middle)) == pytest.approx(useful / 2, abs=0.015)  # uniform between


def test_every_level_counts_the_same_however_large_its_errors() -> None:
    levels, generator = NoiseLevels(1000), torch.Generator().manual_seed(0)
    shares = []
    for _ in range(1500):
        t = torch.tensor([100, 700])
        errors = torch.tensor([0.002, 0.2]) * torch.rand(2, generator=generator) * 2
        shares.append(errors / levels.usual_at(t))
        levels.record(t, errors)
    late = torch.stack(shares[750:]).mean(0)
    torch.testing.assert_close(late, torch.ones(2), atol=0.12, rtol=0)
    assert levels.usual[50 // noise_levels.BIN] == noise_levels.INITIAL_ERROR  # levels that never came


def test_two_copies_give_the_gradient_of_one() -> None:
    gradients = []
    for count in (1, 2):
        torch.manual_seed(0)
        text_encoder, unet = model.build_models(64)
        copies = Replicas(text_encoder, unet, torch.float32, count)
        generator = torch.Generator().manual_seed(1)
        noisy = torch.randn(3, 2, model.COMPONENTS, 2, 2, generator=generator)
        t = torch.tensor([[10, 400], [900, 200], [700, 500]])
        tokens = torch.randint(64, (3, model.MAX_TOKENS), generator=generator)

        def losses(replica: Replica, rows: slice, inputs: tuple[torch.Tensor, ...] = (noisy, t, tokens)) -> torch.Tensor:
            return replica.predict(*(each[rows] for each in inputs)).square().flatten(2).mean(2)

        lost = copies.backward(losses, 3)
        assert lost.shape == (3, 2)
        gradients.append({name: value.grad for name, value in named(text_encoder, unet).items()})
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6)


# --- objective --------------------------------------------------------------------------------------------------------


class Echo:
    """Predicts what it is given."""

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return noisy


def test_without_noise_the_target_is_the_picture_and_the_error_of_an_exact_prediction_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGRAD3D_CACHE", str(tmp_path))
    monkeypatch.setattr(model, "GRID", 8)
    data = WorldDataset(20, np.random.default_rng(0), objects=("cat", "mug"))
    basis = BlockBasis.fit(data.draw(30).images, 8, 40)
    objective = Objective(PoolBank(data, basis), basis, model.build_tokenizer(), torch.device("cpu"))
    batch = objective.draw(torch.tensor([[0, 999], [0, 999], [0, 999]]), 12, torch.Generator().manual_seed(0))
    assert batch.noisy.shape == batch.wanted.shape == (3, 2, 40, 8, 8)
    assert batch.tokens.shape == (3, model.MAX_TOKENS)
    clean, noise = batch.noisy[:, 0], batch.noisy[:, 1]
    torch.testing.assert_close(clean, batch.wanted[:, 0], atol=0.06, rtol=0.01)  # abar = 0.9999 leaves noise of 0.01
    assert noise.std() == pytest.approx(1, abs=0.02)  # abar = 0.00004
    replica: Any = Echo()
    scale = (basis.input_scale(model.input_alpha_bar()) * basis.output_scale()).view(-1, 1, 1)
    errors = objective.errors(batch, replica, slice(1, 3))
    by_hand = (batch.noisy * scale - batch.wanted).square().flatten(2).sum(2)[1:] / (3 * 64 * 64)
    torch.testing.assert_close(errors, by_hand)
    assert errors.shape == (2, 2)
