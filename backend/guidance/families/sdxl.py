"""Stable Diffusion XL (Podell et al. 2023): two CLIP text encoders, and a UNet that is also told the image's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..kinds import STABLE_DIFFUSION_XL
from ..text_encoders import TextLoader, clip_penultimate
from .family import Family, check_conditions, convert_unet


@dataclass(frozen=True)
class StableDiffusionXL(Family):
    """SDXL base and its fine-tunings.

    Attributes:
        zero_empty: whether the empty prompt means zeros, as the base model was trained.
    """

    kind = STABLE_DIFFUSION_XL

    zero_empty: bool = True

    @classmethod
    def from_index(cls, index: Mapping[str, Any]) -> StableDiffusionXL:
        return cls(bool(index.get("force_zeros_for_empty_prompt", True)))

    def convert(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
        return convert_unet(tensors, config)

    def check(self, config: Mapping[str, Any], z_channels: int, source: Path) -> None:
        super().check(config, z_channels, source)
        check_conditions(config, source, added=("text_time",))

    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """As latent models of the first generations. It is told the size, so that half of it, a quarter of the work, is possible."""
        return {"guidance_scale": 100.0, "weighting": "sds", "clamp": 0.0, "resolutions": (size // 2, size)}

    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """`embeddings` [B, tokens, both widths], `pooled` [B, width of the second's projection]."""
        first, second = texts
        assert first is not None and second is not None
        states, _ = clip_penultimate(first, prompts)
        more, pooled = clip_penultimate(second, prompts)
        embeddings = torch.cat([states, more], dim=-1)
        if self.zero_empty:
            empty = torch.tensor([not prompt for prompt in prompts], device=embeddings.device)
            embeddings, pooled = embeddings.masked_fill(empty[:, None, None], 0), pooled.masked_fill(empty[:, None], 0)
        return {"embeddings": embeddings, "pooled": pooled}

    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        """The image is said to be as large as it is, and nothing of it cropped away."""
        sizes = torch.tensor([*pixels, 0, 0, *pixels], dtype=sample.dtype, device=sample.device)
        added = {"text_embeds": conditioning["pooled"], "time_ids": sizes.expand(len(sample), -1)}
        return denoiser(sample, time, encoder_hidden_states=conditioning["embeddings"], added_cond_kwargs=added, return_dict=False)[0]
