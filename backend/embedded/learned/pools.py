"""Training examples by the pool: many views of one description before one backdrop, as coefficients of a `BlockBasis`.

A picture is linear in its channels and so are its coefficients: those of every view's channels are computed once
(24 objects x 1,500 views: 2 GB in half precision), and a picture in any colours costs a short weighted sum. The views of
a pool are each other's references: what an example is compared with is the posterior mean over its pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..appearance import description_weights
from ..renderer import CHANNEL_SCALE
from .block_basis import BlockBasis
from .dataset import WorldDataset, channel_table

VIEWS_AT_ONCE = 250
"""Views whose channels are projected together, to bound the memory."""


@dataclass(frozen=True)
class Pools:
    """D pools of R views.

    Attributes:
        coefficients: [D, R, K n n] float32, a picture's [K, n, n] flattened; on the device of the bank.
        captions: D sentences.
    """

    coefficients: Tensor
    captions: list[str]


class PoolBank:
    """Draws pools from a dataset's objects.

    Args:
        dataset: what is drawn, and its generator.
        basis: on the dataset's device.
        progress: told what is being computed.
    """

    def __init__(self, dataset: WorldDataset, basis: BlockBasis, *, progress: Callable[[str], None] = lambda message: None) -> None:
        self._dataset = dataset
        progress("computing the coefficients of all views")
        height, width = dataset.channels(dataset.objects[0]).shape[-2:]
        white = torch.ones(1, height, width, device=dataset.device)
        self._backdrops = torch.cat([_in_one_colour(white, basis, colour) for colour in range(3)])  # [3, K n n]
        self._views = {name: _coefficients(dataset.channels(name), basis) for name in dataset.objects}

    def draw(self, count: int, views: int) -> Pools:
        """`count` pools of `views` views, drawn by the law of the caption's view word."""
        data = self._dataset
        descriptions = [data.describe() for _ in range(count)]
        captions = [data.caption(description) for description in descriptions]
        backgrounds = data.backgrounds(count)
        weights = torch.from_numpy(np.stack([description_weights(description) for description in descriptions]))
        tables = channel_table(weights, backgrounds).flatten(1)
        pools = []
        for description, table in zip(descriptions, tables, strict=True):
            used = table.nonzero().flatten()
            rows = torch.from_numpy(data.draw_views(description, views))
            chosen = self._views[description.object][rows[:, None], used].to(torch.float32)
            pools.append(torch.einsum("ruk,u->rk", chosen, table[used].to(chosen.device)))
        constants = (backgrounds * 2 - 1).to(self._backdrops.device) @ self._backdrops
        return Pools(torch.stack(pools) + constants[:, None], captions)


def _coefficients(channels: Tensor, basis: BlockBasis) -> Tensor:
    """[V, 3 C, K n n] float16 of channels [V, C, H, W] uint8, each in each primary colour; doubled, as pictures are in -1..1."""
    parts = []
    for some in channels.split(VIEWS_AT_ONCE):
        doubled = some.flatten(0, 1).float() * (2 * CHANNEL_SCALE)
        colours = torch.stack([_in_one_colour(doubled, basis, colour) for colour in range(3)], dim=1)
        parts.append(colours.view(len(some), -1, colours.shape[2]).to(torch.float16))
    return torch.cat(parts)


def _in_one_colour(pictures: Tensor, basis: BlockBasis, colour: int) -> Tensor:
    """[N, K n n] of pictures [N, H, W] in red (0), green or blue, without the zeros of the other two."""
    blocks = F.pixel_unshuffle(pictures[:, None], basis.size)
    components = basis.components.view(3, -1, basis.components.shape[1])[colour]
    return torch.einsum("nphw,pk->nkhw", blocks, components).flatten(1)
