"""The weights that are shipped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.config import PriorConfig
from backend.embedded import vocabulary, world
from backend.embedded.vocabulary import Description
from backend.guidance.load import LEARNED_WEIGHTS, load_prior
from backend.guidance.prior import DiffusionPrior

DESCRIPTIONS = [
    Description("cat", "red"),
    Description(*sorted(vocabulary.HELD_OUT)[5]),
    Description("duck", "blue", "striped"),
    Description("teapot", None, "golden"),
    Description("owl", None, "spotted"),
]
AZIMUTHS = np.array([7.0, 95.0, 171.0, -60.0])
ELEVATIONS = np.array([3.0, 21.0, 12.0, 64.0])
WORDS = ["front view", "side view", "back view", "overhead view"]


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    return load_prior(PriorConfig(name="builtin:learned"), torch.device("cpu"), seed=0)


def test_keys_and_values_of_what_it_remembers_are_made_once_a_prompt(prior: DiffusionPrior) -> None:
    """At every step they would be two thirds of its work."""
    config = prior.networks.denoiser.config  # type: ignore[attr-defined]
    conditioning = prior.encode_prompts(["a red cat, front view"]).tensors["embeddings"]
    assert conditioning.shape[-1] == 2 * config["block_out_channels"][0]
    rows = [module.in_features for module in prior.networks.denoiser.modules() if isinstance(module, torch.nn.Linear)]  # type: ignore[attr-defined]
    assert rows and config["cross_attention_dim"] not in rows


def true_views(description: Description, backdrop: float = 0.9) -> Tensor:
    """[4, 3, 64, 64] in -1..1."""
    images, _ = world.true_views(description, AZIMUTHS, ELEVATIONS, np.full(4, world.DISTANCE), 64, (backdrop,) * 3)
    return torch.from_numpy(images) * 2 - 1


def clean(prior: DiffusionPrior, pictures: Tensor, t: int, prompts: list[str]) -> Tensor:
    """What the prior makes of noisy pictures, with the same noise in all."""
    alpha_bar = prior.alphas_cumprod[t]
    noise = torch.randn(pictures[:1].shape, generator=torch.Generator().manual_seed(t))
    z = alpha_bar.sqrt() * pictures + (1 - alpha_bar).sqrt() * noise
    with torch.no_grad():
        predicted = prior.predict_noise(z, torch.full((len(z),), t), prior.encode_prompts(prompts))
    return (z - (1 - alpha_bar).sqrt() * predicted) / alpha_bar.sqrt()


def error(given: Tensor, wanted: Tensor) -> float:
    return (given - wanted).square().mean().item()


def test_they_are_of_this_world_and_small_enough() -> None:
    told = json.loads((LEARNED_WEIGHTS / "cograd3d.json").read_text())
    assert told["training"]["world"] == world.version(), "the world has changed: run fit-prior"
    assert told["dtype"] == "float32"
    assert sum(path.stat().st_size for path in LEARNED_WEIGHTS.rglob("*.safetensors")) <= 50e6


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda description: description.text)
def test_they_know_every_object_in_every_paint_from_everywhere(prior: DiffusionPrior, description: Description) -> None:
    for backdrop in (0.2, 0.9):
        pictures = true_views(description, backdrop)
        assert error(clean(prior, pictures, 400, [description.text] * 4), pictures) < 0.035


def test_one_of_these_was_held_out() -> None:
    assert [description.is_held_out for description in DESCRIPTIONS] == [False, True, False, False, False]


def test_the_words_decide_where_the_picture_does_not(prior: DiffusionPrior) -> None:
    pictures = true_views(Description("cat", "red"))
    right = error(clean(prior, pictures, 600, ["a red cat"] * 4), pictures)
    for other in ("a blue cat", "a red house", "a striped red cat"):
        assert error(clean(prior, pictures, 600, [other] * 4), pictures) > 1.3 * right, other


def test_view_words_are_heeded(prior: DiffusionPrior) -> None:
    pictures = true_views(Description("cat", "red"))
    for view, word in enumerate(WORDS):
        made = clean(prior, pictures[view : view + 1].expand(4, -1, -1, -1), 780, [f"a red cat, {each}" for each in WORDS])
        errors = [error(picture, pictures[view]) for picture in made]
        assert int(np.argmin(errors)) == view, (word, errors)


def test_no_words_give_a_picture_all_the_same(prior: DiffusionPrior) -> None:
    made = clean(prior, true_views(Description("cat", "red")), 700, [""] * 4)
    assert made.isfinite().all()
    assert made.abs().max() < 2
