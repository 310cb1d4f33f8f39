"""Numbers become colours that can be ordered."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cograd3d.cograd3d_addon.viewport import colours, measures
from hypothesis import given
from hypothesis import strategies as st

RAMPS = [colours.Ramp.named(name) for name in colours.NAMED] + [colours.Ramp(((0.13, 0.27, 0.55), (0.99, 0.85, 0.25)))]
LOSS, VISITS, TIMESTEP = measures.measure("loss"), measures.measure("visits"), measures.measure("timestep")


@pytest.mark.parametrize("ramp", RAMPS)
def test_lightness_rises_all_the_way(ramp):
    lightness = colours.to_oklab(ramp.table)[:, 0]
    assert (np.diff(lightness) > -1e-3).all() and lightness[-1] - lightness[0] > 0.4


@pytest.mark.parametrize("ramp", RAMPS)
def test_ends_of_the_ramp_are_its_stops(ramp):
    np.testing.assert_allclose(ramp.sample(np.array([0.0, 1.0])), [ramp.stops[0], ramp.stops[-1]], atol=1e-6)
    np.testing.assert_allclose(ramp.sample(np.array([-1.0, 2.0])), [ramp.stops[0], ramp.stops[-1]], atol=1e-6)
    np.testing.assert_allclose(ramp.sample(np.array([math.nan])), [colours.UNKNOWN])


def test_white_in_oklab():
    np.testing.assert_allclose(colours.to_oklab(np.ones(3)), (1, 0, 0), atol=1e-3)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=20))
def test_oklab_and_back(codes):
    rgb = np.array(codes) / 255
    np.testing.assert_allclose(colours.from_oklab(colours.to_oklab(rgb)), rgb, atol=1e-4)


def test_one_outlier_does_not_take_the_contrast():
    values = np.append(np.linspace(0.9, 1.1, 99), 50.0)
    share = colours.scale_of(values, LOSS).share(values)
    assert share[98] - share[0] > 0.9


def test_few_visits_need_work():
    scale = colours.scale_of(np.array([0.0, 10.0]), VISITS)
    np.testing.assert_allclose(scale.share(np.array([0.0, 10.0])), [1.0, 0.0], atol=0.03)


def test_centred_measures_have_their_centre_in_the_middle():
    for measure in (LOSS, TIMESTEP):
        scale = colours.scale_of(np.array([1.2, 3.0]), measure)
        assert float(scale.share(np.array([measure.centre]))[0]) == pytest.approx(0.5)


@pytest.mark.parametrize("measure", measures.MEASURES, ids=lambda measure: measure.id)
@given(values=st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=1, max_size=40))
def test_scales_are_proper_whatever_comes(measure, values):
    values = np.array(values)
    scale = colours.scale_of(values, measure)
    assert scale.high > scale.low
    share = scale.share(values)
    assert ((share >= 0) & (share <= 1) | np.isnan(values)).all()
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 4 and all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in ticks)
    known = np.isfinite(values)
    order = np.argsort(values[known])
    steps = np.diff(share[known][order])
    assert (steps <= 1e-12).all() if scale.flipped else (steps >= -1e-12).all()


def test_ticks_are_round():
    assert colours.Scale(0.48, 1.52).ticks() == pytest.approx((0.5, 1.0, 1.5))
    assert colours.Scale(0, 10).ticks() == pytest.approx((0, 5, 10))
    assert colours.Scale(0.64, 1.4).ticks() == pytest.approx((0.8, 1.0, 1.2, 1.4))
