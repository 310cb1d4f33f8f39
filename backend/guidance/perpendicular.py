"""Perp-Neg (Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm"): the words of the other directions as negatives.

A negative only counts in so far as it is perpendicular to the prompt: what front and side views have in common, the object
itself, is not driven away. The weights follow the azimuth as in the authors' code (docs/methods.md).
"""

from __future__ import annotations

import math

from torch import Tensor

from ..view_words import view_direction

OPPOSING = ("front", "side")
"""Directions whose words may become negatives; the columns of `opposing_weights`."""

SMALLEST_SQUARE = 1e-6
"""Below this |d_pos|^2 the prompt has no direction to be perpendicular to."""


def between(azimuth: float) -> tuple[str, str, float]:
    """(first, second, r) for a camera that stands between two directions, whose words are r first + (1 - r) second."""
    off_front = abs((azimuth + 180) % 360 - 180)
    if off_front < 90:
        return "front", "side", 1 - off_front / 90
    return "side", "back", 1 - (off_front - 90) / 90


def opposing_weights(azimuth: float, elevation: float) -> tuple[float, float]:
    """Weights, none positive, of "front view" and "side view" as negatives for a camera (degrees). From overhead there are none."""
    if view_direction(azimuth, elevation) == "overhead":
        return 0.0, 0.0
    first, _, r = between(azimuth)
    if first == "front":
        front = 0.0 if r > 0.8 else -2 * math.exp(-2 * r)
        side = 0.0 if r < 0.2 else -2 * math.exp(-10 * (1 - r))
        return front, side
    return -2.0, 0.0 if r > 0.8 else -math.exp(-10 * r)


def perpendicular(direction: Tensor, main: Tensor) -> Tensor:
    """The part of `direction` [B, ...] that is perpendicular to `main`, row by row: d - <d, m> / max(|m|^2, 1e-6) m."""
    dims = tuple(range(1, main.ndim))
    inner = (direction * main).sum(dims, keepdim=True)
    square = main.square().sum(dims, keepdim=True).clamp_min(SMALLEST_SQUARE)
    return direction - inner / square * main


def guided(unconditional: Tensor, conditional: Tensor, opposing: list[tuple[Tensor, Tensor]], scale: float) -> Tensor:
    """e_u + s (d_pos + sum_i w_i d_i_perp), with d = e - e_u.

    Args:
        unconditional, conditional: [B, ...] predictions with the negative and the positive prompt.
        opposing: (prediction, weights [B]) of each further negative.
    """
    main = conditional - unconditional
    total = main
    for prediction, weights in opposing:
        total = total + weights.view(-1, *[1] * (main.ndim - 1)) * perpendicular(prediction - unconditional, main)
    return unconditional + scale * total
