"""The sampler and its sheets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.embedded.learned import sampling
from backend.guidance.prior import Conditioning, DiffusionPrior, PriorDefaults


class OnePicture(DiffusionPrior):
    """Knows one picture a prompt; its denoiser is exact."""

    name = fingerprint = "one"
    device = torch.device("cpu")
    recommended = PriorDefaults(guidance_scale=1, weighting="x0", clamp=0, resolutions=(8,))

    def __init__(self, pictures: dict[str, float]) -> None:
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
        self.pictures = pictures

    def encode_prompts(self, prompts: Any) -> Conditioning:
        return Conditioning(tuple(prompts))

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        abar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        clean = torch.tensor([self.pictures[prompt] for prompt in conditioning.prompts]).view(-1, 1, 1, 1)
        return (z_t - abar.sqrt() * clean) / (1 - abar).sqrt()

    def decode(self, z: Tensor) -> Tensor:
        return z * 0.5 + 0.5


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.4), (3.0, 1.2), (0.0, 0.0)])
def test_ddim_finds_the_only_picture_and_extrapolates_by_the_scale(scale: float, expected: float) -> None:
    prior = OnePicture({"cat": 0.4, "": 0.0})  # u + s (c - u) = s * 0.4
    images = sampling.ddim(prior, ["cat", "cat"], (3, 8, 8), scale, 10, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, torch.full((2, 3, 8, 8), expected * 0.5 + 0.5), atol=1e-3, rtol=0)


def test_sheet(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "sheet.png"
    sampling.save_sheet(path, [torch.ones(3, 3, 8, 8), torch.zeros(2, 3, 8, 8)], ["one", "two"], zoom=2)
    assert Image.open(path).size == (48, 2 * (16 + 14))
