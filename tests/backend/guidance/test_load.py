"""Names of priors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from backend.config import PriorConfig
from backend.embedded import vocabulary, world
from backend.embedded.exact_prior import ExactPrior
from backend.errors import PriorError
from backend.guidance import load
from backend.guidance.load import load_prior

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["builtin", "builtin:exact"], ids=["as older runs call it", "by its name"])
def test_the_exact_prior(name: str) -> None:
    prior = load_prior(PriorConfig(name=name, reliability=0.3, views=77), CPU, seed=0)
    assert isinstance(prior, ExactPrior)
    assert prior.reliability == 0.3
    assert prior.fingerprint != load_prior(PriorConfig(name=name, views=78), CPU, seed=0).fingerprint


def test_the_learned_prior_knows_what_it_is_asked_for() -> None:
    """Of pure noise it makes another picture for each word, and of a noisy picture something nearer to it than the noise."""
    prior = load_prior(PriorConfig(name="builtin:learned"), CPU, seed=0)
    assert prior.name == "builtin:learned" and prior.recommended.resolutions == (64,)
    true, _ = world.true_views(vocabulary.parse("a red mug"), *(np.array([x]) for x in (0.0, 10.0, world.DISTANCE)), 64, (0.9, 0.9, 0.9))
    z = prior.encode_images(torch.from_numpy(true)).expand(3, -1, -1, -1)
    t = torch.full((3,), 500)
    abar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    z_t = abar.sqrt() * z + (1 - abar).sqrt() * torch.randn(z[:1].shape, generator=torch.Generator().manual_seed(0))
    noise = prior.predict_noise(z_t, t, prior.encode_prompts(["a red mug, front view", "a blue mug, front view", "a red cat, front view"]))
    errors = (((z_t - (1 - abar).sqrt() * noise) / abar.sqrt() - z) ** 2).mean((1, 2, 3)).tolist()
    assert errors[0] < 0.1
    assert errors[0] < 0.5 * min(errors[1:])


def test_a_missing_learned_prior_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "LEARNED_WEIGHTS", tmp_path / "missing")
    with pytest.raises(PriorError, match="is missing"):
        load_prior(PriorConfig(name="builtin:learned"), CPU, seed=0)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriorError):
        load_prior(PriorConfig(name=str(tmp_path)), CPU, seed=0)
