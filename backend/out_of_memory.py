"""What a run does when memory runs out: it loses the steps since its last checkpoint, and goes on with less."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from .config import GenerationConfig
from .errors import ResourceError
from .guidance.memory import MODES, lower_mode
from .memory import is_out_of_memory

T = TypeVar("T")


def retrying(attempt: Callable[[], T], relieve: Callable[[], None]) -> T:
    """The result of `attempt`, which is made again after `relieve` whenever memory runs out in it.

    Args:
        relieve: makes the next attempt need less; raises `ResourceError` where that is impossible.
    """
    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        relieve()  # out here, because the error's frames hold what the failed attempt had allocated


def relief(config: GenerationConfig, mode: str, device: torch.device) -> dict[str, Any]:
    """The next settings, by dotted name, with which the same run needs less memory: one mode down and, in the last one, the history of
    gradients in main memory.

    Args:
        config: the settings with which memory ran out.
        mode: the prior's; empty if it has none.
        device: where the Gaussians are.

    Raises:
        ResourceError: nothing is left to give up.
    """
    changes: dict[str, Any] = {}
    lower = MODES[-1] if mode == "auto" else lower_mode(mode)
    if lower is not None:
        changes["prior.memory"] = lower
    fusion, lowest = config.gradient_fusion, lower in (None, MODES[-1])
    if lowest and fusion.enabled and fusion.history_device != "cpu" and device.type != "cpu":
        changes["gradient_fusion.history_device"] = "cpu"
    if not changes:
        raise ResourceError(
            "There is not enough memory for this run, even where it uses the least.",
            remedy="Lower optimizer.views, optimizer.resolution_steps or densification.max_count, take a smaller image model, "
            "or close other programs.",
        )
    return changes


def free_caches() -> None:
    """Gives back what nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
