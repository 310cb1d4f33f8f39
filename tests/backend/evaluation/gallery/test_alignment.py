"""The contrastive image-text model: what counts as a negative, what sentences mean to it, and what a trained one knows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backend.embedded import vocabulary
from backend.embedded.learned.dataset import Examples, WorldDataset
from backend.embedded.vocabulary import Description
from backend.errors import PromptError
from backend.evaluation import truth
from backend.evaluation.gallery import alignment, prompts
from backend.evaluation.gallery.alignment import (
    Alignment,
    cached_alignment,
    captioned,
    contrastive_loss,
    fits,
    retrieval_accuracy,
    scores,
    train_alignment,
)


@pytest.fixture(scope="module")
def untrained() -> Alignment:
    torch.manual_seed(0)
    return Alignment().eval()


def small_set(seed: int = 0) -> WorldDataset:
    return WorldDataset(24, np.random.default_rng(seed), objects=("cat", "car"), held_out=frozenset())


def test_the_loss_of_a_pair_in_closed_form() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    by_picture = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))) / 2
    by_caption = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-2))) / 2
    assert contrastive_loss(logits, torch.eye(2, dtype=torch.bool)).item() == pytest.approx((by_picture + by_caption) / 2, rel=1e-6)


def test_what_fits_as_well_is_no_negative() -> None:
    logits = torch.tensor([[1.0, 50.0, 0.0], [-2.0, 1.0, 0.5], [0.3, 0.2, 1.0]], requires_grad=True)
    fitting = torch.eye(3, dtype=torch.bool)
    fitting[0, 1] = True
    loss = contrastive_loss(logits, fitting)
    loss.backward()
    assert loss.item() < 2, "the pair that fits, at 50, is not held against the picture"
    assert logits.grad is not None and logits.grad[0, 1] == 0 and logits.grad[1, 0] != 0
    assert contrastive_loss(logits.detach()[:1, :1], torch.ones(1, 1, dtype=torch.bool)) == 0


def test_a_caption_fits_whatever_it_is_true_of() -> None:
    shown = [Description("cat", "orange"), Description("cat", None), Description("cat", "orange", "golden")]
    examples = Examples(torch.empty(3), [], shown, ["front view", "back view", "front view"], torch.empty(3), torch.empty(3))
    said = [Description("cat"), Description("cat", "orange", None, "front view"), Description("cat", None, "golden")]
    assert fits(examples, said).tolist() == [[True, True, False], [True, False, False], [False, False, False]]


def test_every_other_caption_leaves_the_view_out_and_all_parse_back() -> None:
    rng, meant = np.random.default_rng(0), Description("cat", "red", "striped", "side view")
    said = [captioned(meant, rng) for _ in range(400)]
    assert all(vocabulary.parse(caption) == description for description, caption in said)
    assert 0.4 < sum(description.view is None for description, _ in said) / 400 < 0.6
    assert len({caption for _, caption in said}) == 2 * len(vocabulary.CAPTION_TEMPLATES)


def test_sentences_are_what_they_mean(untrained: Alignment) -> None:
    texts = ["a striped orange cat", "a photo of a stripy orange kitten", "an orange cat", "an orange cat, back view"]
    with torch.no_grad():
        vectors = untrained.encode_texts(texts)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4))
    assert torch.equal(vectors[0], vectors[1])
    assert len({tuple(vector.tolist()) for vector in vectors}) == 3
    with pytest.raises(PromptError):
        untrained.encode_texts(["a zebra"])


def test_scores_are_cosines_times_a_hundred_and_know_no_view(untrained: Alignment) -> None:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = scores(untrained, images, "a red cat")
    with torch.no_grad():
        expected = 100 * torch.cosine_similarity(untrained.picture(images * 2 - 1), untrained.encode_texts(["a red cat"]))
    assert given.shape == (3,) and np.allclose(given, expected.numpy(), atol=1e-3)
    assert np.array_equal(given, scores(untrained, images, "a red cat, back view"))
    larger = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert np.allclose(given, scores(untrained, larger, "a red cat"), atol=1e-2)


def test_training_repeats_itself() -> None:
    first, second = (train_alignment(small_set(), 2 * alignment.BATCH) for _ in range(2))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert not first.training
    other = train_alignment(small_set(), 2 * alignment.BATCH, seed=1)
    assert not torch.equal(first.words.weight, other.words.weight)


def test_the_cache_is_used_and_made_again_when_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache" / "model.safetensors"
    monkeypatch.setattr(alignment, "training_set", lambda seed=0, progress=None: small_set(seed))
    made = cached_alignment(path=path, images=2 * alignment.BATCH)
    kept = path.read_bytes()
    monkeypatch.setattr(alignment, "train_alignment", lambda *args, **options: pytest.fail("it was there"))
    again = cached_alignment(path=path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in made.state_dict().items())
    monkeypatch.undo()
    monkeypatch.setattr(alignment, "training_set", lambda seed=0, progress=None: small_set(seed))
    path.write_bytes(kept[:1000])
    cached_alignment(path=path, images=2 * alignment.BATCH)
    assert load_file(path).keys() == made.state_dict().keys()


def seen_around(description: Description) -> torch.Tensor:
    """[12, 3, H, W] in 0..1: the true object from all sides."""
    views, _ = truth.true_views(description, np.arange(12) * 30.0, np.full(12, 15.0))
    return torch.from_numpy(views.transpose(0, 3, 1, 2).copy()).float()


def test_the_shipped_model_is_of_this_version_of_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails the world has changed: `evaluate gallery` trains a new one, to be copied from the cache."""
    monkeypatch.setattr(alignment, "train_alignment", lambda *args, **options: pytest.fail("there is none"))
    assert cached_alignment().scale > 1


@pytest.mark.slow
def test_it_knows_the_world() -> None:
    model = cached_alignment()
    assert retrieval_accuracy(model) > 0.93
    gallery = prompts.prompt_set("gallery")
    for own, prompt in enumerate(gallery):
        images = seen_around(vocabulary.parse(prompt))
        given = [scores(model, images, other).mean() for other in gallery]
        assert np.argmax(given) == own, prompt
    cat = vocabulary.parse("a red cat")
    images = seen_around(cat)
    whole = scores(model, images, "a red cat").mean()
    assert whole > 70
    assert scores(model, 0.4 + 0.5 * images, "a red cat").mean() < whole - 10, "a ghost of a cat fits less well"
    for wrong, least in ((replace(cat, colour="blue"), 20), (replace(cat, object="dog"), 20), (replace(cat, material="spotted"), 3)):
        assert scores(model, images, wrong.text).mean() < whole - least
