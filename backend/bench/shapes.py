"""Models of published shapes with random weights, made in memory: as slow as the real ones, and nothing is downloaded.

Standard library only at import.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""The image encoder of Stable Diffusion 1, 2 and XL."""


@dataclass(frozen=True)
class Shape:
    """A model's architecture.

    Attributes:
        family: module and class in `guidance.families`.
        denoiser: its configuration, as published.
        vae: that of the image encoder.
        words: shape of each tensor that a prompt becomes.
    """

    family: tuple[str, str]
    denoiser: dict[str, Any]
    words: dict[str, tuple[int, ...]]
    vae: dict[str, Any] = field(default_factory=lambda: VAE)


SHAPES = {
    "sd15": Shape(
        ("stable_diffusion", "StableDiffusion"),
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        {"embeddings": (77, 768)},
        VAE | {"sample_size": 512, "scaling_factor": 0.18215},
    ),
    "sd21": Shape(
        ("stable_diffusion", "StableDiffusion"),
        {
            "sample_size": 64,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        {"embeddings": (77, 1024)},
        VAE | {"sample_size": 512, "scaling_factor": 0.18215},
    ),
    "sdxl": Shape(
        ("sdxl", "StableDiffusionXL"),
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        {"embeddings": (77, 2048), "pooled": (1280,)},
        VAE | {"sample_size": 1024, "scaling_factor": 0.13025},
    ),
    "tiny": Shape(
        ("stable_diffusion", "StableDiffusion"),
        {
            "sample_size": 16,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
        },
        {"embeddings": (8, 16)},
        {
            "block_out_channels": (8, 8),
            "norm_num_groups": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "latent_channels": 4,
            "scaling_factor": 0.25,
        },
    ),
}
"""Stable Diffusion 1.5, 2.1 (base) and XL as their publishers' config.json have them, and one for tests."""


def random_prior(name: str, device: Any, settings: Any, *, pixels: int | None = None) -> Any:
    """A `DiffusersPrior` of a shape; its words are random too.

    Args:
        name: one of `SHAPES`.
        device: torch device.
        settings: a `PriorConfig`, of which arithmetic, memory mode and compilation count.
        pixels: the size it is used at, where that is not its own.
    """
    import importlib
    from collections.abc import Sequence

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from ..guidance.diffusers_prior import DiffusersPrior, choose_dtype
    from ..guidance.pipeline_components import Components, vae_dtype
    from ..guidance.prior import Conditioning

    class RandomPrior(DiffusersPrior):
        def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
            generator = torch.Generator().manual_seed(0)
            dtype = self.networks.denoiser.dtype
            tensors = {name: torch.randn(len(prompts), *size, generator=generator) for name, size in shape.words.items()}
            return Conditioning(tuple(prompts), {name: tensor.to(self.device, dtype) for name, tensor in tensors.items()})

    shape = SHAPES[name]
    module, family = shape.family
    arithmetic = choose_dtype(settings.dtype, device)
    parts = Components(
        family=getattr(importlib.import_module(f"..guidance.families.{module}", __package__), family)(),
        denoiser=_random(UNet2DConditionModel, shape.denoiser, arithmetic),
        vae=_random(AutoencoderKL, shape.vae, vae_dtype(arithmetic, device)),
        texts=(),
        alphas_cumprod=torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0),
        prediction_type="epsilon",
        fingerprint=f"random {name}",
        recommended={} if pixels is None else {"resolutions": [pixels]},
    )
    return RandomPrior(name, parts, device, memory=settings.memory, compiled=settings.compile)


def _random(cls: Any, config: dict[str, Any], dtype: Any) -> Any:
    """A network of a configuration: weights uniform within one over the root of what a unit sums up, biases 0, norms 1."""
    import torch
    from diffusers.models.modeling_utils import no_init_weights

    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with no_init_weights():
            network = cls(**config)
    finally:
        torch.set_default_dtype(default)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                bound = 1 / math.sqrt(parameter[0].numel())
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                parameter.fill_(float(parameter_name.endswith("weight")))
    return network
