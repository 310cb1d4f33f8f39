"""The learned prior's view of a picture: blocks of 32 x 32 pixels, each as coefficients of the world's principal components.

A linear change of coordinates before the denoiser's first layer and after its last one. Training happens in it: 256
numbers a block in the place of 3,072, in which a bank of pictures fits into memory and costs little to draw from
(`pools.py`). Folded into the two layers it vanishes: what is shipped takes and gives pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST, LAST = "conv_in", "conv_out"
"""The denoiser's layers into which a basis is folded."""
SMALLEST_ENERGY = 1e-6
"""Of a component, relative to the noise: one that no picture has must not be divided by."""


@dataclass(frozen=True)
class BlockBasis:
    """An orthonormal basis of part of a block's pixels, and how large its coefficients are.

    Attributes:
        components: [3 s s, K] float32, orthonormal columns, strongest first; rows in the order of `torch.nn.PixelUnshuffle(s)`.
        energy: [K] float32 mean square of the world's coefficients, pictures in -1..1.
    """

    components: Tensor
    energy: Tensor

    @staticmethod
    def fit(pictures: Tensor, size: int, count: int) -> BlockBasis:
        """The principal components (about zero) of the blocks of `size` pixels in pictures [N, 3, H, W]."""
        blocks = F.pixel_unshuffle(pictures, size).movedim(1, -1).flatten(0, -2)
        energy, components = torch.linalg.eigh(blocks.T @ blocks / len(blocks))
        chosen = slice(-count, None)
        return BlockBasis(components[:, chosen].flip(1).contiguous(), energy[chosen].flip(0).clamp_min(SMALLEST_ENERGY))

    @property
    def size(self) -> int:
        """Pixels along a block's edge."""
        return round((len(self.components) / 3) ** 0.5)

    def coefficients(self, pictures: Tensor) -> Tensor:
        """[N, K, H / s, W / s] of pictures [N, 3, H, W]."""
        return torch.einsum("nphw,pk->nkhw", F.pixel_unshuffle(pictures, self.size), self.components)

    def pictures(self, coefficients: Tensor) -> Tensor:
        """[N, 3, H, W] of coefficients [N, K, H / s, W / s]: what is left of a picture in this basis."""
        return F.pixel_shuffle(torch.einsum("nkhw,pk->nphw", coefficients, self.components), self.size)

    def input_scale(self, alpha_bar: float) -> Tensor:
        """[K]: makes the noisy coefficients' mean squares one at this noise level."""
        return (alpha_bar * self.energy + 1 - alpha_bar).rsqrt()

    def output_scale(self) -> Tensor:
        """[K]: of the world's coefficients, from numbers of mean square one."""
        return self.energy.sqrt()

    def fold(self, weights: Mapping[str, Tensor], alpha_bar: float) -> dict[str, Tensor]:
        """A denoiser's weights for pixels, of those for scaled coefficients.

        Args:
            weights: a state whose `conv_in` and `conv_out` have 1 x 1 kernels.
            alpha_bar: where `input_scale` is one.
        """
        into, out = self.components * self.input_scale(alpha_bar), self.components * self.output_scale()
        return dict(weights) | {
            f"{FIRST}.weight": _pointwise(weights[f"{FIRST}.weight"].flatten(1) @ into.T),
            f"{LAST}.weight": _pointwise(out @ weights[f"{LAST}.weight"].flatten(1)),
            f"{LAST}.bias": out @ weights[f"{LAST}.bias"],
        }

    def unfold(self, weights: Mapping[str, Tensor], alpha_bar: float) -> dict[str, Tensor]:
        """The inverse of `fold`, for the part of the weights that lies in this basis."""
        into, out = self.components / self.input_scale(alpha_bar), self.components / self.output_scale()
        return dict(weights) | {
            f"{FIRST}.weight": _pointwise(weights[f"{FIRST}.weight"].flatten(1) @ into),
            f"{LAST}.weight": _pointwise(out.T @ weights[f"{LAST}.weight"].flatten(1)),
            f"{LAST}.bias": out.T @ weights[f"{LAST}.bias"],
        }

    def to(self, device: torch.device) -> BlockBasis:
        """The same on another device."""
        return BlockBasis(self.components.to(device), self.energy.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """What `from_state` takes."""
        return {"components": self.components, "energy": self.energy}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> BlockBasis:
        """Of `state_dict`. Raises KeyError."""
        return BlockBasis(state["components"], state["energy"])


def _pointwise(matrix: Tensor) -> Tensor:
    return matrix[:, :, None, None].contiguous()
