"""A world of two objects, and bases for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from backend.embedded.learned import model
from backend.embedded.learned.block_basis import BlockBasis
from backend.embedded.learned.dataset import WorldDataset

OBJECTS_HERE = ("cat", "mug")
VIEWS = 40


def small_dataset(rng: np.random.Generator | None = None, **options: Any) -> WorldDataset:
    return WorldDataset(VIEWS, rng or np.random.default_rng(0), **({"objects": OBJECTS_HERE} | options))


def random_basis(seed: int = 0) -> BlockBasis:
    generator = torch.Generator().manual_seed(seed)
    rows = 3 * model.PIXEL_UNSHUFFLE**2
    components = torch.linalg.qr(torch.randn(rows, model.COMPONENTS, generator=generator)).Q
    return BlockBasis(components, torch.linspace(20, 0.1, model.COMPONENTS))
