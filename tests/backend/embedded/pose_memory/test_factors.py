"""What pictures' codes are sums of, by paint and backdrop."""

from __future__ import annotations

import pytest
import torch

from backend.embedded import vocabulary
from backend.embedded.pose_memory.factors import Factor, factors
from backend.embedded.pose_memory.pictures import BACKDROPS, paints
from backend.embedded.pose_memory.tokens import COLOURS, MATERIALS

from .gelu import slope


def weight(factor: Factor, colour: int, material: int, backdrop: int) -> float:
    """By which the units of a factor multiply what they read, with these gates open."""
    argument = factor.argument
    for gates, which in ((factor.colour, colour), (factor.material, material), (factor.backdrop, backdrop)):
        argument += 0 if gates is None else gates[which].item()
    return slope(torch.tensor([argument], dtype=torch.float64)).item()


def test_factors_make_up_every_paint_before_either_backdrop() -> None:
    rests = []
    for paint in paints():
        colour, material = COLOURS.index(paint.colour or str(paint.material)), MATERIALS.index(paint.material or "")
        for backdrop, level in enumerate(BACKDROPS):
            made = sum(weight(factor, colour, material, backdrop) * factor.table for factor in factors())
            rests.append(paint.table(level) - made)
    assert len(rests) == 2 * (12 * 5 + 2)
    rest = torch.stack(rests)
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), atol=1e-3, rtol=0)  # one table that is always there


def test_patterns_of_other_materials_are_closed() -> None:
    for factor in factors():
        if factor.material is not None:
            open_ = [material for material in range(len(MATERIALS)) if abs(weight(factor, 0, material, 0)) > 1e-6]
            assert open_ != [0]
            assert len(open_) <= 1


def test_few_factors_depend_on_the_colour() -> None:
    plain = [factor for factor in factors() if factor.colour is not None and factor.material is None]
    assert len(plain) == 3  # red, green and blue
    weights = torch.tensor([[weight(factor, colour, 0, 0) for colour in range(len(COLOURS))] for factor in plain])
    torch.testing.assert_close(weights.min(1).values, torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(weights.max(1).values, torch.ones(3), atol=1e-3, rtol=0)


def test_shares_are_variances_of_the_weight() -> None:
    colours = range(len(vocabulary.COLOURS))
    for factor in factors():
        if factor.colour is not None and factor.material is None:
            weights = torch.tensor([weight(factor, colour, 0, 0) for colour in colours])
            assert factor.share == pytest.approx(weights.var(correction=0).item(), abs=0.01)  # materials' own colours are rare
        elif factor.backdrop is not None:
            assert factor.share == 0.25
        assert 0 < factor.share <= 0.25
