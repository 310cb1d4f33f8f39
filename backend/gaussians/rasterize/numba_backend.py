"""The CPU's rasteriser: one autograd function around the numba kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernel_threads import ranges, run, strides
from . import numba_compositing as compositing
from . import numba_layout as layout
from . import numba_projection as projection
from .conventions import View

_GAUSSIANS_PER_THREAD = 512


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32).contiguous().numpy()


def _flat(tensor: Tensor, own: int) -> np.ndarray:
    """All but the last `own` dimensions made one."""
    return _array(tensor.reshape(-1, *tensor.shape[tensor.dim() - own :]))


class _Rasterize(torch.autograd.Function):
    """(Gaussians, backgrounds) -> (renders [..., C, H, W, 4], alphas [..., C, H, W, 1]); no gradient for the cameras.

    Kernels number the Gaussians of all batches through, and the cameras.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        backgrounds: Tensor,
        view: View,
        meta: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        degree = -1 if view.sh_degree is None else view.sh_degree
        gaussians = (_flat(means, 1), _flat(quats, 1), _flat(scales, 1), _flat(opacities, 0), _flat(colors, 2))
        cameras = (_flat(view.viewmats, 2), _flat(view.Ks, 2), view.width, view.height, np.float32(view.eps2d))
        count, views, total = means.shape[-2], len(cameras[0]), len(gaussians[0])
        each = view.viewmats.shape[:-2]

        splats = np.empty((views, count, layout.SPLAT), np.float32)
        radii = np.empty((views, count, 2), np.int32)
        tiles = np.empty((views, count, 4), np.int32)
        keys = np.empty((views, count), np.uint64)
        planes = (np.float32(view.near_plane), np.float32(view.far_plane), view.antialiased)
        run(projection.project, ranges(total, _GAUSSIANS_PER_THREAD), *gaussians, degree, *cameras, *planes, splats, radii, tiles, keys)

        keys.sort(axis=1)
        row_offsets = np.zeros(views * count + 1, np.int64)
        np.cumsum((tiles[..., 1] - tiles[..., 0]) * (tiles[..., 3] - tiles[..., 2]), out=row_offsets[1:])
        columns, lines = -(-view.width // layout.TILE_WIDTH), -(-view.height // layout.TILE_HEIGHT)
        tile_offsets = np.empty((views, columns * lines + 1), np.int64)
        entries = np.empty(row_offsets[-1], np.int32)
        run(compositing.bin_splats, strides(views), keys, tiles, row_offsets, tile_offsets, columns, entries)

        renders = np.empty((views, view.height, view.width, 4), np.float32)
        alphas = np.empty((views, view.height, view.width, 1), np.float32)
        items = strides(views * columns * lines)
        run(compositing.composite, items, splats, tile_offsets, entries, _flat(backgrounds, 1), view.expected_depth, renders, alphas)

        ctx.arrays = gaussians, degree, cameras, splats, tiles, row_offsets, tile_offsets, entries, renders, alphas
        ctx.view, ctx.meta, ctx.shapes = view, meta, [x.shape for x in (means, quats, scales, opacities, colors)]
        projected = torch.from_numpy(splats).unflatten(0, each)
        meta.update(
            means2d=projected[..., layout.MEAN_X : layout.MEAN_Y + 1],
            conics=projected[..., layout.CONIC_A : layout.CONIC_C + 1],
            depths=projected[..., layout.DEPTH],
            opacities=projected[..., layout.OPACITY],
            radii=torch.from_numpy(radii).unflatten(0, each),
        )
        return torch.from_numpy(renders).unflatten(0, each), torch.from_numpy(alphas).unflatten(0, each)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v_renders: Tensor, v_alphas: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gaussians, degree, cameras, splats, tiles, row_offsets, tile_offsets, entries, renders, alphas = ctx.arrays
        rows = np.zeros((len(entries), layout.ROW), np.float32)
        items = strides(len(renders) * (tile_offsets.shape[1] - 1))
        pixels = (ctx.view.expected_depth, renders, alphas, _flat(v_renders, 3), _flat(v_alphas, 3))
        run(compositing.composite_backward, items, splats, tiles, row_offsets, tile_offsets, entries, *pixels, rows)

        v_gaussians = [np.zeros_like(x) for x in gaussians]
        v_means2d = np.zeros((*splats.shape[:2], 2), np.float32)
        items = ranges(len(gaussians[0]), _GAUSSIANS_PER_THREAD)
        run(
            projection.project_backward, items, *gaussians, degree, *cameras, ctx.view.antialiased,
            splats, row_offsets, rows, *v_gaussians, v_means2d,
        )  # fmt: skip

        means2d = ctx.meta["means2d"]
        gradient = torch.from_numpy(v_means2d).view(means2d.shape)
        means2d.grad = gradient if means2d.grad is None else means2d.grad + gradient
        v_backgrounds = None
        if ctx.needs_input_grad[5]:
            v_backgrounds = ((1 - torch.from_numpy(alphas)).view(v_alphas.shape) * v_renders[..., :3]).sum((-3, -2))
        shapes = zip(v_gaussians, ctx.shapes, strict=True)
        return *(torch.from_numpy(x).view(shape) for x, shape in shapes), v_backgrounds, None, None


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, backgrounds: Tensor, view: View
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Renders [..., C, H, W, 4] (red, green, blue, depth), alphas [..., C, H, W, 1] and meta, on the CPU in float32.

    `colors` is [..., N, K, 3]. `meta["means2d"].grad` [..., C, N, 2] is filled by the backward pass, also under `torch.autograd.grad`.
    """
    meta: dict[str, Any] = {}
    renders, alphas = _Rasterize.apply(means, quats, scales, opacities, colors, backgrounds, view, meta)
    return renders, alphas, meta


def warm_up() -> None:
    """Compile (or load from numba's cache) every kernel, by rendering one Gaussian; about ten seconds the first time."""
    means = torch.tensor([[0.0, 0.0, 3.0]], requires_grad=True)
    gaussian = (means, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 3), 0.1), torch.full((1,), 0.5), torch.zeros(1, 1, 3))
    Ks = torch.tensor([[[16.0, 0.0, 8.0], [0.0, 16.0, 8.0], [0.0, 0.0, 1.0]]])
    view = View(torch.eye(4)[None], Ks, 16, 16, 0.01, 1e10, 0.3, 0, False, True)
    renders, alphas, _ = rasterize(*gaussian, torch.zeros(1, 3), view)
    torch.autograd.backward((renders, alphas), (torch.ones_like(renders), torch.ones_like(alphas)))
