"""The paper's own scores of pictures against a prompt, where their models are at hand: CLIP Similarity, VQAScore, ImageReward.

Nothing is fetched without consent, and CLIP's weights are read from safetensors only. VQAScore and ImageReward are their authors'
libraries, which load their weights themselves and are no part of CoGrad3D's environment.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, SetupError, UsageError
from ...guidance.pipeline_files import first_line

Scorer = Callable[[np.ndarray, str], np.ndarray]
"""Images [V, H, W, 3] in 0..1 and one prompt to a score [V] each."""

CLIP_FILES = ("*config.json", "model*.safetensors*", "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json")
"""What of a repository CLIP needs."""


def clip_similarity(model: str, *, allow_download: bool = False, device: str = "cpu") -> Scorer:
    """CLIP-S (Park et al. 2021): a hundred times the cosine of picture and prompt.

    Args:
        model: a transformers folder, or a hub id.

    Raises:
        InputError: it is not there, may not be fetched, or is no CLIP in safetensors.
    """
    import torch
    from transformers import CLIPModel, CLIPProcessor

    folder = _clip_folder(model, allow_download)
    try:
        network = CLIPModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).to(device).eval()
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"'{model}' cannot be read as a CLIP model ({first_line(error)}).",
            remedy="Give a model in transformers' format with its processor and its weights as .safetensors.",
        ) from error

    @torch.no_grad()
    def score(images: np.ndarray, prompt: str) -> np.ndarray:
        inputs = processor(text=[prompt], images=_pictures(images), return_tensors="pt", padding=True, truncation=True)
        answer = network(**inputs.to(device))
        pictures, text = (torch.nn.functional.normalize(embeds, dim=-1) for embeds in (answer.image_embeds, answer.text_embeds))
        return 100 * (pictures @ text[0]).float().cpu().numpy()

    return score


def vqa_score(model: str, *, allow_download: bool = False, device: str = "cpu") -> Scorer:
    """VQAScore (Lin et al. 2024): how sure a model is that the picture shows the prompt, 0..1.

    Args:
        model: one that the library `t2v_metrics` names, such as `clip-flant5-xxl`.

    Raises:
        SetupError: there is no such library.
        InputError: its weights are not here and may not be fetched, or it cannot load them.
    """
    library = _library("t2v_metrics", "VQAScore", "t2v-metrics")
    with _loading(model, allow_download):
        network = library.VQAScore(model=model, device=device)

    def score(images: np.ndarray, prompt: str) -> np.ndarray:
        with _as_files(images) as paths:
            return np.asarray(network(images=paths, texts=[prompt]).detach().float().cpu().numpy())[:, 0]

    return score


def image_reward(model: str, *, allow_download: bool = False, device: str = "cpu") -> Scorer:
    """ImageReward (Xu et al. 2023): what people would prefer, about normally distributed.

    Args:
        model: one that the library `ImageReward` names, such as `ImageReward-v1.0`, or its file on this computer.

    Raises:
        SetupError: there is no such library.
        InputError: its weights are not here and may not be fetched, or it cannot load them.
    """
    library = _library("ImageReward", "ImageReward", "image-reward")
    with _loading(model, allow_download):
        network = library.load(model, device=device)

    def score(images: np.ndarray, prompt: str) -> np.ndarray:
        with _as_files(images) as paths:
            return np.atleast_1d(np.asarray(network.score(prompt, paths), dtype=np.float64))  # one picture's is no list

    return score


SCORES: dict[str, tuple[Callable[..., Scorer], str]] = {
    "clip_b32": (clip_similarity, "openai/clip-vit-base-patch32"),
    "clip_l14": (clip_similarity, "openai/clip-vit-large-patch14"),
    "vqa_score": (vqa_score, "clip-flant5-xxl"),
    "image_reward": (image_reward, "ImageReward-v1.0"),
}
"""By their fields of `Record`: how each is loaded, and from what in the paper."""


def parse_scores(texts: Iterable[str]) -> dict[str, str]:
    """`NAME` or `NAME=MODEL` each, as scores and what each is loaded from: what the paper used, if nothing is named.

    Raises:
        UsageError: there is no such score.
    """
    found = {}
    for text in texts:
        name, _, model = text.partition("=")
        if name not in SCORES:
            raise UsageError(f"There is no score '{name}'.", remedy=f"Choose among {', '.join(SCORES)}.")
        found[name] = model or SCORES[name][1]
    return found


def load_scorer(name: str, model: str, *, allow_download: bool = False, device: str = "cpu") -> Scorer:
    """One of `SCORES`, from `model`.

    Raises:
        UsageError: no such score.
        SetupError, InputError: it cannot be loaded.
    """
    if name not in SCORES:
        raise UsageError(f"There is no score '{name}'.", remedy=f"Choose among {', '.join(SCORES)}.")
    return SCORES[name][0](model, allow_download=allow_download, device=device)


def _clip_folder(model: str, allow_download: bool) -> Path:
    """The folder itself, or the local copy of a hub repository."""
    import huggingface_hub

    if Path(model).is_dir():
        return Path(model)
    if model.startswith((".", "~", "/")) or model.count("/") != 1 or "\\" in model:
        raise InputError(
            f"There is no folder {model}.", remedy="Give a CLIP model's folder, or a hub id such as openai/clip-vit-base-patch32."
        )
    with _loading(model, allow_download):
        return Path(huggingface_hub.snapshot_download(model, allow_patterns=list(CLIP_FILES)))


@contextlib.contextmanager
def _loading(model: str, allow_download: bool) -> Iterator[None]:
    """While a model is loaded: without consent no library may ask the hub, and whatever goes wrong is said in a sentence."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not allow_download
    try:
        yield
    except Exception as error:  # libraries that are not ours
        if constants.HF_HUB_OFFLINE:
            why = "the network may not be used now" if allow_download else "nothing is downloaded without consent"
            raise InputError(
                f"'{model}' is not whole on this computer, and {why} ({first_line(error)}).",
                remedy="Allow downloads, or give a folder or file on this computer.",
            ) from error
        raise InputError(f"'{model}' cannot be loaded ({first_line(error)}).", remedy="Check its name and the connection.") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _library(module: str, score: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SetupError(
            f"{score} needs the Python package {package}, which cannot be imported here ({first_line(error)}).",
            remedy=f"Install it into CoGrad3D's environment: python -m pip install {package}.",
        ) from error


def _pictures(images: np.ndarray) -> list[Any]:
    """[V, H, W, 3] in 0..1 as PIL images."""
    from PIL import Image

    return [Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)) for image in images]


@contextlib.contextmanager
def _as_files(images: np.ndarray) -> Iterator[list[str]]:
    """The pictures as PNG files, for libraries that open them themselves."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{index:03d}.png")) for index in range(len(images))]
        for picture, path in zip(_pictures(images), paths, strict=True):
            picture.save(path)
        yield paths
