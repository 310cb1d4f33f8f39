"""What a pipeline folder or a single file is: which of the `kinds` of image models, or what else, and what to do about that.

A folder is recognised by its model_index.json and its denoiser's config.json, a single file by its header: the names, shapes and number
formats of its tensors under the names of the original code. Reading the weights is not needed, and no network is built.

Whoever loads a model and whoever lists those on a computer both ask here, so that what is listed can be loaded, and what is left out is
left out for the reason that loading it would give. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PriorError
from . import kinds
from .kinds import ORIGINAL_PREFIX, SUPPORTED, VAE_PREFIXES, Kind, Variant
from .pipeline_files import check_safetensors, component_class, read_json

ADDITIONS = "additions to models"
PARTS = "parts of models"
INCOMPLETE = "incomplete"
COARSE = "in 8 bits or less"
PICKLES = "in a format that may run code (pickles)"
OTHERS = "of another kind"
"""What a list calls several models that cannot be used."""

SAFETENSORS = ".safetensors"
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
WEIGHT_SUFFIXES = (SAFETENSORS, ".gguf", *PICKLE_SUFFIXES)
"""Suffixes of files that may be models."""

_OTHER_TASKS = {
    "Inpaint": "fills in pictures",
    "Upscale": "enlarges pictures",
    "SuperResolution": "enlarges pictures",
    "Depth": "needs a depth map",
    "Pix2Pix": "edits pictures",
    "Variation": "varies pictures",
    "Video": "makes films",
    "ControlNet": "is steered by pictures",
    "Refiner": "finishes pictures",
}
"""In the names of pipelines that need more than a text, made of the same networks or nearly so."""

_QUANTISED = (".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4", ".qweight", ".comfy_quant", ".weight_scale")
"""Endings of tensor names that only quantised models have."""
_LORA_MARKS = ("lora_", ".lora", "hada_w1", "lokr_w1", ".oft_", "dora_scale")
_CONTROLNET_MARKS = ("control_model.", "controlnet_")

_EDM_MARKS = ("edm_mean", "edm_vpred.")
"""Beginnings of the names of tensors that say that a file counts its noise as Karras et al. 2022 do."""
_SCHEDULE_MARKS: dict[str, dict[str, Any]] = {
    "v_pred": {"prediction_type": "v_prediction"},
    "ztsnr": {"rescale_betas_zero_snr": True},
}
"""Names of (mostly empty) tensors by which a fine-tuning says what is unlike its base's scheduler_config.json, and what that is."""

_PLAIN_CHANNELS = {"input_blocks.0.0.weight": 4, "x_embedder.proj.weight": 16, "img_in.weight": 64}
"""Channels that the first layer of a plain text-to-image model takes (the size of its second axis)."""

_WHOLE = "Give the whole model."
_NO_MODELS = (
    (("image_proj", "ip_adapter"), "an image-prompt adapter, an addition to a model", ADDITIONS, "Give the model that it belongs to."),
    (("emb_params", "string_to_param", "clip_l", "clip_g"), "an embedding of words, an addition to a model", ADDITIONS, "Give a model."),
    ((*VAE_PREFIXES, "encoder.down", "encoder.conv_in.", "decoder.up"), "a VAE alone: it has no denoiser", PARTS, _WHOLE),
    (
        ("text_model.", "text_encoders.", "cond_stage_model.", "conditioner.", "shared.weight", "encoder.block.", "transformer.resblocks."),
        "a text encoder alone: it has no denoiser",
        PARTS,
        _WHOLE,
    ),
    (
        ("down_blocks.", "transformer_blocks.", "single_transformer_blocks.", "conv_in."),
        "one network of a pipeline folder",
        PARTS,
        "Give the folder that holds model_index.json.",
    ),
)
"""(beginnings of tensor names, what a file with such names and no known denoiser is, its group, what to do)."""


class UnsupportedModelError(PriorError):
    """A folder or file that is no model that can be used.

    Attributes:
        group: what a list calls several such.
    """

    def __init__(self, message: str, *, group: str = OTHERS, remedy: str = SUPPORTED) -> None:
        super().__init__(message, remedy=remedy)
        self.group = group


@dataclass(frozen=True)
class SingleFile:
    """A model in one file.

    Attributes:
        kind: what kind it is of.
        variant: the published model that it is, or is a fine-tuning of.
        prefix: the beginning of its denoiser's tensors' names.
        has_vae: whether its VAE is in it.
        text_prefixes: for each of the kind's text encoders the beginning of its tensors' names; None if it is not in the file.
        schedule: what it says of its noise schedule, by the names of a scheduler_config.json.
    """

    kind: Kind
    variant: Variant
    prefix: str
    has_vae: bool
    text_prefixes: tuple[str | None, ...]
    schedule: Mapping[str, Any] = field(default_factory=dict)

    @property
    def absent(self) -> tuple[str, ...]:
        """The components without which it does not work, and which it lacks."""
        pairs = zip(self.kind.encoders, self.text_prefixes, strict=True)
        texts = tuple(encoder.component for encoder, prefix in pairs if prefix is None and not encoder.optional)
        return texts if self.has_vae else (*texts, "vae")


# --- Folders


def recognise_folder(folder: Path, index: Mapping[str, Any]) -> Kind:
    """`recognise_index` of the model_index.json of this folder."""
    denoiser = denoiser_folder(index)
    config = folder / denoiser / "config.json"
    # What is missing is told of when it is to be read.
    return recognise_index(index, read_json(config) if config.is_file() else {}, str(folder))


def denoiser_folder(index: Mapping[str, Any]) -> str:
    """Where a pipeline has its denoiser."""
    return "transformer" if component_class(index, "transformer") else "unet"


def recognise_index(index: Mapping[str, Any], config: Mapping[str, Any], source: str) -> Kind:
    """The kind of a pipeline folder.

    Args:
        index: its model_index.json.
        config: its denoiser's config.json, which tells models apart that are made of the same networks; empty if it is not there.
        source: what an error calls it.

    Raises:
        UnsupportedModelError: it is of none.
    """
    pipeline = str(index.get("_class_name", "unknown"))
    for word, does in _OTHER_TASKS.items():
        if word in pipeline:
            raise UnsupportedModelError(f"'{source}' is a pipeline for another task: {pipeline} {does}.")
    kind, vae = _kind_of_networks(index, config), component_class(index, "vae")
    if kind is None or (vae is not None and (kind.has_vae is False or vae != "AutoencoderKL")):
        raise UnsupportedModelError(f"'{source}' is {_other_pipeline(index, pipeline)}, which is not supported.")
    if kind is kinds.MVDREAM and (config.get("ip_dim") if config else component_class(index, "image_encoder")):
        raise _image_dream(source)
    missing = [encoder.component for encoder in kind.encoders if not encoder.optional and not component_class(index, encoder.component)]
    missing += ["vae"] if kind.has_vae and vae is None else []
    if missing:
        raise UnsupportedModelError(
            f"'{source}' is a {kind.name} model without its {missing[0]}.", group=INCOMPLETE, remedy="Get the whole pipeline folder."
        )
    return kind


def _kind_of_networks(index: Mapping[str, Any], config: Mapping[str, Any]) -> Kind | None:
    component = denoiser_folder(index)
    cls = component_class(index, component)
    if component == "transformer":
        return next((kind for kind in kinds.KINDS.values() if kind.denoiser == component and kind.denoiser_class == cls), None)
    has_cameras = (
        config.get("class_embed_type") == "projection" and config.get("projection_class_embeddings_input_dim") == kinds.CAMERA_NUMBERS
    )
    if cls == kinds.MULTI_VIEW_UNET or (cls == kinds.MVDREAM.denoiser_class and has_cameras):
        return kinds.MVDREAM
    if cls != kinds.STABLE_DIFFUSION.denoiser_class:
        return None
    texts = [text for name in ("text_encoder", "text_encoder_2", "text_encoder_3") if (text := component_class(index, name))]
    with_unet = (kinds.STABLE_DIFFUSION, kinds.STABLE_DIFFUSION_XL, kinds.DEEPFLOYD)
    return next((kind for kind in with_unet if texts == [encoder.cls for encoder in kind.encoders]), None)


def _other_pipeline(index: Mapping[str, Any], pipeline: str) -> str:
    """What a pipeline of no kind is, by the name people know it by."""
    if component_class(index, "transformer"):
        return f"a diffusion transformer ({pipeline}) of an unknown family"
    if component_class(index, "text_encoder_2") and not component_class(index, "text_encoder"):
        return f"a refiner ({pipeline}), which only finishes images"
    if component_class(index, "unet") != kinds.STABLE_DIFFUSION.denoiser_class:
        return f"a {pipeline} without a text-conditioned UNet"
    if component_class(index, "vae") not in (None, "AutoencoderKL"):
        return f"a {pipeline} whose image encoder is {component_class(index, 'vae')}"
    return f"a {pipeline} whose text encoder is {component_class(index, 'text_encoder') or 'missing'}"


# --- Files


def recognise_file(path: Path) -> SingleFile:
    """What a single file is. Only the header of a safetensors file is read; a file in another format is not opened at all.

    Raises:
        UnsupportedModelError: it is no model that can be used.
        PriorError: it is damaged.
    """
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        remedy = "Get the model's fp16 or bf16 .safetensors version."
        raise UnsupportedModelError(f"'{path.name}' is a quantised model.", group=COARSE, remedy=remedy)
    if suffix != SAFETENSORS:
        raise UnsupportedModelError(
            f"'{path}' is not a safetensors file; other formats can run code when they are read.",
            group=PICKLES,
            remedy="Get the model's .safetensors version.",
        )
    return recognise_header(check_safetensors(path), path.name)


def check_weights(path: Path) -> None:
    """Checks that a component's file is whole, and in numbers that can be computed with. Raises `PriorError`."""
    check_precision(check_safetensors(path), path.name)


def check_precision(header: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Refuses weights that are quantised or 8-bit floats. Raises `UnsupportedModelError`."""
    remedy = "Get the model's fp16 or bf16 version."
    formats = {entry["dtype"] for entry in header.values()}
    if eight_bit := min((name for name in formats if name.startswith("F8")), default=""):
        message = f"'{source}' holds 8-bit floats ({eight_bit}), which are too coarse to compute with."
        raise UnsupportedModelError(message, group=COARSE, remedy=remedy)
    has_codes = any(name in ("I8", "U8") or name.startswith(("F4", "F6")) for name in formats)
    if has_codes or any(name.endswith(_QUANTISED) for name in header):
        raise UnsupportedModelError(f"The weights in '{source}' are quantised.", group=COARSE, remedy=remedy)


def recognise_header(header: Mapping[str, Mapping[str, Any]], source: str) -> SingleFile:
    """What a single file is.

    Args:
        header: what `check_safetensors` gives.
        source: what an error calls it.

    Raises:
        UnsupportedModelError: it is no model that can be used.
    """
    if any(mark in name for name in header for mark in _LORA_MARKS):
        message = f"'{source}' is a LoRA, an addition to a model, and not a model."
        raise UnsupportedModelError(message, group="LoRAs", remedy="Merge it into its base model, or give the base model.")
    if any(name.startswith(_CONTROLNET_MARKS) or "input_hint_block." in name for name in header):
        message = f"'{source}' is a ControlNet, which only steers a model."
        raise UnsupportedModelError(message, group="ControlNets", remedy="Give the model that it belongs to.")
    check_precision(header, source)
    prefix = ORIGINAL_PREFIX if any(name.startswith(ORIGINAL_PREFIX) for name in header) else ""
    shapes: dict[str, Sequence[int]] = {name[len(prefix) :]: entry["shape"] for name, entry in header.items() if name.startswith(prefix)}
    found = _denoiser(shapes)
    if found is None:
        raise _other_file(header, shapes, bool(prefix), source)
    kind, variant = found
    for name, plain in _PLAIN_CHANNELS.items():
        shape = shapes.get(name, ())
        if len(shape) >= 2 and shape[1] != plain:
            raise UnsupportedModelError(
                f"'{source}' is a variant of {variant.label} that takes {shape[1]} channels instead of {plain}: "
                "it is not a plain text-to-image model.",
                group="for inpainting or from images",
                remedy="Give the model that it was made of.",
            )

    if any(name.startswith(_EDM_MARKS) for name in header):
        raise UnsupportedModelError(f"'{source}' is a variant of {variant.label} with the noise schedule of EDM, which is not supported.")

    def beginning(prefixes: Sequence[str]) -> str | None:
        return next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in header)), None)

    texts = tuple(beginning(encoder.prefixes) for encoder in kind.encoders)
    schedule = {name: value for mark, says in _SCHEDULE_MARKS.items() if mark in header for name, value in says.items()}
    return SingleFile(kind, variant, prefix, beginning(VAE_PREFIXES) is not None, texts, schedule)


def _denoiser(shapes: Mapping[str, Sequence[int]]) -> tuple[Kind, Variant] | None:
    """What a denoiser is, by the shapes of its tensors; None if it is none that can be used."""
    if "joint_blocks.0.context_block.attn.qkv.weight" in shapes:
        if "joint_blocks.0.x_block.attn2.qkv.weight" in shapes:
            return kinds.STABLE_DIFFUSION_3, kinds.SD35_MEDIUM
        if "joint_blocks.37.x_block.attn.qkv.weight" in shapes:
            return kinds.STABLE_DIFFUSION_3, kinds.SD35_LARGE
        return kinds.STABLE_DIFFUSION_3, kinds.SD3_MEDIUM
    if {"double_blocks.0.img_attn.qkv.weight", "img_in.weight", "vector_in.in_layer.weight"} <= shapes.keys():
        relatives = ("distilled_guidance_layer.", "txt_in.individual_token_refiner.", "single_stream_modulation.")
        if any(name.startswith(relatives) for name in shapes):
            return None
        return kinds.FLUX, kinds.FLUX_DEV if "guidance_in.in_layer.weight" in shapes else kinds.FLUX_SCHNELL
    if "input_blocks.0.0.weight" not in shapes:
        return None
    if "camera_embed.0.weight" in shapes:
        return None if "image_embed.latents" in shapes else (kinds.MVDREAM, kinds.MVDREAM_FOUR_VIEWS)
    if "label_emb.0.0.weight" not in shapes:
        is_linear = len(shapes.get("input_blocks.1.1.proj_in.weight", ())) == 2  # the first generation has a convolution there
        return kinds.STABLE_DIFFUSION, kinds.SD2 if is_linear else kinds.SD1
    # Unlike the refiner SDXL has three levels, and unlike image variations of Stable Diffusion 2 no attention on the first.
    if any(name.startswith(("input_blocks.9.", "input_blocks.1.1.")) for name in shapes):
        return None
    return kinds.STABLE_DIFFUSION_XL, kinds.SDXL_BASE


def _other_file(header: Mapping[str, Any], shapes: Mapping[str, Any], has_prefix: bool, source: str) -> UnsupportedModelError:
    """What a file without a denoiser that can be used is."""
    if "input_blocks.0.0.weight" in shapes:
        if "camera_embed.0.weight" in shapes:
            return _image_dream(source)
        return UnsupportedModelError(f"'{source}' is a refiner or an image variation model, not a plain text-to-image model.")
    if has_prefix or any(name.startswith(("double_blocks.", "joint_blocks.")) for name in shapes):
        return UnsupportedModelError(f"'{source}' is a diffusion transformer of an unknown family.")
    for beginnings, what, group, remedy in _NO_MODELS:
        if any(name.startswith(beginnings) for name in header):
            return UnsupportedModelError(f"'{source}' is {what}.", group=group, remedy=remedy)
    return UnsupportedModelError(f"'{source}' is not a whole model: it has no denoiser that is known.", group=PARTS)


def _image_dream(source: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"'{source}' is an ImageDream model, which needs an image besides the text.", remedy="Use MVDream.")
