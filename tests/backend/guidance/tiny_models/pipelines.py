"""Pipeline folders of Stable Diffusion's form with tiny networks of random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from backend.embedded.learned.model import build_scheduler, build_tokenizer
from backend.guidance.diffusers_prior import load_diffusers_prior

CPU = torch.device("cpu")
WIDTH = 32


def tiny_text_encoder(vocabulary: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=vocabulary, max_position_embeddings=16, **sizes))


def tiny_unet(channels: int, size: int, **changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    options: dict[str, Any] = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**(options | changes))


def tiny_vae(**changes: Any) -> Any:
    from diffusers import AutoencoderKL

    options: dict[str, Any] = {
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "scaling_factor": 0.25,
    }
    return AutoencoderKL(**(options | changes))


def write_pipeline(
    folder: Path, *, prediction: str = "epsilon", vae: Any = None, unet: Any = None, extra: dict[str, Any] | None = None
) -> Path:
    """A pipeline folder in Stable Diffusion's layout; without a VAE a pixel-space one."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    parts = {"text_encoder": tiny_text_encoder(len(tokenizer)), "unet": unet or tiny_unet(4, 16)}
    index = {
        "_class_name": "StableDiffusionPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "vae": ["diffusers", "AutoencoderKL"] if vae else [None, None],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],  # named but absent: it is never read
    }
    if vae:
        parts["vae"] = vae
    for name, model in parts.items():
        model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "tokenizer")
    build_scheduler().save_pretrained(folder / "scheduler")
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type=prediction, _class_name="PNDMScheduler")
    (folder / "model_index.json").write_text(json.dumps(index))
    if extra is not None:
        (folder / "cograd3d.json").write_text(json.dumps({"format": 1} | extra))
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(folder: Path | str, **options: Any) -> Any:
    return load_diffusers_prior(folder, device=CPU, dtype="float32", **options)
