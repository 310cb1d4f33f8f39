"""Stable Diffusion 1.x and 2.x (Rombach et al. 2022), and pixel-space models of the same form, such as the built-in learned prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..kinds import STABLE_DIFFUSION
from ..pipeline_files import component_class
from ..text_encoders import TextLoader, encode
from ..text_projections import take_text_projections
from .family import Family, check_conditions, convert_unet


@dataclass(frozen=True)
class StableDiffusion(Family):
    """A UNet that reads the last states of one CLIP text encoder.

    Attributes:
        latent: whether it has a VAE.
    """

    kind = STABLE_DIFFUSION

    latent: bool = True

    @classmethod
    def from_index(cls, index: Mapping[str, Any]) -> StableDiffusion:
        return cls(component_class(index, "vae") is not None)

    def convert(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
        return convert_unet(tensors, config)

    def prepare(self, denoiser: Any) -> Callable[[Tensor], Tensor] | None:
        """Keys and values are made of text once, where that pays."""
        return take_text_projections(denoiser)

    def check(self, config: Mapping[str, Any], z_channels: int, source: Path) -> None:
        super().check(config, z_channels, source)
        check_conditions(config, source, added=(None, "text"))

    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """DreamFusion's weighting; scales as the methods that followed it use them for latents, and for pixels."""
        return {"guidance_scale": 100.0 if self.latent else 20.0, "weighting": "sds", "clamp": 0.0, "resolutions": (size,)}

    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """`embeddings` [B, tokens, width]."""
        (load,) = texts
        assert load is not None
        return {"embeddings": encode(load, prompts).last_hidden_state}

    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        return denoiser(sample, time, encoder_hidden_states=conditioning["embeddings"], return_dict=False)[0]
