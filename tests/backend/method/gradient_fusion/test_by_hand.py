"""Eq. 10 worked by hand, its weights, and where nothing is fused."""

import math

import numpy as np
import pytest
import torch

from backend.config import FusionConfig
from backend.method.gradient_fusion import GradientFusion

from .gradients import DEFAULT, THREE, flat, fuse, group, make, of_regions, record


def test_eq10_by_hand():
    fusion = make()
    record(fusion, 1, 500, 0, group(1, 0))
    result = fuse(fusion, 0, 500, 1, group(3, 4))
    # One neighbour, so w = 1.  <g_aux, g> = 3, |g|^2 = 25: g_proj = (1, 0) - 3/25 (3, 4) = (16/25, -12/25), norm 4/5 (below the
    # cap 0.5 * 5).  g_fused = (3, 4) + (0.64, -0.48) = (3.64, 3.52), norm sqrt(25 + 0.64).
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[3.64, 3.52]]))
    assert result.norm_main["a"] == pytest.approx(5)
    assert result.norm_projected["a"] == pytest.approx(0.8)
    assert result.norm_fused["a"] == pytest.approx(math.sqrt(25.64))
    assert result.neighbours == [{"region": 1, "weight": 1.0, "t": 500, "age": 1, "cosine": {"a": pytest.approx(3 / 5)}}]


def test_cap_by_hand():
    fusion = make(cap=0.1)
    record(fusion, 1, 500, 0, group(1, 0))
    result = fuse(fusion, 0, 500, 1, group(3, 4))
    # The projection (0.64, -0.48) has norm 0.8; the cap is 0.1 * 5 = 0.5: (0.4, -0.3).
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[3.4, 3.7]]))
    assert result.norm_projected["a"] == pytest.approx(0.5)


def test_two_neighbours_by_hand():
    fusion = make(cap=math.inf)
    record(fusion, 1, 500, 0, group(0, 2, 0))
    record(fusion, 2, 500, 0, group(4, 0, 6))
    result = fuse(fusion, 0, 500, 1, group(1, 0, 0))
    # Equal angles (120 degrees), timesteps and ages: w = 1/2 each. g_aux = (0, 1, 0) and (2, 0, 3); the second loses its first component.
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[1.0, 1.0, 3.0]]))
    assert [n["weight"] for n in result.neighbours] == pytest.approx([0.5, 0.5])
    assert [n["cosine"]["a"] for n in result.neighbours] == [pytest.approx(0), pytest.approx(4 / math.sqrt(52))]


def test_groups_are_projected_each_by_itself_or_as_one_vector():
    main = {"a": torch.tensor([[3.0]]), "b": torch.tensor([[4.0]])}
    stored = {"a": torch.tensor([[1.0]]), "b": torch.tensor([[0.0]])}
    for projection, expected in (("group", (3.0, 4.0)), ("global", (3.64, 3.52))):
        fusion = make(projection=projection)
        record(fusion, 1, 500, 0, stored)
        fused = fuse(fusion, 0, 500, 1, main).gradients
        # A one-dimensional group has no orthogonal direction; the whole vector (3, 4) against (1, 0) is the first example above.
        torch.testing.assert_close(flat(fused), torch.tensor(expected))


def test_global_cap_bounds_the_whole_sum():
    main = {"a": torch.tensor([[3.0]]), "b": torch.tensor([[4.0]])}
    fusion = make(projection="global", cap=0.1)
    record(fusion, 1, 500, 0, {"a": torch.tensor([[1.0]]), "b": torch.tensor([[0.0]])})
    torch.testing.assert_close(flat(fuse(fusion, 0, 500, 1, main).gradients), torch.tensor([3.4, 3.7]))


def test_weights_by_hand():
    fusion = make(DEFAULT)
    region = DEFAULT.index(0, 1)
    below, above, left = DEFAULT.index(0, 0), DEFAULT.index(0, 2), DEFAULT.index(11, 1)
    record(fusion, below, 450, 100, group(1, 0))
    record(fusion, above, 500, 28, group(1, 0))
    record(fusion, left, 399, 171, group(1, 0))  # |t - t_hist| = 101: not similar
    result = fuse(fusion, region, 500, 172, group(0, 1))
    # below: 20 degrees, 50 timesteps, 72 iterations old; above: 25, 0 and 144.
    # Scales: 30 degrees, 50 timesteps, 4 * 36 = 144 iterations.
    raw = np.exp([-(20**2) / 1800 - 1 - 0.5, -(25**2) / 1800 - 0 - 1])
    assert [n["region"] for n in result.neighbours] == [below, above]
    assert [n["weight"] for n in result.neighbours] == pytest.approx(list(raw / raw.sum()))
    assert [(n["t"], n["age"]) for n in result.neighbours] == [(450, 72), (500, 144)]


def test_the_time_window_is_inclusive_and_scales_with_t():
    fusion = GradientFusion(THREE, FusionConfig(), 500, "cpu")  # 0.1 of 500 timesteps: 50
    record(fusion, 1, 250, 0, group(1, 0))
    assert len(fuse(fusion, 0, 300, 1, group(0, 1)).neighbours) == 1
    assert len(fuse(fusion, 0, 301, 1, group(0, 1)).neighbours) == 0


def test_at_the_lowest_timesteps_too_only_what_was_recorded_counts():
    fusion = make()
    record(fusion, 1, 20, 0, group(1, 0))
    for t in (0, 20):
        assert [(n["region"], n["weight"]) for n in fuse(fusion, 0, t, 1, group(0, 1)).neighbours] == [(1, 1.0)]


def test_very_old_and_distant_neighbours_still_have_weights():
    fusion = make(age_scale=0.01)
    record(fusion, 1, 500, 0, group(1, 0))
    record(fusion, 2, 500, 0, group(1, 0))
    assert [n["weight"] for n in fuse(fusion, 0, 500, 10**6, group(0, 1)).neighbours] == pytest.approx([0.5, 0.5])


# Where nothing is fused


def test_without_history_the_main_gradient_is_returned():
    main = of_regions(group(3, 4))
    result = make().fuse([0], [500], 0, main)
    assert result.gradients is main
    (result,) = result.reports
    assert result.neighbours == []
    assert result.norm_main == result.norm_fused == {"a": pytest.approx(5)}
    assert result.norm_projected == {"a": 0}


@pytest.mark.parametrize(("changes", "active"), [({"enabled": False}, True), ({}, False)])
def test_disabled_or_inactive_fusion_changes_nothing(changes, active):
    fusion = make(**changes)
    record(fusion, 1, 500, 0, group(1, 0))
    main = of_regions(group(3, 4))
    result = fusion.fuse([0], [500], 1, main, active=active)
    assert result.gradients is main
    assert result.reports[0].neighbours == []


def test_disabled_fusion_keeps_no_history():
    fusion = make(enabled=False)
    record(fusion, 1, 500, 0, group(1, 0))
    assert fusion.nbytes == 0


def test_only_neighbours_count_and_not_the_region_itself():
    fusion = make(DEFAULT)
    record(fusion, 0, 500, 0, group(1, 0))
    record(fusion, 6, 500, 0, group(1, 0))
    assert fuse(fusion, 0, 500, 1, group(0, 1)).neighbours == []


@pytest.mark.parametrize("cap", [0.5, math.inf])
def test_a_zero_main_gradient_has_no_direction(cap):
    fusion = make(cap=cap)
    record(fusion, 1, 500, 0, group(1, 2))
    result = fuse(fusion, 0, 500, 1, group(0, 0))
    # A finite cap is a share of nothing; without one eq. 10 subtracts nothing.
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[0.0, 0.0]] if math.isfinite(cap) else [[1.0, 2.0]]))
    assert result.neighbours[0]["cosine"]["a"] == 0


def test_a_zero_history_adds_nothing():
    fusion = make()
    record(fusion, 1, 500, 0, group(0, 0))
    result = fuse(fusion, 0, 500, 1, group(3, 4))
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[3.0, 4.0]]), rtol=0, atol=0)
