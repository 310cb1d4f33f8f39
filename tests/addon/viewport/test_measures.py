"""What the measures read, say, and put first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cograd3d.backend.protocol import Regions
from cograd3d.cograd3d_addon.jobs import RegionHistory
from cograd3d.cograd3d_addon.viewport import measures
from cograd3d.cograd3d_addon.viewport.region_names import region_names
from hypothesis import given
from hypothesis import strategies as st


def regions(**changes) -> Regions:
    values = {
        "iteration": 9, "azimuth": (0.0, 90.0, 180.0), "elevation": (0.0,) * 3, "distance": (3.3,) * 3, "loss": (1.0, None, 3.0),
        "indicator": (0.9, 1.0, 1.2), "probability": (0.2, 0.3, 0.5), "weight": (1.0,) * 3, "visits": (4, 0, 1),
    }  # fmt: skip
    return Regions(**(values | changes))


def test_values():
    np.testing.assert_allclose(measures.measure("loss").values(regions()), [0.5, np.nan, 1.5])
    np.testing.assert_allclose(measures.measure("visits").values(regions()), [4, 0, 1])
    np.testing.assert_allclose(measures.measure("probability").values(regions()), [0.2, 0.3, 0.5])


def test_the_indicator_is_unknown_before_two_visits():
    np.testing.assert_allclose(measures.measure("indicator").values(regions()), [0.9, np.nan, np.nan])


def test_what_an_older_worker_does_not_send_is_unknown():
    values = measures.measure("timestep").values(regions())
    assert np.isnan(values).all() and len(values) == 3
    assert np.isnan(measures.measure("probability").values(regions(probability=()))).all()


@pytest.mark.parametrize("measure", measures.MEASURES, ids=lambda measure: measure.id)
def test_the_curve_ends_at_the_number_that_is_shown(measure):
    """What the panel says of a region and what it plots are the same measure."""
    history, last = RegionHistory(), regions(iteration=9, timestep=(0.1, 0.0, -0.1))
    history.append(regions(iteration=3, loss=(2.0, None, 2.0), timestep=(0.0,) * 3))
    history.append(last)
    steps, values = measure.curve(history, 0)
    assert steps.tolist() == [3, 9]
    assert values[-1] == pytest.approx(measure.values(last)[0], rel=1e-6)
    mean_steps, means = measure.mean_curve(history)
    assert mean_steps.tolist() == [3, 9]
    shown = measure.values(last) if measure.id != "indicator" else np.array(last.indicator)
    assert means[-1] == pytest.approx(np.nanmean(shown), rel=1e-6)


def test_an_error_is_plotted_against_the_others():
    history = RegionHistory()
    for iteration, loss in ((1, (4.0, 4.0, 4.0)), (2, (1.0, None, 3.0)), (3, (0.0, 0.0, 0.0))):
        history.append(regions(iteration=iteration, loss=loss))
    steps, values = measures.measure("loss").curve(history, 2)
    assert (steps.tolist(), values.tolist()) == ([1, 2], [1.0, 1.5])
    assert measures.measure("loss").mean_curve(history)[1].tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("indicator", 1.034, "1.03"), ("probability", 0.0312, "3.1 %"), ("probability", 0.25, "25 %"), ("loss", 1.5, "1.50 ×"),
     ("visits", 7.0, "7"), ("timestep", -0.0123, "-1.2 %"), ("loss", math.nan, measures.UNKNOWN)],
)  # fmt: skip
def test_format(name, value, text):
    assert measures.measure(name).format(value) == text


def test_worst_first():
    values = np.array([1.0, np.nan, 3.0, 2.0, 3.0])
    assert measures.measure("loss").order(values).tolist() == [2, 4, 3, 0, 1]
    assert measures.measure("visits").order(values).tolist() == [0, 3, 2, 4, 1]


def test_enum_items_are_unique_and_described():
    items = measures.enum_items()
    assert len({item[0] for item in items}) == 5 and all(item[1] and item[2] for item in items)
    assert measures.DEFAULT in {item[0] for item in items}
    with pytest.raises(KeyError):
        measures.measure("beauty")


def test_names():
    assert region_names((0, 90, 180, 225), (0, 20, 45, 45), (3.3,) * 4) == (
        "front, level", "right, slightly above", "back, high", "back left, high",
    )  # fmt: skip


def test_degrees_tell_apart_what_words_cannot():
    names = region_names(list(range(0, 360, 30)), [0.0] * 12, [3.3] * 12)
    assert names[:4] == ("front, level", "front right 30°, level", "front right 60°, level", "right, level")
    assert names[10:] == ("front left 60°, level", "front left 30°, level")


def test_left_and_right_of_the_back_are_told_apart():
    names = region_names([40.0 * k for k in range(9)], [0.0] * 9, [3.3] * 9)
    assert names[4:6] == ("back 160° right, level", "back 160° left, level")


@given(st.integers(3, 72), st.lists(st.integers(-89, 89), min_size=1, max_size=8, unique=True), st.integers(1, 3))
def test_names_are_unique(bins, elevations, shells):
    cells = [(360 * a / bins, float(e), 2.0 + d) for d in range(shells) for e in elevations for a in range(bins)]
    names = region_names(*zip(*cells))
    assert len(set(names)) == len(cells)
