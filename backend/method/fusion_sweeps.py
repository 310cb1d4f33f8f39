"""The sweeps over gradients that eq. 10 takes: all that touches every number, and nothing else.

Gradients are flat here: R regions, each with S numbers in G groups, group g from edges[g] to edges[g + 1]. The peak of a region's group is
its largest magnitude; a *unit* gradient is one in units of its peaks (above 0), so that the squares of 1e-20 do not vanish.

Every sweep has two forms. The one by torch runs on any device. On the CPU a kernel reads each number once, where torch would write every
step of the arithmetic to memory; what it finds for a region depends on that region alone, so that threads do not change results.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .. import kernel_threads

f32, u32 = np.float32, np.uint32

_KERNEL_BLOCK = 2**11
"""Numbers that a kernel sums in single precision; what it works on at once stays in the fastest cache."""
_NUMBERS_PER_THREAD = 2**18
"""Of all regions together; a thread takes longer to wake up than to work on fewer."""
_TORCH_BLOCK = 2**22
"""Stored numbers that torch widens at once: all together they could fill much of a GPU."""
_TINY = float(np.finfo(f32).tiny)

_options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
_inlined = {**_options, "forceinline": True}
"""For what kernels call. Else a process that compiles a kernel and one that finds it in numba's cache call two translations of it, which
add up in different orders: a run that was taken up again would not be the same."""


def measure(gradients: Tensor, edges: np.ndarray) -> tuple[Tensor, Tensor]:
    """The peaks of gradients and the squares of the unit gradients' norms; both are 0 where all of a group's numbers are subnormal.

    Args:
        gradients: [R, S] float32.
        edges: [G + 1] int64.

    Returns:
        Both [R, G].
    """
    if gradients.device.type != "cpu":
        return measure_by_torch(gradients, edges)
    peaks, squares = gradients.new_empty(2, len(gradients), len(edges) - 1)
    _run(_measure, gradients, edges, peaks, squares)
    return peaks, squares


def combine(
    stored: Tensor, used: Tensor, weights: Tensor, gradients: Tensor, peaks: Tensor, edges: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sums of stored gradients v_j, their inner products with the unit gradients u_i, and with themselves.

    Args:
        stored: [N, S] float16, bfloat16 or float32.
        used: [U] int64, on stored's device: the j that have a weight.
        weights: [R, G, U] float32 w_ij, on the gradients' device.
        gradients, peaks: [R, S] and [R, G] float32.
        edges: [G + 1] int64.

    Returns:
        sum_j w_ij v_j [R, S]; <v_j, u_i> and <v_j, v_j> [R, G, U], which mean something where w_ij is not 0.
    """
    if stored.dtype != torch.float16 or not stored.device.type == gradients.device.type == "cpu":
        return combine_by_torch(stored, used, weights, gradients, peaks, edges)
    total, inner, squares = torch.empty_like(gradients), torch.zeros_like(weights), torch.zeros_like(weights)
    _run(_combine, gradients, edges, peaks, stored.view(torch.uint16), used, weights, total, inner, squares)
    return total, inner, squares


def project_out(vectors: Tensor, factors: Tensor, gradients: Tensor, peaks: Tensor, edges: np.ndarray) -> tuple[Tensor, Tensor]:
    """Subtracts factors_i u_i from vectors_i [R, S] in place; u_i are the unit gradients, factors [R, G].

    Returns:
        <vectors_i, u_i> and <vectors_i, vectors_i> afterwards, [R, G].
    """
    if vectors.device.type != "cpu":
        return project_out_by_torch(vectors, factors, gradients, peaks, edges)
    inner, squares = torch.zeros_like(factors), torch.zeros_like(factors)
    _run(_project_out, gradients, edges, peaks, vectors, factors, inner, squares)
    return inner, squares


def scale_and_add(vectors: Tensor, factors: Tensor, gradients: Tensor, edges: np.ndarray) -> None:
    """Turns vectors_i into factors_i vectors_i + gradients_i [R, S] in place, factors [R, G]."""
    if vectors.device.type == "cpu":
        _run(_scale_and_add, gradients, edges, vectors, factors)
    else:
        scale_and_add_by_torch(vectors, factors, gradients, edges)


def store(gradients: Tensor, peaks: Tensor, edges: np.ndarray, stored: Tensor, rows: Tensor) -> None:
    """Writes gradients [R, S] in units of their peaks [R, G], or as they are where a peak is 0, into rows [R] of stored [N, S].

    Stored is float16, bfloat16 or float32, on any device, as are the rows; what it cannot hold exactly becomes the nearest that it can.
    """
    if stored.dtype != torch.float16 or not stored.device.type == gradients.device.type == "cpu":
        store_by_torch(gradients, peaks, edges, stored, rows)
    else:
        _run(_store, gradients, edges, peaks, stored.view(torch.uint16), rows)


def warm_up() -> None:
    """Compile (or load from numba's cache) the kernels."""
    one, edges = torch.ones(1, 1), np.arange(2)
    measure(one, edges)
    combine(one.half(), torch.zeros(1, dtype=torch.int64), one[None], one, one, edges)
    project_out(one, one, one, one, edges)
    scale_and_add(one, one, one, edges)
    store(one, one, edges, one.half(), torch.zeros(1, dtype=torch.int64))


# By torch


def measure_by_torch(gradients: Tensor, edges: np.ndarray) -> tuple[Tensor, Tensor]:
    """`measure` on any device."""
    peaks, squares = gradients.new_zeros(2, len(gradients), len(edges) - 1)
    for group, own in enumerate(_slices(edges)):
        if own.start < own.stop:
            peak = gradients[:, own].abs().amax(dim=1)
            peaks[:, group] = peak.masked_fill(peak < _TINY, 0)
            square = (gradients[:, own] / peak[:, None]).square().sum(dim=1)
            squares[:, group] = square.masked_fill(peak < _TINY, 0)
    return peaks, squares


def combine_by_torch(
    stored: Tensor, used: Tensor, weights: Tensor, gradients: Tensor, peaks: Tensor, edges: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """`combine` on any device, from any storage type."""
    total, inner, squares = torch.empty_like(gradients), torch.zeros_like(weights), torch.zeros_like(weights)
    block = max(_TORCH_BLOCK // max(len(used), 1), 1)
    for group, own in enumerate(_slices(edges)):
        for start in range(own.start, own.stop, block):
            columns = slice(start, min(start + block, own.stop))
            values = stored[:, columns].index_select(0, used).to(gradients.device).float()
            total[:, columns] = weights[:, group] @ values
            inner[:, group] += gradients[:, columns] / peaks[:, group, None] @ values.T
            squares[:, group] += torch.linalg.vecdot(values, values)
    return total, inner, squares


def project_out_by_torch(vectors: Tensor, factors: Tensor, gradients: Tensor, peaks: Tensor, edges: np.ndarray) -> tuple[Tensor, Tensor]:
    """`project_out` on any device."""
    inner, squares = torch.zeros_like(factors), torch.zeros_like(factors)
    for group, own in enumerate(_slices(edges)):
        unit, left = gradients[:, own] / peaks[:, group, None], vectors[:, own]
        left.addcmul_(unit, factors[:, group, None], value=-1)
        inner[:, group], squares[:, group] = torch.linalg.vecdot(left, unit), torch.linalg.vecdot(left, left)
    return inner, squares


def scale_and_add_by_torch(vectors: Tensor, factors: Tensor, gradients: Tensor, edges: np.ndarray) -> None:
    """`scale_and_add` on any device."""
    for group, own in enumerate(_slices(edges)):
        torch.addcmul(gradients[:, own], vectors[:, own], factors[:, group, None], out=vectors[:, own])


def store_by_torch(gradients: Tensor, peaks: Tensor, edges: np.ndarray, stored: Tensor, rows: Tensor) -> None:
    """`store` on any device, in any storage type."""
    scaled, units = gradients.new_empty(gradients.shape, dtype=stored.dtype), peaks.where(peaks > 0, 1)
    for group, own in enumerate(_slices(edges)):
        torch.div(gradients[:, own], units[:, group, None], out=scaled[:, own])
    stored.index_copy_(0, rows, scaled.to(stored.device))


def _slices(edges: np.ndarray) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(edges.tolist())]


# Kernels: `first` and `step` say which regions a thread works on


def _run(kernel: Callable[..., None], gradients: Tensor, edges: np.ndarray, *tensors: Tensor) -> None:
    regions = len(gradients)
    shares = kernel_threads.strides(regions) if gradients.numel() >= 2 * _NUMBERS_PER_THREAD else [(0, 1)]
    kernel_threads.run(kernel, shares, gradients.numpy(), edges, *(tensor.numpy() for tensor in tensors))


@njit(cache=True, **_options)
def _measure(first, step, gradients, edges, peaks, squares):  # type: ignore[no-untyped-def]
    for i in range(first, len(gradients), step):
        for g in range(len(edges) - 1):
            own = gradients[i, edges[g] : edges[g + 1]]
            peak = _largest(own)
            peaks[i, g], squares[i, g] = f32(0), f32(0)
            if not peak < _TINY:  # what is no number is not hidden
                peaks[i, g] = peak
                for low in range(0, len(own), _KERNEL_BLOCK):
                    squares[i, g] += _square(own[low : low + _KERNEL_BLOCK], f32(1) / peak)


@njit(**_inlined)
def _largest(values):  # type: ignore[no-untyped-def]
    """Of magnitudes, whose bits are ordered as they are; unlike a maximum of floats that is found many at a time."""
    largest = u32(0)
    bits = values.view(u32)
    for p in range(len(bits)):
        largest = max(largest, u32(bits[p] & u32(0x7FFFFFFF)))
    return u32(largest).view(f32)


@njit(**_inlined)
def _square(values, scale):  # type: ignore[no-untyped-def]
    square = f32(0)
    for p in range(len(values)):
        unit = values[p] * scale
        square += unit * unit
    return square


@njit(cache=True, **_options)
def _combine(first, step, gradients, edges, peaks, stored, used, weights, total, inner, squares):  # type: ignore[no-untyped-def]
    for i in range(first, len(gradients), step):
        for g in range(len(edges) - 1):
            for low in range(edges[g], edges[g + 1], _KERNEL_BLOCK):
                high = min(low + _KERNEL_BLOCK, edges[g + 1])
                own, added = gradients[i, low:high], total[i, low:high]
                added[:] = f32(0)
                for j in range(len(used)):
                    if weights[i, g, j] != 0:
                        along, square = _add_widened(added, stored[used[j], low:high], weights[i, g, j], own, f32(1) / peaks[i, g])
                        inner[i, g, j] += along
                        squares[i, g, j] += square


@njit(**_inlined)
def _add_widened(added, half, weight, own, scale):  # type: ignore[no-untyped-def]
    """added += weight v, for v in float16 bits; returns <v, own scale> and <v, v>.

    A half's exponent and fraction are moved to where a float has them, and the exponent's bias is adjusted. A subnormal half, whose
    first digit is not implied, is read as if it were, and what was implied is taken off again. (To multiply by 2^112 instead would do
    for both, but processors take a hundred times as long for a product with a subnormal float, and most gradients are small.)
    """
    along = square = f32(0)
    for p in range(len(half)):
        bits = u32(u32(half[p]) << u32(13))
        digits = u32(bits & u32(0x0FFFE000))
        normal = u32(digits + u32(112 << 23)).view(f32)
        subnormal = u32(digits + u32(113 << 23)).view(f32) - f32(2.0**-14)
        magnitude = normal if digits >= u32(1 << 23) else subnormal
        value = -magnitude if bits & u32(0x10000000) else magnitude
        added[p] += weight * value
        along += value * (own[p] * scale)
        square += value * value
    return along, square


@njit(cache=True, **_options)
def _project_out(first, step, gradients, edges, peaks, vectors, factors, inner, squares):  # type: ignore[no-untyped-def]
    for i in range(first, len(gradients), step):
        for g in range(len(edges) - 1):
            for low in range(edges[g], edges[g + 1], _KERNEL_BLOCK):
                high = min(low + _KERNEL_BLOCK, edges[g + 1])
                along, square = _subtract(vectors[i, low:high], factors[i, g], gradients[i, low:high], f32(1) / peaks[i, g])
                inner[i, g] += along
                squares[i, g] += square


@njit(**_inlined)
def _subtract(vector, factor, own, scale):  # type: ignore[no-untyped-def]
    along = square = f32(0)
    for p in range(len(vector)):
        unit = own[p] * scale
        left = vector[p] - factor * unit
        vector[p] = left
        along += left * unit
        square += left * left
    return along, square


@njit(cache=True, **_options)
def _scale_and_add(first, step, gradients, edges, vectors, factors):  # type: ignore[no-untyped-def]
    for i in range(first, len(gradients), step):
        for g in range(len(edges) - 1):
            _add_scaled(vectors[i, edges[g] : edges[g + 1]], factors[i, g], gradients[i, edges[g] : edges[g + 1]])


@njit(**_inlined)
def _add_scaled(vector, factor, own):  # type: ignore[no-untyped-def]
    for p in range(len(vector)):
        vector[p] = factor * vector[p] + own[p]


@njit(cache=True, **_options)
def _store(first, step, gradients, edges, peaks, stored, rows):  # type: ignore[no-untyped-def]
    for i in range(first, len(gradients), step):
        for g in range(len(edges) - 1):
            unit = peaks[i, g] if peaks[i, g] > 0 else f32(1)
            _narrow(gradients[i, edges[g] : edges[g + 1]], unit, stored[rows[i], edges[g] : edges[g + 1]])


@njit(**_inlined)
def _narrow(values, unit, half):  # type: ignore[no-untyped-def]
    """half = values / unit, magnitudes of at most 1, as float16 bits, ties to even (the way back from `_add_widened`).

    A subnormal half is a multiple of 2^-24, to which adding 1/2, whose last digit is worth that, rounds.
    """
    for p in range(len(values)):
        value = f32(values[p] / unit)
        bits = f32(value).view(u32)
        magnitude = u32(bits & u32(0x7FFFFFFF))
        odd = u32((magnitude >> u32(13)) & u32(1))
        normal = u32(u32(magnitude - u32(112 << 23)) + u32(0xFFF) + odd) >> u32(13)
        subnormal = u32(f32(abs(value) + f32(0.5)).view(u32) - u32(0x3F000000))
        digits = normal if magnitude >= u32(113 << 23) else subnormal
        if magnitude > u32(127 << 23):  # what is no number stays none
            digits = u32(0x7E00)
        half[p] = digits | ((bits >> u32(16)) & u32(0x8000))
