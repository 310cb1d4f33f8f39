"""Perp-Neg's weights at the angles where they can be worked out by hand, and its perpendicular part."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.guidance.perpendicular import OPPOSING, SMALLEST_SQUARE, between, guided, opposing_weights, perpendicular

NUMBERS = st.lists(st.floats(-100, 100), min_size=6, max_size=6)


def test_columns_are_front_and_side() -> None:
    assert OPPOSING == ("front", "side")


@pytest.mark.parametrize(
    ("azimuth", "front", "side"),
    [
        (0, 0.0, -2.0),  # r = 1: front off (r > .8), side -2 exp(0)
        (9, 0.0, -2 * math.exp(-1)),  # r = .9
        (27, -2 * math.exp(-1.4), -2 * math.exp(-3)),  # r = .7
        (45, -2 * math.exp(-1), -2 * math.exp(-5)),  # r = 1/2
        (81, -2 * math.exp(-0.2), 0.0),  # r = .1: side off (r < .2)
        (90, -2.0, 0.0),  # from here on r = 1 - (a - 90) / 90, here 1: side off (r > .8)
        (99, -2.0, 0.0),  # r = .9
        (117, -2.0, -math.exp(-7)),  # r = .7
        (135, -2.0, -math.exp(-5)),  # r = 1/2
        (180, -2.0, -1.0),  # r = 0
    ],
)
def test_weights_by_hand(azimuth: float, front: float, side: float) -> None:
    for turned in (azimuth, -azimuth, azimuth + 360, -azimuth - 720):
        assert opposing_weights(turned, 10) == pytest.approx((front, side))


def test_from_overhead_nothing_is_opposed() -> None:
    assert opposing_weights(180, 60) == (0, 0)
    assert opposing_weights(180, 50) != (0, 0)


@given(st.floats(-720, 720), st.floats(-90, 90))
def test_no_weight_is_positive(azimuth: float, elevation: float) -> None:
    assert all(-2 <= weight <= 0 for weight in opposing_weights(azimuth, elevation))


@pytest.mark.parametrize(
    ("azimuth", "expected"),
    [
        (0, ("front", "side", 1.0)),
        (30, ("front", "side", 2 / 3)),
        (-60, ("front", "side", 1 / 3)),
        (90, ("side", "back", 1.0)),
        (120, ("side", "back", 2 / 3)),
        (180, ("side", "back", 0.0)),
        (-150, ("side", "back", 1 / 3)),
        (330, ("front", "side", 2 / 3)),
    ],
)
def test_a_camera_stands_between_two_directions(azimuth: float, expected: tuple[str, str, float]) -> None:
    first, second, share = between(azimuth)
    assert (first, second) == expected[:2]
    assert share == pytest.approx(expected[2])


@given(NUMBERS, NUMBERS)
def test_what_is_left_is_perpendicular_row_by_row(direction: list[float], main: list[float]) -> None:
    d, m = (torch.tensor(numbers, dtype=torch.float64).view(2, 3) for numbers in (direction, main))
    left = perpendicular(d, m)
    for row in range(2):
        square = m[row].square().sum()
        if square > SMALLEST_SQUARE:
            assert abs(left[row] @ m[row]) <= 1e-9 * (1 + d[row].norm() * m[row].norm())
            along = d[row] - left[row]
            assert torch.allclose(along * square, m[row] * (d[row] @ m[row]), atol=1e-6), "only a multiple of the main direction goes"


def test_without_a_main_direction_all_is_left() -> None:
    d = torch.randn(2, 3, 4, 4)
    assert torch.equal(perpendicular(d, torch.zeros(2, 3, 4, 4)), d)
    tiny = torch.full((1, 1), 1e-4)
    assert perpendicular(torch.ones(1, 1), tiny).item() == pytest.approx(1 - 1e-4 / 1e-6 * 1e-4), "the square is taken for 1e-6"


def test_guided_by_hand() -> None:
    """d_pos = (2, 0); d_1 = (1, 1), perpendicular (0, 1), weight -1; d_2 = (0, -3), perpendicular all of it, weight -0.5."""
    e_u = torch.tensor([[1.0, 1.0]])
    opposing = [(torch.tensor([[2.0, 2.0]]), torch.tensor([-1.0])), (torch.tensor([[1.0, -2.0]]), torch.tensor([-0.5]))]
    # e_u + 3 ((2, 0) - (0, 1) - 0.5 (0, -3)) = (1, 1) + 3 (2, 0.5)
    assert guided(e_u, torch.tensor([[3.0, 1.0]]), opposing, 3.0).tolist() == [[7.0, 2.5]]
    assert guided(e_u, torch.tensor([[3.0, 1.0]]), [], 3.0).tolist() == [[7.0, 1.0]]
