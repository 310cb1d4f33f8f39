"""The arithmetic of eq. 10 over all the numbers of gradients.

Gradients are flat here: R regions, each with S numbers in G groups, group g from edges[g] to edges[g + 1]. The peak of a region's group is
its largest magnitude; a *unit* gradient is one in units of its peaks (above 0), so that the squares of 1e-20 do not vanish.

Everything has two forms. The one by torch runs on any device. On the CPU a kernel reads each number as seldom as can be, where torch
would write every step of the arithmetic to memory; what it finds for a region depends on that region alone, so that threads do not
change results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

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
_LARGEST_RATIO = 1e10
"""Of a stored gradient to the main one, as far as it counts: any cap is reached long before, and of a far larger one the square would
overflow."""

_options = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
_inlined = {**_options, "forceinline": True}
"""For what kernels call. Else a process that compiles a kernel and one that finds it in numba's cache call two translations of it, which
add up in different orders: a run that was taken up again would not be the same."""


@dataclass(frozen=True)
class Neighbours:
    """What gradients are fused with: g_ij = w_ij scale_j v_j, of the stored gradients v_j.

    Attributes:
        stored: [N, S] float16, bfloat16 or float32, v_j.
        scales: [N, G] float32, on the same device.
        used: [U] int64: the j that have a weight.
        weights: [R, U] float32, w_ij.
    """

    stored: Tensor
    scales: Tensor
    used: np.ndarray
    weights: np.ndarray


FACTS = 5
"""How many numbers `fuse` tells of a group that are not of one neighbour."""


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


def fuse(
    gradients: Tensor, measured: tuple[Tensor, Tensor], neighbours: Neighbours, edges: np.ndarray, *, cap: float, joint: bool
) -> tuple[Tensor, np.ndarray]:
    """Eq. 10: the gradients, and what their neighbours' ones, added up to a, say beside them.

    What is added is a' = a - <a, u> / <u, u> u, with the unit gradient u, shortened to `cap` times the gradient's norm where it is longer.

    Args:
        gradients: [R, S] float32.
        measured: (peaks, squares) of these, as `measure` finds them.
        neighbours: what to fuse them with.
        edges: [G + 1] int64.
        cap: at least 0; infinite: none.
        joint: whether all groups are one vector, in place of one each.

    Returns:
        The fused gradients [R, S], and what is told of each group [R, G, FACTS + 2 U], float32: its unit, which is the peak where there is
        one; then, in that unit, <u, u>, and <a', u> and <a', a'> of what is added, before the cap; what the cap multiplies it by; all
        <v_j, u>; all <v_j, v_j>. The last two mean something where w_ij is not 0.
    """
    stored = neighbours.stored
    if stored.dtype != torch.float16 or not stored.device.type == gradients.device.type == "cpu":
        return fuse_by_torch(gradients, measured, neighbours, edges, cap=cap, joint=joint)
    fused = torch.empty_like(gradients)
    told = np.zeros((len(gradients), len(edges) - 1, FACTS + 2 * len(neighbours.used)), f32)
    halves, used = stored.view(torch.uint16), neighbours.used
    weights = np.ascontiguousarray(neighbours.weights)  # a kernel is compiled anew for every order of memory
    _run(_fuse, gradients, edges, *measured, halves, neighbours.scales, used, weights, f32(cap), joint, fused, told)
    return fused, told


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
    one, edges, half = torch.ones(1, 1), np.arange(2), torch.ones(1, 1).half()
    neighbours = Neighbours(half, one, np.zeros(1, np.int64), np.ones((1, 1), f32))
    fuse(one, measure(one, edges), neighbours, edges, cap=1.0, joint=False)
    store(one, one, edges, half, torch.zeros(1, dtype=torch.int64))


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


def fuse_by_torch(
    gradients: Tensor, measured: tuple[Tensor, Tensor], neighbours: Neighbours, edges: np.ndarray, *, cap: float, joint: bool
) -> tuple[Tensor, np.ndarray]:
    """`fuse` on any device, from any storage type. Nothing leaves the device before what is told, in one transfer."""

    def together(values: Tensor) -> Tensor:
        return values.sum(dim=1, keepdim=True).expand_as(values) if joint else values

    peaks, squares = measured
    if joint:
        highest = peaks.amax(dim=1, keepdim=True).expand_as(peaks)
        peaks, squares = highest, squares * (peaks / highest.clamp(min=_TINY)).square()
    peaks = peaks.where(peaks > 0, 1)  # a zero gradient is its own unit
    used = torch.from_numpy(neighbours.used).to(neighbours.stored.device)
    scales = neighbours.scales.index_select(0, used).T.to(peaks.device)
    weights = torch.from_numpy(neighbours.weights).to(peaks.device)
    ratios = (weights[:, None] * scales / peaks[..., None]).clamp(max=_LARGEST_RATIO)  # [R, G, U]
    added, inner, stored_squares = _combine_by_torch(neighbours.stored, used, ratios, gradients, peaks, edges)
    divisors = together(squares).clamp(min=_TINY)
    along, length = _subtract_by_torch(added, together((ratios * inner).sum(dim=-1)) / divisors, gradients, peaks, edges)
    rest = together(along) / divisors  # what rounding left of it
    along = along - rest * squares
    bound = cap * (together(squares) / together(length).clamp(min=_TINY)).sqrt()
    shrink = bound.where(bound < 1, 1)  # infinity times 0 bounds nothing
    for group, own in enumerate(_slices(edges)):
        part = added[:, own].mul_((shrink * peaks)[:, group, None])
        part.addcmul_(gradients[:, own], (1 - shrink * rest)[:, group, None])
    told = torch.cat([torch.stack([peaks, squares, along, length, shrink], dim=2), inner, stored_squares], dim=2)
    return added, told.cpu().numpy()


def _combine_by_torch(
    stored: Tensor, used: Tensor, ratios: Tensor, gradients: Tensor, peaks: Tensor, edges: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """sum_j ratio_ij v_j [R, S]; <v_j, u_i> and <v_j, v_j> [R, G, U]."""
    total, inner, squares = torch.empty_like(gradients), torch.zeros_like(ratios), torch.zeros_like(ratios)
    block = max(_TORCH_BLOCK // max(len(used), 1), 1)
    for group, own in enumerate(_slices(edges)):
        for start in range(own.start, own.stop, block):
            columns = slice(start, min(start + block, own.stop))
            values = stored[:, columns].index_select(0, used).to(gradients.device).float()
            total[:, columns] = ratios[:, group] @ values
            inner[:, group] += gradients[:, columns] / peaks[:, group, None] @ values.T
            squares[:, group] += torch.linalg.vecdot(values, values)
    return total, inner, squares


def _subtract_by_torch(vectors: Tensor, factors: Tensor, gradients: Tensor, peaks: Tensor, edges: np.ndarray) -> tuple[Tensor, Tensor]:
    """Subtracts factor_i u_i from vectors [R, S] in place; returns <vector_i, u_i> and <vector_i, vector_i> afterwards [R, G]."""
    inner, squares = torch.zeros_like(factors), torch.zeros_like(factors)
    for group, own in enumerate(_slices(edges)):
        unit, left = gradients[:, own] / peaks[:, group, None], vectors[:, own]
        left.addcmul_(unit, factors[:, group, None], value=-1)
        inner[:, group], squares[:, group] = torch.linalg.vecdot(left, unit), torch.linalg.vecdot(left, left)
    return inner, squares


def store_by_torch(gradients: Tensor, peaks: Tensor, edges: np.ndarray, stored: Tensor, rows: Tensor) -> None:
    """`store` on any device, in any storage type."""
    scaled, units = gradients.new_empty(gradients.shape, dtype=stored.dtype), peaks.where(peaks > 0, 1)
    for group, own in enumerate(_slices(edges)):
        torch.div(gradients[:, own], units[:, group, None], out=scaled[:, own])
    stored.index_copy_(0, rows, scaled.to(stored.device))


def _slices(edges: np.ndarray) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(edges.tolist())]


# Kernels: `first` and `step` say which regions a thread works on


def _run(kernel: Callable[..., None], gradients: Tensor, edges: np.ndarray, *others: Any) -> None:
    regions = len(gradients)
    shares = kernel_threads.strides(regions) if gradients.numel() >= 2 * _NUMBERS_PER_THREAD else [(0, 1)]
    arguments = (other.numpy() if isinstance(other, Tensor) else other for other in others)
    kernel_threads.run(kernel, shares, gradients.numpy(), edges, *arguments)


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
def _fuse(first, step, gradients, edges, peaks, squares, stored, scales, used, weights, cap, joint, fused, told):  # type: ignore[no-untyped-def]
    groups, count = len(edges) - 1, len(used)
    rest = np.empty(groups, f32)
    for i in range(first, len(gradients), step):
        peak, square, along, length, shrink = told[i, :, 0], told[i, :, 1], told[i, :, 2], told[i, :, 3], told[i, :, 4]
        inner, stored_square = told[i, :, FACTS : FACTS + count], told[i, :, FACTS + count :]
        highest = f32(0)
        for g in range(groups):
            highest = max(highest, peaks[i, g])
        for g in range(groups):
            unit, square[g] = peaks[i, g], squares[i, g]
            if joint:
                unit, square[g] = highest, square[g] * (unit / max(highest, f32(_TINY))) ** 2
            peak[g] = unit if unit > 0 else f32(1)  # a zero gradient is its own unit
        for g in range(groups):
            for low in range(edges[g], edges[g + 1], _KERNEL_BLOCK):
                high = min(low + _KERNEL_BLOCK, edges[g + 1])
                own, added = gradients[i, low:high], fused[i, low:high]
                added[:] = f32(0)
                for j in range(count):
                    if weights[i, j] != 0:
                        ratio = min(weights[i, j] * scales[used[j], g] / peak[g], f32(_LARGEST_RATIO))
                        product, of_itself = _add_widened(added, stored[used[j], low:high], ratio, own, f32(1) / peak[g])
                        inner[g, j] += product
                        stored_square[g, j] += of_itself
                        along[g] += ratio * product
        for g in range(groups):
            rest[g] = _share(along, g, joint) / max(_share(square, g, joint), f32(_TINY))
        for g in range(groups):
            along[g] = f32(0)
            for low in range(edges[g], edges[g + 1], _KERNEL_BLOCK):
                high = min(low + _KERNEL_BLOCK, edges[g + 1])
                product, of_itself = _subtract(fused[i, low:high], rest[g], gradients[i, low:high], f32(1) / peak[g])
                along[g] += product
                length[g] += of_itself
        for g in range(groups):  # what rounding left of it
            rest[g] = _share(along, g, joint) / max(_share(square, g, joint), f32(_TINY))
        for g in range(groups):
            along[g] -= rest[g] * square[g]
            bound = cap * np.sqrt(_share(square, g, joint) / max(_share(length, g, joint), f32(_TINY)))
            shrink[g] = bound if bound < 1 else f32(1)  # infinity times 0 bounds nothing
            own = gradients[i, edges[g] : edges[g + 1]]
            _blend(fused[i, edges[g] : edges[g + 1]], shrink[g] * peak[g], own, f32(1) - shrink[g] * rest[g])


@njit(**_inlined)
def _share(sums, g, joint):  # type: ignore[no-untyped-def]
    """That of the vector that group g is projected as: its own sum, or all of them."""
    total = f32(0)
    for other in range(len(sums)):
        if joint or other == g:
            total += sums[other]
    return total


@njit(**_inlined)
def _add_widened(added, half, factor, own, scale):  # type: ignore[no-untyped-def]
    """added += factor v, for v in float16 bits; returns <v, own scale> and <v, v>.

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
        added[p] += factor * value
        along += value * (own[p] * scale)
        square += value * value
    return along, square


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


@njit(**_inlined)
def _blend(vector, factor, own, share):  # type: ignore[no-untyped-def]
    for p in range(len(vector)):
        vector[p] = factor * vector[p] + share * own[p]


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
        normal = u32(u32(magnitude - u32(112 << 23) + u32(0xFFF) + odd) >> u32(13))
        subnormal = u32(f32(abs(value) + f32(0.5)).view(u32) - u32(0x3F000000))
        digits = normal if magnitude >= u32(113 << 23) else subnormal
        if magnitude > u32(127 << 23):  # what is no number stays none
            digits = u32(0x7E00)
        half[p] = digits | ((bits >> u32(16)) & u32(0x8000))
