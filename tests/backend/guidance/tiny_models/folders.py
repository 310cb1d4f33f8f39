"""Models with random weights, in pipeline folders as the libraries save them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from backend.embedded.learned.model import build_tokenizer

from .configurations import CLIP_TOKENS, CLIP_WIDTH, KINDS, PIXELS, SCHEDULERS, T5, TRANSFORMERS

CPU = torch.device("cpu")


def denoiser(kind: str, **changes: Any) -> Any:
    import diffusers

    if kind in TRANSFORMERS:
        return getattr(diffusers, TRANSFORMERS[kind])(**(KINDS[kind]["transformer"] | changes))
    return diffusers.UNet2DConditionModel(**(KINDS[kind]["unet"] | changes))


def text_encoder(cls: str, vocabulary: int, width: int = CLIP_WIDTH, layers: int = 2) -> Any:
    import transformers

    if cls == T5:
        config: Any = transformers.T5Config(
            vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
        )
    else:
        sizes = {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2}
        ids = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
        config = transformers.CLIPTextConfig(
            vocab_size=vocabulary, max_position_embeddings=CLIP_TOKENS, projection_dim=width, **sizes, **ids
        )
    return getattr(transformers, cls)(config)


T5_PIECES = [
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    ("\u2581", -4.0),
    ("\u2581cat", -3.0),
    ("\u2581red", -3.5),
    *((c, -6.0) for c in "abcdefghijklmnopqrstuvwxyz,"),
]


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=list(T5_PIECES), extra_ids=0, additional_special_tokens=["<extra_id_0>"])


def sentencepiece_model() -> bytes:
    """`T5_PIECES` in SentencePiece's own format."""

    def field(number: int, value: bytes) -> bytes:
        size, length = len(value), b""
        while size >= 128:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + value

    def piece(text: str, score: float) -> bytes:
        return field(1, text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + bytes([3 << 3, 1])

    return b"".join(field(1, piece(*entry)) for entry in T5_PIECES) + field(2, field(1, b"x" * 200)) + field(3, field(1, b"identity"))


def write_model(folder: Path, kind: str, *, index: Mapping[str, Any] | None = None, extra: bool = True, **changes: Any) -> Path:
    """A pipeline folder.

    Args:
        index: changes to model_index.json.
        extra: whether a cograd3d.json says that the model is made for small pictures.
        changes: changes to the denoiser's configuration.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    what = KINDS[kind]
    network = denoiser(kind, **changes)
    name = "transformer" if kind in TRANSFORMERS else "unet"
    entries: dict[str, Any] = {"_class_name": what["pipeline"], name: ["diffusers", type(network).__name__]}
    network.save_pretrained(folder / name)
    if what["vae"]:
        AutoencoderKL(**what["vae"]).save_pretrained(folder / "vae")
        entries["vae"] = ["diffusers", "AutoencoderKL"]
    for number, cls in enumerate(what["texts"]):
        suffix = f"_{number + 1}" if number else ""
        tokenizer = t5_tokenizer() if cls == T5 else build_tokenizer()
        tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
        width = what["transformer"]["joint_attention_dim"] if cls == T5 and kind in TRANSFORMERS else CLIP_WIDTH
        text_encoder(cls, len(tokenizer), width).save_pretrained(folder / f"text_encoder{suffix}")
        entries |= {f"text_encoder{suffix}": ["transformers", cls], f"tokenizer{suffix}": ["transformers", type(tokenizer).__name__]}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULERS[kind]))
    entries |= {"scheduler": ["diffusers", SCHEDULERS[kind]["_class_name"]], "safety_checker": [None, None], **(index or {})}
    (folder / "model_index.json").write_text(json.dumps(entries))
    if extra:
        (folder / "cograd3d.json").write_text(json.dumps({"format": 1, "recommended": {"resolutions": [PIXELS]}}))
    return folder


def load(source: Path | str, **options: Any) -> Any:
    from backend.guidance.diffusers_prior import load_diffusers_prior

    return load_diffusers_prior(source, device=CPU, **({"dtype": "float32"} | options))
