"""Models as other tools keep them: one `.safetensors` file in the names of the original code, recognised by its tensors.

What such a file lacks (its configuration and tokenizers always, text encoders and the VAE often) comes from a pipeline folder: the one
that the file lies in, else the model's own on the hub, from which only what is missing is fetched, with consent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PriorError
from .families import family_of
from .families.stable_diffusion import StableDiffusion
from .hub import hub_folder
from .kinds import SD2, VAE_PREFIXES, Encoder, Kind
from .noise_schedule import read_schedule
from .pipeline_components import Components, build, build_denoiser, load_vae, text_dtype, text_loader, vae_dtype
from .pipeline_files import (
    DENOISER_WEIGHTS,
    INDEX_FILE,
    TEXT_WEIGHTS,
    MissingFileError,
    combined_fingerprint,
    fingerprint,
    read_index,
    read_json,
    read_tensors,
    weight_files,
)
from .recognition import SingleFile, UnsupportedModelError, recognise_file, recognise_folder
from .text_encoders import TextReader, load_tokenizer

COMPONENT_WORDS = {
    "vae": "VAE",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "text_encoder_3": "third text encoder",
}


def from_single_file(path: Path, arithmetic: torch.dtype, device: torch.device, allow_download: bool) -> Components:
    """The components of a single file.

    Raises:
        PriorError: it is no model, no supported one, or what it lacks is neither here nor may be fetched.
    """
    import diffusers

    found = recognise_file(path)
    kind = found.kind
    base = companion(path, found, half=arithmetic != torch.float32, allow_download=allow_download)
    try:
        family = family_of(kind).from_index(read_index(base))
        raw = read_json(base / kind.denoiser / "config.json")
        config = family.network_config(raw)
        schedule = base / "scheduler" / "scheduler_config.json"
        alphas_cumprod, prediction_type = read_schedule(
            schedule, flow=family.flow, image_tokens=family.image_tokens(config), changes=found.schedule
        )
        denoiser = build_denoiser(family, getattr(diffusers, kind.denoiser_class), raw, read_tensors(path, found.prefix), arithmetic, path)
        vae = _vae(path, base, arithmetic, device) if found.has_vae else load_vae(base, arithmetic, device)
        texts = tuple(
            _text(path, base, encoder, prefix, arithmetic, device)
            for encoder, prefix in zip(kind.encoders, found.text_prefixes, strict=True)
        )
    except MissingFileError as error:
        raise PriorError(f"'{path.name}' cannot be read: {error.message}", remedy=_remedy(found, allow_download)) from error
    family.check(denoiser.config, vae.config.latent_channels, path)
    parts = Components(
        family=family,
        denoiser=denoiser,
        vae=vae,
        texts=texts,
        alphas_cumprod=alphas_cumprod,
        prediction_type=prediction_type,
        fingerprint=combined_fingerprint(fingerprint([path], path), fingerprint(_borrowed(base, found), base)),
    )
    return told_apart(parts) if found.variant == SD2 and "prediction_type" not in found.schedule else parts


def companion(path: Path, found: SingleFile, *, half: bool, allow_download: bool) -> Path:
    """The pipeline folder that has what a single file lacks: the one it lies in, else the model's own from the hub.

    Raises:
        PriorError: it is not on this computer and may not, or cannot, be fetched.
    """
    beside = path.resolve().parent
    if (beside / INDEX_FILE).is_file() and _is_of(beside, found.kind):
        return beside
    try:
        return hub_folder(found.variant.repository, half=half, allow_download=allow_download, weights=found.absent)
    except PriorError as error:
        if allow_download:
            raise
        message = f"'{path.name}' ({found.variant.label}) {_lacks(found.absent)}."
        raise PriorError(message, remedy=_remedy(found, allow_download)) from error


def _borrowed(base: Path, found: SingleFile) -> list[Path]:
    """What is read from the companion folder and makes a difference: its noise schedule, and the networks that the file lacks."""
    texts = [encoder.component for encoder, prefix in zip(found.kind.encoders, found.text_prefixes, strict=True) if prefix is None]
    files = [base / "scheduler" / "scheduler_config.json"]
    for component in texts if found.has_vae else [*texts, "vae"]:
        with contextlib.suppress(MissingFileError):  # an optional one
            files += weight_files(base, component, DENOISER_WEIGHTS if component == "vae" else TEXT_WEIGHTS)
    return files


def _is_of(folder: Path, kind: Kind) -> bool:
    """Whether a pipeline folder is of this kind. A file may lie in any other kind of folder as well."""
    try:
        return recognise_folder(folder, read_index(folder)) is kind
    except UnsupportedModelError:
        return False


def _lacks(absent: Sequence[str]) -> str:
    if not absent:
        return "holds weights only, and the small files that describe them are not on this computer"
    return f"has no {', no '.join(COMPONENT_WORDS[name] for name in absent)}, and the rest of the model is not on this computer"


def _remedy(found: SingleFile, allow_download: bool) -> str:
    if allow_download:
        return "Put the file into the model's pipeline folder, or give that folder itself."
    return f"Allow downloads, to fetch what it lacks from '{found.variant.repository}' once, or put it into the model's pipeline folder."


def _vae(path: Path, base: Path, arithmetic: torch.dtype, device: torch.device) -> Any:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = read_json(base / "vae" / "config.json")
    tensors: dict[str, Tensor] = {}
    for prefix in VAE_PREFIXES:
        tensors |= read_tensors(path, prefix)

    def convert() -> dict[str, Tensor]:
        return convert_ldm_vae_checkpoint({VAE_PREFIXES[0] + name: tensor for name, tensor in tensors.items()}, config)

    return build(AutoencoderKL.from_config, config, convert, vae_dtype(arithmetic, device), f"VAE of '{path.name}'")


def _text(path: Path, base: Path, encoder: Encoder, prefix: str | None, arithmetic: torch.dtype, device: torch.device) -> TextReader | None:
    """What reads a text encoder from the file, or from the folder; None where an optional one is in neither."""
    if prefix is None:
        try:
            weight_files(base, encoder.component, TEXT_WEIGHTS)
        except MissingFileError:
            if encoder.optional:
                return None
            raise
        return text_loader(base, encoder, arithmetic, device)

    def read(place: torch.device) -> tuple[Any, Any]:
        import transformers

        cls = getattr(transformers, encoder.cls)
        config = cls.config_class.from_pretrained(base, subfolder=encoder.component, local_files_only=True)
        dtype = text_dtype(encoder, arithmetic, device, place)
        model = build(cls, config, lambda: _text_tensors(path, encoder, prefix, config), dtype, f"{encoder.component} of '{path.name}'")
        return load_tokenizer(base / encoder.tokenizer, encoder, config), model.requires_grad_(False).eval().to(place)

    read_json(base / encoder.component / "config.json")  # tells at once if it is not there
    return TextReader(read, device)


def _text_tensors(path: Path, encoder: Encoder, prefix: str, config: Any) -> dict[str, Tensor]:
    """A text encoder's tensors under the names of transformers."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    tensors = read_tensors(path, prefix)
    if prefix.endswith(".model."):  # OpenCLIP's names
        holder = type("Holder", (), {"config": config})()
        tensors = convert_open_clip_checkpoint(holder, {prefix + name: tensor for name, tensor in tensors.items()}, prefix)
    if encoder.cls == "CLIPTextModelWithProjection":
        # Files leave out the projection of the first encoder of Stable Diffusion 3, which is the identity.
        tensors.setdefault("text_projection.weight", torch.eye(config.projection_dim, config.hidden_size))
    elif encoder.cls == "CLIPTextModel":
        tensors = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    return tensors


@torch.no_grad()
def told_apart(parts: Components) -> Components:
    """Stable Diffusion 2 with the prediction type that it has: no file says whether it predicts the noise or the velocity.

    At the highest noise level the input is nearly the noise, so that a prediction of the noise resembles it, while the velocity is
    nearly minus the image. The models that predict the noise are those of 512 pixels.
    """
    assert isinstance(parts.family, StableDiffusion)
    config, last = parts.denoiser.config, len(parts.alphas_cumprod) - 1
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, config.in_channels, 32, 32, generator=generator)
    words = torch.zeros(1, 77, config.cross_attention_dim)
    arithmetic = parts.denoiser.dtype
    parts.denoiser.float()  # still in main memory, and processors take minutes for this in half precision; nothing is rounded
    said = parts.family.predict(parts.denoiser, noise, torch.tensor([last]), {"embeddings": words}, (0, 0))
    parts.denoiser.to(arithmetic)
    likeness = torch.nn.functional.cosine_similarity(said.flatten(), noise.flatten(), dim=0).item()
    if likeness < 0.5:
        return replace(parts, prediction_type="v_prediction")
    return replace(parts, prediction_type="epsilon", recommended=parts.recommended | {"resolutions": [512]})
