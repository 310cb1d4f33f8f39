"""The networks of an image model, read from a pipeline folder by diffusers and transformers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..embedded import vocabulary
from ..errors import PriorError
from ..memory import is_out_of_memory
from .families import Family, family_of
from .kinds import Encoder
from .noise_schedule import read_schedule
from .pipeline_files import (
    BUILTIN_PROMPTS,
    COPY_AGAIN,
    DENOISER_WEIGHTS,
    EXTRA_FILE,
    HALF_VARIANT,
    TEXT_WEIGHTS,
    component_class,
    fingerprint,
    first_line,
    read_extra,
    read_index,
    read_json,
    read_tensors,
    weight_files,
)
from .recognition import check_weights, recognise_folder
from .text_encoders import TextReader, load_tokenizer

LOADING_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What the libraries raise of weights that do not fit. A lack of memory may be among them, and is to be told from that."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """What a model is made of.

    Attributes:
        family: how it is asked.
        denoiser: the network that predicts.
        vae: image encoder and decoder; None for a pixel-space model.
        texts: one loader for each of the family's text encoders, None for an optional one that is absent.
        alphas_cumprod: [T] float32.
        prediction_type: one of `noise_schedule.PREDICTION_TYPES`.
        fingerprint: see `DiffusionPrior`.
        pixel_unshuffle: see `pipeline_files`; 1 for none.
        recommended: overrides of what the family recommends.
        rephrase: from a user's prompt to the words the model was trained on.
    """

    family: Family
    denoiser: Any
    vae: Any | None
    texts: tuple[TextReader | None, ...]
    alphas_cumprod: Tensor
    prediction_type: str
    fingerprint: str
    pixel_unshuffle: int = 1
    recommended: dict[str, Any] = field(default_factory=dict)
    rephrase: Callable[[str], str] = str


def from_folder(folder: Path, arithmetic: torch.dtype, device: torch.device) -> Components:
    """The components of a pipeline folder; `arithmetic` is the denoiser's. Raises `PriorError`."""
    index = read_index(folder)
    kind = recognise_folder(folder, index)
    family = family_of(kind).from_index(index)
    extra = read_extra(folder)
    encoders = [encoder if component_class(index, encoder.component) else None for encoder in kind.encoders]
    has_vae = component_class(index, "vae") is not None
    weights = list(weight_files(folder, kind.denoiser, DENOISER_WEIGHTS))
    weights += [file for encoder in encoders if encoder for file in weight_files(folder, encoder.component, TEXT_WEIGHTS)]
    if has_vae:
        weights += weight_files(folder, "vae", DENOISER_WEIGHTS)
    for file in weights:
        check_weights(file)
    config = family.network_config(read_json(folder / kind.denoiser / "config.json"))
    alphas_cumprod, prediction_type = read_schedule(
        folder / "scheduler" / "scheduler_config.json", flow=family.flow, image_tokens=family.image_tokens(config)
    )
    denoiser = load_denoiser(family, folder, arithmetic)
    vae = load_vae(folder, arithmetic, device) if has_vae else None
    unshuffle = extra.get("pixel_unshuffle", 1)
    family.check(denoiser.config, vae.config.latent_channels if vae is not None else 3 * unshuffle**2, folder)
    configs = [f"{kind.denoiser}/config.json", "scheduler/scheduler_config.json", EXTRA_FILE]
    return Components(
        family=family,
        denoiser=denoiser,
        vae=vae,
        texts=tuple(None if encoder is None else text_loader(folder, encoder, arithmetic, device) for encoder in encoders),
        alphas_cumprod=alphas_cumprod,
        prediction_type=prediction_type,
        fingerprint=fingerprint([*(file for name in configs if (file := folder / name).is_file()), *weights], folder),
        pixel_unshuffle=unshuffle,
        recommended=extra.get("recommended", {}),
        rephrase=_in_the_worlds_words if extra.get("prompts") == BUILTIN_PROMPTS else str,
    )


def load_denoiser(family: Family, folder: Path, arithmetic: torch.dtype) -> Any:
    """The denoiser in a pipeline folder, under diffusers' names or the original ones. Raises `PriorError`."""
    import diffusers

    kind = family.kind
    config = read_json(folder / kind.denoiser / "config.json")
    cls = getattr(diffusers, kind.denoiser_class)
    if not family.is_original(config):
        return _load_component(cls, folder, kind.denoiser, arithmetic)
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder, kind.denoiser, DENOISER_WEIGHTS):
        tensors |= read_tensors(file)
    return build_denoiser(family, cls, config, tensors, arithmetic, folder)


def build_denoiser(
    family: Family, cls: Any, config: dict[str, Any], tensors: dict[str, Tensor], arithmetic: torch.dtype, source: Path
) -> Any:
    """The denoiser of tensors under the names of the original code. Raises `PriorError`."""
    config = family.network_config(config)
    return build(cls.from_config, config, lambda: family.convert(tensors, config), arithmetic, f"denoiser of '{source}'")


def build(make: Callable[[Any], Any], config: Any, convert: Callable[[], dict[str, Tensor]], dtype: torch.dtype, what: str) -> Any:
    """A network of this configuration with these tensors.

    Raises:
        PriorError: they do not fit, or some are missing, which the libraries would let pass and draw at random.
    """
    from diffusers.models.modeling_utils import no_init_weights

    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)  # the largest networks in single precision would not fit into memory
        with no_init_weights():
            model = make(config)
        outcome = model.load_state_dict(convert(), strict=False)
    except LOADING_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise PriorError(f"The {what} does not fit its configuration ({first_line(error)}).", remedy="Get the model again.") from error
    finally:
        torch.set_default_dtype(default)
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    # T5 shares its token table between two names, of which files keep one.
    missing = sorted(name for name in outcome.missing_keys if not name.endswith(("position_ids", "embed_tokens.weight")))
    if missing:
        raise PriorError(f"The {what} lacks {len(missing)} tensors, {missing[0]} among them.", remedy="Get the whole model.")
    return model


def load_vae(folder: Path, arithmetic: torch.dtype, device: torch.device) -> Any:
    """The VAE in a pipeline folder. Raises `PriorError`."""
    from diffusers import AutoencoderKL

    return _load_component(AutoencoderKL, folder, "vae", vae_dtype(arithmetic, device))


def text_loader(folder: Path, encoder: Encoder, arithmetic: torch.dtype, device: torch.device) -> TextReader:
    """What reads a text encoder and its tokenizer from a pipeline folder."""

    def read(place: torch.device) -> tuple[Any, Any]:
        import transformers

        dtype = text_dtype(encoder, arithmetic, device, place)
        model = _load_component(getattr(transformers, encoder.cls), folder, encoder.component, dtype)
        tokenizer = load_tokenizer(folder / encoder.tokenizer, encoder, model.config)
        return tokenizer, model.requires_grad_(False).eval().to(place)

    return TextReader(read, device)


def _load_component(cls: Any, folder: Path, component: str, dtype: torch.dtype) -> Any:
    """`from_pretrained`, refusing what it would let pass: weights that are missing in the file and would be drawn at random."""
    is_text = component.startswith("text_encoder")
    names = TEXT_WEIGHTS if is_text else DENOISER_WEIGHTS
    options: dict[str, Any] = {} if is_text else {"low_cpu_mem_usage": False}  # for diffusers that needs another package
    try:
        model, info = cls.from_pretrained(
            folder,
            subfolder=component,
            variant=None if any((folder / component / name).is_file() for name in names) else HALF_VARIANT,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
            **options,
        )
    except LOADING_ERRORS as error:
        if is_out_of_memory(error):
            raise
        reason = first_line(error)
        raise PriorError(f"The {component} in '{folder}' does not fit its config.json ({reason}).", remedy=COPY_AGAIN) from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise PriorError(f"The {component} in '{folder}' lacks {len(missing)} tensors, {missing[0]} among them.", remedy=COPY_AGAIN)
    return model if is_text else model.to(dtype)  # diffusers keeps the file's where a first buffer happens to have the wanted one


def vae_dtype(arithmetic: torch.dtype, device: torch.device) -> torch.dtype:
    """The VAE is differentiated through, where float16 overflows and underflows: bfloat16 if the device has it, else single precision."""
    if arithmetic == torch.float16:
        # NVIDIA's GPUs before Ampere have no units for it: torch imitates it there, more slowly than it computes in single precision.
        has_units = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_units else torch.float32
    return arithmetic


def text_dtype(encoder: Encoder, arithmetic: torch.dtype, device: torch.device, place: torch.device) -> torch.dtype:
    """CLIP is small enough for single precision on processors. T5 is not, but overflows in float16.

    Args:
        device: where the model computes.
        place: where this encoder does, which is the same one unless it finds no room there.
    """
    if not encoder.is_t5:
        return torch.float32 if place.type == "cpu" else arithmetic
    if arithmetic == torch.float16 and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16  # imitated will do: prompts are read once, and in single precision T5 is twice as large
    return vae_dtype(arithmetic, device)


def _in_the_worlds_words(prompt: str) -> str:
    return vocabulary.parse(prompt).text if prompt.strip() else ""


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """The libraries' progress bars and reports off: what matters is raised or logged here."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()
