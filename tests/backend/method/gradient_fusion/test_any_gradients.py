"""What must hold for any gradients, on any device."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from .gradients import DEFAULT, fuse, make, random_gradients, record


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
        assert result.norm_projected[name] > 0
        if projection == "group":
            assert result.norm_fused[name] == pytest.approx(math.hypot(result.norm_main[name], result.norm_projected[name]), rel=1e-4)
    assert sum(n["weight"] for n in result.neighbours) == pytest.approx(1)


@settings(deadline=None)
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
