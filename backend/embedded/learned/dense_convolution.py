"""3 x 3 convolutions of 2 x 2 pixels as one matrix product each: the same numbers, several times faster on processors.

At that size every output pixel sees every input pixel, and all nine weights of a kernel are in use: the convolution is
a full matrix from 4 C to 4 C' numbers in which some entries are shared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 2


class DenseConvolution(nn.Module):
    """Computes what a convolution with a 3 x 3 kernel and padding 1 does of [B, C, 2, 2]; shares its parameters."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        pixels = [(row, column) for row in range(GRID) for column in range(GRID)]
        taps = torch.tensor([(i - row + 1) * 3 + (j - column + 1) for row, column in pixels for i, j in pixels])
        # Picking by a product with zeros and ones: indexing took a quarter of a training step, above all backwards.
        self.register_buffer("picks", F.one_hot(taps, 9).T.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C', 2, 2] of x [B, C, 2, 2]."""
        outputs, inputs = self.weight.shape[:2]
        matrix = (self.weight.flatten(2) @ self.picks).view(outputs, inputs, GRID**2, GRID**2).transpose(1, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(GRID**2)
        return F.linear(x.flatten(1), matrix.reshape(outputs * GRID**2, inputs * GRID**2), bias).view(-1, outputs, GRID, GRID)


class PointwiseConvolution(nn.Module):
    """Computes what a convolution with a 1 x 1 kernel does; shares its parameters."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """[B, C', H, W] of x [B, C, H, W]."""
        return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)


def make_dense(network: nn.Module) -> None:
    """Replaces the convolutions in a network that works on 2 x 2 pixels throughout. Parameters keep their names."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(network, name, (PointwiseConvolution if child.kernel_size == (1, 1) else DenseConvolution)(child))
        else:
            make_dense(child)
