"""Models in one file each, under the names of the original code."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from .configurations import KINDS, T5, TRANSFORMERS
from .original_transformers import sd3_to_original
from .original_unets import clip_to_openclip, unet_to_original, vae_to_original

TEXT_PREFIXES = {
    "sd15": ("cond_stage_model.transformer.",),
    "sd21": ("cond_stage_model.model.",),
    "mvdream": ("cond_stage_model.model.",),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    "sd3": ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", "text_encoders.t5xxl.transformer."),
}
TEXT_PREFIXES["sd35"] = TEXT_PREFIXES["sd3"]


def write_single_file(folder: Path, kind: str, path: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A pipeline folder's networks in one file under the names of the original code.

    Args:
        without: components to leave out; with all but the denoiser left out, its names have no prefix either.
    """
    from safetensors.torch import load_file

    def load(component: str) -> dict[str, Tensor]:
        (file,) = (folder / component).glob("*.safetensors")
        return load_file(file)

    name = "transformer" if kind in TRANSFORMERS else "unet"
    config = json.loads((folder / name / "config.json").read_text())
    network = sd3_to_original(load(name), config) if kind in TRANSFORMERS else unet_to_original(load(name), config)
    texts = [f"text_encoder{suffix}" for suffix in ("", "_2", "_3")[: len(KINDS[kind]["texts"])]]
    alone = {"vae", *texts} <= set(without)
    tensors = {("" if alone else "model.diffusion_model.") + key: value for key, value in network.items()}
    if "vae" not in without:
        tensors |= {f"first_stage_model.{key}": value for key, value in vae_to_original(load("vae")).items()}
    for component, cls, prefix in zip(texts, KINDS[kind]["texts"], TEXT_PREFIXES[kind], strict=True):
        if component not in without:
            state = load(component)
            if prefix.endswith(".model."):
                state = clip_to_openclip(state)
            elif cls != T5:
                state = {
                    key if key.startswith(("text_model.", "text_projection")) else f"text_model.{key}": value
                    for key, value in state.items()
                }
            tensors |= {prefix + key: value for key, value in state.items()}
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    return path
