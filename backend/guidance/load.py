"""From the name a user gives to a prior that is ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ..config import EXACT_PRIOR, PriorConfig
from ..embedded.exact_prior import ExactPrior
from ..errors import PriorError
from .prior import DiffusionPrior

LEARNED_WEIGHTS = Path(__file__).parent.parent / "embedded" / "weights"
"""The learned built-in prior, an ordinary pipeline folder."""


def load_prior(
    config: PriorConfig,
    device: torch.device,
    *,
    seed: int,
    progress: Callable[[str], None] = lambda message: None,
) -> DiffusionPrior:
    """Loads what `config.name` names: builtin:learned, builtin:exact, a folder, a file or a hub id.

    Raises:
        PriorError: when it cannot be found, read or used.
    """
    if config.name in EXACT_PRIOR:
        return ExactPrior(reliability=config.reliability, seed=seed, views=config.views, progress=progress)
    from .diffusers_prior import load_diffusers_prior

    source = config.name
    if source == "builtin:learned":
        if not LEARNED_WEIGHTS.is_dir():
            raise PriorError(
                f"The learned built-in prior is missing: there is no '{LEARNED_WEIGHTS}'.",
                remedy="Install the add-on or clone the repository again, or use builtin:exact.",
            )
        source = str(LEARNED_WEIGHTS)
    return load_diffusers_prior(
        source,
        device=device,
        name=config.name,
        dtype=config.dtype,
        allow_download=config.allow_download,
        memory=config.memory,
        compiled=config.compile,
        small_vae=config.small_vae,
        small_vae_until=config.small_vae_until,
        progress=progress,
    )
