"""The learned prior's tokenizer, networks and pipeline folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backend.embedded import vocabulary
from backend.embedded.learned import model
from backend.embedded.vocabulary import OBJECTS, Description
from backend.errors import PriorError
from backend.guidance.diffusers_prior import load_diffusers_prior
from tests.backend.embedded.learned.small_world import random_basis


def test_every_known_word_is_one_token_and_no_caption_is_cut() -> None:
    tokenizer = model.build_tokenizer()
    for word in model.words():
        assert tokenizer.tokenize(word) == [word + "</w>"]
    assert {word for text in (*OBJECTS, *vocabulary.COLOURS, *vocabulary.MATERIALS) for word in text.split()} <= set(model.words())
    longest = [vocabulary.captions(Description(name, "turquoise", "striped", "overhead view")) for name in OBJECTS]
    assert max(len(tokenizer(text).input_ids) for texts in longest for text in texts) <= model.MAX_TOKENS
    assert tokenizer.tokenize("Zebra") == ["z", "e", "b", "r", "a</w>"]  # unknown words fall apart


def test_merges_of_one_word_do_not_disturb_another() -> None:
    ids, merges = model.tokenizer_files(("cat", "scat", "at"))
    assert merges == ["a t</w>", "c at</w>", "s cat</w>"]
    assert len(ids) == 2 * 94 + 3 + 2
    assert sorted(ids.values()) == list(range(len(ids)))


def test_pipeline_folder_is_an_ordinary_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = model.build_tokenizer()
    text_encoder, unet = model.build_models(len(tokenizer), model.PIXELS // 4)
    folder = tmp_path / "prior"
    (tmp_path / "prior.old").mkdir()  # somebody's backup
    for images in (1, 2):  # the second replaces the first
        model.save_pipeline(folder, text_encoder, unet, tokenizer, {"images": images})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prior", "prior.old"]
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 50e6
    prior = load_diffusers_prior(folder, device=torch.device("cpu"), dtype="float32")
    assert prior.recommended.resolutions == (64,)
    assert prior.recommended.weighting == "x0"
    conditioning = prior.encode_prompts(["a striped kitten, from behind", ""])
    ids = tokenizer(["a striped cat, back view", ""], padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        embeddings = text_encoder(ids).last_hidden_state
        z_t, t = torch.randn(2, 3, 64, 64), torch.tensor([200, 900])
        clean = torch.pixel_shuffle(unet(torch.pixel_unshuffle(z_t, 32), t, embeddings).sample, 32)
    torch.testing.assert_close(conditioning.tensors["embeddings"], embeddings, atol=2e-3, rtol=2e-3)  # stored in half precision
    abar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(
        prior.predict_noise(z_t, t, conditioning), (z_t - abar.sqrt() * clean) / (1 - abar).sqrt(), atol=0.02, rtol=0
    )


def test_stock_diffusers_reads_it(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    tokenizer = model.build_tokenizer()
    model.save_pipeline(tmp_path / "prior", *model.build_models(len(tokenizer), model.PIXELS // 4), tokenizer, {})
    pipeline = DiffusionPipeline.from_pretrained(
        tmp_path / "prior", vae=None, safety_checker=None, feature_extractor=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    stacked = pipeline("a red cat", num_inference_steps=2, height=16, width=16, output_type="latent").images
    assert stacked.shape == (1, 3072, 2, 2)  # a VAE, if there were one, would make a latent of 2 x 2 of 16 x 16 pixels


def test_warm_start_follows_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = model.build_tokenizer()
    text_encoder, unet = model.build_models(len(tokenizer))
    basis = random_basis()
    model.save_pipeline(tmp_path / "old", text_encoder, model.pixel_denoiser(unet, basis), tokenizer, {})
    monkeypatch.setattr(vocabulary, "OBJECTS", ("aardvark", *OBJECTS[:-1]))
    renewed = model.build_tokenizer()
    assert len(renewed) != len(tokenizer)
    other_text, other_unet = model.build_models(len(renewed))
    fresh = other_text.state_dict()[model.EMBEDDING].clone()
    model.warm_start(tmp_path / "old", other_text, other_unet, renewed, basis)
    rows, old_rows = other_text.state_dict()[model.EMBEDDING], text_encoder.state_dict()[model.EMBEDDING].half().float()
    for token in ("cat</w>", "a", model.END):
        torch.testing.assert_close(rows[renewed.get_vocab()[token]], old_rows[tokenizer.get_vocab()[token]])
    new_row = renewed.get_vocab()["aardvark</w>"]
    torch.testing.assert_close(rows[new_row], fresh[new_row])
    for name in ("conv_in.weight", "conv_out.weight", "up_blocks.0.resnets.0.conv1.weight"):
        torch.testing.assert_close(other_unet.state_dict()[name], unet.state_dict()[name], atol=3e-4, rtol=3e-3)  # stored in half precision
    with pytest.raises(PriorError):
        model.warm_start(tmp_path / "missing", other_text, other_unet, renewed, basis)
