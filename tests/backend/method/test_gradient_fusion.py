"""Hybrid orthogonal gradient fusion: eq. 10 worked by hand, and what must hold for any gradients."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.checkpoint import flatten, unflatten
from backend.config import FusionConfig
from backend.errors import ResourceError
from backend.method.gradient_fusion import GradientFusion
from backend.method.region_gradients import RegionGradients
from backend.method.view_grid import ViewGrid

THREE = ViewGrid(3, (-10.0, 10.0), (3.0, 3.0))
DEFAULT = ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.1, 3.5))
SHAPES = {"means": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3)}


def make(grid=THREE, device="cpu", **changes):
    return GradientFusion(grid, FusionConfig(**{"storage": "float32"} | changes), 1000, device)


def group(*values):
    """One group "a" of one row."""
    return {"a": torch.tensor([values], dtype=torch.float32)}


def random_gradients(generator, rows=7, scale=1.0):
    return {name: scale * torch.randn(rows, *shape, generator=generator) for name, shape in SHAPES.items()}


def flat(gradients):
    return torch.cat([g.reshape(-1) for g in gradients.values()])


def record(fusion, region, t, iteration, gradients):
    """A step in one region."""
    fusion.record([region], [t], iteration, RegionGradients.of([gradients]))


def fuse(fusion, region, t, iteration, gradients, **options):
    """A step in one region: its fused gradients, and its report's fields."""
    result = fusion.fuse([region], [t], iteration, RegionGradients.of([gradients]), **options)
    (report,) = result.reports
    return SimpleNamespace(gradients={name: g[0] for name, g in result.gradients.items()}, **vars(report))


# Eq. 10


def test_eq10_by_hand():
    fusion = make()
    record(fusion, 1, 500, 0, group(1, 0))
    result = fuse(fusion, 0, 500, 1, group(3, 4))
    # One neighbour, so w = 1.  <g_aux, g> = 3, |g|^2 = 25: g_proj = (1, 0) - 3/25 (3, 4) = (16/25, -12/25), norm 4/5 (below the
    # cap 0.5 * 5).  g_fused = (3, 4) + (0.64, -0.48) = (3.64, 3.52), norm sqrt(25 + 0.64).
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[3.64, 3.52]]))
    assert result.norm_main["a"] == pytest.approx(5)
    assert result.norm_projected["a"] == result.norm_uncapped["a"] == pytest.approx(0.8)
    assert result.norm_fused["a"] == pytest.approx(math.sqrt(25.64))
    assert result.neighbours == [{"region": 1, "weight": 1.0, "t": 500, "age": 1, "cosine": {"a": pytest.approx(3 / 5)}}]


def test_cap_by_hand():
    fusion = make(cap=0.1)
    record(fusion, 1, 500, 0, group(1, 0))
    result = fuse(fusion, 0, 500, 1, group(3, 4))
    # The projection (0.64, -0.48) has norm 0.8; the cap is 0.1 * 5 = 0.5: (0.4, -0.3).
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[3.4, 3.7]]))
    assert result.norm_projected["a"] == pytest.approx(0.5)
    assert result.norm_uncapped["a"] == pytest.approx(0.8)


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


def test_very_old_and_distant_neighbours_still_have_weights():
    fusion = make(age_scale=0.01)
    record(fusion, 1, 500, 0, group(1, 0))
    record(fusion, 2, 500, 0, group(1, 0))
    assert [n["weight"] for n in fuse(fusion, 0, 500, 10**6, group(0, 1)).neighbours] == pytest.approx([0.5, 0.5])


# A step in several regions


@given(st.integers(0, 2**32 - 1), st.sampled_from(["group", "global"]), st.sampled_from([0.3, math.inf]))
def test_each_region_of_a_step_is_fused_as_if_alone(seed, projection, cap):
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    fusion = make(DEFAULT, projection=projection, cap=cap)
    for region in rng.permutation(36)[:25]:
        record(fusion, int(region), int(rng.integers(350, 650)), int(rng.integers(0, 40)), random_gradients(generator))
    regions, t = rng.permutation(36)[:4].tolist(), rng.integers(350, 650, size=4).tolist()
    mains = [random_gradients(generator, scale=10.0**k) for k in range(4)]
    mains[2]["means"].zero_()
    together = fusion.fuse(regions, t, 40, RegionGradients.of(mains))
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
    main = RegionGradients.of([group(5, 6), group(0, 1)])
    result = fusion.fuse([lonely, region], [500, 500], 1, main)
    assert torch.equal(result.gradients["a"][0], main["a"][0])
    torch.testing.assert_close(result.gradients["a"][1], torch.tensor([[0.5, 1.0]]))  # (1, 0), capped at half of |g|
    assert [len(report.neighbours) for report in result.reports] == [0, 1]
    assert result.reports[0].norm_projected == {"a": 0}


def test_the_regions_of_a_step_do_not_see_each_other_and_all_are_recorded():
    fusion = make(cap=math.inf)
    main = RegionGradients.of([group(1, 0), group(0, 1)])
    assert [report.neighbours for report in fusion.fuse([0, 1], [500, 510], 0, main).reports] == [[], []]
    fusion.record([0, 1], [500, 510], 0, main)
    third = fuse(fusion, 2, 505, 1, group(1, 1))
    assert [(n["region"], n["t"]) for n in third.neighbours] == [(0, 500), (1, 510)]


def test_a_region_that_comes_twice_in_a_step_keeps_its_last_gradient():
    fusion = make(cap=math.inf)
    fusion.record([1, 1], [500, 480], 0, RegionGradients.of([group(1, 0), group(0, 3)]))
    result = fuse(fusion, 0, 490, 1, group(1, 0))
    assert result.neighbours[0]["t"] == 480
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[1.0, 3.0]]))


# Where nothing is fused


def test_without_history_the_main_gradient_is_returned():
    main = RegionGradients.of([group(3, 4)])
    result = make().fuse([0], [500], 0, main)
    assert result.gradients is main
    (result,) = result.reports
    assert result.neighbours == []
    assert result.norm_main == result.norm_fused == {"a": pytest.approx(5)}
    assert result.norm_projected == result.norm_uncapped == {"a": 0}


@pytest.mark.parametrize(("changes", "active"), [({"enabled": False}, True), ({}, False)])
def test_disabled_or_inactive_fusion_changes_nothing(changes, active):
    fusion = make(**changes)
    record(fusion, 1, 500, 0, group(1, 0))
    main = RegionGradients.of([group(3, 4)])
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


# What holds for any gradients


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-12, 4),
    st.floats(-12, 4),
    st.sampled_from([0.1, 0.5, math.inf]),
    st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from(["group", "global"]),
)
def test_what_is_added_is_orthogonal_and_capped(seed, main_power, history_power, cap, storage, projection):
    generator = torch.Generator().manual_seed(seed)
    fusion = make(DEFAULT, cap=cap, storage=storage, projection=projection)
    region = DEFAULT.index(3, 1)
    for k, neighbour in enumerate(DEFAULT.neighbours(region)):
        record(fusion, int(neighbour), 480 + 10 * k, k, random_gradients(generator, scale=10**history_power))
    main = random_gradients(generator, scale=10**main_power)
    result = fuse(fusion, region, 500, 10, main)
    pairs = list(zip(result.gradients.values(), main.values(), strict=True))
    vectors = [(f.reshape(-1).double(), g.reshape(-1).double()) for f, g in pairs]
    if projection == "global":
        vectors = [(torch.cat([f for f, _ in vectors]), torch.cat([g for _, g in vectors]))]
    for fused, g in vectors:
        added = fused - g
        assert abs(added @ g) <= 1e-6 * fused.norm() * g.norm()  # float32 rounding of the sum
        assert added.norm() <= cap * g.norm() * (1 + 1e-5)
    for name, fused in result.gradients.items():
        assert fused.shape == main[name].shape
        assert result.norm_main[name] == pytest.approx(main[name].norm().item(), rel=1e-4)
        assert result.norm_fused[name] == pytest.approx(fused.norm().item(), rel=1e-4)
        assert 0 < result.norm_projected[name] <= result.norm_uncapped[name] * (1 + 1e-6)
        if projection == "group":
            assert result.norm_fused[name] == pytest.approx(math.hypot(result.norm_main[name], result.norm_projected[name]), rel=1e-4)
    assert sum(n["weight"] for n in result.neighbours) == pytest.approx(1)


@given(st.integers(0, 2**32 - 1))
def test_the_vectorised_form_is_the_papers_sum_over_neighbours(seed):
    generator = torch.Generator().manual_seed(seed)
    fusion = make(DEFAULT, cap=math.inf)
    region = DEFAULT.index(3, 1)
    history = {int(j): random_gradients(generator) for j in DEFAULT.neighbours(region)}
    for k, (j, gradients) in enumerate(history.items()):
        record(fusion, j, 470 + 20 * k, k, gradients)
    main = random_gradients(generator)
    result = fuse(fusion, region, 500, 10, main)
    for name, g in main.items():
        expected = g.clone()
        for neighbour in result.neighbours:
            aux = neighbour["weight"] * history[neighbour["region"]][name]
            expected += aux - (aux * g).sum() / (g * g).sum() * g
            cosine = torch.nn.functional.cosine_similarity(history[neighbour["region"]][name].flatten(), g.flatten(), dim=0)
            assert neighbour["cosine"][name] == pytest.approx(cosine.item(), abs=1e-5)
        torch.testing.assert_close(result.gradients[name], expected, rtol=1e-4, atol=1e-5)


def test_nearly_parallel_gradients_stay_orthogonal():
    # All but 1e-3 of the stored gradient lies along the main one: what is left must still be orthogonal to float precision.
    generator = torch.Generator().manual_seed(0)
    main = {"a": torch.randn(5000, 3, generator=generator)}
    fusion = make(cap=math.inf)
    record(fusion, 1, 500, 0, {"a": main["a"] * 1e6 + 1e3 * torch.randn(5000, 3, generator=generator)})
    result = fuse(fusion, 0, 500, 1, main)
    added = (result.gradients["a"] - main["a"]).flatten().double()
    assert added.norm() > 100 * main["a"].norm()
    assert abs(added @ main["a"].flatten().double()) <= 1e-6 * added.norm() * main["a"].double().norm()


# History


def stored(fusion, region):
    """{group: the gradient that the history holds for a region}."""
    return {name: (h["values"][region].float() * h["scales"][region]).flatten() for name, h in fusion.state_dict()["history"].items()}


@pytest.mark.parametrize(("storage", "precision"), [("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 2**-22)])
@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1.0, 1e8])
def test_the_unfused_gradient_is_stored_at_any_magnitude(storage, precision, scale):
    generator = torch.Generator().manual_seed(0)
    fusion = make(storage=storage)
    record(fusion, 1, 500, 0, random_gradients(generator))
    main = random_gradients(generator, scale=scale)
    result = fuse(fusion, 0, 500, 1, main)
    assert len(result.neighbours) == 1
    record(fusion, 0, 500, 1, main)
    for name, kept in stored(fusion, 0).items():
        g = main[name].flatten()
        assert ((kept - g).abs() <= precision * g.abs() + 2**-24 * g.abs().max()).all()


def test_a_region_keeps_its_last_gradient_only():
    fusion = make()
    record(fusion, 1, 500, 0, group(1, 0))
    size = fusion.nbytes
    record(fusion, 1, 510, 5, group(0, 1))
    assert fusion.nbytes == size
    result = fuse(fusion, 0, 500, 6, group(1, 0))
    assert result.neighbours[0]["t"] == 510
    assert result.neighbours[0]["age"] == 1
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[1.0, 0.5]]))  # (0, 1), capped at half of |g|


def test_recording_copies():
    fusion = make(cap=math.inf)
    gradient = group(0, 1)
    record(fusion, 1, 500, 0, gradient)
    gradient["a"].fill_(99)
    torch.testing.assert_close(fuse(fusion, 0, 500, 1, group(1, 0)).gradients["a"], torch.tensor([[1.0, 1.0]]))


def test_fusing_changes_neither_the_main_gradient_nor_the_history():
    generator = torch.Generator().manual_seed(0)
    fusion = make()
    record(fusion, 1, 500, 0, random_gradients(generator))
    main = random_gradients(generator)
    before, kept = {n: g.clone() for n, g in main.items()}, stored(fusion, 1)
    fuse(fusion, 0, 500, 1, main)
    for name in main:
        assert torch.equal(main[name], before[name])
        assert torch.equal(stored(fusion, 1)[name], kept[name])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=12))
def test_remapped_history_is_the_history_of_remapped_gradients(seed, plan):
    generator = torch.Generator().manual_seed(seed)
    rows, factor = torch.tensor([r for r, _ in plan]), torch.tensor([f for _, f in plan])
    followed, fresh = make(cap=math.inf), make(cap=math.inf)
    for region in (1, 2):
        gradients = random_gradients(generator)
        record(followed, region, 500, 0, gradients)
        record(fresh, region, 500, 0, {n: g[rows] * factor.view(-1, *[1] * (g.ndim - 1)) for n, g in gradients.items()})
    followed.remap(rows, factor)
    main = random_gradients(generator, rows=len(plan))
    got, want = fuse(followed, 0, 500, 1, main), fuse(fresh, 0, 500, 1, main)
    for name in main:
        torch.testing.assert_close(got.gradients[name], want.gradients[name], rtol=1e-4, atol=1e-5)


def test_remap_by_hand():
    # Rows 0..2: row 0 is pruned, row 1 kept and duplicated, row 2 split into two.
    fusion = make()
    record(fusion, 1, 500, 0, {"a": torch.tensor([[8.0], [4.0], [2.0]])})
    fusion.remap(torch.tensor([1, 1, 2, 2]), torch.tensor([1.0, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(stored(fusion, 1)["a"], torch.tensor([4.0, 2.0, 0.0, 0.0]))


def test_remap_before_any_history_is_fine():
    fusion = make()
    fusion.remap(torch.tensor([0, 1]), torch.tensor([1.0, 1.0]))
    assert fusion.nbytes == 0


def test_clearing_a_group_leaves_the_others():
    generator = torch.Generator().manual_seed(0)
    fusion = make()
    record(fusion, 1, 500, 0, random_gradients(generator))
    main = random_gradients(generator)
    fusion.clear_group("opacities")
    fusion.clear_group("no such group")
    result = fuse(fusion, 0, 500, 1, main)
    assert torch.equal(result.gradients["opacities"], main["opacities"])
    assert not torch.equal(result.gradients["means"], main["means"])
    assert result.neighbours[0]["cosine"]["opacities"] == 0


def test_a_missed_remap_is_noticed():
    fusion = make()
    record(fusion, 1, 500, 0, {"a": torch.ones(3, 2)})
    for wrong in ({"a": torch.ones(4, 2)}, {"b": torch.ones(3, 2)}):
        with pytest.raises(ValueError, match="remap"):
            fuse(fusion, 0, 500, 1, wrong)
        with pytest.raises(ValueError, match="remap"):
            record(fusion, 0, 500, 1, wrong)


def test_memory_is_what_the_method_says():
    # 100,000 Gaussians of 14 numbers, 36 regions, 16 bit: 0.09 GiB.
    fusion = make(DEFAULT, storage="float16")
    assert fusion.required_bytes(100_000 * 14) == 36 * 100_000 * 14 * 2
    assert fusion.required_bytes(100_000 * 14) / 2**30 == pytest.approx(0.094, abs=0.001)
    record(fusion, 0, 500, 0, {"a": torch.ones(100, 14)})
    assert fusion.nbytes == fusion.required_bytes(1400) + 36 * 4  # and the scales


def test_too_much_history_is_refused_with_a_remedy():
    fusion = make(DEFAULT, storage="float16", memory_limit_gib=0.01)
    limit = int(0.01 * 2**30) // (36 * 2)
    fusion.check_memory(limit)
    with pytest.raises(ResourceError) as error:
        record(fusion, 0, 500, 0, {"a": torch.ones(limit + 1)})
    assert "gradient_fusion.memory_limit_gib" in error.value.remedy
    assert fusion.nbytes == 0
    record(fusion, 0, 500, 0, {"a": torch.ones(limit)})
    with pytest.raises(ResourceError):
        fusion.remap(torch.arange(limit + 1) % limit, torch.ones(limit + 1))
    make(DEFAULT, enabled=False, memory_limit_gib=0.01).check_memory(10**12)  # nothing is kept, nothing is refused


# Resuming


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "float32"])
def test_a_resumed_run_fuses_the_same(storage):
    def run(fusion, start, count, generator):
        results = []
        for k in range(start, start + count):
            region = (7 * k) % 36
            main = random_gradients(generator, scale=1e-6)
            t = 500 + (37 * k) % 60
            result = fuse(fusion, region, t, k, main)
            record(fusion, region, t, k, main)
            results.append((flat(result.gradients).tolist(), result.neighbours))
        return results

    generator = torch.Generator().manual_seed(3)
    original = make(DEFAULT, storage=storage)
    run(original, 0, 50, generator)
    saved, state = flatten(original.state_dict()), generator.get_state()
    expected = run(original, 50, 40, generator)
    resumed = make(DEFAULT, storage=storage)
    resumed.load_state_dict(unflatten(*saved))
    assert run(resumed, 50, 40, generator.set_state(state)) == expected
    assert any(neighbours for _, neighbours in expected)


def test_an_empty_history_resumes():
    fusion = make()
    fusion.load_state_dict(unflatten(*flatten(make().state_dict())))
    assert fusion.nbytes == 0


def test_another_grids_history_is_refused():
    fusion = make(DEFAULT)
    record(fusion, 0, 500, 0, group(1, 0))
    with pytest.raises(ValueError, match="36 regions"):
        make().load_state_dict(fusion.state_dict())


# Devices


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("history_device", ["auto", "cpu"])
def test_cuda_gives_the_cpus_result(history_device):
    generator = torch.Generator().manual_seed(0)
    region = DEFAULT.index(3, 1)
    history = {int(j): random_gradients(generator) for j in DEFAULT.neighbours(region)}
    main = random_gradients(generator)
    results = []
    for device in ("cpu", "cuda"):
        fusion = make(DEFAULT, device=device, history_device=history_device, storage="float16")
        for j, gradients in history.items():
            record(fusion, j, 500, 0, {n: g.to(device) for n, g in gradients.items()})
        fusion.remap(torch.arange(7, device=device), torch.ones(7, device=device))
        results.append(fuse(fusion, region, 500, 1, {n: g.to(device) for n, g in main.items()}))
        kept_on = {h["values"].device.type for h in fusion.state_dict()["history"].values()}
        assert kept_on == {"cpu" if history_device == "cpu" else device}
    for name in main:
        assert results[1].gradients[name].is_cuda
        torch.testing.assert_close(results[1].gradients[name].cpu(), results[0].gradients[name], rtol=1e-4, atol=1e-6)
