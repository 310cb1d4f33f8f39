"""DeepFloyd IF, stage I: diffusion of 64 x 64 pixels that reads T5, after Imagen (Saharia et al. 2022). No VAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import PriorError
from ..kinds import DEEPFLOYD
from ..text_encoders import TextLoader, encode
from .family import Family, check_conditions

TOKENS = 77
"""T5 reads more, but this is what the model was trained with."""


class DeepFloyd(Family):
    """A pixel-space UNet whose output also has the variances it learned, which are dropped."""

    kind = DEEPFLOYD

    def channels(self, z_channels: int) -> tuple[int, tuple[int, ...]]:
        return z_channels, (z_channels, 2 * z_channels)

    def check(self, config: Mapping[str, Any], z_channels: int, source: Path) -> None:
        if config["in_channels"] == 2 * z_channels:
            raise PriorError(f"'{source}' is DeepFloyd IF's second stage, which only enlarges images.", remedy="Give stage I.")
        super().check(config, z_channels, source)
        check_conditions(config, source, added=(None, "text"))

    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """20 is what distillation of IF is published with (threestudio's DreamFusion configuration for it)."""
        return {"guidance_scale": 20.0, "weighting": "sds", "clamp": 0.0, "resolutions": (size,)}

    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """`embeddings` [B, 77, width]; the model knows lower case only."""
        (load,) = texts
        assert load is not None
        said = encode(load, [prompt.lower().strip() for prompt in prompts], length=TOKENS, mask=True)
        return {"embeddings": said.last_hidden_state}

    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        prediction = denoiser(sample, time, encoder_hidden_states=conditioning["embeddings"], return_dict=False)[0]
        return prediction[:, : sample.shape[1]]
