"""The history: stored, remapped, bounded, resumed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.checkpoint import flatten, unflatten
from backend.errors import ResourceError

from .gradients import DEFAULT, flat, fuse, group, make, random_gradients, record


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


@pytest.mark.parametrize("scale", [1e-25, 1e-15, 1e-6])
def test_a_stored_gradient_that_is_far_larger_is_capped(scale):
    generator = torch.Generator().manual_seed(0)
    fusion = make(cap=0.5)
    record(fusion, 1, 500, 0, random_gradients(generator))
    main = random_gradients(generator, scale=scale)
    result = fuse(fusion, 0, 500, 1, main)
    for name, g in main.items():
        norm = (g.double() / scale).norm().item()
        added = (result.gradients[name].double() - g.double()) / scale
        assert added.norm().item() == pytest.approx(0.5 * norm, rel=1e-3)
        assert result.norm_projected[name] == pytest.approx(0.5 * norm * scale, rel=1e-3)
        assert result.norm_fused[name] == pytest.approx(1.25**0.5 * norm * scale, rel=1e-3)


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


def test_what_is_forgotten_takes_no_room_and_is_begun_anew():
    generator = torch.Generator().manual_seed(0)
    fusion, fresh = make(), make()
    fusion.forget()
    record(fusion, 1, 500, 0, {"a": torch.ones(3, 2)})
    fusion.forget()
    assert fusion.nbytes == 0
    gradients, main = random_gradients(generator), random_gradients(generator)
    assert torch.equal(fuse(fusion, 0, 500, 1, main).gradients["means"], main["means"])
    for each in (fusion, fresh):
        record(each, 1, 500, 2, gradients)
    assert torch.equal(fuse(fusion, 0, 500, 3, main).gradients["means"], fuse(fresh, 0, 500, 3, main).gradients["means"])


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


def test_a_history_that_is_loaded_replaces_the_one_there():
    saved, fusion = make(cap=math.inf), make(cap=math.inf)
    record(saved, 1, 500, 3, group(1, 0))
    for region in (1, 2):
        record(fusion, region, 510, 7, group(0, 2))
    fusion.load_state_dict(saved.state_dict())
    result = fuse(fusion, 0, 500, 8, group(0, 1))
    assert [(n["region"], n["t"], n["age"]) for n in result.neighbours] == [(1, 500, 5)], "region 2 has none any more"
    torch.testing.assert_close(result.gradients["a"], torch.tensor([[1.0, 1.0]]))
    fusion.load_state_dict(make().state_dict())
    assert fuse(fusion, 0, 500, 8, group(0, 1)).neighbours == []


def test_another_grids_history_is_refused():
    fusion = make(DEFAULT)
    record(fusion, 0, 500, 0, group(1, 0))
    with pytest.raises(ValueError, match="36 regions"):
        make().load_state_dict(fusion.state_dict())
