"""Terms that draw Gaussians onto a surface: flat, at one depth along a ray, and facing the way that surface faces.

They stand in for methods that optimise a signed distance (TextMesh): a set of flat Gaussians that agree on depth and normal is as near to
such a surface as Gaussians come. Each is a sum over pixels, or over Gaussians, averaged over the views like the rest of the objective.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OptimizerConfig
from ..gaussians.model import GaussianModel, RenderOutput
from ..gaussians.rasterize.torch_backend import rotation_matrices

SEEN = 0.5
"""A pixel whose coverage is less, or next to one whose is, has no depth to take a normal from."""


def surface_terms(
    model: GaussianModel, rendered: RenderOutput, viewmats: Tensor, Ks: Tensor, settings: OptimizerConfig, implementation: str = "auto"
) -> Tensor:
    """The weighted sum of the terms, 0-dimensional. What has no weight is not computed: two of the terms cost a further render each.

    Args:
        rendered: the model from the cameras viewmats [C, 4, 4] and Ks [C, 3, 3].
    """
    total = rendered.alpha.new_zeros(())
    if settings.flatness > 0:
        total = total + settings.flatness * flatness(model.params["scales"]).sum()
    if settings.depth_distortion > 0 or settings.normal_consistency > 0:
        for alpha, depth, viewmat, K in zip(rendered.alpha[..., 0], rendered.depth[..., 0], viewmats, Ks, strict=True):
            total = total + _of_view(model, alpha, depth, viewmat, K, settings, implementation) / len(viewmats)
    return total


def _of_view(
    model: GaussianModel, alpha: Tensor, depth: Tensor, viewmat: Tensor, K: Tensor, settings: OptimizerConfig, implementation: str
) -> Tensor:
    """The two terms that differ between views, of one of them: what they need of each Gaussian depends on where the camera stands."""

    def drawn(features: Tensor) -> Tensor:
        return model.render_features(features, viewmat[None], K[None], alpha.shape[1], alpha.shape[0], implementation=implementation)[0]

    total = alpha.new_zeros(())
    points = model.params["means"] @ viewmat[:3, :3].T + viewmat[:3, 3]
    if settings.depth_distortion > 0:
        moments = drawn(depth_moments(points[:, 2], viewmat[2, 3]))
        total = total + settings.depth_distortion * distortion(alpha, moments).sum()
    if settings.normal_consistency > 0:
        normals = drawn(facing_normals(model.params["quats"], model.params["scales"], points, viewmat))
        total = total + settings.normal_consistency * normal_error(alpha, depth, normals, K).sum()
    return total


def flatness(log_scales: Tensor) -> Tensor:
    """[N] smallest over middle standard deviation, of log scales [N, 3]: 0 for a disk, 1 for a ball (SuGaR, Guedon and Lepetit 2024)."""
    smallest, middle, _ = log_scales.sort(dim=-1).values.unbind(-1)
    return (smallest - middle).exp()


def depth_moments(depths: Tensor, origin: Tensor) -> Tensor:
    """[N, 3] features u, u^2 and 0, with u = depth [N] - origin, the scene's own: the distortion does not feel a shift, rounding does."""
    offset = depths - origin
    return torch.stack([offset, offset.square(), torch.zeros_like(offset)], dim=-1)


def distortion(alpha: Tensor, moments: Tensor) -> Tensor:
    """[H, W] sum over pairs i < j along a ray of w_i w_j (u_i - u_j)^2, from alpha = sum w [H, W] and sum w (u, u^2) [H, W, 3].

    The squared form of the distortion loss (Mip-NeRF 360, Barron et al. 2022, eq. 15; 2DGS, Huang et al. 2024, eq. 13) needs no pairs:
    it is A M2 - M1^2.
    """
    return alpha * moments[..., 1] - moments[..., 0].square()


def facing_normals(quats: Tensor, log_scales: Tensor, points: Tensor, viewmat: Tensor) -> Tensor:
    """[N, 3] the Gaussians' shortest axes in camera space, turned towards the camera; points [N, 3] are their centres there."""
    shortest = log_scales.argmin(dim=-1)
    axes = rotation_matrices(quats).gather(2, shortest[:, None, None].expand(-1, 3, 1))[..., 0] @ viewmat[:3, :3].T
    return torch.where((axes * points).sum(-1, keepdim=True) > 0, -axes, axes)


def normal_error(alpha: Tensor, depth: Tensor, normals: Tensor, K: Tensor) -> Tensor:
    """[H - 2, W - 2] sum_i w_i (1 - <n_i, n'>), with n' the normal of the expected depth's surface (2DGS, eq. 14).

    Args:
        alpha, depth: [H, W] coverage and expected depth.
        normals: [H, W, 3] sum_i w_i n_i.
        K: [3, 3].
    """
    seen = -F.max_pool2d(-alpha.detach()[None, None], 3, stride=1)[0, 0] > SEEN
    agreement = (normals[1:-1, 1:-1] * depth_normals(depth, K)).sum(-1)
    return torch.where(seen, alpha[1:-1, 1:-1] - agreement, 0.0)


def depth_normals(depth: Tensor, K: Tensor) -> Tensor:
    """[H - 2, W - 2, 3] unit normals in camera space, towards the camera, of the surface that a depth map [H, W] shows."""
    height, width = depth.shape
    x = (torch.arange(width, device=depth.device, dtype=depth.dtype) + 0.5 - K[0, 2]) / K[0, 0]
    y = (torch.arange(height, device=depth.device, dtype=depth.dtype) + 0.5 - K[1, 2]) / K[1, 1]
    points = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones_like(depth)], dim=-1) * depth[..., None]
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    return F.normalize(torch.linalg.cross(down, across), dim=-1, eps=1e-12)
