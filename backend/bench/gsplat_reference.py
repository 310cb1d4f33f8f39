"""gsplat 1.5.3's own PyTorch pieces, composed to a rasteriser that runs on the CPU: what one has without this project's kernels.

gsplat ships its algorithm twice, in CUDA and, for its tests, in PyTorch (`gsplat.cuda._torch_impl`). Two links between the PyTorch
pieces exist in CUDA only (`rasterize_to_indices_in_range`, and nerfacc's accumulation); they are replaced here by plain PyTorch of the
same meaning.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..gaussians.rasterize.conventions import ALPHA_MAX, ALPHA_MIN, DEPTH_ALPHA_MIN, TRANSMITTANCE_MIN, View
from ..gaussians.rasterize.gsplat_backend import import_quietly

TILE = 16


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, backgrounds: Tensor, view: View
) -> tuple[Tensor, Tensor]:
    """Renders [1, H, W, 4] (red, green, blue, expected depth) and alphas [1, H, W, 1] of one camera. `colors` is [N, K, 3]."""
    pieces = import_quietly("gsplat.cuda._torch_impl")
    covariances, _ = pieces._quat_scale_to_covar_preci(quats, scales, True, False)
    projected = pieces._fully_fused_projection(
        means, covariances, view.viewmats, view.Ks, view.width, view.height, view.eps2d, view.near_plane, view.far_plane
    )
    radii, means2d, depths, conics, _ = projected
    eye = torch.inverse(view.viewmats)[0, :3, 3]
    rgb = torch.clamp_min(pieces._spherical_harmonics(view.sh_degree, means - eye, colors) + 0.5, 0.0)
    channels = torch.cat([rgb, depths[0, :, None]], dim=-1)

    columns, rows = math.ceil(view.width / TILE), math.ceil(view.height / TILE)
    _, keys, flat = pieces._isect_tiles(means2d.detach(), radii, depths.detach(), TILE, columns, rows)
    offsets = [*pieces._isect_offset_encode(keys, 1, columns, rows).flatten().tolist(), len(flat)]
    splats = (means2d[0].detach(), conics[0].detach(), opacities.detach())
    gaussians, pixels = _contributions(*splats, offsets, flat.long(), columns, view.width, view.height)
    image, alphas = _accumulate(means2d[0], conics[0], opacities, channels, gaussians, pixels, view.width, view.height)
    image = image + (1 - alphas) * torch.cat([backgrounds[0], backgrounds.new_zeros(1)])
    return torch.cat([image[..., :3], image[..., 3:] / alphas.clamp_min(DEPTH_ALPHA_MIN)], dim=-1)[None], alphas[None]


def _alphas(means2d: Tensor, conics: Tensor, opacities: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and sigma of splats at pixel centres, broadcast."""
    dx, dy = means2d[..., 0] - x, means2d[..., 1] - y
    sigma = 0.5 * (conics[..., 0] * dx * dx + conics[..., 2] * dy * dy) + conics[..., 1] * dx * dy
    return torch.clamp_max(opacities * torch.exp(-sigma), ALPHA_MAX), sigma


def _contributions(
    means2d: Tensor, conics: Tensor, opacities: Tensor, offsets: list[int], flat: Tensor, columns: int, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """For `rasterize_to_indices_in_range`: the (Gaussian, pixel) pairs that count, pixel by pixel, front to back."""
    gaussians, pixels = [], []
    for tile, (start, end) in enumerate(pairwise(offsets)):
        if start == end:
            continue
        row, column = divmod(tile, columns)
        y = torch.arange(row * TILE, min(row * TILE + TILE, height))
        x = torch.arange(column * TILE, min(column * TILE + TILE, width))
        y, x = (axis.reshape(-1, 1) for axis in torch.meshgrid(y, x, indexing="ij"))
        splats = flat[start:end]
        alpha, sigma = _alphas(means2d[splats], conics[splats], opacities[splats], x + 0.5, y + 0.5)
        alpha = alpha * ((sigma >= 0) & (alpha >= ALPHA_MIN))
        pixel, entry = torch.nonzero((alpha > 0) & (torch.cumprod(1 - alpha, dim=1) > TRANSMITTANCE_MIN), as_tuple=True)
        pixels.append((y * width + x)[pixel, 0])
        gaussians.append(splats[entry])
    empty = torch.zeros(0, dtype=torch.long)
    return torch.cat([empty, *gaussians]), torch.cat([empty, *pixels])


def _accumulate(
    means2d: Tensor, conics: Tensor, opacities: Tensor, channels: Tensor, gaussians: Tensor, pixels: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """For nerfacc in `gsplat.cuda._torch_impl.accumulate`: transmittance by a segmented sum of logarithms."""
    x, y = pixels % width + 0.5, pixels // width + 0.5
    alpha, _ = _alphas(means2d[gaussians], conics[gaussians], opacities[gaussians], x, y)
    logarithm = torch.log1p(-alpha).double()
    exclusive = torch.cumsum(logarithm, 0) - logarithm
    first = torch.ones_like(pixels, dtype=torch.bool)
    first[1:] = pixels[1:] != pixels[:-1]
    segment = torch.cumsum(first, 0) - 1
    weight = alpha * torch.exp(exclusive - exclusive[first][segment]).to(alpha.dtype)
    image = torch.zeros(height * width, channels.shape[1]).index_add(0, pixels, weight[:, None] * channels[gaussians])
    alphas = torch.zeros(height * width).index_add(0, pixels, weight)
    return image.view(height, width, -1), alphas.view(height, width, 1)
