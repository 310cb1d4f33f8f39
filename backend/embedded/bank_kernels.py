"""Sums over a bank of 8-bit images: inner products with float images, and weighted sums.

A bank is far larger than a core's cache, and nothing is computed with a byte but a few multiplications: these read every byte once and
widen it in a register, where a matrix product would write the widened bank to memory first.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .. import kernel_threads

f32 = np.float32

PIXELS_PER_TILE = 2048
"""A weighted sum goes on pixel tile by pixel tile, so that what it adds to stays in the fastest cache."""
_ROWS_PER_THREAD = 64

_options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
_inlined = {**_options, "forceinline": True}
"""For what kernels call. Else a process that compiles a kernel and one that finds it in numba's cache call two translations of it, which
add up in different orders: a run that was taken up again would not be the same."""


def inner_products(images: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """<image_r, column_j> for images [R, P] uint8 and columns [J, P] float32: [R, J] float32."""
    products = np.empty((len(images), len(columns)), f32)
    kernel_threads.run(_inner_products, kernel_threads.ranges(len(images), _ROWS_PER_THREAD), images, columns, products)
    return products


def weighted_sum(images: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_i weights_ji image_rows(i) for images [R, P] uint8, rows [N] of them and weights [J, N] float32: [J, P] float32."""
    total = np.zeros((len(weights), images.shape[1]), f32)
    kernel_threads.run(_weighted_sum, kernel_threads.ranges(images.shape[1], PIXELS_PER_TILE), images, rows, weights, total)
    return total


def warm_up() -> None:
    """Compile (or load from numba's cache) the kernels."""
    inner_products(np.zeros((1, 1), np.uint8), np.zeros((1, 1), f32))
    weighted_sum(np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), np.zeros((1, 1), f32))


@njit(cache=True, **_options)
def _inner_products(first, stop, images, columns, products):  # type: ignore[no-untyped-def]
    """Rows first to stop, two at a time, so that a column's pixel is loaded once for both."""
    for row in range(first, stop, 2):
        other = min(row + 1, stop - 1)
        for j in range(0, len(columns), 3):
            # Fewer than three columns are left at the end: the last is then computed twice or thrice.
            k, m = min(j + 1, len(columns) - 1), min(j + 2, len(columns) - 1)
            sums = _two_by_three(images[row], images[other], columns[j], columns[k], columns[m])
            products[row, j], products[row, k], products[row, m] = sums[0], sums[1], sums[2]
            products[other, j], products[other, k], products[other, m] = sums[3], sums[4], sums[5]


@njit(**_inlined)
def _two_by_three(x, y, a, b, c):  # type: ignore[no-untyped-def]
    xa = xb = xc = ya = yb = yc = f32(0)
    for p in range(len(x)):
        u, v = f32(x[p]), f32(y[p])
        xa += u * a[p]
        xb += u * b[p]
        xc += u * c[p]
        ya += v * a[p]
        yb += v * b[p]
        yc += v * c[p]
    return xa, xb, xc, ya, yb, yc


@njit(cache=True, **_options)
def _weighted_sum(first, stop, images, rows, weights, total):  # type: ignore[no-untyped-def]
    """Pixels first to stop, four images at a time."""
    for low in range(first, stop, PIXELS_PER_TILE):
        high = min(low + PIXELS_PER_TILE, stop)
        whole = len(rows) // 4 * 4
        for i in range(0, whole, 4):
            u, v = images[rows[i], low:high], images[rows[i + 1], low:high]
            x, y = images[rows[i + 2], low:high], images[rows[i + 3], low:high]
            for j in range(len(weights)):
                _add_four(total[j, low:high], u, v, x, y, weights[j, i], weights[j, i + 1], weights[j, i + 2], weights[j, i + 3])
        for i in range(whole, len(rows)):
            for j in range(len(weights)):
                _add(total[j, low:high], images[rows[i], low:high], weights[j, i])


@njit(**_inlined)
def _add_four(total, u, v, x, y, a, b, c, d):  # type: ignore[no-untyped-def]
    for p in range(len(total)):
        total[p] += a * f32(u[p]) + b * f32(v[p]) + c * f32(x[p]) + d * f32(y[p])


@njit(**_inlined)
def _add(total, image, weight):  # type: ignore[no-untyped-def]
    for p in range(len(total)):
        total[p] += weight * f32(image[p])
