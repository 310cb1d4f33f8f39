"""The gradients of one step, a region at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from .fusion_arithmetic import measure


@dataclass(frozen=True)
class Layout:
    """Where the numbers of each parameter group lie in a flat gradient.

    Attributes:
        shapes: {group: shape of its gradient}, one row per Gaussian.
    """

    shapes: dict[str, tuple[int, ...]]

    @cached_property
    def widths(self) -> list[int]:
        """[G] numbers of each group."""
        return [prod(shape) for shape in self.shapes.values()]

    @cached_property
    def edges(self) -> np.ndarray:
        """[G + 1] int64: group g lies from edges[g] to edges[g + 1]."""
        return np.cumsum([0, *self.widths])

    @property
    def size(self) -> int:
        """S, the numbers of a flat gradient."""
        return int(self.edges[-1])

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """{group: its part of flat [..., S], as [..., rows, ...]}, views."""
        parts = zip(self.shapes.items(), flat.split(self.widths, dim=-1), strict=True)
        return {name: part.unflatten(-1, shape) for (name, shape), part in parts}

    def with_rows(self, rows: int) -> Layout:
        """The same groups of so many Gaussians."""
        return Layout({name: (rows, *shape[1:]) for name, shape in self.shapes.items()})


class RegionGradients(Mapping[str, Tensor]):
    """{parameter group: its gradients [R, rows, ...]}, one per region, one row per Gaussian; all in one block of memory.

    Args:
        layout: of the groups.
        flat: [R, S] float32; not written to any more.
    """

    def __init__(self, layout: Layout, flat: Tensor) -> None:
        self.layout = layout
        self.flat = flat

    @classmethod
    def of(cls, groups: Mapping[str, Tensor]) -> RegionGradients:
        """From {group: gradients [R, rows, ...]}; a copy."""
        layout = Layout({name: tuple(gradients.shape[1:]) for name, gradients in groups.items()})
        return cls(layout, torch.cat([gradients.detach().flatten(1) for gradients in groups.values()], dim=1))

    @cached_property
    def measured(self) -> tuple[Tensor, Tensor]:
        """(peaks, squares of the unit gradients' norms), both [R, G]: see `fusion_arithmetic.measure`."""
        return measure(self.flat, self.layout.edges)

    def total(self) -> dict[str, Tensor]:
        """{group: the sum over the regions [rows, ...]}."""
        return self.layout.split(self.flat.sum(dim=0))

    def __getitem__(self, name: str) -> Tensor:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.shapes)

    def __len__(self) -> int:
        return len(self.layout.shapes)

    @cached_property
    def _groups(self) -> dict[str, Tensor]:
        return self.layout.split(self.flat)
