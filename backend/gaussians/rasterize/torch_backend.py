"""The rasteriser in pure PyTorch: any device, any floating-point type, and gradients for the cameras too.

Projection and colours are plain autograd. Compositing is one autograd function over all tiles at once: every tile has its list of splats
front to back, and lists are walked together in chunks, so that a chunk is a handful of tensor operations of shape
[tiles, CHUNK, pixels of a tile]; tiles drop out when their list ends or all their pixels are finished. The backward pass walks the same
way and knows what lies behind a splat as the total minus the prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .conventions import (
    ALPHA_MAX,
    ALPHA_MIN,
    DEPTH_ALPHA_MIN,
    FRUSTUM_MARGIN,
    LARGEST,
    LARGEST_DETERMINANT,
    RADIUS_EXTENT,
    TRANSMITTANCE_MIN,
    View,
)
from .spherical_harmonics import spherical_harmonics

TILE = 8
CHUNK = 32
_MAX_RADIUS = float(1 << 30)


class _Splats(NamedTuple):
    """The Gaussians as C cameras see them: [..., C, N, ...]. Where `radii` is 0 the rest is finite but meaningless."""

    means2d: Tensor
    conics: Tensor
    depths: Tensor
    opacities: Tensor
    radii: Tensor


def usable_rows(*tensors: Tensor) -> Tensor:
    """[...] whether all numbers of a row are finite and below `LARGEST`, over several [..., X] tensors."""
    return torch.stack([(x.detach().abs() < LARGEST).all(dim=-1) for x in tensors]).all(dim=0)


def without_unusable(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The Gaussians with every row that is not usable, or has no rotation, replaced by an invisible one.

    The replacement is constant, so those rows get zero gradients and their values reach no arithmetic.
    """
    if means.numel() == 0:
        return means, quats, scales, opacities, colors
    usable = usable_rows(means, quats, scales, opacities[..., None], colors.flatten(-2)) & (quats.detach().norm(dim=-1) > 0)
    if usable.all():
        return means, quats, scales, opacities, colors
    row, identity = usable[..., None], quats.new_tensor([1.0, 0.0, 0.0, 0.0])
    return (
        torch.where(row, means, 0),
        torch.where(row, quats, identity),
        torch.where(row, scales, 1),
        torch.where(usable, opacities, 0),
        torch.where(row[..., None], colors, 0),
    )


def rotation_matrices(quats: Tensor) -> Tensor:
    """[..., 3, 3] from quaternions wxyz [..., 4] of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def _project(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, view: View) -> _Splats:
    """EWA projection (3DGS eqs. 5 and 6) into every camera, differentiable but for the radii."""
    R, t = view.viewmats[..., :3, :3], view.viewmats[..., :3, 3]
    fx, fy, cx, cy = (view.Ks[..., row, column, None] for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x, y, z = (torch.einsum("...cij,...nj->...cni", R, means) + t[..., None, :]).unbind(-1)
    visible = (z > view.near_plane) & (z < view.far_plane)
    inverse_z = 1 / torch.where(visible, z, 1)
    u, v = x * inverse_z, y * inverse_z
    margin_x, margin_y = FRUSTUM_MARGIN * 0.5 * view.width / fx, FRUSTUM_MARGIN * 0.5 * view.height / fy
    u_clamped = torch.clamp(u, -(cx / fx + margin_x), (view.width - cx) / fx + margin_x)
    v_clamped = torch.clamp(v, -(cy / fy + margin_y), (view.height - cy) / fy + margin_y)
    rows = torch.stack(
        [
            (fx * inverse_z)[..., None] * (R[..., None, 0, :] - u_clamped[..., None] * R[..., None, 2, :]),
            (fy * inverse_z)[..., None] * (R[..., None, 1, :] - v_clamped[..., None] * R[..., None, 2, :]),
        ],
        dim=-2,
    )  # [..., C, N, 2, 3], J W
    M = rows @ (rotation_matrices(quats) * scales[..., None, :])[..., None, :, :, :]
    xx, xy, yy = (M[..., 0, :] ** 2).sum(-1), (M[..., 0, :] * M[..., 1, :]).sum(-1), (M[..., 1, :] ** 2).sum(-1)
    sharp = xx * yy - xy * xy
    xx, yy = xx + view.eps2d, yy + view.eps2d
    determinant = xx * yy - xy * xy
    visible = visible & (determinant > 0) & (determinant < LARGEST_DETERMINANT)
    xx, xy, yy, determinant = (torch.where(visible, value, fallback) for value, fallback in ((xx, 1), (xy, 0), (yy, 1), (determinant, 1)))
    opacities = opacities[..., None, :].expand_as(z)
    if view.antialiased:
        ratio = sharp / determinant
        opacities = opacities * torch.where(ratio > 1e-12, ratio, 1e-12).sqrt()
    means2d = torch.stack([fx * u + cx, fy * v + cy], dim=-1)
    conics = torch.stack([yy / determinant, -xy / determinant, xx / determinant], dim=-1)
    with torch.no_grad():
        visible = visible & (opacities >= ALPHA_MIN)
        extent = (2 * (opacities / ALPHA_MIN).clamp_min(1).log()).sqrt().clamp_max(RADIUS_EXTENT)
        radii = torch.ceil(extent[..., None] * torch.stack([xx, yy], dim=-1).sqrt())
        size = means2d.new_tensor([view.width, view.height])
        visible = visible & ((means2d + radii > 0) & (means2d - radii < size)).all(dim=-1)
        radii = torch.where(visible[..., None], radii.clamp_max(_MAX_RADIUS), 0).int()
    return _Splats(means2d, conics, z, opacities, radii)


class _Bins(NamedTuple):
    """Which splats touch which tile.

    Attributes:
        entries: [pairs] indices of splats (camera * N + Gaussian), tile by tile, front to back.
        offsets: [tiles + 1] where a tile's entries begin.
        columns, rows: tiles across and down an image; tiles of all images are numbered through.
    """

    entries: Tensor
    offsets: Tensor
    columns: int
    rows: int


def _bin(means2d: Tensor, radii: Tensor, depths: Tensor, width: int, height: int) -> _Bins:
    columns, rows = -(-width // TILE), -(-height // TILE)
    cameras, device = len(means2d), means2d.device
    limit = torch.tensor([columns, rows], device=device)
    low = torch.minimum(((means2d - radii) / TILE).floor().clamp(0).long(), limit)
    high = torch.minimum(((means2d + radii) / TILE).ceil().clamp(0).long(), limit)
    extent = ((high - low).clamp_min(0) * (radii > 0).all(dim=-1, keepdim=True)).reshape(-1, 2)
    first_tile = torch.arange(cameras, device=device)[:, None] * (columns * rows) + low[..., 1] * columns + low[..., 0]
    # Pairs are listed in order of depth and then sorted by tile, stably.
    order = torch.argsort(depths.reshape(-1), stable=True)
    pairs = extent.prod(dim=-1)[order]
    splats = torch.repeat_interleave(order, pairs)
    number = torch.arange(len(splats), device=device) - torch.repeat_interleave(pairs.cumsum(0) - pairs, pairs)
    across = extent[splats, 0]
    line = torch.div(number, across, rounding_mode="floor")
    tiles = first_tile.reshape(-1)[splats] + line * columns + number - line * across
    tiles, order = torch.sort(tiles.int(), stable=True)
    edges = torch.arange(cameras * columns * rows + 1, dtype=torch.int32, device=device)
    return _Bins(splats[order], torch.searchsorted(tiles, edges), columns, rows)


class _Chunks:
    """All tiles' lists, read together chunk by chunk, and the tiles' pixels."""

    def __init__(self, bins: _Bins, dtype: torch.dtype) -> None:
        self.bins = bins
        self.dtype = dtype
        self.counts = bins.offsets[1:] - bins.offsets[:-1]
        tile = torch.arange(len(self.counts), device=self.counts.device) % (bins.columns * bins.rows)
        pixel = torch.arange(TILE * TILE, device=tile.device)
        left, top = tile % bins.columns * TILE, torch.div(tile, bins.columns, rounding_mode="floor") * TILE
        across, down = pixel % TILE, torch.div(pixel, TILE, rounding_mode="floor")
        # Pixel centres [tiles, 1, pixels of a tile].
        self.x = (left[:, None, None] + across + 0.5).to(dtype)
        self.y = (top[:, None, None] + down + 0.5).to(dtype)

    def start(self) -> Tensor:
        """[t] the tiles that have any splats."""
        return torch.nonzero(self.counts > 0).flatten()

    def splats(self, active: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """[t, CHUNK] indices of splats, and 1 or 0: whether the list is that long."""
        step = position + torch.arange(CHUNK, device=active.device)
        there = step < self.counts[active][:, None]
        at = (self.bins.offsets[active][:, None] + step).clamp_max(len(self.bins.entries) - 1)
        return self.bins.entries[at], there.to(self.dtype)

    def remaining(self, active: Tensor, position: int, transmittance: Tensor) -> Tensor:
        """The tiles whose list goes on and that have an unfinished pixel."""
        return active[(self.counts[active] > position) & (transmittance[active].amax(dim=1) > 0)]

    def to_tiles(self, image: Tensor) -> Tensor:
        """[C, H, W, X] to [tiles, X, pixels of a tile], zeros beyond the image."""
        cameras, height, width, channels = image.shape
        padded = image.new_zeros(cameras, self.bins.rows * TILE, self.bins.columns * TILE, channels)
        padded[:, :height, :width] = image
        tiles = padded.view(cameras, self.bins.rows, TILE, self.bins.columns, TILE, channels)
        return tiles.permute(0, 1, 3, 5, 2, 4).reshape(-1, channels, TILE * TILE)

    def to_image(self, tiles: Tensor, width: int, height: int) -> Tensor:
        """[tiles, X, pixels of a tile] to [C, H, W, X]."""
        channels = tiles.shape[1]
        image = tiles.view(-1, self.bins.rows, self.bins.columns, channels, TILE, TILE).permute(0, 1, 4, 2, 5, 3)
        return image.reshape(-1, self.bins.rows * TILE, self.bins.columns * TILE, channels)[:, :height, :width].contiguous()


class _Contribution(NamedTuple):
    """What a chunk's splats do to the pixels of their tiles, [t, CHUNK, pixels], and the splats themselves, [t, CHUNK, 10]."""

    splats: Tensor
    dx: Tensor
    dy: Tensor
    falloff: Tensor
    unbounded: Tensor
    alpha: Tensor
    before: Tensor
    weight: Tensor
    after: Tensor


def _mask(comparison: Callable[..., Tensor], x: Tensor, bound: float) -> Tensor:
    """A comparison as ones and zeros of x's type; on CPUs, multiplying by it takes a quarter of the time of `torch.where` or of a bool."""
    return comparison(x, bound, out=torch.empty_like(x)) if x.device.type == "cpu" else comparison(x, bound).to(x.dtype)


def _contribution(chunks: _Chunks, table: Tensor, active: Tensor, index: Tensor, there: Tensor, transmittance: Tensor) -> _Contribution:
    """A chunk's part in the picture; `after` is the transmittance behind it, negative where the pixel is finished."""
    splats = table[index]
    mean_x, mean_y, a, b, c, opacity = (splats[..., k, None] for k in range(6))
    dx, dy = mean_x - chunks.x[active], mean_y - chunks.y[active]
    exponent = (dx * (-0.5 * a)).addcmul_(dy, -b).mul_(dx).addcmul_(dy * dy, -0.5 * c)
    falloff = torch.exp(exponent)
    unbounded = falloff * (opacity * there[..., None])
    alpha = torch.nn.functional.threshold(unbounded.clamp_max(ALPHA_MAX), ALPHA_MIN, 0.0).mul_(_mask(torch.le, exponent, 0.0))
    now = transmittance[active]
    inclusive = torch.cumprod(1 - alpha, dim=1).mul_(now[:, None])
    before = torch.cat([now[:, None], inclusive[:, :-1]], dim=1)
    live = _mask(torch.gt, inclusive, TRANSMITTANCE_MIN)
    weight = (alpha * before).mul_(live)
    # Transmittance falls along the list, so the splats that count are a prefix of it.
    after = now - weight.sum(dim=1)
    after = torch.where(live[:, -1] > 0, after, -after.abs())
    return _Contribution(splats, dx, dy, falloff, unbounded, alpha, before, weight, after)


class _Composite(torch.autograd.Function):
    """Splats [..., C, N, ...] with four channels -> (renders [..., C, H, W, 4], alphas [..., C, H, W, 1])."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means2d: Tensor,
        conics: Tensor,
        opacities: Tensor,
        channels: Tensor,
        backgrounds: Tensor,
        depths: Tensor,
        radii: Tensor,
        width: int,
        height: int,
    ) -> tuple[Tensor, Tensor]:
        shape = means2d.shape[:-1]
        table = torch.cat([means2d, conics, opacities[..., None], channels], dim=-1).reshape(-1, 10)
        bins = _bin(means2d.flatten(0, -3), radii.flatten(0, -3), depths, width, height)
        chunks = _Chunks(bins, table.dtype)
        tiles = len(chunks.counts)
        transmittance = table.new_ones(tiles, TILE * TILE)
        image = table.new_zeros(tiles, 4, TILE * TILE)
        schedule, position, active = [], 0, chunks.start()
        while len(active):
            schedule.append(active)
            part = _contribution(chunks, table, active, *chunks.splats(active, position), transmittance)
            image[active] += part.splats[..., 6:].transpose(1, 2) @ part.weight
            transmittance[active] = part.after
            position += CHUNK
            active = chunks.remaining(active, position, transmittance)
        left = chunks.to_image(transmittance.abs()[:, None], width, height)
        renders = chunks.to_image(image, width, height) + left * backgrounds.reshape(-1, 1, 1, 4)
        ctx.shape, ctx.chunks, ctx.schedule = shape, chunks, schedule
        ctx.save_for_backward(table, renders, left)
        return renders.unflatten(0, shape[:-1]), (1 - left).unflatten(0, shape[:-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, v_renders: Tensor, v_alphas: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        table, renders, left = ctx.saved_tensors
        chunks = ctx.chunks
        v_renders, v_alphas = v_renders.reshape(renders.shape), v_alphas.reshape(left.shape)
        v_pixels = chunks.to_tiles(v_renders)
        behind = chunks.to_tiles((renders * v_renders).sum(-1, keepdim=True) - left * v_alphas)[:, 0]
        transmittance = table.new_ones(len(v_pixels), TILE * TILE)
        v_table = torch.zeros_like(table)
        for step, active in enumerate(ctx.schedule):
            index, there = chunks.splats(active, step * CHUNK)
            part = _contribution(chunks, table, active, index, there, transmittance)
            v = v_pixels[active]
            dot = part.splats[..., 6:] @ v
            rest = behind[active][:, None] - torch.cumsum(part.weight * dot, dim=1)
            behind[active] = rest[:, -1]
            transmittance[active] = part.after
            # By alpha: T <c, v> - S / (1 - alpha), S what lies behind; zero where alpha was bounded or the splat did not count.
            g = (part.before * dot).sub_(rest.div_(1 - part.alpha)).mul_(part.falloff)
            g.mul_(_mask(torch.gt, part.weight, 0.0)).mul_(_mask(torch.le, part.unbounded, ALPHA_MAX))
            g_dx, g_dy = g * part.dx, g * part.dy
            sum_x, sum_y = g_dx.sum(-1), g_dy.sum(-1)
            a, b, c, o = (part.splats[..., k] for k in range(2, 6))
            v_splats = torch.stack(
                [
                    -o * (a * sum_x + b * sum_y),
                    -o * (b * sum_x + c * sum_y),
                    -0.5 * o * (g_dx * part.dx).sum(-1),
                    -o * (g_dx * part.dy).sum(-1),
                    -0.5 * o * (g_dy * part.dy).sum(-1),
                    g.sum(-1),
                ],
                dim=-1,
            )
            v_splats = torch.cat([v_splats, part.weight @ v.transpose(1, 2)], dim=-1) * there[..., None]
            v_table.index_add_(0, index.reshape(-1), v_splats.reshape(-1, 10))
        v_means2d, v_conics, v_opacities, v_channels = v_table.reshape(*ctx.shape, 10).split([2, 3, 1, 4], dim=-1)
        v_backgrounds = (left * v_renders).sum((1, 2)).unflatten(0, ctx.shape[:-1])
        return v_means2d, v_conics, v_opacities[..., 0], v_channels, v_backgrounds, None, None, None, None


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, backgrounds: Tensor, view: View
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Renders [..., C, H, W, 4] (red, green, blue, depth), alphas [..., C, H, W, 1] and meta. `colors` is [..., N, K, 3]."""
    viewmats, Ks = view.viewmats.to(means), view.Ks.to(means)
    view = view._replace(viewmats=viewmats, Ks=Ks)
    means, quats, scales, opacities, colors = without_unusable(means, quats, scales, opacities, colors)
    splats = _project(means, quats, scales, opacities, view)
    if splats.means2d.requires_grad:
        splats.means2d.retain_grad()
    if view.sh_degree is None:
        rgb = colors[..., None, :, 0, :].expand(*splats.depths.shape, 3)
    else:
        eyes = -torch.einsum("...cji,...cj->...ci", viewmats[..., :3, :3], viewmats[..., :3, 3])
        directions = means[..., None, :, :] - eyes[..., None, :]
        rgb = torch.clamp_min(spherical_harmonics(view.sh_degree, directions, colors[..., None, :, :, :]) + 0.5, 0.0)
    channels = torch.cat([rgb, splats.depths[..., None]], dim=-1)
    backgrounds = torch.cat([backgrounds.to(means), means.new_zeros(*viewmats.shape[:-2], 1)], dim=-1)
    hidden = (splats.depths.detach(), splats.radii, view.width, view.height)
    renders, alphas = _Composite.apply(splats.means2d, splats.conics, splats.opacities, channels, backgrounds, *hidden)
    if view.expected_depth:
        renders = torch.cat([renders[..., :3], renders[..., 3:] / alphas.clamp_min(DEPTH_ALPHA_MIN)], dim=-1)
    return renders, alphas, dict(splats._asdict())
