"""The models of the built-in world, one file a family."""

from __future__ import annotations

from .animals import ANIMALS
from .birds import BIRDS
from .builder import PAINTS, Builder, Paint, Shape
from .buildings import BUILDINGS
from .figures import FIGURES
from .furniture import FURNITURE
from .vehicles import VEHICLES
from .vessels import VESSELS

__all__ = ["MODELS", "PAINTS", "Builder", "Paint", "Shape", "build"]

MODELS = ANIMALS | BIRDS | VEHICLES | FURNITURE | VESSELS | BUILDINGS | FIGURES
"""Name to the function that adds the model's parts to a `Builder`."""


def build(name: str) -> Shape:
    """The finished model of one of `vocabulary.OBJECTS`."""
    builder = Builder()
    MODELS[name](builder)
    return builder.finish()
