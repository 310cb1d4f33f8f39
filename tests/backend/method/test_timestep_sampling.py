"""Hybrid adaptive timestep sampling: eq. 8 worked by hand, and what must hold for any history."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config import TimestepConfig
from backend.errors import ConfigError
from backend.guidance.prior import PriorDefaults
from backend.method.timestep_sampling import TimestepSampler, settled
from backend.method.view_grid import ViewGrid

THREE = ViewGrid(3, (-10.0, 10.0), (3.0, 3.0))
DEFAULT = ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.1, 3.5))
T = 1000
DDPM = np.cumprod(1 - np.linspace(1e-4, 0.02, T))
LINEAR_LOG_SNR = 1 / (1 + np.exp(np.linspace(-6, 6, T)))  # abar = sigmoid(-x) has log-SNR -x
PRIOR = PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(64,), t_start=0.75, t_end=0.3)
LOSSES = st.lists(st.tuples(st.integers(0, 35), st.floats(0, 1e3)), max_size=80)


def make(grid=THREE, schedule=DDPM, seed=0, **changes):
    return TimestepSampler(grid, TimestepConfig(**{"start": 0.98, "end": 0.1} | changes), schedule, np.random.default_rng(seed))


def feed(sampler, region, *losses):
    for loss in losses:
        sampler.record(region, loss)


def with_local(values, **changes):
    """A sampler whose local states are the given timesteps."""
    sampler = make(**changes)
    sampler.load_state_dict(sampler.state_dict() | {"t_local": [value / T for value in values]})
    return sampler


# Where it starts


def test_it_starts_where_the_prior_recommends_unless_the_settings_say_otherwise():
    assert settled(TimestepConfig(), PRIOR).start == 0.75
    assert settled(TimestepConfig(start=0.9), PRIOR).start == 0.9
    assert settled(TimestepConfig(clip_high=((0.0, 0.5), (0.5, 0.6), (1.0, 0.4))), PRIOR).start == 0.6, "no higher than is ever permitted"


def test_it_ends_where_the_prior_recommends_unless_the_settings_say_otherwise():
    assert settled(TimestepConfig(), PRIOR).end == 0.3
    assert settled(TimestepConfig(end=0.1), PRIOR).end == 0.1
    assert settled(TimestepConfig(clip_low=((0.0, 0.5), (1.0, 0.4))), PRIOR).end == 0.4, "no lower than is ever permitted"
    for start, shown in ((0.2, r"0\.2"), (0.3, r"0\.3")):
        with pytest.raises(ConfigError, match=rf"start \({shown}\) must be above 0\.3") as caught:
            settled(TimestepConfig(start=start), PRIOR)
        assert "timestep_sampling.end" in caught.value.remedy


def test_an_end_above_where_the_prior_starts_is_refused_and_needless_where_nothing_falls():
    with pytest.raises(ConfigError, match=r"must be below 0\.75") as caught:
        settled(TimestepConfig(end=0.8), PRIOR)
    assert "timestep_sampling.start" in caught.value.remedy
    for follows_no_schedule in (TimestepConfig(end=0.8, enabled=False), TimestepConfig(end=0.8, mode="uniform")):
        assert settled(follows_no_schedule, PRIOR).start == 0.75


def test_settings_that_are_not_settled_are_a_mistake_of_the_caller():
    for missing in ("start", "end"):
        with pytest.raises(ValueError, match="is None"):
            make(**{missing: None})


# The global baseline


@pytest.mark.parametrize("schedule", [DDPM, LINEAR_LOG_SNR])
def test_baseline_runs_from_start_to_end(schedule):
    sampler = make(schedule=schedule)
    assert sampler.global_timestep(0) == pytest.approx(980)
    assert sampler.global_timestep(1) == pytest.approx(100)
    assert sampler.global_timestep(-0.1) == sampler.global_timestep(0)
    assert sampler.global_timestep(1.1) == sampler.global_timestep(1)


def test_baseline_is_linear_in_log_snr():
    # Where the log-SNR is itself linear in t, so is the baseline: 980 - (980 - 100) / 4 = 760.
    assert make(schedule=LINEAR_LOG_SNR).global_timestep(0.25) == pytest.approx(760)
    # Elsewhere the log-SNR at the baseline moves in equal steps.
    sampler = make()
    t = np.array([sampler.global_timestep(p) for p in np.linspace(0, 1, 11)])
    log_snr = np.interp(t, np.arange(T), np.log(DDPM / (1 - DDPM)))
    np.testing.assert_allclose(np.diff(log_snr), np.diff(log_snr)[0], rtol=1e-6)
    assert (np.diff(t) < 0).all()
    assert np.diff(log_snr)[0] > 0  # the noise falls


def test_fractions_scale_to_another_number_of_timesteps():
    coarse = make(schedule=LINEAR_LOG_SNR[::10])
    assert coarse.global_timestep(0) == pytest.approx(98)
    assert coarse.global_timestep(1) == pytest.approx(10)
    draws = [coarse.sample(0, p).t for p in np.linspace(0, 1, 200)]
    assert 2 <= min(draws) <= max(draws) <= 98


def test_a_schedule_that_ends_in_pure_noise_is_fine():
    schedule = np.linspace(0.999, 0, T)
    assert make(schedule=schedule, start=1.0, clip_high=1.0).sample(0, 0.0).t <= T - 1
    assert make(schedule=schedule).global_timestep(0) == pytest.approx(980)


@pytest.mark.parametrize("schedule", [DDPM[::-1], np.full(T, 0.5), DDPM - 0.5, DDPM + 0.5, DDPM[:1]])
def test_impossible_schedules_are_refused(schedule):
    with pytest.raises(ConfigError):
        make(schedule=schedule)


# Eq. 8


def test_eq8_by_hand():
    sampler = make()
    feed(sampler, 0, 1, 1)
    assert sampler.t_local[0] == 0  # two losses have no second difference
    feed(sampler, 0, 2)
    # EMA: 1, 1, then 0.9 * 1 + 0.1 * 2 = 1.1.  First difference 2 - 1 = 1, second 2 - 2 * 1 + 1 = 1, deviation 2 - 1.1 = 0.9.
    # u = 50 (0.25 * 1 + 0.1 * 1 + 0.5 * 0.9) / 1.1 = 50 * 0.8 / 1.1 = 40 / 1.1 = 36.3636; t_local = 0.9 * 0 + u
    assert sampler.t_local[0] == pytest.approx(40 / 1.1)
    feed(sampler, 0, 2)
    # EMA 0.9 * 1.1 + 0.1 * 2 = 1.19.  First difference 0, second 2 - 2 * 2 + 1 = -1, deviation 2 - 1.19 = 0.81.
    # u = 50 (0 - 0.1 + 0.405) / 1.19 = 15.25 / 1.19; t_local = 0.9 * 40 / 1.1 + u
    assert sampler.t_local[0] == pytest.approx(0.9 * 40 / 1.1 + 15.25 / 1.19)
    np.testing.assert_array_equal(sampler.t_local[1:], 0)


def test_updates_are_clipped():
    # Losses 1, 1, 100: EMA 0.9 + 10 = 10.9; (0.25 * 99 + 0.1 * 99 + 0.5 * 89.1) / 10.9 = 7.3 > 1, so u = 50.
    sampler = make()
    feed(sampler, 0, 1, 1, 100)
    assert sampler.t_local[0] == pytest.approx(50)
    # Losses 100, 100, 0: EMA 90; (0.25 * -100 + 0.1 * -100 + 0.5 * -90) / 90 = -8/9, not clipped: u = -400/9.
    feed(sampler, 1, 100, 100, 0)
    assert sampler.t_local[1] == pytest.approx(-400 / 9)


def test_a_rising_loss_raises_t_and_a_falling_one_lowers_it():
    sampler = make()
    feed(sampler, 0, 1.0, 1.1, 1.2, 1.3)
    feed(sampler, 1, 1.3, 1.2, 1.1, 1.0)
    feed(sampler, 2, 1.0, 1.0, 1.0, 1.0)
    up, down, level = sampler.t_local
    assert up > 0 > down
    assert level == 0


def test_local_states_do_not_depend_on_the_losses_scale():
    losses = [1.0, 1.3, 0.8, 0.9, 1.4]
    small, large = make(), make()
    feed(small, 0, *(1e-6 * x for x in losses))
    feed(large, 0, *(1e6 * x for x in losses))
    assert small.t_local[0] == pytest.approx(large.t_local[0])


def test_zero_losses_move_nothing():
    sampler = make()
    feed(sampler, 0, 0, 0, 0, 0)
    assert sampler.t_local[0] == 0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_local_states_are_bounded_by_the_geometric_series(losses):
    sampler = make()
    feed(sampler, 0, *losses)
    assert abs(sampler.t_local[0]) <= 50 / (1 - 0.9) + 1e-6


@pytest.mark.parametrize("loss", [-1.0, float("nan"), float("inf")])
def test_impossible_losses_are_refused(loss):
    with pytest.raises(ValueError, match="loss"):
        make().record(0, loss)


# The neighbourhood


def test_neighbourhood_by_hand():
    # Each of the three regions has the other two, both 120 degrees away, as neighbours: weights 1/2.
    sampler = with_local([40, 10, 20])
    draw = sampler.sample(0, 0.5)
    assert draw.t_local == pytest.approx(40)
    assert draw.t_neighbourhood == pytest.approx(0.5 * (40 - (10 + 20) / 2))  # 12.5
    assert draw.t_global == pytest.approx(sampler.global_timestep(0.5))
    assert draw.t_mix == pytest.approx(draw.t_global + 12.5)


def test_consensus_adds_the_average():
    assert with_local([40, 10, 20], neighbourhood="consensus").sample(0, 0.5).t_neighbourhood == pytest.approx(0.5 * (40 + (10 + 20) / 2))


def test_local_weight_scales_the_neighbourhood():
    assert with_local([40, 10, 20], local_weight=2.0).sample(0, 0.5).t_neighbourhood == pytest.approx(2 * 25)


@pytest.mark.parametrize(("values", "expected"), [([900, 0, 0], 150), ([0, 900, 900], -150)])
def test_adjustment_is_capped(values, expected):
    assert with_local(values).sample(0, 0.5).t_neighbourhood == pytest.approx(expected)


def test_neighbours_weigh_inversely_to_their_angle():
    region = DEFAULT.index(0, 1)
    below, left, right, above = (DEFAULT.index(*c) for c in ((0, 0), (11, 1), (1, 1), (0, 2)))
    # Elevations 0, 20, 45: 20 degrees down, 25 up; sideways cos = sin^2 20 + cos^2 20 cos 30.
    sideways = np.degrees(np.arccos(np.sin(np.radians(20)) ** 2 + np.cos(np.radians(20)) ** 2 * np.cos(np.radians(30))))
    total = 1 / 20 + 1 / 25 + 2 / sideways
    for neighbour, angle in ((below, 20), (above, 25), (left, sideways), (right, sideways)):
        values = np.zeros(36)
        values[neighbour] = 100
        assert with_local(values, grid=DEFAULT).sample(region, 0.5).t_neighbourhood == pytest.approx(-0.5 * 100 / angle / total)


def test_another_shell_counts_as_the_nearest_angle():
    grid = ViewGrid(6, (-10.0, 10.0), (2.0, 3.0, 4.0))  # sideways 60 degrees; the other shell at 0 counts as 60, so thirds
    values = np.zeros(12)
    values[grid.index(0, 0, 1)] = 90
    assert with_local(values, grid=grid).sample(grid.index(0, 0, 0), 0.5).t_neighbourhood == pytest.approx(-0.5 * 90 / 3)


@given(LOSSES)
def test_equal_local_states_cancel(losses):
    sampler = with_local(np.full(36, 77.0), grid=DEFAULT)
    assert all(abs(sampler.sample(region, 0.3).t_neighbourhood) < 1e-9 for region in range(36))


# The draw


def test_draws_are_uniform_around_the_base():
    sampler = with_local([40, 10, 20])
    draws = [sampler.sample(0, 0.5) for _ in range(4000)]
    t = np.array([draw.t for draw in draws]) - draws[0].t_mix
    assert -50.5 <= t.min() < -48
    assert 48 < t.max() <= 50.5
    assert t.mean() == pytest.approx(0, abs=2)  # four standard deviations: 4 * 100 / sqrt(12 * 4000) = 1.8
    assert t.std() == pytest.approx(100 / 12**0.5, rel=0.05)


def test_jitter_and_bound_of_the_update_are_two_settings():
    still = make(jitter=0.0)
    assert {still.sample(0, 0.5).t for _ in range(20)} == {round(still.global_timestep(0.5))}
    feed(still, 0, 1, 1, 100)
    assert still.t_local[0] == pytest.approx(50)


def test_base_is_clipped_before_the_jitter():
    # t_mix = 980 + 150, base 980: half of the draws land on the upper clip, the other half spreads down to 930.
    sampler = with_local([900, 0, 0])
    draws = [sampler.sample(0, 0.0) for _ in range(1000)]
    assert draws[0].t_mix == pytest.approx(1130)
    t = np.array([draw.t for draw in draws])
    assert (t == 980).mean() == pytest.approx(0.5, abs=0.07)
    assert t.min() >= 930


@settings(max_examples=100, deadline=None)
@given(LOSSES, st.floats(0, 1), st.integers(0, 35), st.sampled_from(["deviation", "consensus"]), st.sampled_from([100, 1000]))
def test_draws_respect_every_bound(losses, progress, region, neighbourhood, steps):
    sampler = make(DEFAULT, DDPM[:: T // steps], neighbourhood=neighbourhood)
    for where, loss in losses:
        sampler.record(where, loss)
    draw = sampler.sample(region, progress)
    assert 0.02 * steps <= draw.t <= 0.98 * steps
    assert abs(draw.t_neighbourhood) <= 0.15 * steps + 1e-9
    assert draw.t_mix == pytest.approx(draw.t_global + draw.t_neighbourhood)
    base = min(max(draw.t_mix, 0.02 * steps), 0.98 * steps)
    assert abs(draw.t - base) <= 0.05 * steps + 0.5 + 1e-9


def test_annealed_follows_the_baseline_alone():
    sampler = make(mode="annealed", jitter=0.0)
    for region in range(3):
        feed(sampler, region, 1, 5, 25, 125)
    draw = sampler.sample(1, 0.7)
    assert (draw.t_local, draw.t_neighbourhood) == (0, 0)
    assert draw.t_mix == draw.t_global == sampler.global_timestep(0.7)
    assert draw.t == round(draw.t_global)


def test_disabled_is_uniform_over_the_permitted_range():
    sampler = make(enabled=False)
    feed(sampler, 0, 1, 5, 25, 125)
    draws = [sampler.sample(0, progress) for progress in np.linspace(0, 1, 4000)]
    assert {(draw.t_global, draw.t_local, draw.t_neighbourhood, draw.t_mix) for draw in draws} == {(500.0, 0.0, 0.0, 500.0)}
    t = np.array([draw.t for draw in draws])
    assert 20 <= t.min() < 30
    assert 970 < t.max() <= 980
    assert t.std() == pytest.approx(960 / 12**0.5, rel=0.05)
    assert np.corrcoef(t, np.arange(4000))[0, 1] == pytest.approx(0, abs=0.07)


# The schedules of other methods, and a range that changes


def test_sqrt_falls_as_the_root_of_the_progress():
    sampler = make(mode="sqrt", start=0.9, end=0.1, jitter=0.0)
    # 900 - 800 sqrt(p): half of the way is gone after a quarter of the run.
    assert [sampler.sample(0, p).t for p in (0, 0.0625, 0.25, 1)] == [900, 700, 500, 100]
    assert sampler.sample(0, 0.25).t_global == pytest.approx(500)
    assert sampler.global_timestep(2.0) == pytest.approx(100)
    assert make(mode="sqrt", start=1.0).global_timestep(0) == 999, "the last there is"


def dreamtime_weight(t):
    """sqrt((1 - abar) / abar) times a prior that is 1 for t in 500..800, with deviations of 100 below and 300 above."""
    prior = np.exp(-((t - 500) ** 2) / 2 / 100**2) if t < 500 else np.exp(-((t - 800) ** 2) / 2 / 300**2) if t > 800 else 1.0
    return np.sqrt((1 - DDPM[t]) / DDPM[t]) * prior


def test_dreamtime_stays_with_each_timestep_as_long_as_its_weight_says():
    sampler = make(mode="dreamtime", start=0.98, end=0.02, jitter=0.0)
    weights = {t: dreamtime_weight(t) for t in range(21, 981)}
    total = sum(weights.values())
    for t in (900, 800, 650, 500, 300):
        over = sum(weight for other, weight in weights.items() if other > t) / total
        assert sampler.global_timestep(over) == pytest.approx(t, abs=1e-6)
    assert sampler.global_timestep(0) == 980
    assert sampler.global_timestep(1) == 20
    assert sampler.global_timestep(-1) == 980
    t = [sampler.global_timestep(p) for p in np.linspace(0, 1, 500)]
    assert (np.diff(t) < 0).all()


@pytest.mark.parametrize("mode", ["annealed", "sqrt", "dreamtime"])
def test_schedules_jitter_and_take_no_notice_of_losses(mode):
    sampler = make(mode=mode, start=0.9, end=0.1)
    for region in range(3):
        feed(sampler, region, 1, 5, 25, 125)
    draws = [sampler.sample(1, 0.5) for _ in range(2000)]
    assert {(draw.t_local, draw.t_neighbourhood) for draw in draws} == {(0, 0)}
    off = np.array([draw.t for draw in draws]) - sampler.global_timestep(0.5)
    assert -50.5 <= off.min() < -47
    assert 47 < off.max() <= 50.5


def test_uniform_is_what_disabled_is():
    uniform, disabled = make(mode="uniform", seed=3), make(enabled=False, seed=3)
    for region in range(3):
        feed(uniform, region, 1, 5, 25, 125)
    assert [uniform.sample(0, p) for p in np.linspace(0, 1, 50)] == [disabled.sample(0, p) for p in np.linspace(0, 1, 50)]
    np.testing.assert_array_equal(uniform.t_local, 0)


def test_the_permitted_range_may_change_over_the_run():
    """GaussianDreamer: (.02, .98), and from a point of the run on (.02, .55); ScaleDreamer: both ends fall linearly."""
    jump = make(mode="uniform", clip_high=((0.0, 0.98), (0.4, 0.98), (0.4, 0.55), (1.0, 0.55)))
    assert jump.bounds(0.39) == (20, 980)
    assert jump.bounds(0.4) == (20, 550)
    early, late = ([jump.sample(0, p) for _ in range(2000)] for p in (0.39, 0.4))
    assert max(draw.t for draw in early) > 960
    assert 530 < max(draw.t for draw in late) <= 550
    assert early[0].t_mix == pytest.approx(500)
    assert late[0].t_mix == pytest.approx(285)
    falling = make(mode="uniform", clip_low=((0.0, 0.5), (1.0, 0.02)), clip_high=((0.0, 0.98), (1.0, 0.5)))
    assert [falling.bounds(p) for p in (0, 0.5, 1)] == [(500, 980), (260, 740), (20, 500)]
    t = [falling.sample(0, 0.5).t for _ in range(2000)]
    assert 260 <= min(t) < 275
    assert 725 < max(t) <= 740


def test_every_mode_stays_within_the_range_of_the_moment():
    for mode in ("hybrid", "annealed", "sqrt", "dreamtime", "uniform"):
        sampler = make(mode=mode, clip_low=((0.0, 0.5), (1.0, 0.3)), clip_high=((0.0, 0.9), (1.0, 0.4)))
        for progress in np.linspace(0, 1, 40):
            low, high = sampler.bounds(progress)
            assert low <= sampler.sample(0, progress).t <= high, mode


def test_the_highest_bound_is_the_schedules_last_timestep():
    assert make(clip_low=0.0, clip_high=1.0).bounds(0.5) == (0, 999)


# Resuming


def test_a_resumed_run_draws_the_same():
    def run(sampler, start, count, noise):
        trace = []
        for k in range(start, start + count):
            region = int(noise.integers(36))
            trace.append(sampler.sample(region, k / 400))
            sampler.record(region, noise.random())
        return trace

    noise = np.random.default_rng(5)
    original = make(DEFAULT, seed=1)
    run(original, 0, 200, noise)
    saved, noise_state = json.dumps(original.state_dict(), allow_nan=False), noise.bit_generator.state
    expected = run(original, 200, 200, noise)
    resumed = make(DEFAULT, seed=999)
    resumed.load_state_dict(json.loads(saved))
    noise.bit_generator.state = noise_state
    assert run(resumed, 200, 200, noise) == expected


def test_another_grids_state_is_refused():
    with pytest.raises(ValueError, match="shape"):
        make().load_state_dict(make(DEFAULT).state_dict())
