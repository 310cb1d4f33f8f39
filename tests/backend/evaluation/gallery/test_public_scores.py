"""The paper's scores: CLIP with a tiny model of its own format; the other two's adapters with stand-ins for their libraries."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from backend.embedded.learned.model import build_tokenizer
from backend.errors import InputError, SetupError, UsageError
from backend.evaluation.gallery import public_scores
from backend.evaluation.gallery.public_scores import SCORES, clip_similarity, image_reward, load_scorer, vqa_score
from backend.evaluation.gallery.records import Record

IMAGES = np.random.default_rng(0).random((3, 40, 40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP with the real thing's files."""
    torch.manual_seed(0)
    folder, tokenizer = tmp_path_factory.mktemp("clip"), build_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    last = len(tokenizer) - 1
    text = sizes | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": last, "pad_token_id": last}
    vision = sizes | {"image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


class TestClip:
    def test_a_hundred_times_the_cosine_of_its_vectors(self, clip: Path) -> None:
        score = clip_similarity(str(clip))
        given = score(IMAGES, "a red cat")
        model, tokenizer = CLIPModel.from_pretrained(clip).eval(), build_tokenizer()
        pictures = [Image.fromarray((image * 255).round().astype(np.uint8)) for image in IMAGES]
        pixels = CLIPImageProcessor.from_pretrained(clip)(pictures, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            seen = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            read = model.text_projection(model.text_model(**tokenizer(["a red cat"], return_tensors="pt")).pooler_output)
        assert given.shape == (3,)
        assert np.allclose(given, 100 * torch.cosine_similarity(seen, read).numpy(), atol=1e-3)
        assert np.allclose(score(IMAGES[1:2], "a red cat"), given[1:2], atol=1e-4), "each picture is scored by itself"
        assert not np.allclose(given, score(IMAGES, "a blue car"), atol=1e-3)

    def test_a_long_prompt_is_cut(self, clip: Path) -> None:
        assert np.isfinite(clip_similarity(str(clip))(IMAGES[:1], "a red cat " * 40)).all()

    def test_weights_that_would_be_unpickled_are_refused(self, clip: Path, tmp_path: Path) -> None:
        for file in clip.iterdir():
            if file.suffix != ".safetensors":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        torch.save(CLIPModel.from_pretrained(clip).state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(InputError, match="cannot be read as a CLIP") as caught:
            clip_similarity(str(tmp_path))
        assert "safetensors" in caught.value.remedy

    def test_the_hub_is_asked_only_with_consent(self, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[bool] = []

        def snapshot(repo: str, *, allow_patterns: list[str]) -> str:
            asked.append(huggingface_hub.is_offline_mode())
            assert repo == "openai/clip-vit-base-patch32" and not any(pattern.endswith(".bin") for pattern in allow_patterns)
            if huggingface_hub.is_offline_mode():
                raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
            return str(clip)

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
        with pytest.raises(InputError, match="nothing is downloaded without consent"):
            load_scorer("clip_b32", "openai/clip-vit-base-patch32")
        assert load_scorer("clip_b32", "openai/clip-vit-base-patch32", allow_download=True)(IMAGES, "a cat").shape == (3,)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(InputError, match="network may not be used"):
            load_scorer("clip_b32", "openai/clip-vit-base-patch32", allow_download=True)
        assert asked == [True, False, True]
        assert huggingface_hub.is_offline_mode(), "left as it was"

    @pytest.mark.parametrize("name", ["./nowhere", "/no/where", "clip", "a/b/c"])
    def test_what_is_neither_folder_nor_hub_id(self, name: str) -> None:
        with pytest.raises(InputError, match="There is no folder"):
            clip_similarity(name)


class StandIn(types.ModuleType):
    """A fake of a library that is not installed here, with its calls' shapes alone: tests the adapter, no score."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.offline: list[bool] = []
        self.opened: list[str] = []

    def means(self, paths: list[str]) -> list[float]:
        self.opened += paths
        return [float(np.asarray(Image.open(path)).mean() / 255) for path in paths]

    def VQAScore(self, *, model: str, device: str):
        self.offline.append(huggingface_hub.is_offline_mode())
        if model != "clip-flant5-xxl":
            raise AssertionError

        def forward(*, images: list[str], texts: list[str]) -> torch.Tensor:
            assert texts == ["a cat"]
            return torch.tensor(self.means(images), requires_grad=True)[:, None]

        return forward

    def load(self, name: str, *, device: str):
        self.offline.append(huggingface_hub.is_offline_mode())

        def score(prompt: str, paths: list[str]) -> list[float] | float:
            assert prompt == "a cat"
            values = self.means(paths)
            return values if len(values) > 1 else values[0]

        return types.SimpleNamespace(score=score)


@pytest.mark.parametrize(("module", "load", "model"), [("t2v_metrics", vqa_score, "clip-flant5-xxl"), ("ImageReward", image_reward, "x")])
class TestOthersLibraries:
    def test_pictures_go_in_as_files_and_a_score_each_comes_out(self, module, load, model, monkeypatch: pytest.MonkeyPatch) -> None:
        library = StandIn(module)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setitem(sys.modules, module, library)
        score = load(model)
        load(model, allow_download=True)
        assert library.offline == [True, False], "the library may ask the hub only with consent"
        for count in (3, 1):
            given = score(IMAGES[:count], "a cat")
            assert given.shape == (count,)
            assert np.allclose(given, IMAGES[:count].mean((1, 2, 3)), atol=2e-3)
        assert not any(Path(path).exists() for path in library.opened), "nothing is left"

    def test_without_the_library(self, module, load, model, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(SetupError) as caught:
            load(model)
        assert "pip install" in caught.value.remedy


def test_a_library_that_cannot_load_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setitem(sys.modules, "t2v_metrics", StandIn("t2v_metrics"))
    with pytest.raises(InputError, match="'no-such' cannot be loaded"):
        vqa_score("no-such", allow_download=True)
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_scores_are_fields_of_a_record() -> None:
    assert SCORES.keys() <= Record.__dataclass_fields__.keys()
    with pytest.raises(UsageError, match="no score 'clip'"):
        public_scores.load_scorer("clip", "")
