"""How each kind of image model is asked, one module a form. Which kind a model is, `recognition` says.

A family is what `DiffusersPrior` needs to know beyond the networks themselves. To add one, add its `Kind` to `kinds` and what it is
recognised by to `recognition`, write its `Family`, and name that in `FAMILIES`.
"""

from __future__ import annotations

import importlib

from ..kinds import Kind
from .family import Family

FAMILIES = {
    "sd": ("stable_diffusion", "StableDiffusion"),
    "sdxl": ("sdxl", "StableDiffusionXL"),
    "sd3": ("flow", "StableDiffusion3"),
    "flux": ("flow", "Flux"),
    "if": ("deepfloyd", "DeepFloyd"),
    "mvdream": ("multiview", "MultiView"),
}
"""Module and class of each kind's family, by the kind's key."""

__all__ = ["FAMILIES", "Family", "family_of"]


def family_of(kind: Kind) -> type[Family]:
    """The family of a kind of models."""
    module, name = FAMILIES[kind.key]
    return getattr(importlib.import_module(f".{module}", __package__), name)
