"""Small networks that judge pictures of the built-in world: shipped, or trained where they are first needed and kept in its cache.

Trained on another machine a judge comes out different, so figures that are to be compared across machines need a shipped one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ...files import atomic_path
from .. import world

Judge = TypeVar("Judge", bound=nn.Module)
_WORLD = "world"
"""Key of a file's metadata: the version of the world that it was trained on."""


def cached_judge(blank: Judge, train: Callable[[], Judge], name: str, path: Path | None = None, *, shipped: Path | None = None) -> Judge:
    """A judge for this version of the world, ready to be asked.

    Args:
        blank: takes the weights that are found.
        train: makes one where none are, or where those that are do not fit.
        name: of its file in the world's cache.
        path: another file.
        shipped: a file that is taken first, if it was made for this version of the world.
    """
    path = path or world.cache_folder() / f"{name}-{world.version()}.safetensors"
    for file in (shipped, path) if shipped and _made_for(shipped) == world.version() else (path,):
        with contextlib.suppress(OSError, SafetensorError, RuntimeError):
            blank.load_state_dict(load_file(file))
            return blank.eval()
    judge = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        weights = {key: value.cpu().contiguous() for key, value in judge.state_dict().items()}
        save_file(weights, temporary, metadata={_WORLD: world.version()})
    return judge.eval()


def fingerprint(judge: nn.Module) -> str:
    """Twelve hex digits that name a judge by its weights."""
    digest = hashlib.sha256()
    for name, value in judge.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _made_for(path: Path) -> str | None:
    """The version of the world that a judge's file was made for; None where there is no such file."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(_WORLD)
    except (OSError, SafetensorError):
        return None
