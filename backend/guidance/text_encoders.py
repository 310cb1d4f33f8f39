"""Prompts to embeddings: the tokenizers and text encoders of image models, CLIP's and T5's."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PriorError
from .kinds import Encoder
from .pipeline_files import COPY_AGAIN, first_line

log = logging.getLogger(__name__)

TextLoader = Callable[[], tuple[Any, Any]]
"""Reads one tokenizer and its text encoder; may be called again after they were freed."""


@dataclass(frozen=True)
class TextReader:
    """A `TextLoader` that can be told where the encoder is to compute.

    Attributes:
        read: the tokenizer, and the encoder on a device.
        device: that device.
    """

    read: Callable[[torch.device], tuple[Any, Any]]
    device: torch.device

    def __call__(self) -> tuple[Any, Any]:
        return self.read(self.device)

    def on(self, device: torch.device) -> TextReader:
        """The same on another device."""
        return replace(self, device=device)


@torch.no_grad()
def encode(load: TextLoader, prompts: Sequence[str], *, length: int | None = None, mask: bool | None = None, **options: Any) -> Any:
    """What a text encoder says of the prompts [B], padded to the length that it was trained with.

    Args:
        load: the tokenizer and the encoder; both are freed when this returns, unless the caller's loader keeps them.
        length: tokens; the tokenizer's own where it is not given.
        mask: whether padding is hidden from the encoder; None as its configuration says.
        options: passed to the encoder.
    """
    tokenizer, encoder = load()
    length = length or tokenizer.model_max_length
    tokens = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    for prompt in prompts:
        if len(tokenizer(prompt, verbose=False).input_ids) > length:
            log.warning("The prompt is longer than the model reads (%d tokens); the rest is ignored: %s", length, prompt[:80])
    mask = getattr(encoder.config, "use_attention_mask", False) if mask is None else mask
    attention_mask = tokens.attention_mask.to(encoder.device) if mask else None
    return encoder(tokens.input_ids.to(encoder.device), attention_mask=attention_mask, **options)


def clip_penultimate(load: TextLoader, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """(the last but one layer's states [B, tokens, width], the projected or pooled output [B, width])."""
    said = encode(load, prompts, output_hidden_states=True)
    pooled = said.text_embeds if getattr(said, "text_embeds", None) is not None else said.pooler_output
    return said.hidden_states[-2], pooled


def load_tokenizer(folder: Path, encoder: Encoder, config: Any) -> Any:
    """The tokenizer, checked against the text encoder's configuration: of an empty folder the library makes an empty tokenizer.

    Raises:
        PriorError: it is missing, cannot be read, or has more words than the encoder.
    """
    try:
        tokenizer = _read_t5(folder) if encoder.is_t5 else _read_clip(folder)
    except PriorError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise PriorError(f"The tokenizer in '{folder}' cannot be read ({first_line(error)}).", remedy=COPY_AGAIN) from error
    if tokenizer is None or len(tokenizer) > config.vocab_size:
        raise PriorError(f"The tokenizer in '{folder}' is missing or does not fit the text encoder.", remedy=COPY_AGAIN)
    if not encoder.is_t5:
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
    return tokenizer


def _read_clip(folder: Path) -> Any | None:
    from transformers import CLIPTokenizer

    if (folder / "tokenizer.json").is_file() or ((folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()):
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return None


def _read_t5(folder: Path) -> Any | None:
    """From tokenizer.json, else from spiece.model, for which transformers would need another package."""
    from transformers import T5Tokenizer

    if (folder / "tokenizer.json").is_file():
        return T5Tokenizer.from_pretrained(folder, local_files_only=True)
    if not (folder / "spiece.model").is_file():
        return None
    pieces, characters = read_sentencepiece((folder / "spiece.model").read_bytes())
    extra = [(f"<extra_id_{number}>", 0.0) for number in reversed(range(T5_EXTRA))]
    options: Any = {"_spm_precompiled_charsmap": characters} if characters else {}
    return T5Tokenizer(vocab=[*pieces, *extra], extra_ids=T5_EXTRA, **options)  # type: ignore[arg-type]  # pairs, as the code wants


T5_EXTRA = 100
"""Placeholder tokens behind T5's vocabulary."""


def read_sentencepiece(data: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """(pieces with their scores, table of the normalisation) of a SentencePiece model: in protobuf's wire format, a ModelProto.

    Raises:
        ValueError, IndexError, struct.error: it is none.
    """
    pieces, characters = [], b""
    for number, value in _fields(data):
        if number == 1:  # repeated SentencePiece {1: piece, 2: score}
            piece = dict(_fields(value))
            pieces.append((piece[1].decode("utf-8"), struct.unpack("<f", piece.get(2, bytes(4)))[0]))
        elif number == 3:  # NormalizerSpec {2: precompiled_charsmap}
            characters = dict(_fields(value)).get(2, b"")
    if not pieces:
        raise ValueError("it has no vocabulary")
    return pieces, characters


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each field of a protobuf message; integers are passed over."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            varint()
            continue
        size = {1: 8, 5: 4}.get(kind)
        size = varint() if kind == 2 else size
        if size is None or position + size > len(data):
            raise ValueError("it is no SentencePiece model")
        yield key >> 3, data[position : position + size]
        position += size
