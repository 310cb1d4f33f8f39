"""Gaussians from given cameras, to be looked at: no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..cameras import Camera
from .model import GaussianModel


def stack_cameras(cameras: Sequence[Camera], device: torch.device) -> tuple[Tensor, Tensor]:
    """viewmats [C, 4, 4] and Ks [C, 3, 3], float32."""
    viewmats, Ks = np.stack([camera.viewmat for camera in cameras]), np.stack([camera.K for camera in cameras])
    return torch.as_tensor(viewmats, dtype=torch.float32, device=device), torch.as_tensor(Ks, dtype=torch.float32, device=device)


@torch.no_grad()
def render_cameras(
    model: GaussianModel, cameras: Sequence[Camera], background: float | tuple[float, float, float] = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [C, H, W, 3], coverage [C, H, W, 1] and expected depth [C, H, W, 1] from cameras of one size."""
    viewmats, Ks = stack_cameras(cameras, model.device)
    colour = torch.as_tensor(background, dtype=torch.float32, device=model.device).expand(len(cameras), 3)
    rendered = model.render(viewmats, Ks, cameras[0].width, cameras[0].height, colour)
    return rendered.rgb, rendered.alpha, rendered.depth
