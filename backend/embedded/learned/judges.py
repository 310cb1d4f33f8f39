"""Small networks that judge pictures of the built-in world: shipped, or trained where they are first needed and kept in its cache.

Trained on another machine a judge comes out different, so figures that are to be compared across machines need a shipped one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ...errors import OutputError
from ...files import atomic_path
from .. import world

Judge = TypeVar("Judge", bound=nn.Module)
_WORLD = "world"
"""Key of a file's metadata: the version of the world that it was trained on."""

_log = logging.getLogger(__name__)


def cached_judge(blank: Judge, train: Callable[[], Judge], name: str, path: Path | None = None, *, shipped: Path | None = None) -> Judge:
    """A judge for this version of the world, ready to be asked.

    Args:
        blank: takes the weights that are found.
        train: makes one where none are, or where those that are do not fit. A cache that cannot be written costs time only.
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
    weights = {key: value.cpu().contiguous() for key, value in judge.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file(weights, temporary, metadata={_WORLD: world.version()})
    except (OSError, SafetensorError, OutputError) as error:  # minutes of training are not given up for a cache
        _log.warning("the judge could not be kept: %s", error)
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
