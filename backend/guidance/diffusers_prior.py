"""Any text-to-image model in the diffusers format as a `DiffusionPrior`: Stable Diffusion 1.x and 2.x, and the built-in learned prior.

A prior comes from a local pipeline folder (`model_index.json` and a folder a component), from a single `.safetensors`
file as other tools keep them, or, with consent, from the hub. Latent (with a VAE) and pixel-space models (without one)
are read alike; a model that predicts the noise, the velocity (Salimans and Ho 2022) or the image is asked through one
conversion to the noise. Weights are read from safetensors only: nothing is ever unpickled, and no code from a model's
folder is run. Safety checker and feature extractor are not loaded.

`pipeline_files` knows what lies on disk, `pipeline_components` makes networks of it, and here they become a prior.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import PriorError
from .pipeline_components import PREDICTION_TYPES, Components, from_folder, from_single_file, quiet_libraries
from .pipeline_files import EXTRA_FILE, hub_folder
from .prior import Conditioning, DiffusionPrior, PriorDefaults

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def to_noise(prediction: Tensor, z_t: Tensor, alpha_bar: Tensor, prediction_type: str) -> Tensor:
    """The noise that a prediction implies, from z_t = sqrt(abar) z + sqrt(1 - abar) eps.

    Args:
        prediction: [B, ...] the network's output.
        z_t: [B, ...] its noisy input.
        alpha_bar: broadcastable to them, abar_t.
        prediction_type: `epsilon` (eps itself), `v_prediction` (v = sqrt(abar) eps - sqrt(1 - abar) z; Salimans and Ho
            2022, appendix D) or `sample` (z itself).
    """
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        return signal * prediction + noise * z_t
    if prediction_type == "sample":
        return (z_t - signal * prediction) / noise
    raise PriorError(f"The model predicts '{prediction_type}', which is unknown.", remedy=f"Known are {', '.join(PREDICTION_TYPES)}.")


class DiffusersPrior(DiffusionPrior):
    """A frozen diffusers model.

    z is the latent [B, c, h, w] scaled as the denoiser expects it, or, in pixel space, the image [B, 3, H, W] in -1..1.
    """

    def __init__(self, name: str, parts: Components, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.fingerprint = parts.fingerprint
        self.alphas_cumprod = parts.alphas_cumprod.to(device)
        self.prediction_type = parts.prediction_type
        # Tensor cores want channels last; on CPUs group normalisation is slower that way by more than the convolutions gain.
        self._layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self._unet = parts.unet.requires_grad_(False).eval().to(device=device, memory_format=self._layout)
        self._vae = None if parts.vae is None else parts.vae.requires_grad_(False).eval().to(device=device, memory_format=self._layout)
        self._unshuffle = parts.pixel_unshuffle
        self._load_text = parts.text
        self._rephrase = parts.rephrase
        self._embeddings: dict[str, Tensor] = {}
        size = self._unet.config.sample_size * self._unshuffle
        self._latent_shift, self._latent_scale = 0.0, 1.0  # z = (latent - shift) * scale
        if self._vae is not None:
            size *= 2 ** (len(self._vae.config.block_out_channels) - 1)
            self._latent_scale = self._vae.config.scaling_factor
            self._latent_shift = getattr(self._vae.config, "shift_factor", None) or 0.0
        self.recommended = _defaults(latent=self._vae is not None, resolution=size, overrides=parts.recommended)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Text embeddings [B, tokens, width] as `embeddings`. The text encoder is freed afterwards, and what it gave is kept."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._embeddings]
        if new:
            with quiet_libraries():
                tokenizer, encoder = self._load_text()
            embeddings = _embed(tokenizer, encoder, [self._rephrase(prompt) for prompt in new])
            for prompt, embedding in zip(new, embeddings, strict=True):
                self._embeddings[prompt] = embedding.to(self.device, self._unet.dtype)
        return Conditioning(tuple(prompts), {"embeddings": torch.stack([self._embeddings[prompt] for prompt in prompts])})

    def encode_images(self, images: Tensor) -> Tensor:
        """z of images. A size that is not among `recommended.resolutions` is resized to the largest of them (bilinear, antialiased).

        Latents are the posterior's mean, not a sample: the renderings' gradient needs no noise of the encoder's.
        """
        if tuple(images.shape[-2:]) not in {(size, size) for size in self.recommended.resolutions}:
            size = self.recommended.resolutions[-1]
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        pixels = images * 2 - 1
        if self._vae is None:
            return pixels
        mean = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.mode().float()
        return (mean - self._latent_shift) * self._latent_scale

    @torch.no_grad()
    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `DiffusionPrior`."""
        sample = F.pixel_unshuffle(z_t, self._unshuffle) if self._unshuffle > 1 else z_t
        sample = sample.to(self._unet.dtype, memory_format=self._layout)
        prediction = self._unet(sample, t, encoder_hidden_states=conditioning.tensors["embeddings"], return_dict=False)[0].float()
        if self._unshuffle > 1:
            prediction = F.pixel_shuffle(prediction, self._unshuffle)
        return to_noise(prediction, z_t, self.alphas_cumprod[t].view(-1, 1, 1, 1), self.prediction_type)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """See `DiffusionPrior`."""
        if self._vae is not None:
            z = self._vae.decode((z / self._latent_scale + self._latent_shift).to(self._vae.dtype), return_dict=False)[0].float()
        return (z * 0.5 + 0.5).clamp(0, 1)


def load_diffusers_prior(
    source: str | Path,
    *,
    device: torch.device,
    dtype: str = "auto",
    allow_download: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> DiffusersPrior:
    """Reads a model.

    Args:
        source: pipeline folder, `.safetensors` file, or hub id ("owner/name").
        device: where it runs.
        dtype: `float32`, `float16`, `bfloat16`, or `auto` (`choose_dtype`).
        allow_download: whether missing files may be fetched from the hub. Without it, no connection is made.
        progress: told what is being read or fetched.

    Raises:
        PriorError: it cannot be found, read, or used.
    """
    arithmetic = choose_dtype(dtype, device)
    path = Path(source).expanduser()
    with quiet_libraries():
        if path.is_dir():
            progress(f"reading the model in {path.name}")
            parts = from_folder(path, arithmetic, device)
        elif path.is_file():
            progress(f"reading the model {path.name}")
            parts = from_single_file(path, arithmetic, device, allow_download)
        elif _HUB_ID.fullmatch(str(source)) and path.suffix != ".safetensors" and not path.parent.exists():
            progress(f"fetching the model {source}" if allow_download else f"reading the model {source}")
            folder = hub_folder(str(source), half=arithmetic != torch.float32, allow_download=allow_download)
            parts = from_folder(folder, arithmetic, device)
        else:
            raise PriorError(
                f"There is no model at '{source}'.", remedy="Give a pipeline folder, a .safetensors file, or a hub id such as owner/name."
            )
    return DiffusersPrior(str(source), parts, device)


def choose_dtype(requested: str, device: torch.device) -> torch.dtype:
    """The denoiser's arithmetic: as requested, or half precision on accelerators and on processors with bfloat16 units, else single."""
    if requested != "auto":
        return getattr(torch, requested)
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else torch.float32


def _defaults(*, latent: bool, resolution: int, overrides: dict[str, Any]) -> PriorDefaults:
    """DreamFusion's habits (guidance 100, w = 1 - abar) for latent models, 20 for pixels, unless the model itself says otherwise."""
    values: dict[str, Any] = {"guidance_scale": 100.0 if latent else 20.0, "weighting": "sds", "clamp": 0.0, "resolutions": (resolution,)}
    known = {f.name for f in dataclasses.fields(PriorDefaults)}
    unknown = sorted(overrides.keys() - known)
    if unknown:
        raise PriorError(f"{EXTRA_FILE} recommends '{unknown[0]}', which is no setting.", remedy=f"Known are {', '.join(sorted(known))}.")
    values.update({name: tuple(value) if isinstance(value, list) else value for name, value in overrides.items()})
    return PriorDefaults(**values)


@torch.no_grad()
def _embed(tokenizer: Any, encoder: Any, prompts: list[str]) -> Tensor:
    """[B, tokens, width]: the text encoder's last hidden state, padded to the tokenizer's full length as in training."""
    tokens = tokenizer(prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
    for prompt in prompts:
        if len(tokenizer(prompt, verbose=False).input_ids) > tokenizer.model_max_length:
            log.warning(
                "The prompt is longer than the model reads (%d tokens); the rest is ignored: %s", tokenizer.model_max_length, prompt[:80]
            )
    mask = tokens.attention_mask.to(encoder.device) if getattr(encoder.config, "use_attention_mask", False) else None
    return encoder(tokens.input_ids.to(encoder.device), attention_mask=mask).last_hidden_state
