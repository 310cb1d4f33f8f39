"""The arithmetic over gradients, as kernels and by torch, against float64; sizes leave a rest of every block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.method import fusion_arithmetic as arithmetic

EDGES = [[0, 0], [0, 1], [0, 100, 100, 103], [0, 2**11 * 3 + 5, 2**13]]

forms = pytest.mark.parametrize("form", ["kernel", "torch"])
layouts = pytest.mark.parametrize("edges", EDGES, ids=str)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(arithmetic, "_NUMBERS_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def form_of(name: str, form: str) -> Callable[..., Any]:
    return getattr(arithmetic, name + ("_by_torch" if form == "torch" else ""))


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
    peaks, squares = form_of("measure", form)(gradients, np.array(edges))
    for group, own in enumerate(by_group(gradients, edges)):
        for row, peak, square in zip(own, peaks[:, group].double(), squares[:, group].double(), strict=True):
            expected = row.abs().max() if row.any() else torch.tensor(0.0).double()
            torch.testing.assert_close(peak, expected, rtol=1e-6, atol=0)
            torch.testing.assert_close(square, (row / expected).nan_to_num(0).square().sum(), rtol=1e-5, atol=0)


@forms
def test_subnormal_numbers_are_none(form: str) -> None:
    """Their reciprocal is infinite, and a GPU may take them for zeros in one place and not in another."""
    gradients = torch.tensor([[1e-40, -1e-39, 1e-40, 3e-38]])
    peaks, squares = form_of("measure", form)(gradients, np.array([0, 2, 4]))
    assert torch.equal(peaks, torch.tensor([[0.0, 3e-38]]))
    assert squares[0, 0] == 0 and squares[0, 1].item() == pytest.approx(1, abs=1e-4)


@forms
def test_what_is_no_number_is_not_measured_as_one(form: str) -> None:
    gradients = torch.tensor([[1.0, math.nan, 2.0, 3.0]])
    for measured in form_of("measure", form)(gradients, np.array([0, 2, 4])):
        assert measured.isnan().tolist() == [[True, False]]


def some_neighbours(edges: list[int], storage: torch.dtype = torch.float16) -> arithmetic.Neighbours:
    """Three of nine stored gradients, for four regions: one of them, none, all three, two."""
    weights = np.array([[1.0, 0, 0], [0, 0, 0], [0.2, 0.3, 0.5], [0, 0.25, 0.75]], np.float32)
    scales = 1e-25 * (0.5 + normal(9, len(edges) - 1, seed=2).abs())
    return arithmetic.Neighbours(normal(9, edges[-1], seed=3).to(storage), scales, np.array([7, 0, 3]), weights)


@forms
@layouts
@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cap", [math.inf, 0.5, 0.0])
@pytest.mark.parametrize("joint", [False, True])
def test_fused(
    threads: None, form: str, edges: list[int], storage: torch.dtype, cap: float, joint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "_TORCH_BLOCK", 3000)
    neighbours, gradients = some_neighbours(edges, storage), 3e-25 * normal(4, edges[-1], seed=1)
    measured = arithmetic.measure(gradients, np.array(edges))
    fused, told = form_of("fuse", form)(gradients, measured, neighbours, np.array(edges), cap=cap, joint=joint)
    peak, square, along, length, shrink = torch.from_numpy(told[:, :, : arithmetic.FACTS]).double().unbind(-1)
    inner, stored_square = torch.from_numpy(told[:, :, arithmetic.FACTS :]).double().unflatten(-1, (2, 3)).unbind(2)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([part.sum(-1) for part in (a * b).split(np.diff(edges).tolist(), dim=-1)], dim=-1)

    def share(sums: Tensor) -> Tensor:
        return sums.sum(dim=1, keepdim=True).expand_as(sums) if joint else sums

    # Eq. 10 in float64, in the gradients' own units, which its squares are far from.
    main, stored, weights = gradients.double(), neighbours.stored[neighbours.used].double(), torch.from_numpy(neighbours.weights).double()
    auxiliary = weights @ (stored * spread(neighbours.scales[neighbours.used], edges))
    added = auxiliary - spread((share(dot(auxiliary, main)) / share(dot(main, main))).nan_to_num(0), edges) * main
    bound = torch.ones_like(square)
    if cap < math.inf:
        bound = (cap * (share(dot(main, main)) / share(dot(added, added)).clamp(min=1e-300)).sqrt()).clamp(max=1)
    whole = main + spread(bound, edges) * added

    size = 1e-25 * max(edges) ** 0.5
    torch.testing.assert_close(fused.double() / 1e-25, whole / 1e-25, rtol=1e-5, atol=1e-5)
    has = torch.tensor(np.diff(edges) > 0).expand_as(square)
    torch.testing.assert_close((peak * square.sqrt())[has], dot(main, main).sqrt()[has], rtol=1e-5, atol=0)
    torch.testing.assert_close((peak * length.sqrt())[has], dot(added, added).sqrt()[has], rtol=1e-4, atol=1e-6 * size)
    torch.testing.assert_close(share(along), torch.zeros_like(along), rtol=0, atol=1e-5 * max(edges))
    torch.testing.assert_close(shrink[has & (length > 1e-9)], bound[has & (length > 1e-9)], rtol=1e-4, atol=0)
    used = (weights != 0)[:, None].expand_as(inner)
    by_hand = torch.stack([dot(main, v.expand_as(main)) for v in stored], dim=-1) / peak[..., None]
    torch.testing.assert_close(inner[used], by_hand[used], rtol=1e-5, atol=1e-5 * max(edges) ** 0.5)
    norms = torch.stack([dot(v, v) for v in stored], dim=-1).expand_as(inner)
    torch.testing.assert_close(stored_square[used], norms[used], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "storage", "noise"), [("kernel", torch.float16, 5e-4), ("torch", torch.float16, 5e-4), ("torch", torch.float32, 1e-6)]
)
def test_what_rounding_leaves_of_a_parallel_gradient_is_removed(form: str, storage: torch.dtype, noise: float) -> None:
    """A stored gradient that is a large multiple of the main one but for noise: what is subtracted is far larger than what is left."""
    gradients = normal(8, 300, seed=1)
    peaks, squares = arithmetic.measure(gradients, np.array([0, 300]))
    stored = (gradients / peaks + noise * normal(8, 300, seed=2)).to(storage)
    alone = arithmetic.Neighbours(stored, 1000 * peaks, np.arange(8), np.eye(8, dtype=np.float32))
    fused, told = form_of("fuse", form)(gradients, (peaks, squares), alone, np.array([0, 300]), cap=math.inf, joint=False)
    main, exact = gradients.double(), 1000 * peaks.double() * stored.double()
    exact -= (exact * main).sum(1, keepdim=True) / main.square().sum(1, keepdim=True) * main
    added = fused.double() - main
    assert torch.cosine_similarity(added, main).abs().max() < 0.1 * 6e-8 / noise
    torch.testing.assert_close(torch.from_numpy(told[:, 0, 3]).double() * peaks[:, 0] ** 2, exact.square().sum(1), rtol=0.01, atol=0)


def test_every_half_is_widened_exactly() -> None:
    half = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    half = half[half.isfinite()][None]
    zero, edges = torch.zeros_like(half, dtype=torch.float32), np.array([0, half.numel()])
    alone = arithmetic.Neighbours(half, torch.ones(1, 1), np.array([0]), np.ones((1, 1), np.float32))
    fused, _ = arithmetic.fuse(zero, arithmetic.measure(zero, edges), alone, edges, cap=math.inf, joint=False)
    assert torch.equal(fused, half.float())


@forms
@layouts
@pytest.mark.parametrize("storage", [torch.float16, torch.bfloat16, torch.float32])
def test_stored(threads: None, form: str, edges: list[int], storage: torch.dtype) -> None:
    gradients = 1e-25 * normal(3, edges[-1])
    gradients[1] = 0
    stored, before = normal(2, 5, edges[-1], seed=1).to(storage)
    stored.copy_(before)
    peaks, _ = arithmetic.measure(gradients, np.array(edges))
    form_of("store", form)(gradients, peaks, np.array(edges), stored, torch.tensor([4, 0, 2]))
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
    form_of("store", form)(values, torch.ones(1, 1), edges, stored, torch.zeros(1, dtype=torch.int64))
    wanted = values.half()
    assert torch.equal(stored.isnan(), wanted.isnan())
    kept = ~wanted.isnan()
    assert torch.equal(stored[kept].view(torch.int16), wanted[kept].view(torch.int16))  # the sign of 0 included


def test_the_kernels_results_do_not_depend_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "_NUMBERS_PER_THREAD", 1)
    edges, gradients = [0, 1000, 5000], normal(4, 5000, seed=1)
    neighbours, stored = some_neighbours(edges), torch.empty(4, 5000).half()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            measured = arithmetic.measure(gradients, np.array(edges))
            fused, told = arithmetic.fuse(gradients, measured, neighbours, np.array(edges), cap=0.5, joint=False)
            arithmetic.store(gradients, measured[0], np.array(edges), stored, torch.arange(4))
            results.append([*measured, fused, torch.from_numpy(told), stored.clone()])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))


def test_the_order_of_memory_compiles_nothing_anew() -> None:
    """A run would halt for seconds when it fuses for the first time."""
    edges, gradients = np.array([0, 100]), normal(4, 100, seed=1)
    neighbours, measured = some_neighbours([0, 100]), arithmetic.measure(gradients, edges)
    arithmetic.fuse(gradients, measured, neighbours, edges, cap=0.5, joint=False)
    before = list(arithmetic._fuse.signatures)
    turned = replace(neighbours, weights=np.asfortranarray(neighbours.weights))
    arithmetic.fuse(gradients, measured, turned, edges, cap=math.inf, joint=True)
    assert arithmetic._fuse.signatures == before
