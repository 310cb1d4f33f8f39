"""Tokenizers, where they are kept in other ways than our own."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from backend.errors import PriorError
from backend.guidance.prompts import ViewPrompts
from backend.guidance.text_encoders import _read_t5, read_sentencepiece

from .tiny_models.configurations import T5
from .tiny_models.folders import T5_PIECES, load, sentencepiece_model, t5_tokenizer, text_encoder, write_model


def test_a_sentencepiece_model_is_read() -> None:
    pieces, characters = read_sentencepiece(sentencepiece_model())
    assert [piece for piece, _ in pieces] == [piece for piece, _ in T5_PIECES]
    assert [score for _, score in pieces] == pytest.approx([score for _, score in T5_PIECES])
    assert characters == b""


def test_t5_with_nothing_but_its_sentencepiece_model(tmp_path: Path) -> None:
    """DeepFloyd IF is published so; transformers would want another package for it."""
    whole = load(write_model(tmp_path / "whole", "deepfloyd"))
    folder = write_model(tmp_path / "published", "deepfloyd")
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    (folder / "tokenizer" / "spiece.model").write_bytes(sentencepiece_model())
    with pytest.raises(PriorError, match="does not fit"):  # a hundred placeholder tokens come behind the vocabulary
        load(folder).encode_prompts(["a red cat"])
    torch.manual_seed(0)
    text_encoder(T5, len(T5_PIECES) + 100).save_pretrained(folder / "text_encoder")
    ours = load(folder).encode_prompts(["a red cat", ""]).tensors["embeddings"]
    assert ours.shape == whole.encode_prompts(["a red cat", ""]).tensors["embeddings"].shape
    tokenizer = _read_t5(folder / "tokenizer")
    assert tokenizer(["a red cat"]).input_ids == t5_tokenizer()(["a red cat"]).input_ids
    assert tokenizer.tokenize("a red cat") == ["\u2581", "a", "\u2581red", "\u2581cat"]


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", b"\x0a\xff\xff\x01x", b"\x12\x02\x08\x01", b"\x0a"])
def test_what_is_no_sentencepiece_model_is_refused(tmp_path: Path, data: bytes) -> None:
    folder = write_model(tmp_path, "deepfloyd")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "spiece.model").write_bytes(data)
    with pytest.raises(PriorError, match="tokenizer"):
        load(folder).encode_prompts(["a red cat"])


def test_a_prompt_beyond_the_models_reach_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prior = load(write_model(tmp_path, "deepfloyd"))
    with caplog.at_level(logging.WARNING):
        prior.encode_prompts(["cat " * 100])
    assert "77 tokens" in caplog.text


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "deepfloyd", "flux"])
def test_words_for_the_view_that_are_cut_off_are_told_of(tmp_path: Path, kind: str) -> None:
    """They stand at the end; without them all sides are asked for alike."""
    prior = load(write_model(tmp_path, kind))
    ViewPrompts(prior, "a red cat", "A  red cat")
    assert prior.take_warnings() == []
    ViewPrompts(prior, "red cat " * 90)  # FLUX reads the end of it with T5
    warnings = prior.take_warnings()
    assert len(warnings) == (kind != "flux") and all("longer than the image model reads" in warning for warning in warnings)
    ViewPrompts(prior, "blue cat " * 90, enabled=False)
    assert prior.take_warnings() == []
