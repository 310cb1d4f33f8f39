"""A step in several regions."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .gradients import DEFAULT, SHAPES, fuse, group, make, of_regions, random_gradients, record


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["group", "global"]), st.sampled_from([0.3, math.inf]))
def test_each_region_of_a_step_is_fused_as_if_alone(seed, projection, cap):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    fusion = make(DEFAULT, projection=projection, cap=cap)
    for region in rng.permutation(36)[:25]:
        record(fusion, int(region), int(rng.integers(350, 650)), int(rng.integers(0, 40)), random_gradients(generator))
    regions, t = rng.permutation(36)[:4].tolist(), rng.integers(350, 650, size=4).tolist()
    mains = [random_gradients(generator, scale=10.0**k) for k in range(4)]
    mains[2]["means"].zero_()
    together = fusion.fuse(regions, t, 40, of_regions(*mains))
    fusion.config = replace(fusion.config, age_scale=fusion.config.age_scale / 4)  # a pass over the grid takes a quarter of the iterations
    for k, (region, at, main) in enumerate(zip(regions, t, mains, strict=True)):
        alone = fuse(fusion, region, at, 40, main)
        report = together.reports[k]
        assert [n["region"] for n in report.neighbours] == [n["region"] for n in alone.neighbours]
        for ours, theirs in zip(report.neighbours, alone.neighbours, strict=True):
            assert ours["weight"] == pytest.approx(theirs["weight"])
            assert (ours["t"], ours["age"]) == (theirs["t"], theirs["age"])
            assert ours["cosine"] == pytest.approx(theirs["cosine"], abs=1e-5)
        for name in SHAPES:
            scale = main[name].abs().max().item() + alone.gradients[name].abs().max().item()
            torch.testing.assert_close(together.gradients[name][k], alone.gradients[name], rtol=1e-4, atol=1e-5 * scale)
            assert report.norm_fused[name] == pytest.approx(alone.norm_fused[name], rel=1e-4, abs=1e-6)


def test_a_region_without_similar_neighbours_beside_one_that_has_them_keeps_its_gradient():
    fusion = make(DEFAULT)
    lonely, region = DEFAULT.index(0, 0), DEFAULT.index(6, 0)
    record(fusion, DEFAULT.index(7, 0), 500, 0, group(1, 0))
    main = of_regions(group(5, 6), group(0, 1))
    result = fusion.fuse([lonely, region], [500, 500], 1, main)
    assert torch.equal(result.gradients["a"][0], main["a"][0])
    torch.testing.assert_close(result.gradients["a"][1], torch.tensor([[0.5, 1.0]]))  # (1, 0), capped at half of |g|
    assert [len(report.neighbours) for report in result.reports] == [0, 1]
    assert result.reports[0].norm_projected == {"a": 0}


def test_the_regions_of_a_step_do_not_see_each_other_and_all_are_recorded():
    fusion = make(cap=math.inf)
    main = of_regions(group(1, 0), group(0, 1))
    assert [report.neighbours for report in fusion.fuse([0, 1], [500, 510], 0, main).reports] == [[], []]
    fusion.record([0, 1], [500, 510], 0, main)
    third = fuse(fusion, 2, 505, 1, group(1, 1))
    assert [(n["region"], n["t"]) for n in third.neighbours] == [(0, 500), (1, 510)]


def test_the_regions_of_a_step_are_remembered_as_if_recorded_one_by_one():
    generator = torch.Generator().manual_seed(0)
    together, alone = make(DEFAULT, storage="float16"), make(DEFAULT, storage="float16")
    for iteration, regions in enumerate(([7, 3, 30, 12], [3, 8, 7, 8])):
        gradients, t = [random_gradients(generator, scale=10.0**k) for k in range(4)], [500, 480, 470, 520]
        together.record(regions, t, iteration, of_regions(*gradients))
        for region, at, one in zip(regions, t, gradients, strict=True):
            record(alone, region, at, iteration, one)
    one, other = together.state_dict(), alone.state_dict()
    assert one["entries"] == other["entries"] and len(one["entries"]) == 5
    for name in SHAPES:
        assert torch.equal(one["history"][name]["values"], other["history"][name]["values"]), name
        assert torch.equal(one["history"][name]["scales"], other["history"][name]["scales"]), name


def test_a_region_that_comes_twice_in_a_step_keeps_its_last_gradient():
    fusion = make(cap=math.inf)
    fusion.record([1, 1], [500, 480], 0, of_regions(group(1, 0), group(0, 3)))
    result = fuse(fusion, 0, 490, 1, group(1, 0))
    assert result.neighbours[0]["t"] == 480
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[1.0, 3.0]]))
