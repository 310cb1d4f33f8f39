"""Binning into tiles, and compositing, forward and backward: splats to pixels, and the pixels' gradients back. See `numba_layout`.

Within a tile the splats are walked front to back, row by row, `LANES` pixels at a time: a constant trip count that LLVM turns into
SIMD instructions. The backward pass walks in the same order and knows what lies *behind* a splat as the total minus the prefix, so no
per-pixel list has to be stored.
"""

from __future__ import annotations

import math

import numpy as np

from .conventions import ALPHA_MAX, DEPTH_ALPHA_MIN, TRANSMITTANCE_MIN
from .numba_layout import (
    BLUE,
    CONIC_A,
    CONIC_B,
    CONIC_C,
    DEPTH,
    EXTENT_Y,
    GREEN,
    HALF,
    INVISIBLE,
    LEAST_ALPHA,
    LEVEL,
    MEAN_X,
    MEAN_Y,
    ONE,
    OPACITY,
    RED,
    ROW,
    TILE_HEIGHT,
    TILE_WIDTH,
    TWO,
    ZERO,
    f32,
    inline,
    jit,
)

LANES = 16
PITCH = TILE_WIDTH + LANES
"""Floats from one plane of a tile's row to the next: a group of lanes may begin at any pixel, so the last one needs room."""

_ALPHA_MAX, _T_MIN, _DEPTH_ALPHA_MIN = f32(ALPHA_MAX), f32(TRANSMITTANCE_MIN), f32(DEPTH_ALPHA_MIN)
# A tile's state is flat and indexed by unsigned integers at constant distances: LLVM needs neither sign nor alias checks and vectorises.
_FORWARD_PLANES, _BACKWARD_PLANES = 5, 6
_PLANE_1, _PLANE_2, _PLANE_3, _PLANE_4, _PLANE_5 = (np.uint64(PITCH * plane) for plane in range(1, 6))
_SUM_1, _SUM_2, _SUM_3, _SUM_4, _SUM_5, _SUM_6, _SUM_7, _SUM_8, _SUM_9 = (np.uint64(LANES * j) for j in range(1, ROW))
_CHECK_EVERY = 64  # splats between two looks for rows whose pixels are all finished
_EXP = (f32(-1 / 32), f32(1 / 6), f32(1 / 24), f32(1 / 120), f32(16))


@jit
def bin_splats(start, step, keys, tiles, row_offsets, tile_offsets, columns, entries):
    """List each tile's splats front to back, for every `step`-th camera.

    Args:
        keys: [C, N] sorted along N; see `project`.
        row_offsets: [C * N + 1] int64: where the (splat, tile) pairs of a splat begin if pairs are numbered splat by splat.
        tile_offsets: [C, T + 1] int64, out: where a tile's list begins in `entries`.
        columns: tiles in a row of tiles.
        entries: [pairs] int32, out: indices of Gaussians. A camera's lists lie where its pairs lie.
    """
    n = keys.shape[1]
    for c in range(start, keys.shape[0], step):
        offsets = tile_offsets[c]
        offsets[:] = 0
        for i in range(n):
            for y in range(tiles[c, i, 2], tiles[c, i, 3]):
                for x in range(tiles[c, i, 0], tiles[c, i, 1]):
                    offsets[y * columns + x + 1] += 1
        offsets[0] = row_offsets[c * n]
        for tile in range(offsets.shape[0] - 1):
            offsets[tile + 1] += offsets[tile]
        ends = offsets[:-1].copy()
        for k in range(n):
            if keys[c, k] == INVISIBLE:
                break
            i = np.int64(keys[c, k] & np.uint64(0xFFFFFFFF))
            for y in range(tiles[c, i, 2], tiles[c, i, 3]):
                for x in range(tiles[c, i, 0], tiles[c, i, 1]):
                    entries[ends[y * columns + x]] = i
                    ends[y * columns + x] += 1


@inline
def _exp_negative(s):
    """exp(-s) as p(-s / 32)^32 with p the Taylor polynomial of degree 5, which vectorises where a call to exp does not.

    A splat contributes where s <= ln(255 o) <= 5.55; there the relative error is below 2e-6. Beyond 16 the value stays at 1e-7,
    below any visible alpha.
    """
    t = min(max(s, ZERO), _EXP[4]) * _EXP[0]
    p = ONE + t * (ONE + t * (HALF + t * (_EXP[1] + t * (_EXP[2] + t * _EXP[3]))))
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@inline
def _row_span(a, inverse_a, b_dy, c_dy2, two_level, mean_x, pixels):
    """First and last pixel, in 0..pixels - 1, of a tile's row where alpha can reach ALPHA_MIN; an empty span if there is none.

    The roots of a dx^2 + 2 b dy dx + c dy^2 = 2 level, around the splat's centre `mean_x` in the tile's pixels.
    """
    discriminant = b_dy * b_dy - a * (c_dy2 - two_level)
    if not discriminant > ZERO:
        return 0, -1
    half, centre = math.sqrt(discriminant) * inverse_a, mean_x + b_dy * inverse_a
    return int(max(centre - half, ZERO)), int(min(centre + half, pixels - ONE))


@inline
def _live_pixels(state, planes, live, rows, columns):
    """Count each row's unfinished pixels (plane 0 is the transmittance) into `live`; returns their number in the tile."""
    total = 0
    for r in range(rows):
        count = 0
        for x in range(columns):
            count += 1 if state[r * planes * PITCH + x] > ZERO else 0
        live[r] = count
        total += count
    return total


@jit
def composite(start, step, splats, tile_offsets, entries, backgrounds, expected_depth, renders, alphas):
    """Blend every `step`-th tile (tiles of all cameras numbered through) front to back (3DGS eq. 3).

    Args:
        backgrounds: [C, 3].
        renders: [C, H, W, 4], out: red, green, blue and depth.
        alphas: [C, H, W, 1], out.

    A finished pixel is marked by the negative of its final transmittance, which makes every later product negative and so keeps
    it finished, with no second plane to read.
    """
    height, width = renders.shape[1], renders.shape[2]
    columns, tiles = -(-width // TILE_WIDTH), tile_offsets.shape[1] - 1
    state = np.empty(TILE_HEIGHT * _FORWARD_PLANES * PITCH, np.float32)
    live = np.empty(TILE_HEIGHT, np.int64)
    for item in range(start, renders.shape[0] * tiles, step):
        view, tile = item // tiles, item % tiles
        top, left = tile // columns * TILE_HEIGHT, tile % columns * TILE_WIDTH
        rows, pixels = min(height - top, TILE_HEIGHT), min(width - left, TILE_WIDTH)
        state[:] = ZERO
        for r in range(rows):
            for x in range(PITCH):
                state[r * _FORWARD_PLANES * PITCH + x] = ONE
        live[:] = pixels
        since_check = 0
        for k in range(tile_offsets[view, tile], tile_offsets[view, tile + 1]):
            splat = splats[view, entries[k]]
            mean_x, mean_y = splat[MEAN_X] - f32(left) - HALF, splat[MEAN_Y] - f32(top) - HALF
            a, b, c, opacity = splat[CONIC_A], splat[CONIC_B], splat[CONIC_C], splat[OPACITY]
            half_a, inverse_a, two_level = HALF * a, ONE / a, TWO * splat[LEVEL]
            red, green, blue, depth = splat[RED], splat[GREEN], splat[BLUE], splat[DEPTH]
            first, last = int(max(mean_y - splat[EXTENT_Y], ZERO)), int(min(mean_y + splat[EXTENT_Y], f32(rows) - ONE))
            for r in range(first, last + 1):
                if live[r] == 0:
                    continue
                dy = mean_y - f32(r)
                b_dy, c_dy2 = b * dy, c * dy * dy
                low, high = _row_span(a, inverse_a, b_dy, c_dy2, two_level, mean_x, f32(pixels))
                half_c_dy2 = HALF * c_dy2
                for x in range(low, high + 1, LANES):
                    dx_first = mean_x - f32(x)
                    p0 = np.uint64(r * _FORWARD_PLANES * PITCH + x)
                    for lane in range(LANES):
                        p = p0 + np.uint64(lane)
                        dx = dx_first - f32(lane)
                        sigma = (half_a * dx + b_dy) * dx + half_c_dy2
                        alpha = min(_ALPHA_MAX, opacity * _exp_negative(sigma))
                        alpha = alpha if alpha >= LEAST_ALPHA and sigma >= ZERO else ZERO
                        t = state[p]
                        t_after = t - t * alpha
                        finished = t_after <= _T_MIN
                        weight = ZERO if finished else alpha * t
                        state[p] = -abs(t) if finished else t_after
                        state[p + _PLANE_1] += weight * red
                        state[p + _PLANE_2] += weight * green
                        state[p + _PLANE_3] += weight * blue
                        state[p + _PLANE_4] += weight * depth
            since_check += 1
            if since_check == _CHECK_EVERY:
                since_check = 0
                if _live_pixels(state, _FORWARD_PLANES, live, rows, pixels) == 0:
                    break
        for r in range(rows):
            for x in range(pixels):
                p = np.uint64(r * _FORWARD_PLANES * PITCH + x)
                t = abs(state[p])
                pixel = renders[view, top + r, left + x]
                pixel[0] = state[p + _PLANE_1] + t * backgrounds[view, 0]
                pixel[1] = state[p + _PLANE_2] + t * backgrounds[view, 1]
                pixel[2] = state[p + _PLANE_3] + t * backgrounds[view, 2]
                pixel[3] = state[p + _PLANE_4] / max(ONE - t, _DEPTH_ALPHA_MIN) if expected_depth else state[p + _PLANE_4]
                alphas[view, top + r, left + x, 0] = ONE - t


@jit
def composite_backward(
    start, step, splats, tiles, row_offsets, tile_offsets, entries, expected_depth, renders, alphas, v_renders, v_alphas, rows_out
):
    """Gradients of the splats of every `step`-th tile.

    With w_i = alpha_i T_i and v the gradient of the pixel, the derivative by alpha_i is T_i <c_i, v> - S_i / (1 - alpha_i), where S_i
    is what lies behind splat i, dotted with v: the pixel (background included) minus everything up to and including i.

    Args:
        v_renders, v_alphas: gradients of `renders` and `alphas`.
        rows_out: [pairs, ROW], zeros on entry, in the order of `row_offsets`; see `ROW`.
    """
    height, width = renders.shape[1], renders.shape[2]
    n, columns, tiles_per_image = splats.shape[1], -(-width // TILE_WIDTH), tile_offsets.shape[1] - 1
    # Planes: transmittance, what lies behind (dotted with v), v of the four channels.
    state = np.empty(TILE_HEIGHT * _BACKWARD_PLANES * PITCH, np.float32)
    sums = np.empty(ROW * LANES, np.float32)
    live = np.empty(TILE_HEIGHT, np.int64)
    for item in range(start, renders.shape[0] * tiles_per_image, step):
        view, tile = item // tiles_per_image, item % tiles_per_image
        tile_y, tile_x = tile // columns, tile % columns
        top, left = tile_y * TILE_HEIGHT, tile_x * TILE_WIDTH
        rows, pixels = min(height - top, TILE_HEIGHT), min(width - left, TILE_WIDTH)
        # Lanes beyond the tile's edge have v = 0 and nothing behind them: they add nothing.
        state[:] = ZERO
        for r in range(rows):
            for x in range(PITCH):
                state[r * _BACKWARD_PLANES * PITCH + x] = ONE
            for x in range(pixels):
                p = np.uint64(r * _BACKWARD_PLANES * PITCH + x)
                pixel, v_pixel = renders[view, top + r, left + x], v_renders[view, top + r, left + x]
                alpha, v_alpha = alphas[view, top + r, left + x, 0], v_alphas[view, top + r, left + x, 0]
                depth, v_depth = pixel[3], v_pixel[3]
                if expected_depth:
                    divisor = max(alpha, _DEPTH_ALPHA_MIN)
                    v_depth /= divisor
                    if alpha > _DEPTH_ALPHA_MIN:
                        v_alpha -= v_depth * depth
                    depth *= divisor
                state[p + _PLANE_1] = (
                    pixel[0] * v_pixel[0] + pixel[1] * v_pixel[1] + pixel[2] * v_pixel[2] + depth * v_depth - (ONE - alpha) * v_alpha
                )
                state[p + _PLANE_2], state[p + _PLANE_3], state[p + _PLANE_4] = v_pixel[0], v_pixel[1], v_pixel[2]
                state[p + _PLANE_5] = v_depth
        live[:] = pixels
        since_check = 0
        for k in range(tile_offsets[view, tile], tile_offsets[view, tile + 1]):
            i = entries[k]
            splat = splats[view, i]
            mean_x, mean_y = splat[MEAN_X] - f32(left) - HALF, splat[MEAN_Y] - f32(top) - HALF
            a, b, c, opacity = splat[CONIC_A], splat[CONIC_B], splat[CONIC_C], splat[OPACITY]
            half_a, inverse_a, two_level = HALF * a, ONE / a, TWO * splat[LEVEL]
            red, green, blue, depth = splat[RED], splat[GREEN], splat[BLUE], splat[DEPTH]
            first, last = int(max(mean_y - splat[EXTENT_Y], ZERO)), int(min(mean_y + splat[EXTENT_Y], f32(rows) - ONE))
            sums[:] = ZERO
            for r in range(first, last + 1):
                if live[r] == 0:
                    continue
                dy = mean_y - f32(r)
                b_dy, c_dy2 = b * dy, c * dy * dy
                low, high = _row_span(a, inverse_a, b_dy, c_dy2, two_level, mean_x, f32(pixels))
                half_c_dy2 = HALF * c_dy2
                for x in range(low, high + 1, LANES):
                    dx_first = mean_x - f32(x)
                    p0 = np.uint64(r * _BACKWARD_PLANES * PITCH + x)
                    for lane in range(LANES):
                        q = np.uint64(lane)
                        p = p0 + q
                        dx = dx_first - f32(lane)
                        sigma = (half_a * dx + b_dy) * dx + half_c_dy2
                        falloff = _exp_negative(sigma)
                        alpha = min(_ALPHA_MAX, opacity * falloff)
                        alpha = alpha if alpha >= LEAST_ALPHA and sigma >= ZERO else ZERO
                        t = state[p]
                        t_after = t - t * alpha
                        finished = t_after <= _T_MIN
                        weight = ZERO if finished else alpha * t
                        state[p] = -abs(t) if finished else t_after
                        v0, v1, v2, v3 = state[p + _PLANE_2], state[p + _PLANE_3], state[p + _PLANE_4], state[p + _PLANE_5]
                        dot = red * v0 + green * v1 + blue * v2 + depth * v3
                        behind = state[p + _PLANE_1] - weight * dot
                        state[p + _PLANE_1] = behind
                        v_alpha = t * dot - behind / (ONE - alpha)
                        # No derivative where alpha was bounded.
                        g = falloff * v_alpha if weight > ZERO and opacity * falloff <= _ALPHA_MAX else ZERO
                        g_dx, g_dy = g * dx, g * dy
                        sums[q] += g
                        sums[q + _SUM_1] += g_dx
                        sums[q + _SUM_2] += g_dy
                        sums[q + _SUM_3] += g_dx * dx
                        sums[q + _SUM_4] += g_dx * dy
                        sums[q + _SUM_5] += g_dy * dy
                        sums[q + _SUM_6] += weight * v0
                        sums[q + _SUM_7] += weight * v1
                        sums[q + _SUM_8] += weight * v2
                        sums[q + _SUM_9] += weight * v3
            first_x, end_x, first_y = tiles[view, i, 0], tiles[view, i, 1], tiles[view, i, 2]
            row = rows_out[row_offsets[view * n + i] + (tile_y - first_y) * (end_x - first_x) + tile_x - first_x]
            for j in range(ROW):
                value = ZERO
                for lane in range(LANES):
                    value += sums[j * LANES + lane]
                row[j] = value
            since_check += 1
            if since_check == _CHECK_EVERY:
                since_check = 0
                if _live_pixels(state, _BACKWARD_PLANES, live, rows, pixels) == 0:
                    break
