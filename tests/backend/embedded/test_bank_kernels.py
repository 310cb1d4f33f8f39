"""The sums over a bank against matrix products in float64, at sizes that leave a rest of every block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from backend.embedded.bank_kernels import PIXELS_PER_TILE, inner_products, weighted_sum


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def bank(rows: int, pixels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, pixels), dtype=np.uint8)


@pytest.mark.parametrize(("rows", "pixels", "columns"), [(1, 1, 1), (2, 7, 3), (5, 100, 4), (401, 64, 5), (200, 4096, 6)])
def test_inner_products(threads: int, rows: int, pixels: int, columns: int) -> None:
    images, z = bank(rows, pixels), np.random.default_rng(1).normal(size=(columns, pixels)).astype(np.float32)
    expected = images.astype(np.float64) @ z.T.astype(np.float64)
    length = np.linalg.norm(images.astype(np.float64), axis=1)[:, None] * np.linalg.norm(z, axis=1)
    assert (np.abs(inner_products(images, z) - expected) < 1e-6 * length).all()


@pytest.mark.parametrize("used", [0, 1, 4, 7, 64])
@pytest.mark.parametrize("pixels", [1, 100, PIXELS_PER_TILE * 3 + 5])
def test_weighted_sums(threads: int, used: int, pixels: int) -> None:
    images, rng = bank(80, pixels), np.random.default_rng(2)
    rows, weights = rng.permutation(80)[:used], rng.normal(size=(6, used)).astype(np.float32)
    expected = weights.astype(np.float64) @ images[rows].astype(np.float64)
    size = np.abs(weights).astype(np.float64) @ images[rows].astype(np.float64)
    assert (np.abs(weighted_sum(images, rows, weights) - expected) <= 1e-6 * size).all()


def test_the_number_of_threads_changes_no_bit() -> None:
    images, z = bank(300, 3 * PIXELS_PER_TILE), np.random.default_rng(3).normal(size=(3, 3 * PIXELS_PER_TILE)).astype(np.float32)
    rows, weights = np.arange(300), np.random.default_rng(4).normal(size=(3, 300)).astype(np.float32)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append((inner_products(images, z), weighted_sum(images, rows, weights)))
    torch.set_num_threads(before)
    for products, total in results[1:]:
        assert np.array_equal(products, results[0][0])
        assert np.array_equal(total, results[0][1])
