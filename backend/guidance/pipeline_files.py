"""Diffusion models on disk: pipeline folders, single files and hub repositories, found and checked before anything is loaded.

A folder may hold a `cograd3d.json` beside `model_index.json`, which other programs ignore:

    {"format": 1,
     "pixel_unshuffle": 4,                     the denoiser works on s x s pixels stacked into channels (torch.nn.PixelUnshuffle)
     "prompts": "builtin-world",               prompts are understood by `embedded.vocabulary` and put to the model in its canonical words
     "recommended": {"guidance_scale": 3.0}}   fields of `PriorDefaults`

All but "format" are optional.

Standard library only; the hub's client is imported where it is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PriorError

INDEX_FILE = "model_index.json"
EXTRA_FILE = "cograd3d.json"
EXTRA_FORMAT = 1
"""Version of `cograd3d.json` that this code writes and reads."""
BUILTIN_PROMPTS = "builtin-world"

FULL_HASH_LIMIT = 64 * 2**20
"""Weight files up to this size (bytes) are hashed whole; of larger ones the header, the size and the first and last MiB of data are."""

DENOISER_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json")
TEXT_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
COPY_AGAIN = "Copy or download the whole pipeline folder again."
SUPPORTED = "Use a Stable Diffusion 1.x or 2.x model, or the built-in prior."


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a pipeline folder. Raises `PriorError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PriorError(f"The pipeline folder has no '{path.parent.name}/{path.name}'.", remedy=COPY_AGAIN) from error
    except (OSError, ValueError) as error:
        raise PriorError(f"'{path}' cannot be read as JSON.", remedy=COPY_AGAIN) from error
    if not isinstance(value, dict):
        raise PriorError(f"'{path}' is not a JSON object.", remedy=COPY_AGAIN)
    return value


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's model_index.json. Raises `PriorError`, with a hint if the folder holds something else that can be used."""
    if not (folder / INDEX_FILE).is_file():
        single = next(iter(sorted(folder.glob("*.safetensors"))), None)
        remedy = (
            f"Give the file itself: {single}."
            if single
            else "Give the folder that holds model_index.json beside unet, text_encoder, tokenizer and scheduler."
        )
        raise PriorError(f"'{folder}' is no diffusers pipeline: it has no {INDEX_FILE}.", remedy=remedy)
    return read_json(folder / INDEX_FILE)


def read_extra(folder: Path) -> dict[str, Any]:
    """The folder's cograd3d.json, empty if it has none. Raises `PriorError`."""
    if not (folder / EXTRA_FILE).is_file():
        return {}
    extra = read_json(folder / EXTRA_FILE)
    if extra.get("format") != EXTRA_FORMAT:
        raise PriorError(
            f"'{folder / EXTRA_FILE}' has format {extra.get('format')!r}, this version reads {EXTRA_FORMAT}.", remedy="Update CoGrad3D."
        )
    factor = extra.get("pixel_unshuffle", 1)
    if not isinstance(factor, int) or factor < 1 or not isinstance(extra.get("recommended", {}), dict):
        raise PriorError(f"'{folder / EXTRA_FILE}' is malformed.", remedy=COPY_AGAIN)
    return extra


def component_class(index: dict[str, Any], name: str) -> str | None:
    """Class of a component in model_index.json ([library, class]); None if the pipeline has none."""
    entry = index.get(name)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def check_family(folder: Path, index: dict[str, Any]) -> None:
    """Refuses what is not a UNet with cross-attention to one CLIP text encoder, by the name people know it by."""
    pipeline = str(index.get("_class_name", "unknown"))
    if component_class(index, "transformer"):
        family = f"a diffusion transformer ({pipeline})"
    elif component_class(index, "text_encoder_2"):
        family = f"a model with two text encoders ({pipeline}), such as Stable Diffusion XL"
    elif component_class(index, "unet") != "UNet2DConditionModel":
        family = f"a {pipeline} without a text-conditioned UNet"
    elif component_class(index, "text_encoder") != "CLIPTextModel":
        family = f"a {pipeline} whose text encoder is {component_class(index, 'text_encoder') or 'missing'}"
    elif component_class(index, "vae") not in (None, "AutoencoderKL"):
        family = f"a {pipeline} whose image encoder is {component_class(index, 'vae')}"
    else:
        return
    raise PriorError(f"'{folder}' is {family}, which is not supported.", remedy=SUPPORTED)


def weight_files(folder: Path, component: str, names: tuple[str, str]) -> list[Path]:
    """The safetensors files of a component, shards and the fp16 variant included. Raises `PriorError`."""
    base = folder / component
    for variant in (None, "fp16"):
        single, sharded = (base / _variant_name(name, variant) for name in names)
        if single.is_file():
            return [single]
        if sharded.is_file():
            shards = sorted(set(read_json(sharded).get("weight_map", {}).values()))
            missing = [shard for shard in shards if not (base / shard).is_file()]
            if missing or not shards:
                raise PriorError(f"'{base}' lacks the weight file {missing[0] if missing else ''}.", remedy=COPY_AGAIN)
            return [base / shard for shard in shards]
    pickled = [file.name for pattern in ("*.bin", "*.ckpt", "*.pt") for file in sorted(base.glob(pattern))]
    if pickled:
        raise PriorError(
            f"'{base}' has its weights only as '{pickled[0]}', a pickle, which can run code when it is read.",
            remedy="Get the model's safetensors version, or convert it on a machine you can lose.",
        )
    raise PriorError(f"The pipeline folder '{folder}' has no weights of its {component}.", remedy=COPY_AGAIN)


def _variant_name(name: str, variant: str | None) -> str:
    stem, _, suffix = name.partition(".")
    return f"{stem}.{variant}.{suffix}" if variant else name


def check_safetensors(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a safetensors header, {name: {dtype, shape, data_offsets}}, and checks that the file is whole.

    Raises:
        PriorError: not a safetensors file, or truncated.
    """
    remedy = "Copy or download it again."
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, 100 * 2**20):
            raise PriorError(f"'{path}' is truncated or no safetensors file.", remedy=remedy)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise PriorError(f"'{path}' is no safetensors file: its header cannot be read.", remedy=remedy) from error
    if size != 8 + length + end:
        raise PriorError(f"'{path}' is truncated: it has {size:,} bytes, and its header promises {8 + length + end:,}.", remedy=remedy)
    return header


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 (hex) that names a model by its configuration and weights, not by where they lie.

    Files up to `FULL_HASH_LIMIT` are hashed whole. Of larger ones only the size and the first (with the header, which
    names every tensor) and last 1 MiB beyond the header: a second instead of a minute for gigabytes of weights.
    """
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.parent.name if len(files) > 1 else ''}/{path.name}:{size}\n".encode())
        with path.open("rb") as file:
            if size <= FULL_HASH_LIMIT:
                while block := file.read(2**20):
                    digest.update(block)
            else:
                head = file.read(8)
                digest.update(head + file.read(int.from_bytes(head, "little") + 2**20))
                file.seek(-(2**20), 2)
                digest.update(file.read())
    return digest.hexdigest()


def check_single_file_family(path: Path, header: dict[str, Any]) -> None:
    """Names what a single file is, from its tensors' names, when it is not a whole SD-1.x / 2.x checkpoint."""
    names = header.keys()

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if any("lora_" in name or ".lora" in name for name in names):
        raise PriorError(
            f"'{path.name}' is a LoRA, an addition to a model, and not a model.",
            remedy="Merge it into its base model, or give the base model.",
        )
    if has("conditioner.embedders."):
        raise PriorError(f"'{path.name}' is a Stable Diffusion XL checkpoint, which is not supported.", remedy=SUPPORTED)
    if not has("model.diffusion_model.input_blocks."):
        transformer = has("model.diffusion_model.") or has("double_blocks.") or has("transformer")
        what = "a diffusion transformer" if transformer else "not a whole model: it has no denoiser"
        raise PriorError(f"'{path.name}' is {what}, which is not supported.", remedy=SUPPORTED)
    for prefix, what in (("cond_stage_model.", "text encoder"), ("first_stage_model.", "VAE")):
        if not has(prefix):
            raise PriorError(f"'{path.name}' has no {what}.", remedy="Get the full checkpoint, or a pipeline folder.")


def hub_folder(repo: str, *, half: bool, allow_download: bool) -> Path:
    """The local snapshot of a hub repository; with consent, its needed files are fetched first, in half precision if there is a choice
    and `half` is wished. Where $HF_HUB_OFFLINE forbids the network, consent makes no difference.

    Raises:
        PriorError: it is not on this computer and may not, or cannot, be fetched.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    offline = huggingface_hub.is_offline_mode()
    try:
        if offline or not allow_download:
            return Path(huggingface_hub.snapshot_download(repo, local_files_only=True))
        files = files_to_download(huggingface_hub.HfApi().list_repo_files(repo), half=half)
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=files))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if offline and allow_download:
            raise PriorError(
                f"The model '{repo}' is not on this computer, and the network may not be used now.",
                remedy="Allow online access, or give a pipeline folder or a .safetensors file.",
            ) from error
        if allow_download:
            raise PriorError(
                f"The hub cannot be reached for '{repo}'.", remedy="Check the connection, or give a pipeline folder on this computer."
            ) from error
        raise PriorError(
            f"The model '{repo}' is not on this computer, and nothing is downloaded without consent.",
            remedy="Allow downloads (several GB), or give a pipeline folder or a .safetensors file.",
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise PriorError(
            f"The model '{repo}' cannot be fetched ({first_line(error)}).", remedy="Check its name and the connection."
        ) from error


def files_to_download(files: Sequence[str], *, half: bool) -> list[str]:
    """Of a hub repository's files, those that a prior needs: one copy of each component's safetensors, its configuration, the tokenizer."""
    wanted = [file for file in files if file in (INDEX_FILE, EXTRA_FILE) or re.fullmatch(r"(tokenizer|scheduler)/[^/]+", file)]
    for component, names in (("unet", DENOISER_WEIGHTS), ("vae", DENOISER_WEIGHTS), ("text_encoder", TEXT_WEIGHTS)):
        wanted += [file for file in files if file == f"{component}/config.json"]
        for variant in ("fp16", None) if half else (None, "fp16"):
            stem = names[0].partition(".")[0]
            infix = rf"\.{variant}" if variant else ""
            weights = rf"{component}/{stem}{infix}(-\d+-of-\d+)?\.safetensors|{component}/{stem}\.safetensors\.index{infix}\.json"
            chosen = [file for file in files if re.fullmatch(weights, file)]
            if chosen:
                wanted += chosen
                break
    return wanted


def first_line(error: BaseException) -> str:
    """What a library's error says, on one line: its first line, or the one that names a mismatch."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    mismatch = next((line for line in lines if "mismatch" in line and line != lines[0]), lines[0])
    return mismatch.rstrip(".:")[:200]
