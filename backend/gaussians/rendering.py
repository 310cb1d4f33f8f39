"""What Gaussians look like from given cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..cameras import Camera
from .model import GaussianModel
from .rasterize import rasterization


class RenderOutput(NamedTuple):
    """What the Gaussians look like from C cameras.

    Attributes:
        rgb: [..., C, H, W, 3], display space; a Gaussian's colour is clamped at 0 from below only, so a pixel may exceed 1.
        alpha: [..., C, H, W, 1].
        depth: [..., C, H, W, 1] expected camera-space z, 0 where alpha is 0. Weigh depth losses by alpha.
        meta: see `rasterization`.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    meta: dict[str, Any]


def render(
    params: Mapping[str, Tensor],
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    background: Tensor | None = None,
    *,
    implementation: str = "auto",
) -> RenderOutput:
    """Draw Gaussians from C cameras over `background` [..., C, 3] (black if absent); see `rasterization`.

    Args:
        params: those of a `GaussianModel`, or its `copies`, [..., N, ...]: each copy is drawn from cameras of its own.
    """
    harmonics = params["sh0"] if "shN" not in params else torch.cat([params["sh0"], params["shN"]], dim=-2)
    renders, alphas, meta = rasterization(
        *_shapes(params),
        harmonics,
        viewmats,
        Ks,
        width,
        height,
        sh_degree=math.isqrt(harmonics.shape[-2]) - 1,
        backgrounds=background,
        render_mode="RGB+ED",
        implementation=implementation,
    )
    return RenderOutput(renders[..., :3], alphas, renders[..., 3:], meta)


def render_features(
    params: Mapping[str, Tensor], features: Tensor, viewmats: Tensor, Ks: Tensor, width: int, height: int, *, implementation: str = "auto"
) -> Tensor:
    """[..., C, H, W, 3] sums over the Gaussians' features [..., N, 3], each weighted by what it contributes to the pixel; 0 where nothing
    is."""
    renders, _, _ = rasterization(
        *_shapes(params),
        features,
        viewmats,
        Ks,
        width,
        height,
        render_mode="RGB",
        implementation=implementation,
    )
    return renders


def _shapes(params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The parameters but for colour, as the rasteriser takes them."""
    return params["means"], params["quats"], params["scales"].exp(), params["opacities"].sigmoid()


def stack_cameras(cameras: Sequence[Camera], device: torch.device) -> tuple[Tensor, Tensor]:
    """viewmats [C, 4, 4] and Ks [C, 3, 3], float32."""
    viewmats, Ks = np.stack([camera.viewmat for camera in cameras]), np.stack([camera.K for camera in cameras])
    return torch.as_tensor(viewmats, dtype=torch.float32, device=device), torch.as_tensor(Ks, dtype=torch.float32, device=device)


@torch.no_grad()
def render_cameras(
    model: GaussianModel,
    cameras: Sequence[Camera],
    background: float | tuple[float, float, float] = 1.0,
    *,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [C, H, W, 3], coverage [C, H, W, 1] and expected depth [C, H, W, 1] from cameras of one size, to be looked at: no gradient."""
    viewmats, Ks = stack_cameras(cameras, model.device)
    colour = torch.as_tensor(background, dtype=torch.float32, device=model.device).expand(len(cameras), 3)
    rendered = render(model.params, viewmats, Ks, cameras[0].width, cameras[0].height, colour, implementation=implementation)
    return rendered.rgb, rendered.alpha, rendered.depth
