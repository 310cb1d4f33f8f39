"""A distilled image encoder (diffusers' AutoencoderTiny, as TAESD) in the place of a latent model's own, for a fraction of the work.

It maps between pictures and the same z as the VAE that it was distilled from, already scaled as the denoiser expects it: its
`scaling_factor` is 1 and its `shift_factor` 0 where it was published, but are applied like any VAE's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PriorError
from ..memory import is_out_of_memory
from .hub import local_snapshot
from .kinds import is_hub_id
from .pipeline_files import DENOISER_WEIGHTS, HALF_VARIANT, fingerprint, first_line, read_json, weight_files
from .recognition import check_weights


class SmallVae:
    """An AutoencoderTiny as encoder and decoder of z.

    Attributes:
        network: the AutoencoderTiny, frozen, on the device.
        fingerprint: names its weights.
    """

    def __init__(self, network: Any, fingerprint: str = "") -> None:
        self.network, self.fingerprint = network, fingerprint

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in -1..1 to z, float32, differentiably."""
        latents = self.network.encode(pixels.to(self.network.dtype), return_dict=False)[0].float()
        return (latents - self.network.config.shift_factor) * self.network.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """z to pictures [B, 3, H, W] in about -1..1, float32."""
        latents = z / self.network.config.scaling_factor + self.network.config.shift_factor
        return self.network.decode(latents.to(self.network.dtype), return_dict=False)[0].float()


def load_small_vae(source: str, vae: Any, device: torch.device) -> SmallVae:
    """Reads an AutoencoderTiny that stands in for `vae`, in the same arithmetic.

    Nothing is fetched: a hub id has to be on this machine already.

    Args:
        source: its folder, or a hub id.
        vae: the model's own AutoencoderKL.

    Raises:
        PriorError: it cannot be found or read, or makes another z.
    """
    from diffusers import AutoencoderTiny

    folder = _find(source)
    config = read_json(folder / "config.json")
    if config.get("_class_name") != "AutoencoderTiny":
        raise PriorError(
            f"'{source}' is a {config.get('_class_name', 'model of an unknown kind')}, and no AutoencoderTiny.",
            remedy="Name a folder with an AutoencoderTiny in prior.small_vae, or none.",
        )
    weights = weight_files(folder, ".", DENOISER_WEIGHTS)
    for file in weights:
        check_weights(file)
    try:
        network, info = AutoencoderTiny.from_pretrained(
            folder,
            variant=None if any((folder / name).is_file() for name in DENOISER_WEIGHTS) else HALF_VARIANT,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            torch_dtype=vae.dtype,
        )
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise PriorError(
            f"The small image encoder in '{source}' does not fit its config.json ({first_line(error)}).", remedy="Copy it again."
        ) from error
    if info["missing_keys"]:
        raise PriorError(f"The small image encoder in '{source}' lacks {len(info['missing_keys'])} tensors.", remedy="Copy it again.")
    made = network.config.latent_channels, 2 ** (len(network.config.encoder_block_out_channels) - 1)
    wanted = vae.config.latent_channels, 2 ** (len(vae.config.block_out_channels) - 1)
    if made != wanted:
        raise PriorError(
            f"The small image encoder '{source}' makes {made[0]} channels of 1/{made[1]} size, and this model works on "
            f"{wanted[0]} of 1/{wanted[1]}.",
            remedy="Take the one that was distilled for this kind of model: taesd, taesdxl, taesd3 or taef1.",
        )
    return SmallVae(network.requires_grad_(False).eval().to(device), fingerprint([folder / "config.json", *weights], folder))


def _find(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if is_hub_id(source):
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return local_snapshot(source)
        except LocalEntryNotFoundError as error:
            raise PriorError(
                f"The small image encoder '{source}' is not on this computer.",
                remedy=f"Fetch it once with `hf download {source}`, or give its folder in prior.small_vae.",
            ) from error
    raise PriorError(
        f"There is no small image encoder '{source}'.", remedy="Name the folder of an AutoencoderTiny in prior.small_vae, or none."
    )
