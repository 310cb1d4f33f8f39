"""The sweeps over gradients, as kernels and by torch, against float64; sizes leave a rest of every block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.method import fusion_sweeps as sweeps

EDGES = [[0, 0], [0, 1], [0, 100, 100, 103], [0, 2**11 * 3 + 5, 2**13]]

forms = pytest.mark.parametrize("form", ["kernel", "torch"])
layouts = pytest.mark.parametrize("edges", EDGES, ids=str)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sweeps, "_NUMBERS_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def sweep(name: str, form: str) -> Callable[..., Any]:
    return getattr(sweeps, name + ("_by_torch" if form == "torch" else ""))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_group(flat: Tensor, edges: list[int]) -> list[Tensor]:
    return [flat[..., start:stop].double() for start, stop in pairwise(edges)]


def spread(scalars: Tensor, edges: list[int]) -> Tensor:
    """[R, G] to [R, S] float64."""
    return scalars.double().repeat_interleave(torch.tensor(np.diff(edges)), dim=1)


@forms
@layouts
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e15])
def test_measured(threads: None, form: str, edges: list[int], scale: float) -> None:
    gradients = scale * normal(3, edges[-1])
    gradients[1] = 0
    peaks, squares = sweep("measure", form)(gradients, np.array(edges))
    for group, own in enumerate(by_group(gradients, edges)):
        for row, peak, square in zip(own, peaks[:, group].double(), squares[:, group].double(), strict=True):
            expected = row.abs().max() if row.any() else torch.tensor(0.0).double()
            torch.testing.assert_close(peak, expected, rtol=1e-6, atol=0)
            torch.testing.assert_close(square, (row / expected).nan_to_num(0).square().sum(), rtol=1e-5, atol=0)


@forms
def test_subnormal_numbers_are_none(form: str) -> None:
    """Their reciprocal is infinite, and a GPU may take them for zeros in one place and not in another."""
    gradients = torch.tensor([[1e-40, -1e-39, 1e-40, 3e-38]])
    peaks, squares = sweep("measure", form)(gradients, np.array([0, 2, 4]))
    assert torch.equal(peaks, torch.tensor([[0.0, 3e-38]]))
    assert squares[0, 0] == 0 and squares[0, 1].item() == pytest.approx(1, abs=1e-4)


@forms
def test_what_is_no_number_is_not_measured_as_one(form: str) -> None:
    gradients = torch.tensor([[1.0, math.nan, 2.0, 3.0]])
    for measured in sweep("measure", form)(gradients, np.array([0, 2, 4])):
        assert measured.isnan().tolist() == [[True, False]]


@forms
@layouts
def test_combined(threads: None, form: str, edges: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "_TORCH_BLOCK", 3000)
    stored, gradients = normal(9, edges[-1]).half(), 1e-25 * normal(4, edges[-1], seed=1)
    peaks = sweeps.measure(gradients, np.array(edges))[0].clamp(min=1e-30)
    pattern = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0.2, 0.3, 0.5], [0, -3, 2]])
    used, weights = torch.tensor([7, 0, 3]), pattern[:, None] * normal(1, len(edges) - 1, 1, seed=2)
    total, inner, squares = sweep("combine", form)(stored, used, weights, gradients, peaks, np.array(edges))
    units = by_group(gradients.double() / spread(peaks, edges), edges)
    for group, (v, u, summed) in enumerate(zip(by_group(stored[used], edges), units, by_group(total, edges), strict=True)):
        torch.testing.assert_close(summed, weights[:, group].double() @ v, rtol=1e-5, atol=1e-5)
        has, scale = pattern != 0, max(edges) ** 0.5
        torch.testing.assert_close(inner[:, group].double()[has], (u @ v.T)[has], rtol=1e-5, atol=1e-6 * scale)
        torch.testing.assert_close(squares[:, group].double()[has], v.square().sum(1).expand(4, 3)[has], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float32])
def test_other_storage_is_combined_too(storage: torch.dtype) -> None:
    stored, gradients, one = normal(9, 100).to(storage), normal(1, 100, seed=1), torch.ones(1, 1)
    total, _, _ = sweeps.combine(stored, torch.tensor([7, 3]), torch.tensor([[[0.5, 2.0]]]), gradients, one, np.array([0, 100]))
    torch.testing.assert_close(total[0], 0.5 * stored[7].float() + 2 * stored[3].float())


def test_every_half_is_widened_exactly() -> None:
    half = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    half = half[half.isfinite()][None]
    one, edges = torch.ones(1, 1), np.array([0, half.numel()])
    total, _, _ = sweeps.combine(
        half, torch.zeros(1, dtype=torch.int64), one[None], torch.zeros_like(half, dtype=torch.float32), one, edges
    )
    assert torch.equal(total, half.float())


@forms
@layouts
@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float32])
def test_stored(threads: None, form: str, edges: list[int], storage: torch.dtype) -> None:
    gradients = 1e-25 * normal(3, edges[-1])
    gradients[1] = 0
    stored, before = normal(2, 5, edges[-1], seed=1).to(storage)
    stored.copy_(before)
    peaks, _ = sweeps.measure(gradients, np.array(edges))
    sweep("store", form)(gradients, peaks, np.array(edges), stored, torch.tensor([4, 0, 2]))
    units = (gradients / spread(peaks.where(peaks > 0, 1), edges).float()).to(storage)
    assert torch.equal(stored[[4, 0, 2]], units)
    assert torch.equal(stored[[1, 3]], before[[1, 3]])


@forms
def test_every_number_is_stored_as_the_nearest_half(form: str) -> None:
    half = torch.arange(0x3C00, dtype=torch.int32).to(torch.int16).view(torch.float16).float()  # from 0 up to 1
    middle = (half[1:] + half[:-1]) / 2  # ties, which go to even halves, and what is next to them
    anywhere = torch.from_numpy(np.random.default_rng(0).integers(0, 0x3F800000, 100_000, dtype=np.int32)).view(torch.float32)
    beside = [torch.nextafter(middle, torch.tensor(to)) for to in (0.0, 1.0)]
    values = torch.cat([half, middle, *beside, anywhere, torch.tensor([1.0, math.nan])])
    values = torch.cat([values, -values])[None]
    stored, edges = torch.zeros_like(values).half(), np.array([0, values.numel()])
    sweep("store", form)(values, torch.ones(1, 1), edges, stored, torch.zeros(1, dtype=torch.int64))
    wanted = values.half()
    assert torch.equal(stored.isnan(), wanted.isnan())
    kept = ~wanted.isnan()
    assert torch.equal(stored[kept].view(torch.int16), wanted[kept].view(torch.int16))  # the sign of 0 included


@forms
@layouts
def test_projected_out(threads: None, form: str, edges: list[int]) -> None:
    vectors, gradients = normal(3, edges[-1]), 1e-25 * normal(3, edges[-1], seed=1)
    peaks = sweeps.measure(gradients, np.array(edges))[0].clamp(min=1e-30)
    factors = torch.tensor([[0.0], [0.5], [-2.0]]) * normal(1, len(edges) - 1, seed=2)
    units = gradients.double() / spread(peaks, edges)
    expected = vectors.double() - spread(factors, edges) * units
    inner, squares = sweep("project_out", form)(vectors, factors, gradients, peaks, np.array(edges))
    torch.testing.assert_close(vectors.double(), expected, rtol=1e-5, atol=1e-6)
    for group, (left, u) in enumerate(zip(by_group(expected, edges), by_group(units, edges), strict=True)):
        torch.testing.assert_close(inner[:, group].double(), (left * u).sum(1), rtol=1e-5, atol=1e-6 * max(edges) ** 0.5)
        torch.testing.assert_close(squares[:, group].double(), left.square().sum(1), rtol=1e-5, atol=1e-6)


@forms
@layouts
def test_scaled_and_added(threads: None, form: str, edges: list[int]) -> None:
    gradients, vectors, factors = normal(3, edges[-1]), normal(3, edges[-1], seed=1), normal(3, len(edges) - 1, seed=2)
    expected = gradients.double() + spread(factors, edges) * vectors.double()
    sweep("scale_and_add", form)(vectors, factors, gradients, np.array(edges))
    torch.testing.assert_close(vectors.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_kernels_results_do_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "_NUMBERS_PER_THREAD", 1)
    stored, gradients, edges = normal(9, 5000).half(), normal(4, 5000, seed=1), np.array([0, 1000, 5000])
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            peaks, squares = sweeps.measure(gradients, edges)
            total, *sums = sweeps.combine(stored, torch.arange(9), normal(4, 2, 9, seed=2), gradients, peaks, edges)
            left = sweeps.project_out(total, squares, gradients, peaks, edges)
            sweeps.scale_and_add(total, squares, gradients, edges)
            results.append([peaks, squares, total, *sums, *left])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))
