"""View-dependent prompts: which words a camera is given."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from backend.guidance.perpendicular import opposing_weights
from backend.guidance.prior import Conditioning
from backend.guidance.prompts import ViewPrompts
from tests.backend.guidance.rules.toy import ToyPrior


class EmbeddingPrior(ToyPrior):
    """Embeds the n-th prompt that it is asked for as n, and marks every row with its camera."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(tuple(prompts), {"embedding": torch.arange(len(prompts), dtype=torch.float32)[:, None].repeat(1, 2)})

    def place_cameras(self, conditioning: Conditioning, viewmats: Tensor) -> Conditioning:
        return Conditioning(conditioning.prompts, conditioning.tensors | {"camera": viewmats[:, 0, 3]})


@pytest.fixture
def prior() -> EmbeddingPrior:
    return EmbeddingPrior()


def cameras(count: int) -> Tensor:
    viewmats = torch.eye(4).repeat(count, 1, 1)
    viewmats[:, 0, 3] = torch.arange(count)
    return viewmats


def test_view_prompts_follow_the_cameras(prior: EmbeddingPrior) -> None:
    prompts = ViewPrompts(prior, "a dog", "blurry")
    assert prompts.positive([0, 90, 180, -100, 0], [0, 0, 0, 0, 80]).prompts == (
        "a dog, front view",
        "a dog, side view",
        "a dog, back view",
        "a dog, side view",
        "a dog, overhead view",
    )
    assert prompts.negative(2).prompts == ("blurry", "blurry")
    assert ViewPrompts(prior, "a dog", enabled=False).positive([180], [0]).prompts == ("a dog",)


def test_a_row_is_repeated_without_a_copy() -> None:
    row = Conditioning(("a dog",), {"embedding": torch.arange(6.0).view(1, 2, 3), "pooled": torch.ones(1, 4)})
    repeated, copied = row.repeated(3), row.select([0] * 3)
    assert repeated.prompts == copied.prompts
    for name, tensor in copied.tensors.items():
        assert torch.equal(repeated.tensors[name], tensor)
        assert repeated.tensors[name].data_ptr() == row.tensors[name].data_ptr()
    with pytest.raises(ValueError, match="too many values"):
        copied.repeated(2)


def test_a_view_is_asked_for_with_its_words_the_negative_and_the_empty_prompt(prior: EmbeddingPrior) -> None:
    views = ViewPrompts(prior, "a dog", "blurry").views([0, 180], [0, 0], cameras(2))
    assert len(views) == 2
    assert views.positive.prompts == ("a dog, front view", "a dog, back view")
    assert views.negative.prompts == ("blurry", "blurry")
    assert views.empty.prompts == ("", "")
    assert views.opposing == ()
    assert ViewPrompts(prior, "a dog").views([0], [0], cameras(1)).negative.prompts == ("",)


def test_every_row_is_told_its_camera(prior: EmbeddingPrior) -> None:
    views = ViewPrompts(prior, "a dog").views([0, 120, 180], [0, 0, 0], cameras(3), perp_neg=1.0)
    for rows in (views.positive, views.negative, views.empty, *(words for words, _ in views.opposing)):
        assert rows.tensors["camera"].tolist() == [0, 1, 2]


def test_the_other_directions_words_oppose_with_their_weights(prior: EmbeddingPrior) -> None:
    azimuths, elevations = [0, 45, 180], [0, 0, 80]
    views = ViewPrompts(prior, "a dog").views(azimuths, elevations, cameras(3), perp_neg=0.5)
    assert [words.prompts for words, _ in views.opposing] == [("a dog, front view",) * 3, ("a dog, side view",) * 3]
    for column, (_, weights) in enumerate(views.opposing):
        expected = [0.5 * opposing_weights(a, e)[column] for a, e in zip(azimuths, elevations, strict=True)]
        assert weights.tolist() == pytest.approx(expected)


def test_words_that_oppose_no_view_are_not_asked_for(prior: EmbeddingPrior) -> None:
    prompts = ViewPrompts(prior, "a dog")
    assert [words.prompts[0] for words, _ in prompts.views([0], [0], cameras(1), perp_neg=1.0).opposing] == ["a dog, side view"]
    assert [words.prompts[0] for words, _ in prompts.views([90], [0], cameras(1), perp_neg=1.0).opposing] == ["a dog, front view"]
    assert prompts.views([180], [80], cameras(1), perp_neg=1.0).opposing == ()
    assert ViewPrompts(prior, "a dog", enabled=False).views([180], [0], cameras(1), perp_neg=1.0).opposing == ()


def test_between_two_directions_their_embeddings_are_blended(prior: EmbeddingPrior) -> None:
    """Front is embedded as 0, side 1, back 2, overhead 3; at 30 degrees a third of the way is gone, at 120 a third of the next."""
    rows = ViewPrompts(prior, "a dog", blend=True).positive([0, 30, -60, 90, 120, 180, 30], [0, 0, 0, 0, 0, 0, 80])
    assert rows.tensors["embedding"][:, 0].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 2, 3])
    assert rows.prompts[1:3] == ("a dog, front view", "a dog, side view"), "a prior that reads the texts gets the nearer one"


def test_conditioning_rows_stay_with_their_prompts() -> None:
    both = Conditioning(("a", "b"), {"x": torch.tensor([1.0, 2.0])})
    joined = Conditioning.concatenate([both.select([1]), both.select([0, 1])])
    assert joined.prompts == ("b", "a", "b")
    assert joined.tensors["x"].tolist() == [2.0, 1.0, 2.0]
    assert len(joined) == 3


def test_a_blend_is_linear_in_every_tensor_and_keeps_its_type() -> None:
    first = Conditioning(("a", "b"), {"x": torch.ones(2, 3, dtype=torch.float16), "y": torch.tensor([4.0, 4.0])})
    second = Conditioning(("c", "d"), {"x": torch.zeros(2, 3, dtype=torch.float16), "y": torch.tensor([0.0, 8.0])})
    blended = Conditioning.blend(first, second, torch.tensor([0.25, 0.5]))
    assert blended.prompts == ("c", "b")
    assert blended.tensors["x"].dtype == torch.float16
    assert blended.tensors["x"].tolist() == [[0.25] * 3, [0.5] * 3]
    assert blended.tensors["y"].tolist() == [1.0, 6.0]
