"""Terms that draw Gaussians onto a surface: flat, at one depth along a ray, and facing the way that surface faces.

They stand in for methods that optimise a signed distance (TextMesh): a set of flat Gaussians that agree on depth and normal is as near to
such a surface as Gaussians come. Each is a sum over pixels, or over Gaussians, averaged over the views like the rest of the objective.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import OptimizerConfig
from ..gaussians.rasterize.torch_backend import rotation_matrices
from ..gaussians.rendering import render_features

SEEN = 0.5
"""A pixel whose coverage is less, or next to one whose is, has no depth to take a normal from."""


def surface_terms(
    params: Mapping[str, Tensor],
    alpha: Tensor,
    depth: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    settings: OptimizerConfig,
    implementation: str = "auto",
) -> Tensor:
    """The weighted sum of the terms, 0-dimensional. What has no weight is not computed: two of the terms cost a further render each.

    Args:
        params: of N Gaussians, as a `GaussianModel` has them, or its copies [..., N, ...].
        alpha, depth: [..., C, H, W, 1] coverage and expected depth of each copy from the cameras viewmats [..., C, 4, 4] and
            Ks [..., C, 3, 3].
    """
    total = alpha.new_zeros(())
    if settings.flatness > 0:
        total = total + settings.flatness * flatness(params["scales"]).sum(dim=-1).mean()
    if settings.depth_distortion > 0 or settings.normal_consistency > 0:
        total = total + _of_views(params, alpha[..., 0], depth[..., 0], viewmats, Ks, settings, implementation).sum(dim=(-2, -1)).mean()
    return total


def _of_views(
    params: Mapping[str, Tensor], alpha: Tensor, depth: Tensor, viewmats: Tensor, Ks: Tensor, settings: OptimizerConfig, implementation: str
) -> Tensor:
    """[..., C, H, W] the two terms that differ between views: what they need of each Gaussian depends on where the camera stands."""
    batch, (cameras, height, width) = alpha.shape[:-3], alpha.shape[-3:]
    own = {name: x.unsqueeze(len(batch)).expand(*batch, cameras, *x.shape[len(batch) :]) for name, x in params.items()}

    def drawn(features: Tensor) -> Tensor:
        """[..., C, H, W, 3] from [..., C, N, 3]: every view is a batch of its own."""
        views = (viewmats.unsqueeze(-3), Ks.unsqueeze(-3))
        return render_features(own, features, *views, width, height, implementation=implementation).squeeze(-4)

    total = torch.zeros_like(alpha)
    points = own["means"] @ viewmats[..., :3, :3].mT + viewmats[..., None, :3, 3]
    if settings.depth_distortion > 0:
        moments = drawn(depth_moments(points[..., 2], viewmats[..., 2, 3, None]))
        total = total + settings.depth_distortion * distortion(alpha, moments)
    if settings.normal_consistency > 0:
        normals = drawn(facing_normals(own["quats"], own["scales"], points, viewmats))
        total = total + settings.normal_consistency * F.pad(normal_error(alpha, depth, normals, Ks), (1, 1, 1, 1))
    return total


def flatness(log_scales: Tensor) -> Tensor:
    """[...] smallest over middle standard deviation, of their logarithms [..., 3]: 0 for a disk, 1 for a ball (SuGaR, Guedon and Lepetit
    2024)."""
    smallest, middle, _ = log_scales.sort(dim=-1).values.unbind(-1)
    return (smallest - middle).exp()


def depth_moments(depths: Tensor, origin: Tensor) -> Tensor:
    """[..., 3] features u, u^2 and 0, with u = depths [...] - origin, the scene's own: a shift changes no distortion, but its rounding."""
    offset = depths - origin
    return torch.stack([offset, offset.square(), torch.zeros_like(offset)], dim=-1)


def distortion(alpha: Tensor, moments: Tensor) -> Tensor:
    """[...] sum over pairs i < j along a ray of w_i w_j (u_i - u_j)^2, from alpha = sum w [...] and sum w (u, u^2) [..., 3].

    The squared form of the distortion loss (Mip-NeRF 360, Barron et al. 2022, eq. 15; 2DGS, Huang et al. 2024, eq. 13) needs no pairs:
    it is A M2 - M1^2.
    """
    return alpha * moments[..., 1] - moments[..., 0].square()


def facing_normals(quats: Tensor, log_scales: Tensor, points: Tensor, viewmats: Tensor) -> Tensor:
    """[..., N, 3] the Gaussians' shortest axes in the space of the camera viewmats [..., 4, 4], turned towards it; points [..., N, 3] are
    their centres there."""
    shortest = log_scales.argmin(dim=-1)[..., None, None]
    axes = rotation_matrices(quats).gather(-1, shortest.expand(*shortest.shape[:-2], 3, 1))[..., 0] @ viewmats[..., :3, :3].mT
    return torch.where((axes * points).sum(-1, keepdim=True) > 0, -axes, axes)


def normal_error(alpha: Tensor, depth: Tensor, normals: Tensor, Ks: Tensor) -> Tensor:
    """[..., H - 2, W - 2] sum_i w_i (1 - <n_i, n'>), with n' the normal of the expected depth's surface (2DGS, eq. 14).

    Args:
        alpha, depth: [..., H, W] coverage and expected depth.
        normals: [..., H, W, 3] sum_i w_i n_i.
        Ks: [..., 3, 3].
    """
    around = F.max_pool2d(-alpha.detach().reshape(-1, 1, *alpha.shape[-2:]), 3, stride=1)
    inside = alpha[..., 1:-1, 1:-1]
    agreement = (normals[..., 1:-1, 1:-1, :] * depth_normals(depth, Ks)).sum(-1)
    return torch.where((-around > SEEN).view(inside.shape), inside - agreement, 0.0)


def depth_normals(depth: Tensor, Ks: Tensor) -> Tensor:
    """[..., H - 2, W - 2, 3] unit normals in camera space, towards the camera, of the surface that a depth map [..., H, W] shows."""
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = (Ks[..., row, column, None] for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x = (torch.arange(width, device=depth.device, dtype=depth.dtype) + 0.5 - cx) / fx
    y = (torch.arange(height, device=depth.device, dtype=depth.dtype) + 0.5 - cy) / fy
    rays = torch.stack(torch.broadcast_tensors(x[..., None, :], y[..., None], depth.new_ones(())), dim=-1)
    points = rays * depth[..., None]
    across = points[..., 1:-1, 2:, :] - points[..., 1:-1, :-2, :]
    down = points[..., 2:, 1:-1, :] - points[..., :-2, 1:-1, :]
    return F.normalize(torch.linalg.cross(down, across), dim=-1, eps=1e-12)
