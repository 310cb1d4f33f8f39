"""Flow-matching transformers: Stable Diffusion 3 and 3.5 (Esser et al. 2024), and FLUX.1.

`noise_schedule` puts them into the language of the rules; here they are asked for their velocity.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kinds import FLUX, STABLE_DIFFUSION_3
from ..text_encoders import TextLoader, clip_penultimate, encode
from .family import Family

log = logging.getLogger(__name__)

SD3_T5_TOKENS = 256
FLUX_DEV_T5_TOKENS, FLUX_SCHNELL_T5_TOKENS = 512, 256
"""What each was trained with; T5's padding is attended to, so that more of it is another prompt."""
TIMESTEPS = 1000
"""What the transformers' embedding of time counts up to."""
FLUX_GUIDANCE = 3.5
"""The guidance scale that FLUX.1 [dev] is told it was sampled with: its publishers' default."""


class StableDiffusion3(Family):
    """Two CLIP text encoders and T5, which may be left out."""

    kind = STABLE_DIFFUSION_3
    flow = True

    def convert(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
        from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers

        return convert_sd3_transformer_checkpoint_to_diffusers(tensors)

    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """100 is what distillation of this model is published with: Yang et al. 2024, "Text-to-Image Rectified Flow as Plug-and-Play
        Priors", whose loss is the difference of velocities, that is the weighting "flow"."""
        return {"guidance_scale": 100.0, "weighting": "flow", "clamp": 0.0, "resolutions": (size // 2, size)}

    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """`embeddings` [B, CLIP's and T5's tokens, width]: CLIP's states padded with zeros to T5's width, and T5's, or zeros.
        `pooled` [B, both CLIPs' projections]."""
        first, second, third = texts
        assert first is not None and second is not None
        states, pooled = zip(*(clip_penultimate(load, prompts) for load in (first, second)), strict=True)
        clip = torch.cat(states, dim=-1)
        width = config["joint_attention_dim"]
        clip = F.pad(clip, (0, width - clip.shape[-1]))
        if third is None:
            t5 = clip.new_zeros(len(prompts), SD3_T5_TOKENS, width)
        else:
            t5 = encode(third, prompts, length=SD3_T5_TOKENS, mask=False).last_hidden_state.to(clip.dtype)
        return {"embeddings": torch.cat([clip, t5], dim=1), "pooled": torch.cat(pooled, dim=-1)}

    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        return denoiser(
            hidden_states=sample,
            timestep=time * TIMESTEPS,
            encoder_hidden_states=conditioning["embeddings"],
            pooled_projections=conditioning["pooled"],
            return_dict=False,
        )[0]


class Flux(Family):
    """FLUX.1 [dev], distilled to answer as if guided, and [schnell], distilled to few steps: a pooled CLIP vector, and T5's states."""

    kind = FLUX
    flow = True

    def convert(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
        from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

        return convert_flux_transformer_checkpoint_to_diffusers(tensors)

    def channels(self, z_channels: int) -> tuple[int, tuple[int, ...]]:
        return 4 * z_channels, (4 * z_channels,)  # 2 x 2 latent pixels are one token

    def image_size(self, config: Mapping[str, Any]) -> int:
        return 128  # not in its configuration; what its pipeline defaults to

    def granularity(self, config: Mapping[str, Any]) -> int:
        return 2

    def image_tokens(self, config: Mapping[str, Any]) -> int:
        return (self.image_size(config) // 2) ** 2

    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """[dev] brings its guidance with it, and neither has ever seen the empty prompt guide: the prompt alone."""
        return {"guidance_scale": 1.0, "weighting": "flow", "clamp": 0.0, "resolutions": (size // 2, size)}

    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """`embeddings` [B, 512 or 256, width] of T5, `pooled` [B, width] of CLIP."""
        first, second = texts
        assert first is not None and second is not None
        tokens = FLUX_DEV_T5_TOKENS if config["guidance_embeds"] else FLUX_SCHNELL_T5_TOKENS
        return {
            "pooled": encode(first, prompts).pooler_output,
            "embeddings": encode(second, prompts, length=tokens, mask=False).last_hidden_state,
        }

    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        count, _, height, width = sample.shape
        embeddings = conditioning["embeddings"]
        rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).view(-1, 3).to(sample)
        guided = denoiser.config.guidance_embeds
        prediction = denoiser(
            hidden_states=F.pixel_unshuffle(sample, 2).flatten(2).transpose(1, 2),
            timestep=time,
            guidance=torch.full((count,), FLUX_GUIDANCE, device=sample.device) if guided else None,
            pooled_projections=conditioning["pooled"],
            encoder_hidden_states=embeddings,
            txt_ids=embeddings.new_zeros(embeddings.shape[1], 3),
            img_ids=places,
            return_dict=False,
        )[0]
        return F.pixel_shuffle(prediction.transpose(1, 2).unflatten(2, (height // 2, width // 2)), 2)
