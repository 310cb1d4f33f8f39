"""Training pictures, their captions, and what the denoiser should make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.embedded import vocabulary, world
from backend.embedded.appearance import compose, description_weights
from backend.embedded.learned import dataset
from backend.embedded.vocabulary import HELD_OUT, Description
from tests.backend.embedded.learned.small_world import VIEWS, small_dataset


def test_examples_are_true_views_with_true_captions() -> None:
    data = small_dataset()
    examples = data.draw(64)
    assert examples.images.shape == (64, 3, 64, 64)
    assert examples.images.min() >= -1
    assert examples.images.max() <= 1
    for row, (caption, description) in enumerate(zip(examples.captions, examples.descriptions, strict=True)):
        if caption:
            assert vocabulary.parse(caption) == description
        if description.view:
            assert examples.view_words[row] == description.view
        bank = world.view_bank(description.object, VIEWS, 64, distance=(world.DISTANCE, world.DISTANCE))
        true = compose(bank.channels, description_weights(description), examples.backgrounds[row].numpy())
        distance = np.abs(true - (examples.images[row].numpy() + 1) / 2).max(axis=(1, 2, 3))
        assert distance.min() < 1e-5
        assert vocabulary.view_word(bank.azimuth[distance.argmin()], bank.elevation[distance.argmin()]) == examples.view_words[row]


def test_backdrops_vary_about_the_worlds_levels_or_are_at_them() -> None:
    levels = np.array([level for level, _ in world.BACKDROPS])
    exact = small_dataset().draw(40, varied=False).backgrounds.numpy()
    assert set(np.unique(exact)) == set(levels.astype(np.float32))
    varied = small_dataset().draw(40).backgrounds.numpy()
    assert len(np.unique(varied)) > 100
    assert np.abs(varied[:, :, None] - levels).min(2).max() < 0.3


def test_caption_shares_and_held_out_pairs() -> None:
    data = small_dataset(objects=("cat", "dog", "bear", "mug"))
    descriptions = [data.describe() for _ in range(4000)]
    captions = [data.caption(description) for description in descriptions]
    named = [bool(description.view) for description, caption in zip(descriptions, captions, strict=True) if caption]
    assert np.mean([caption == "" for caption in captions]) == pytest.approx(dataset.EMPTY_CAPTION, abs=0.02)
    assert np.mean(named) == pytest.approx(dataset.VIEW_CAPTION, abs=0.02)
    other = [caption != description.text for description, caption in zip(descriptions, captions, strict=True) if caption]
    assert 0.6 * dataset.REPHRASED < np.mean(other) <= dataset.REPHRASED + 0.02  # the prompt's own words are one of the phrasings
    assert not {(description.object, description.base_colour) for description in descriptions} & HELD_OUT
    assert {description.material for description in descriptions} == {None, *vocabulary.MATERIALS}
    everything = small_dataset(held_out=frozenset())
    assert {(d.object, d.colour) for d in (everything.describe() for _ in range(3000))} & HELD_OUT


def test_views_without_a_word_are_biased_to_the_front() -> None:
    data = small_dataset()
    rows = data.draw_views(Description("cat"), 20_000)
    law = np.exp(world.front_bias_log_weights(world.view_bank("cat", VIEWS, 64).azimuth))
    np.testing.assert_allclose(np.bincount(rows, minlength=VIEWS) / len(rows), law / law.sum(), atol=0.01)


def test_stable_target_by_hand() -> None:
    # One pixel, views -1 and +1, abar = 0.5, z_t = 0.2: the evidence is (sqrt(.5) * .2 * x - .25) / .5, so E = tanh(.2 * sqrt(2)).
    target = dataset.stable_target(torch.tensor([[[0.2]]]), torch.tensor([[0.5]]), torch.tensor([-1.0, 1.0]).view(1, 2, 1))
    assert target.shape == (1, 1, 1)
    assert target.item() == pytest.approx(np.tanh(0.2 * 2**0.5))


def test_stable_target_keeps_pools_and_examples_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    references, noisy = torch.randn(2, 5, 7, generator=generator), torch.randn(2, 3, 7, generator=generator)
    alpha_bar = torch.rand(2, 3, generator=generator)
    together = dataset.stable_target(noisy, alpha_bar, references)
    for pool in range(2):
        for row in range(3):
            place = (slice(pool, pool + 1), slice(row, row + 1))
            alone = dataset.stable_target(noisy[place], alpha_bar[place], references[pool : pool + 1])
            torch.testing.assert_close(together[place], alone)


def test_stable_target_is_unbiased_and_less_noisy() -> None:
    rng = np.random.default_rng(0)
    views, abar, z_t = torch.tensor([-1.0, -0.5, 0.2, 1.0]), torch.tensor(0.2), 0.3
    likelihood = torch.exp(-((z_t - abar.sqrt() * views) ** 2) / (2 * (1 - abar)))
    truth = (likelihood * views).sum() / likelihood.sum()
    # Given z_t, the view it came from follows the posterior and the other members of the set the prior.
    owners = rng.choice(
        4, size=40_000, p=(likelihood / likelihood.sum()).numpy().astype(np.float64) / (likelihood / likelihood.sum()).double().sum().item()
    )
    others = rng.integers(4, size=(40_000, 7))
    sets = views[torch.from_numpy(np.concatenate([owners[:, None], others], axis=1))]
    targets = dataset.stable_target(torch.full((40_000, 1, 1), z_t), abar.expand(40_000, 1), sets[..., None]).flatten()
    assert targets.mean().item() == pytest.approx(truth.item(), abs=0.02)
    assert targets.var() < 0.3 * views[owners].var()
