"""Small networks that judge pictures of the built-in world are trained where they are first needed, and kept in its cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ...files import atomic_path
from .. import world

Judge = TypeVar("Judge", bound=nn.Module)


def cached_judge(blank: Judge, train: Callable[[], Judge], name: str, path: Path | None = None) -> Judge:
    """A judge for this version of the world, ready to be asked.

    Args:
        blank: takes the weights that are found.
        train: makes one where none are, or where those that are do not fit.
        name: of its file in the world's cache.
        path: another file.
    """
    path = path or world.cache_folder() / f"{name}-{world.version()}.safetensors"
    try:
        blank.load_state_dict(load_file(path))
        judge = blank
    except (OSError, SafetensorError, RuntimeError):
        judge = train()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file({key: value.cpu().contiguous() for key, value in judge.state_dict().items()}, temporary)
    return judge.eval()
