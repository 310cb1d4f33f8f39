"""A tiny random model in a memory mode, and everything that it answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from backend.bench.shapes import random_prior
from backend.config import PriorConfig

from .folders import CPU


def prior(mode: str = "high", **changes: Any) -> Any:
    return random_prior("tiny", CPU, PriorConfig(dtype="float32", memory=mode, **changes))


def answers(model: Any, views: int = 3, size: int = 32) -> list[Tensor]:
    """z, the gradient of something that depends on it, a prediction made in between, and a decoded picture."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(views, 3, size, size, generator=generator, requires_grad=True)
    z = model.encode_images(images)
    viewmats = torch.eye(4).repeat(2 * views, 1, 1) + 0.1 * torch.randn(2 * views, 4, 4, generator=generator)
    words = model.place_cameras(model.encode_prompts(["a cat"] * 2 * views), viewmats)
    t = torch.randint(20, 980, (2 * views,), generator=generator)
    noise = model.predict_noise(torch.cat([z.detach()] * 2) + 0.1, t, words)
    (gradient,) = torch.autograd.grad((z * noise[:views]).sum(), images)
    return [z.detach(), noise, gradient, model.decode(z.detach())]
