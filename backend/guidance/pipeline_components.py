"""The networks of a diffusion model, read from a pipeline folder or a single file by diffusers and transformers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..embedded import vocabulary
from ..errors import PriorError
from .pipeline_files import (
    BUILTIN_PROMPTS,
    COPY_AGAIN,
    DENOISER_WEIGHTS,
    EXTRA_FILE,
    SUPPORTED,
    TEXT_WEIGHTS,
    check_family,
    check_safetensors,
    check_single_file_family,
    component_class,
    fingerprint,
    first_line,
    read_extra,
    read_index,
    read_json,
    weight_files,
)

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


@dataclass(frozen=True)
class Components:
    """What a pipeline is made of.

    Attributes:
        unet: the denoiser.
        vae: image encoder and decoder; None for a pixel-space model.
        text: loads tokenizer and text encoder; called again only if new prompts come after they were freed.
        alphas_cumprod: [T] float32.
        prediction_type: one of `PREDICTION_TYPES`.
        pixel_unshuffle: see `pipeline_files`; 1 for none.
        recommended: overrides of the defaults of this kind of model.
        fingerprint: see `DiffusionPrior`.
        rephrase: from a user's prompt to the words the model was trained on.
    """

    unet: Any
    vae: Any | None
    text: Callable[[], tuple[Any, Any]]
    alphas_cumprod: Tensor
    prediction_type: str
    pixel_unshuffle: int
    recommended: dict[str, Any]
    fingerprint: str
    rephrase: Callable[[str], str] = str


def from_folder(folder: Path, arithmetic: torch.dtype, device: torch.device) -> Components:
    """The components of a pipeline folder; `arithmetic` is the denoiser's. Raises `PriorError`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    index = read_index(folder)
    check_family(folder, index)
    extra = read_extra(folder)
    has_vae = component_class(index, "vae") is not None
    weights = [*weight_files(folder, "unet", DENOISER_WEIGHTS), *weight_files(folder, "text_encoder", TEXT_WEIGHTS)]
    if has_vae:
        weights += weight_files(folder, "vae", DENOISER_WEIGHTS)
    for file in weights:
        check_safetensors(file)
    alphas_cumprod, prediction_type = _read_scheduler(folder / "scheduler" / "scheduler_config.json")
    unet = _load_component(UNet2DConditionModel, folder, "unet", arithmetic)
    vae = _load_component(AutoencoderKL, folder, "vae", _vae_dtype(arithmetic, device)) if has_vae else None
    unshuffle = extra.get("pixel_unshuffle", 1)
    _check_channels(unet, vae, unshuffle, folder)

    def text() -> tuple[Any, Any]:
        encoder = _load_component(CLIPTextModel, folder, "text_encoder", torch.float32 if device.type == "cpu" else arithmetic)
        tokenizer = _load_tokenizer(folder / "tokenizer", encoder.config)
        return tokenizer, encoder.requires_grad_(False).eval().to(device)

    configs = [file for name in ("unet/config.json", "scheduler/scheduler_config.json", EXTRA_FILE) if (file := folder / name).is_file()]
    return Components(
        unet=unet,
        vae=vae,
        text=text,
        alphas_cumprod=alphas_cumprod,
        prediction_type=prediction_type,
        pixel_unshuffle=unshuffle,
        recommended=extra.get("recommended", {}),
        fingerprint=fingerprint([*configs, *weights]),
        rephrase=_in_the_worlds_words if extra.get("prompts") == BUILTIN_PROMPTS else str,
    )


def from_single_file(path: Path, arithmetic: torch.dtype, device: torch.device, allow_download: bool) -> Components:
    """A checkpoint as other tools keep them: one file in the original layout (`model.diffusion_model.*` and so on).

    Raises:
        PriorError: it is no model, no supported one, or its configuration is neither here nor may be fetched.
    """
    from diffusers import StableDiffusionPipeline

    if path.suffix != ".safetensors":
        raise PriorError(
            f"'{path}' is not a safetensors file; other formats can run code when they are read.",
            remedy="Get the model's .safetensors version.",
        )
    header = check_safetensors(path)
    check_single_file_family(path, header)
    try:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(path), dtype=arithmetic, local_files_only=not allow_download, safety_checker=None, feature_extractor=None
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        if not allow_download:
            raise PriorError(
                f"'{path.name}' holds weights only, and the small files that describe them are not on this computer.",
                remedy="Allow downloads, to fetch them once, or give a pipeline folder.",
            ) from error
        raise PriorError(f"'{path}' cannot be read as Stable Diffusion 1.x or 2.x ({first_line(error)}).", remedy=SUPPORTED) from error
    config = dict(pipeline.scheduler.config)
    vae = pipeline.vae.to(_vae_dtype(arithmetic, device))
    _check_channels(pipeline.unet, vae, 1, path)
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder.to(device, torch.float32 if device.type == "cpu" else arithmetic)
    held = [(tokenizer, encoder.requires_grad_(False).eval())]

    def text() -> tuple[Any, Any]:
        return held[0]

    return Components(
        unet=pipeline.unet,
        vae=vae,
        text=text,
        alphas_cumprod=pipeline.scheduler.alphas_cumprod.float(),
        prediction_type=config.get("prediction_type", "epsilon"),
        pixel_unshuffle=1,
        recommended={},
        fingerprint=fingerprint([path]),
    )


def _load_component(cls: Any, folder: Path, component: str, dtype: torch.dtype) -> Any:
    """`from_pretrained`, refusing what it would let pass: weights that are missing in the file and would be drawn at random."""
    is_text = component == "text_encoder"
    plain = (folder / component / name for name in (TEXT_WEIGHTS if is_text else DENOISER_WEIGHTS))
    options: dict[str, Any] = {} if is_text else {"low_cpu_mem_usage": False}  # for diffusers that needs another package
    try:
        model, info = cls.from_pretrained(
            folder,
            subfolder=component,
            variant=None if any(file.is_file() for file in plain) else "fp16",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=dtype,
            **options,
        )
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = first_line(error)
        raise PriorError(f"The {component} in '{folder}' does not fit its config.json ({reason}).", remedy=COPY_AGAIN) from error
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise PriorError(f"The {component} in '{folder}' lacks {len(missing)} tensors, {missing[0]} among them.", remedy=COPY_AGAIN)
    return model


def _load_tokenizer(folder: Path, encoder: Any) -> Any:
    """The tokenizer, checked against the text encoder's configuration: of an empty folder the library makes an empty tokenizer."""
    from transformers import CLIPTokenizer

    has_files = (folder / "tokenizer.json").is_file() or ((folder / "vocab.json").is_file() and (folder / "merges.txt").is_file())
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True) if has_files else None
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise PriorError(f"The tokenizer in '{folder}' cannot be read ({first_line(error)}).", remedy=COPY_AGAIN) from error
    if tokenizer is None or len(tokenizer) > encoder.vocab_size:
        raise PriorError(f"The tokenizer in '{folder}' is missing or does not fit the text encoder.", remedy=COPY_AGAIN)
    tokenizer.model_max_length = min(tokenizer.model_max_length, encoder.max_position_embeddings)
    return tokenizer


def _read_scheduler(path: Path) -> tuple[Tensor, str]:
    """(abar [T] float32, prediction type). Of a scheduler only its noise schedule matters here, not how it would sample."""
    from diffusers import DDIMScheduler

    config = read_json(path)
    name = str(config.get("_class_name", "unknown"))
    schedule = config.get("beta_schedule", "linear")
    has_betas = "beta_start" in config or config.get("trained_betas") is not None
    if "FlowMatch" in name or not has_betas or schedule not in BETA_SCHEDULES:
        raise PriorError(
            f"The noise schedule of {name} (betas: {schedule}) is unknown.",
            remedy=f"Known are models trained with the {', '.join(BETA_SCHEDULES)} schedules.",
        )
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in PREDICTION_TYPES:
        raise PriorError(f"The model predicts '{prediction_type}', which is unknown.", remedy=f"Known are {', '.join(PREDICTION_TYPES)}.")
    fields = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    scheduler: Any = DDIMScheduler(**{key: config[key] for key in fields if key in config})
    return scheduler.alphas_cumprod.float(), prediction_type


def _check_channels(unet: Any, vae: Any | None, unshuffle: int, source: Path) -> None:
    """The denoiser must take and give exactly z: inpainting, depth and image-to-image variants take more channels."""
    config = unet.config
    expected = vae.config.latent_channels if vae is not None else 3 * unshuffle**2
    if config.in_channels != expected or config.out_channels != expected:
        raise PriorError(
            f"The denoiser of '{source}' takes {config.in_channels} and gives {config.out_channels} channels instead of {expected}: "
            "it is not a plain text-to-image model.",
            remedy=SUPPORTED,
        )
    if config.addition_embed_type not in (None, "text") or config.class_embed_type is not None or config.time_cond_proj_dim is not None:
        raise PriorError(f"The denoiser of '{source}' needs conditions besides the text.", remedy=SUPPORTED)


def _vae_dtype(arithmetic: torch.dtype, device: torch.device) -> torch.dtype:
    """The VAE is differentiated through, where float16 overflows and underflows: bfloat16 if the device has it, else single precision."""
    if arithmetic == torch.float16:
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return arithmetic


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
