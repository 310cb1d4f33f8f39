"""The parts of a model that is trained, and the pipeline folder of any learned prior.

A pixel-space diffusion model of 64 x 64 images that is an ordinary diffusers pipeline (Stable Diffusion without a VAE):
a CLIP text encoder of two layers over a vocabulary of the built-in world's words, and a `UNet2DConditionModel` on
images whose blocks of 32 x 32 pixels are stacked into channels (3072 x 2 x 2). On four pixels every convolution sees the
whole picture and knows where in it it is. Under the noise of high t, where no neighbourhood tells anything and the object's
pose has to be found in all pixels at once, that learns several times faster than blocks of 4 x 4 with attention (docs/priors.md).
It predicts the image itself (x0; "sample" in diffusers): that is the quantity that must be right where words decide, and it
learned several times faster than v.

The denoiser is trained on coefficients of a `BlockBasis` and becomes one of pixels when it is saved.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...errors import PriorError
from ...files import atomic_path
from ...guidance.pipeline_files import BUILTIN_PROMPTS, EXTRA_FILE, EXTRA_FORMAT, INDEX_FILE
from .. import vocabulary, world
from .block_basis import BlockBasis

RESOLUTION = 64
PIXELS = 3 * RESOLUTION**2
PIXEL_UNSHUFFLE = 32
GRID = RESOLUTION // PIXEL_UNSHUFFLE
COMPONENTS = 256
"""Of a block's basis: the first and the last layer of the denoiser know the pictures in this many directions."""
INPUT_TIMESTEP = 650
"""Where the noisy coefficients, as the denoiser's first layer sees them, have a mean square of one."""
MAX_TOKENS = 16
"""Tokens of a prompt, start and end included; the longest caption has 14."""
TEXT_WIDTH, TEXT_LAYERS = 128, 2
CHANNELS = 256
LAYERS = 1
TRAIN_TIMESTEPS = 1000
START, END = "<|startoftext|>", "<|endoftext|>"

RECOMMENDED: dict[str, Any] = {
    "guidance_scale": 2.0,
    "weighting": "x0",
    "clamp": 1.5,
    "t_start": 0.75,
    "t_end": 0.4,
    "fov": 40.0,
    "distance": [world.DISTANCE, world.DISTANCE],
    "resolutions": [RESOLUTION],
    "backdrops": [list(backdrop) for backdrop in world.BACKDROPS],
}

_WEIGHTS = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}
EMBEDDING = "embeddings.token_embedding.weight"
_PIECE = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")
"""How CLIP's tokenizer splits lower-case ASCII text before its merges."""


def words() -> tuple[str, ...]:
    """Every word that is one token, sorted: those of objects, colours, materials, views and caption phrasings."""
    phrases = (
        *vocabulary.OBJECTS,
        *vocabulary.COLOURS,
        *vocabulary.MATERIALS,
        *vocabulary.VIEW_WORDS,
        *vocabulary.CAPTION_TEMPLATES,
        "a an",
    )
    pieces = {piece for phrase in phrases for piece in _PIECE.findall(phrase.replace("{a}", "").replace("{}", ""))}
    return tuple(sorted(piece for piece in pieces if piece.isalpha() and len(piece) > 1))


def tokenizer_files(known: tuple[str, ...]) -> tuple[dict[str, int], list[str]]:
    """(vocabulary, merges) of a byte-pair encoding in which each known word is one token and other text falls apart into letters.

    Each word is merged from its end: every merge has a right part that ends a word, so that it can apply nowhere
    else, and no word's merges can disturb another's.
    """
    characters = [chr(code) for code in range(33, 127)]
    merges: dict[tuple[str, str], None] = {}
    for word in known:
        suffix = word[-1] + "</w>"
        for letter in reversed(word[:-1]):
            merges[letter, suffix] = None
            suffix = letter + suffix
    tokens = [*characters, *(c + "</w>" for c in characters), *dict.fromkeys(left + right for left, right in merges), START, END]
    return {token: index for index, token in enumerate(tokens)}, [f"{left} {right}" for left, right in merges]


def build_tokenizer(tokens: int = MAX_TOKENS) -> Any:
    """The `CLIPTokenizer` of `words`, which fills every prompt up to this many tokens."""
    from transformers import CLIPTokenizer

    ids, merges = tokenizer_files(words())
    pairs: Any = [tuple(merge.split(" ")) for merge in merges]  # the annotation asks for strings, the code for pairs
    return CLIPTokenizer(vocab=ids, merges=pairs, model_max_length=tokens, bos_token=START, eos_token=END, unk_token=END, pad_token=END)


def build_models(vocabulary_size: int, channels: int | None = None) -> tuple[Any, Any]:
    """(text encoder, denoiser), freshly initialised from torch's global generator.

    Args:
        channels: of the denoiser's input and output; None: a block's coefficients.
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
            pad_token_id=vocabulary_size - 1,
        )
    )
    channels = channels or COMPONENTS
    unet = UNet2DConditionModel(
        sample_size=GRID,
        in_channels=channels,
        out_channels=channels,
        conv_in_kernel=1,
        conv_out_kernel=1,
        block_out_channels=(CHANNELS,),
        layers_per_block=LAYERS,
        down_block_types=("DownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        cross_attention_dim=TEXT_WIDTH,
        addition_embed_type="text",  # the words reach every layer, beside the timestep
        addition_embed_type_num_heads=4,
        norm_num_groups=1,
        resnet_time_scale_shift="scale_shift",
    )
    # What is left of the input's noise in the last layers would pass straight into the picture: what they add to it depends on t.
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "conv_shortcut" in name:
                parameter.zero_()
    return text_encoder, unet


def pixel_denoiser(unet: Any, basis: BlockBasis) -> Any:
    """The denoiser of pixels that does what `unet` does of a basis's coefficients."""
    pixels = type(unet).from_config(unet.config, in_channels=3 * PIXEL_UNSHUFFLE**2, out_channels=3 * PIXEL_UNSHUFFLE**2)
    pixels.load_state_dict(basis.fold(unet.state_dict(), input_alpha_bar()))
    return pixels


def input_alpha_bar() -> float:
    """The noise level of `INPUT_TIMESTEP`."""
    return float(build_scheduler().alphas_cumprod[INPUT_TIMESTEP])


def build_scheduler() -> Any:
    """The noise schedule: DDPM's linear betas."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="trailing",
        steps_offset=1,  # what samplers that space from the start expect
    )


def save_pipeline(
    folder: Path,
    text_encoder: Any,
    unet: Any,
    tokenizer: Any,
    training: Mapping[str, Any],
    *,
    recommended: Mapping[str, Any] = RECOMMENDED,
    dtype: str | None = None,
) -> None:
    """Writes the pipeline folder in float16; an older one at that place is replaced once the new one is whole.

    Args:
        training: what `cograd3d.json` keeps about the run (images seen, world version and so on).
        recommended: how it likes to be used.
        dtype: in which arithmetic it has to be computed; None: whatever the device likes.
    """
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": [None, None],
    }
    extra = {
        "format": EXTRA_FORMAT,
        "pixel_unshuffle": PIXEL_UNSHUFFLE,
        "prompts": BUILTIN_PROMPTS,
        "recommended": dict(recommended),
        "training": dict(training),
    } | ({} if dtype is None else {"dtype": dtype})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as temporary:
        for name, model in (("text_encoder", text_encoder), ("unet", unet)):
            half = copy.deepcopy(model).half()
            half.config._name_or_path = ""
            half.save_pretrained(temporary / name)
        tokenizer.save_pretrained(temporary / "tokenizer")
        build_scheduler().save_pretrained(temporary / "scheduler")
        (temporary / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        (temporary / EXTRA_FILE).write_text(json.dumps(extra, indent=2) + "\n", encoding="utf-8")


def warm_start(folder: Path, text_encoder: Any, unet: Any, tokenizer: Any, basis: BlockBasis) -> str:
    """Copies what fits from another pipeline folder: token embeddings by token, everything else by name and shape.

    Args:
        unet: of this basis's coefficients.

    Returns:
        One line that says how much was carried over.
    """
    try:
        source = {name: load_file(folder / name / file) for name, file in _WEIGHTS.items()}
        if source["unet"]["conv_in.weight"].shape[1] == len(basis.components):
            source["unet"] = basis.unfold({name: tensor.float() for name, tensor in source["unet"].items()}, input_alpha_bar())
        old_ids = json.loads((folder / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise PriorError(f"'{folder}' is no pipeline folder to start from.", remedy="Give a folder that this command exported.") from error
    carried = total = 0
    for name, model in (("text_encoder", text_encoder), ("unet", unet)):
        state = model.state_dict()
        for key, tensor in state.items():
            old = source[name].get(key)
            total += tensor.numel()
            if old is not None and key == EMBEDDING:
                state[key] = remap_rows(old.float(), old_ids, tokenizer.get_vocab(), tensor)
                carried += tensor.shape[1] * len(old_ids.keys() & tokenizer.get_vocab().keys())
            elif old is not None and old.shape == tensor.shape:
                state[key] = old.float()
                carried += tensor.numel()
        model.load_state_dict(state)
    return f"{carried:,} of {total:,} numbers carried over from {folder}"


def remap_rows(old: Tensor, old_ids: Mapping[str, int], new_ids: Mapping[str, int], initial: Tensor) -> Tensor:
    """[V_new, D]: the row of every token that both vocabularies have, and `initial`'s for the others."""
    result = initial.clone()
    shared = sorted(old_ids.keys() & new_ids.keys())
    result[[new_ids[token] for token in shared]] = old[[old_ids[token] for token in shared]].to(result.dtype)
    return result
