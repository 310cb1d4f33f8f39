"""Two grids, gradients for them, and steps of fusion in one region."""

from types import SimpleNamespace

import torch

from backend.config import FusionConfig
from backend.method.gradient_fusion import GradientFusion
from backend.method.region_gradients import RegionGradients
from backend.method.view_grid import ViewGrid

THREE = ViewGrid(3, (-10.0, 10.0), (3.0, 3.0))
DEFAULT = ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.1, 3.5))
SHAPES = {"means": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3)}


def make(grid=THREE, device="cpu", **changes):
    return GradientFusion(grid, FusionConfig(**{"storage": "float32"} | changes), 1000, device)


def group(*values):
    """One group "a" of one row."""
    return {"a": torch.tensor([values], dtype=torch.float32)}


def random_gradients(generator, rows=7, scale=1.0):
    return {name: scale * torch.randn(rows, *shape, generator=generator) for name, shape in SHAPES.items()}


def flat(gradients):
    return torch.cat([g.reshape(-1) for g in gradients.values()])


def of_regions(*regions):
    """The gradients of a step in several regions, each {group: [rows, ...]}."""
    return RegionGradients.of({name: torch.stack([region[name] for region in regions]) for name in regions[0]})


def record(fusion, region, t, iteration, gradients):
    """A step in one region."""
    fusion.record([region], [t], iteration, of_regions(gradients))


def fuse(fusion, region, t, iteration, gradients, **options):
    """A step in one region: its fused gradients, and its report's fields."""
    result = fusion.fuse([region], [t], iteration, of_regions(gradients), **options)
    (report,) = result.reports
    return SimpleNamespace(gradients={name: g[0] for name, g in result.gradients.items()}, **vars(report))
