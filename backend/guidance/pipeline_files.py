"""Diffusion models on disk: pipeline folders and weight files, checked before anything is loaded.

A folder may hold a `cograd3d.json` beside `model_index.json`, which other programs ignore:

    {"format": 1,
     "pixel_unshuffle": 4,                     the denoiser works on s x s pixels stacked into channels (torch.nn.PixelUnshuffle)
     "prompts": "builtin-world",               prompts are understood by `embedded.vocabulary` and put to the model in its canonical words
     "dtype": "float32",                       what the denoiser computes in where `prior.dtype` is auto, one of `DTYPES`
     "recommended": {"guidance_scale": 3.0}}   fields of `PriorDefaults`

All but "format" are optional. Standard library only, besides `read_tensors`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PriorError

INDEX_FILE = "model_index.json"
EXTRA_FILE = "cograd3d.json"
EXTRA_FORMAT = 1
"""Version of `cograd3d.json` that this code writes and reads."""
BUILTIN_PROMPTS = "builtin-world"
DTYPES = ("float32", "float16", "bfloat16")
"""What `cograd3d.json` may name as the denoiser's arithmetic."""

FULL_HASH_LIMIT = 64 * 2**20
"""Weight files up to this size (bytes) are hashed whole; of larger ones the header, the size and the first and last MiB of data are."""

DENOISER_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json")
TEXT_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
COPY_AGAIN = "Copy or download the whole pipeline folder again."
HALF_VARIANT = "fp16"


class MissingFileError(PriorError):
    """A pipeline folder lacks a file; of a hub's model it may merely not have been fetched yet."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a pipeline folder. Raises `PriorError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"The pipeline folder has no '{path.parent.name}/{path.name}'.", remedy=COPY_AGAIN) from error
    except (OSError, ValueError, RecursionError) as error:
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
            else "Give the folder that holds model_index.json beside unet or transformer, text_encoder, tokenizer and scheduler."
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
    if "dtype" in extra and extra["dtype"] not in DTYPES:
        known = ", ".join(DTYPES)
        raise PriorError(f"'{folder / EXTRA_FILE}' has {extra['dtype']!r} as dtype, which is none of {known}.", remedy=COPY_AGAIN)
    return extra


def component_class(index: Mapping[str, Any], name: str) -> str | None:
    """Class of a component in model_index.json ([library, class]); None if the pipeline has none."""
    entry = index.get(name)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) else None


def weight_files(folder: Path, component: str, names: tuple[str, str]) -> list[Path]:
    """The safetensors files of a component, shards and the fp16 variant included. Raises `PriorError`."""
    base = folder / component
    for variant in (None, HALF_VARIANT):
        single, sharded = (base / variant_name(name, variant) for name in names)
        if single.is_file():
            return [single]
        if sharded.is_file():
            shards = sorted(set(read_json(sharded).get("weight_map", {}).values()))
            missing = [shard for shard in shards if not (base / shard).is_file()]
            if missing or not shards:
                raise MissingFileError(f"'{base}' lacks the weight file {missing[0] if missing else ''}.", remedy=COPY_AGAIN)
            return [base / shard for shard in shards]
    pickled = [file.name for pattern in ("*.bin", "*.ckpt", "*.pt") for file in sorted(base.glob(pattern))]
    if pickled:
        raise PriorError(
            f"'{base}' has its weights only as '{pickled[0]}', a pickle, which can run code when it is read.",
            remedy="Get the model's safetensors version, or convert it on a machine you can lose.",
        )
    raise MissingFileError(f"The pipeline folder '{folder}' has no weights of its {component}.", remedy=COPY_AGAIN)


def variant_name(name: str, variant: str | None) -> str:
    """A weight file's name with the variant before its last suffix, as the libraries have it: `x.safetensors.index.fp16.json`."""
    stem, _, suffix = name.rpartition(".")
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
            if not all(isinstance(entry["dtype"], str) and isinstance(entry["shape"], list) for entry in header.values()):
                raise TypeError("no tensors")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise PriorError(f"'{path}' is no safetensors file: its header cannot be read.", remedy=remedy) from error
    if size != 8 + length + end:
        raise PriorError(f"'{path}' is truncated: it has {size:,} bytes, and its header promises {8 + length + end:,}.", remedy=remedy)
    return header


def fingerprint(files: Sequence[Path], place: Path) -> str:
    """SHA-256 (hex) that names a model by its configuration and weights, not by the name or place of its folder, or of its only file: that
    is `place`, and the files are it or in it.

    Files up to `FULL_HASH_LIMIT` are hashed whole. Of larger ones only the size and the first (with the header, which
    names every tensor) and last 1 MiB beyond the header: a second instead of a minute for gigabytes of weights.
    """
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(place).as_posix()}:{size}\n".encode())
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


def combined_fingerprint(model: str, other: str) -> str:
    """What names the weights of both."""
    return hashlib.sha256(f"{model}+{other}".encode()).hexdigest()


def read_tensors(path: Path, prefix: str = "") -> dict[str, Any]:
    """A safetensors file's tensors whose names begin with `prefix`, under the rest of their names.

    Raises:
        PriorError: its header is whole, and what it says cannot be.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name[len(prefix) :]: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise PriorError(f"'{path}' is damaged ({first_line(error)}).", remedy="Copy or download it again.") from error


def first_line(error: BaseException) -> str:
    """What a library's error says, on one line: its first line, or the one that names a mismatch."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    mismatch = next((line for line in lines if "mismatch" in line and line != lines[0]), lines[0])
    return mismatch.rstrip(".:")[:200]
