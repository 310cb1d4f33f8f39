"""Units of an MLP that gates switch."""

from __future__ import annotations

import pytest
import torch

from backend.embedded.pose_memory.units import CLOSED, LINEAR, SLIGHT, Units, shares, slope_argument

from .gelu import quick_gelu, slope


def test_units_go_to_what_is_largest() -> None:
    assert shares([torch.tensor([9.0, 4.0, 1.0]), torch.tensor([8.0, 0.5]), torch.tensor([0.1])], 4) == [3, 1, 0]


def test_units_read_and_are_switched() -> None:
    linear = torch.nn.Linear(8, 10).requires_grad_(False)
    units = Units(linear, 2.0)
    reads, gates = torch.zeros(3, 8), torch.zeros(8)
    reads[:, 0], gates[1] = torch.tensor([1.0, 2.0, 3.0]), -20.0
    units.add(reads[:1], 5.0)
    units.add(reads[1:], 6.0, gates)
    x = torch.zeros(1, 8)
    x[0, 0], x[0, 1] = 0.5, 1.0
    torch.testing.assert_close(linear(2 * x)[0, :3], torch.tensor([5.5, 6 + 1 - 20, 6 + 1.5 - 20]))
    assert units.left == 7
    with pytest.raises(AssertionError, match="more units"):
        units.add(torch.zeros(8, 8), 0.0)


def test_there_may_be_units_for_everything() -> None:
    assert shares([torch.tensor([2.0, 1.0]), torch.tensor([3.0])], 5) == [2, 1]


def test_an_open_unit_passes_on_what_it_reads_and_a_closed_one_nothing() -> None:
    read = torch.linspace(-3, 3, 13, dtype=torch.float64)
    torch.testing.assert_close(quick_gelu(LINEAR + read) - quick_gelu(torch.tensor(LINEAR).double()), read, atol=0.02, rtol=0)
    assert quick_gelu(LINEAR + CLOSED + read).abs().max() < 1e-6


def test_a_unit_that_reads_little_multiplies_it_by_its_slope() -> None:
    read = torch.linspace(-2, 2, 9, dtype=torch.float64) * SLIGHT
    for weight in torch.linspace(0, 1, 6, dtype=torch.float64):
        at = slope_argument(weight).double()
        torch.testing.assert_close(quick_gelu(at + read) - quick_gelu(at), weight * read, atol=0.12 * SLIGHT * 2, rtol=0)


def test_the_argument_of_a_slope() -> None:
    slopes = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(slope(slope_argument(slopes).double()), slopes, atol=1e-4, rtol=0)
