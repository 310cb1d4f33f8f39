"""Adaptive region sampling: eqs. 6 and 7 worked by hand, and what must hold for any history."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config import RegionSamplingConfig
from backend.method.region_sampling import LEVEL_RANGE, RegionSampler, _inclusion
from backend.method.view_grid import ViewGrid

THREE = ViewGrid(3, (-10.0, 10.0), (3.0, 3.0))
DEFAULT = ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.1, 3.5))


def make(grid=THREE, seed=0, **changes):
    return RegionSampler(
        grid, RegionSamplingConfig(**{"warmup_passes": 0, "uniform_floor": 0.0, "loss_bins": 0} | changes), np.random.default_rng(seed)
    )


def feed(sampler, region, *losses):
    for loss in losses:
        sampler.record(region, loss, 0.5)


# Eq. 6


def test_eq6_literal_by_hand():
    sampler = make(indicator="literal")
    feed(sampler, 0, 10, 1, 2, 6)
    # n = 4, mean of the first three (10 + 1 + 2) / 3 = 13/3; r = (13/3 * 3 + 6) / (13/3 * 4) = 19 / (52/3) = 57/52
    np.testing.assert_allclose(sampler.indicators(), [57 / 52, 1, 1])


def test_eq6_ratio_by_hand_is_eq6_on_the_last_window():
    sampler = make(indicator="ratio", window=3)
    feed(sampler, 0, 10, 1, 2, 6)
    # n = min(4, 3) = 3, mean of the two losses before the last (1 + 2) / 2 = 3/2; r = (3/2 * 2 + 6) / (3/2 * 3) = 9 / (9/2) = 2
    np.testing.assert_allclose(sampler.indicators(), [2, 1, 1])


def test_ratio_is_literal_where_the_window_is_just_full():
    ratio, literal = make(indicator="ratio", window=5), make(indicator="literal")
    for sampler in (ratio, literal):
        feed(sampler, 1, 3, 1, 4, 1, 5)
    np.testing.assert_allclose(ratio.indicators(), literal.indicators())


def test_ratio_counts_a_whole_window_from_the_start():
    sampler = make(indicator="ratio", window=5)
    feed(sampler, 1, 3, 1)
    # the mean of the losses before the last is 3, as if there had been four: r = (3 * 4 + 1) / (3 * 5); eq. 6 with n = 2 has 2 / 3
    np.testing.assert_allclose(sampler.indicators(), [1, 13 / 15, 1])


def test_level_by_hand():
    sampler = make(indicator="level", window=2)
    feed(sampler, 0, 1, 3, 6)  # averages: 1, then 1 + (3 - 1) / 2 = 2, then 2 + (6 - 2) / 2 = 4
    feed(sampler, 1, 1, 1)  # 1
    # mean of the visited regions' averages (4 + 1) / 2 = 5/2; r = 4 / (5/2) = 8/5 and 1 / (5/2) = 2/5, clipped to 1/2; region 2 is unseen
    np.testing.assert_allclose(sampler.indicators(), [8 / 5, 1 / 2, 1])


@pytest.mark.parametrize("indicator", ["ratio", "literal", "level"])
def test_one_loss_says_nothing(indicator):
    sampler = make(indicator=indicator)
    feed(sampler, 0, 123)
    np.testing.assert_array_equal(sampler.indicators(), [1, 1, 1])


def test_literal_fades_and_ratio_does_not():
    literal, ratio = make(indicator="literal"), make(indicator="ratio", window=10)
    for sampler in (literal, ratio):
        feed(sampler, 0, *[1] * 99, 2)
    # r - 1 = (L / mean - 1) / n: one hundredth against one tenth
    assert literal.indicators()[0] == pytest.approx(1.01)
    assert ratio.indicators()[0] == pytest.approx(1.1)


def test_zero_losses_are_no_problem():
    for indicator in ("ratio", "literal", "level"):
        sampler = make(indicator=indicator)
        for region in range(3):
            feed(sampler, region, 0, 0, 0)
        assert np.isfinite(sampler.indicators()).all()
        np.testing.assert_allclose(sampler.probabilities(), 1 / 3)


# Eq. 7


def test_eq7_by_hand():
    sampler = make(indicator="literal", temperature=1.0)
    feed(sampler, 0, 1, 2, 6)  # r = (3/2 * 2 + 6) / (3/2 * 3) = 2
    # P(0) = e^2 / (e^2 + e + e) = e / (e + 2), P(1) = P(2) = 1 / (e + 2)
    np.testing.assert_allclose(sampler.probabilities(), np.array([math.e, 1, 1]) / (math.e + 2))


def test_floor_and_weights_by_hand():
    sampler = make(indicator="literal", temperature=1.0, uniform_floor=0.3)
    feed(sampler, 0, 1, 2, 6)
    p = 0.7 * np.array([math.e, 1, 1]) / (math.e + 2) + 0.3 / 3
    np.testing.assert_allclose(sampler.probabilities(), p)
    sampler.set_weight(1, 4)
    sampler.set_weight(2, 0)
    np.testing.assert_allclose(sampler.probabilities(), np.array([p[0], 4 * p[1], 0]) / (p[0] + 4 * p[1]))


@pytest.mark.parametrize(("indicator", "tau"), [("ratio", 0.1), ("literal", 0.1), ("level", 0.5)])
def test_default_temperatures(indicator, tau):
    assert make(indicator=indicator).temperature == tau
    assert make(indicator=indicator, temperature=0.3).temperature == 0.3


def test_softmax_survives_a_tiny_temperature():
    sampler = make(indicator="ratio", temperature=1e-3)
    feed(sampler, 0, 1, 1e6)
    np.testing.assert_allclose(sampler.probabilities(), [1, 0, 0])
    sampler.set_weight(0, 0)  # the only region that softmax left anything for is frozen
    np.testing.assert_allclose(sampler.probabilities(), [0, 0.5, 0.5])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["ratio", "literal", "level"]),
    st.floats(0, 1),
    st.sampled_from([None, 1e-3, 0.02, 5.0]),
    st.lists(st.tuples(st.integers(0, 35), st.floats(0, 1e6), st.floats(0, 1)), max_size=120),
    st.sampled_from([0, 20]),
)
def test_probabilities_sum_to_one_and_respect_the_floor(indicator, floor, temperature, history, bins):
    sampler = make(DEFAULT, indicator=indicator, uniform_floor=floor, temperature=temperature, loss_bins=bins)
    for region, loss, t in history:
        sampler.record(region, loss, t)
    p = sampler.probabilities()
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert (p >= floor / 36 * (1 - 1e-12)).all()
    if indicator == "level":
        r = sampler.indicators()
        assert ((r >= LEVEL_RANGE[0]) & (r <= LEVEL_RANGE[1])).all()


# Warm-up, weights, drawing


def test_warm_up_visits_every_region_once_a_pass_in_changing_order():
    sampler = make(DEFAULT, warmup_passes=2)
    passes = []
    for _ in range(2):
        order = []
        for _ in range(36):
            assert not sampler.warmed_up
            drawn = sampler.draw()[0]
            region = drawn.region
            assert region not in order
            np.testing.assert_allclose(drawn.probability.max(), 1 / (36 - len(order)))
            order.append(region)
            sampler.record(region, 1.0, 0.5)
        assert sorted(order) == list(range(36))
        passes.append(order)
    assert passes[0] != passes[1]
    assert sampler.warmed_up


def test_a_steps_regions_continue_the_warm_up_passes():
    sampler = make(DEFAULT, warmup_passes=2)
    seen = []
    while not sampler.warmed_up:
        step = [drawn.region for drawn in sampler.draw(5)]  # which does not divide 36: a step may end one pass and begin the next
        assert len(set(step)) == 5
        seen += step
        for region in step:
            sampler.record(region, 1.0, 0.5)
    assert sorted(seen[:36]) == sorted(seen[36:72]) == list(range(36))


def test_the_regions_of_a_step_come_as_often_as_eq_7_says():
    sampler = make(DEFAULT, warmup_passes=0, indicator="level")
    for region in range(36):
        feed(sampler, region, 1 + region / 12)
    sampler.set_weight(7, 5)
    probability, steps = sampler.probabilities(), 5000
    visits = np.zeros(36)
    for _ in range(steps):
        draws = sampler.draw(4)
        assert len({drawn.region for drawn in draws}) == 4
        for drawn in draws:
            np.testing.assert_array_equal(drawn.probability, probability)
            visits[drawn.region] += 1
    due = 4 * probability
    assert due.max() < 1
    np.testing.assert_allclose(visits, steps * due, atol=5 * np.sqrt(steps * (due * (1 - due)).max()))


def test_the_regions_of_a_step_stand_around_the_object():
    sampler = make(DEFAULT, enabled=False)
    bands = set()
    for _ in range(50):
        step = np.array([drawn.region for drawn in sampler.draw(4)])
        np.testing.assert_array_equal(np.diff(np.sort(step % 12)), 3)
        bands.add(tuple(step // 12))
    assert len(bands) > 10, "at each azimuth any height may be drawn"


def test_a_region_due_more_than_once_a_step_comes_in_each_and_the_rest_is_shared():
    sampler = make(enabled=False)
    sampler.set_weight(0, 100)
    steps = [sorted(drawn.region for drawn in sampler.draw(2)) for _ in range(400)]
    assert all(0 in step for step in steps)
    assert sum(1 in step for step in steps) == pytest.approx(200, abs=50)


@given(st.lists(st.floats(1e-9, 1) | st.just(0.0), min_size=2, max_size=20).filter(any), st.integers(1, 20))
def test_inclusion_adds_up_to_the_step_and_is_proportional_below_one(values, count):
    probability = np.array(values) / sum(values)
    wanted = min(count, np.count_nonzero(probability))
    due = _inclusion(probability, wanted)
    assert due.sum() == pytest.approx(wanted)
    assert (due <= 1).all()
    assert (due[probability == 0] == 0).all()
    shared = (due < 1) & (probability > 0)
    if shared.any():
        np.testing.assert_allclose(due[shared] / probability[shared], due[shared].max() / probability[shared].max())
        assert probability[due == 1].min(initial=1.0) >= probability[shared].max()


@pytest.mark.parametrize("enabled", [True, False])
def test_a_step_with_more_regions_than_may_be_drawn_takes_each_in_turn(enabled):
    sampler = make(DEFAULT, warmup_passes=0, enabled=enabled)
    for region in range(36):
        sampler.set_weight(region, {4: 1.0, 9: 1e-6, 20: 5.0}.get(region, 0.0))
    for _ in range(20):
        step = [drawn.region for drawn in sampler.draw(7)]
        assert set(step[:3]) == set(step[3:6]) == {4, 9, 20}
        assert step[6] in {4, 9, 20}


def test_warm_up_leaves_frozen_regions_out_and_catches_up_on_release():
    sampler = make(warmup_passes=2)
    sampler.set_weight(1, 0)
    for _ in range(4):
        feed(sampler, sampler.draw()[0].region, 1)
    np.testing.assert_array_equal(sampler.visits, [2, 0, 2])
    assert sampler.warmed_up
    sampler.set_weight(1, 1)
    assert [sampler.draw()[0].region for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_a_step_that_ends_a_pass_goes_on_with_the_regions_visited_least(seed):
    sampler = make(warmup_passes=3, seed=seed)
    feed(sampler, 1, 1)
    feed(sampler, 2, 1, 1)
    assert [drawn.region for drawn in sampler.draw(2)] == [0, 1]


def test_disabled_is_uniform_from_the_start_but_for_the_weights():
    sampler = make(enabled=False, warmup_passes=2, indicator="level")
    assert sampler.warmed_up
    feed(sampler, 0, 1, 50)
    np.testing.assert_allclose(sampler.probabilities(), 1 / 3)
    sampler.set_weight(2, 2)
    np.testing.assert_allclose(sampler.probabilities(), [0.25, 0.25, 0.5])


def test_frozen_regions_are_never_drawn_and_boosted_ones_more_often():
    sampler = make(DEFAULT)
    sampler.set_weight(4, 0)
    sampler.set_weight(5, 10)
    draws = np.bincount([sampler.draw()[0].region for _ in range(2000)], minlength=36)
    assert draws[4] == 0
    assert draws[5] == pytest.approx(2000 * 10 / 44, abs=4 * math.sqrt(2000 * 10 / 44))


def drawing(number, sampler):
    """The sampler, whose generator gives this number and no other."""
    sampler._rng = SimpleNamespace(random=lambda size=None: number if size is None else np.full(size, number))
    return sampler


def test_the_outermost_random_numbers_draw_regions_that_may_be_drawn():
    sampler = drawing(0.0, make(enabled=False))
    sampler.set_weight(0, 0)
    assert sampler.draw()[0].region == 1, "shares 0, 1/2, 1/2: region 0 has none to hit"
    # The last of the four points is 3 + (1 - 2^-53), which rounds to 4, the end of the shares.
    step = drawing(np.nextafter(1, 0), make(DEFAULT, enabled=False)).draw(4)
    assert step[-1].region % 12 == 11


@pytest.mark.parametrize("warmup_passes", [0, 2])
def test_freezing_every_region_freezes_none(warmup_passes):
    sampler = make(warmup_passes=warmup_passes)
    for region in range(3):
        sampler.set_weight(region, 0)
    np.testing.assert_allclose(sampler.probabilities(), 1 / 3)
    np.testing.assert_array_equal(sampler.weights, 0)


@pytest.mark.parametrize("scale", [1e-322, 1e-300, 1e300])
def test_only_the_ratio_of_weights_counts(scale):
    sampler = make()
    for region, weight in enumerate((1, 1, 2)):
        sampler.set_weight(region, weight * scale)
    np.testing.assert_allclose(sampler.probabilities(), [0.25, 0.25, 0.5])


def test_a_draw_holds_what_was_drawn_from():
    sampler = make(temperature=1.0)
    feed(sampler, 0, 1, 5)
    sampler.set_weight(1, 3)
    expected = sampler.indicators(), sampler.probabilities(), sampler.weights
    drawn = sampler.draw()[0]
    sampler.record(drawn.region, 9.0, 0.1)  # must not reach back into the record of the draw
    sampler.set_weight(1, 7)
    for got, want in zip((drawn.indicator, drawn.probability, drawn.weight), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("factor", [-1, float("nan"), float("inf")])
def test_impossible_weights_are_refused(factor):
    with pytest.raises(ValueError, match="weight"):
        make().set_weight(0, factor)


@pytest.mark.parametrize("loss", [-1.0, float("nan"), float("inf")])
def test_impossible_losses_are_refused(loss):
    sampler = make()
    with pytest.raises(ValueError, match="loss"):
        sampler.record(0, loss, 0.5)
    assert sampler.visits[0] == 0


def test_unknown_regions_are_refused():
    sampler = make()
    for region in (-1, 3):
        with pytest.raises(IndexError):
            sampler.record(region, 1.0, 0.5)
        with pytest.raises(IndexError):
            sampler.set_weight(region, 1)


# Normalisation of the loss


def test_losses_are_divided_by_their_timestep_bins_running_mean():
    sampler = make(loss_bins=20)
    assert sampler.record(0, 8.0, 0.51) == 1  # the first of its bin
    assert sampler.record(1, 4.0, 0.54) == pytest.approx(4 / 6)  # same bin, mean (8 + 4) / 2
    assert sampler.record(2, 0.001, 0.02) == 1  # another bin, another magnitude
    assert sampler.record(2, 0.003, 0.049) == pytest.approx(0.003 / 0.002)
    assert sampler.record(0, 5.0, 1.0) == 1  # t = T belongs to the last bin
    assert sampler.record(0, 0.0, 0.3) == 1  # a mean of zero compares nothing


def test_a_bins_running_mean_is_over_about_a_hundred_losses():
    sampler = make(loss_bins=20)
    for _ in range(300):
        sampler.record(0, 1.0, 0.5)
    # The mean moves by a hundredth of the way: 1 + (3 - 1) / 100. The mean of all 301 losses would be 1 + 2 / 301.
    assert sampler.record(0, 3.0, 0.5) == pytest.approx(3 / 1.02)


def test_bins_make_timesteps_comparable():
    # The raw loss falls by three orders of magnitude with t; regions do not differ. What a region happened to be
    # sampled at must not pass for progress.
    rng = np.random.default_rng(0)
    sampler = make(DEFAULT, loss_bins=20, indicator="level")
    for _ in range(4000):
        t = rng.uniform(0.02, 0.98)
        sampler.record(int(rng.integers(36)), 10 ** (-3 * t) * rng.uniform(0.8, 1.2), t)
    assert np.abs(sampler.indicators() - 1).max() < 0.25
    raw = make(DEFAULT, loss_bins=0, indicator="level")
    for _ in range(4000):
        t = rng.uniform(0.02, 0.98)
        raw.record(int(rng.integers(36)), 10 ** (-3 * t) * rng.uniform(0.8, 1.2), t)
    assert np.abs(raw.indicators() - 1).max() > 0.5


# Behaviour over a run


def simulate(hard, *, draws=3000, seed=0, **changes):
    """Visits after the warm-up with noisy losses, twice as high in the hard regions from the middle on: (before, after)."""
    sampler = make(DEFAULT, seed=seed, **{"warmup_passes": 2, "uniform_floor": 0.15} | changes)
    noise = np.random.default_rng(seed + 1)
    half = None
    for k in range(draws):
        if k == draws // 2:
            half = sampler.visits
        region = sampler.draw()[0].region
        level = 2.0 if region in hard and half is not None else 1.0
        sampler.record(region, level * noise.lognormal(-0.125, 0.5), 0.5)
    return half, sampler.visits - half


def test_a_region_with_twice_the_loss_is_visited_more_and_none_starves():
    hard = [3, 10, 20, 33]
    before, after = simulate(hard, indicator="level")
    easy = [region for region in range(36) if region not in hard]
    assert after[hard].min() > after[easy].max()
    assert after[hard].mean() > 2 * after[easy].mean()
    assert before[hard].mean() < 1.5 * before[easy].mean()
    assert after.min() > 0.2 * 1500 / 36


@pytest.mark.parametrize("indicator", ["ratio", "literal", "level"])
def test_no_region_starves(indicator):
    before, after = simulate([3, 10, 20, 33], indicator=indicator)
    assert (before + after).min() > 0.3 * 3000 / 36


def test_ratio_answers_to_a_rise():
    # Eq. 6 compares a region with its own past: a loss that has just doubled makes its region the likeliest, by
    # exp((2 - 1) / 10 / 0.1) = e against a region that stays the same.
    sampler = make(DEFAULT, indicator="ratio", window=10)
    for region in range(36):
        feed(sampler, region, 1.0)
    feed(sampler, 7, 2.0)
    p = sampler.probabilities()
    assert p[7] / p[8] == pytest.approx(math.e)


# Resuming


@pytest.mark.parametrize("indicator", ["ratio", "literal", "level"])
def test_a_resumed_run_draws_the_same(indicator):
    def run(sampler, count, noise):
        trace = []
        for _ in range(count):
            drawn = sampler.draw()[0]
            region = drawn.region
            value = sampler.record(region, noise.random(), noise.random())
            trace.append((region, value, drawn.probability.tolist()))
        return trace

    config = {"indicator": indicator, "warmup_passes": 2, "loss_bins": 20, "uniform_floor": 0.15}
    noise = np.random.default_rng(5)
    original = make(DEFAULT, seed=1, **config)
    run(original, 150, noise)
    original.set_weight(3, 2.5)
    saved, noise_state = json.dumps(original.state_dict(), allow_nan=False), noise.bit_generator.state
    expected = run(original, 200, noise)
    resumed = make(DEFAULT, seed=999, **config)
    resumed.load_state_dict(json.loads(saved))
    noise.bit_generator.state = noise_state
    assert run(resumed, 200, noise) == expected
    np.testing.assert_array_equal(resumed.visits, original.visits)


@pytest.mark.parametrize("other", [{"grid": DEFAULT}, {"loss_bins": 20}], ids=str)
def test_another_grids_state_is_refused_and_changes_nothing(other):
    sampler, stranger = make(), make(**other)
    feed(stranger, 1, 1, 2)
    before = sampler.state_dict()
    with pytest.raises(ValueError, match="shape"):
        sampler.load_state_dict(stranger.state_dict())
    assert sampler.state_dict() == before
