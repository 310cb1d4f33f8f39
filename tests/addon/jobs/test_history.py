"""How the regions fared, kept small."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cograd3d.backend.job import JobFolder
from cograd3d.backend.protocol import JobSpec, Progress, Regions
from cograd3d.cograd3d_addon.jobs import MEASURES, RegionHistory
from cograd3d.cograd3d_addon.jobs.history import SAVED_POINTS
from hypothesis import given
from hypothesis import strategies as st


def moment(iteration, count=3, **fields):
    """Values that tell their region and iteration."""
    values = tuple(region + iteration / 1000 for region in range(count))
    given = {"loss": values, "indicator": values, "probability": values, "visits": tuple(range(count)), "timestep": values}
    return Regions(iteration=iteration, azimuth=(0.0,) * count, elevation=(0.0,) * count, distance=(3.0,) * count, **(given | fields))


def history_of(iterations, **options):
    history = RegionHistory()
    for iteration in iterations:
        history.append(moment(iteration, **options))
    return history


def test_series():
    history = history_of([0, 5, 9])
    iterations, values = history.series("loss", 2)
    assert iterations.tolist() == [0, 5, 9]
    assert values == pytest.approx([2.0, 2.005, 2.009])
    assert history.series("visits", 1)[1].tolist() == [1, 1, 1]
    assert history.series("loss", 3)[0].size == history.series("loss", -1)[0].size == 0
    assert history.region_count == 3
    with pytest.raises(KeyError):
        history.series("beauty", 0)


def test_an_empty_history():
    history = RegionHistory()
    assert (len(history), history.region_count) == (0, 0)
    assert history.series("loss", 0)[0].size == 0
    again = RegionHistory.from_json(history.to_json())
    assert len(again) == 0


def test_what_is_unknown_is_left_out():
    history = RegionHistory()
    history.append(moment(0, loss=(None, 1.0, float("nan")), timestep=()))
    history.append(moment(1, loss=(2.0, None, 3.0)))
    assert history.series("loss", 0)[0].tolist() == [1]
    assert history.series("loss", 1)[1].tolist() == [1.0]
    assert history.series("loss", 2)[1].tolist() == [3.0]
    assert history.series("timestep", 0)[0].tolist() == [1]


@given(st.integers(1, 3000), st.integers(1, 40))
def test_a_long_run_stays_small_and_reaches_to_its_end(count, step):
    history = history_of(range(0, count * step, step), count=1)
    iterations, values = history.series("loss", 0)
    assert len(iterations) <= 258
    assert iterations[0] == 0
    assert iterations[-1] == (count - 1) * step
    assert (np.diff(iterations) > 0).all()
    assert values == pytest.approx(iterations / 1000)
    if len(iterations) > 128:
        assert np.diff(iterations)[:-1].max() <= 8 * np.diff(iterations)[:-1].min()


def test_a_run_that_is_taken_up_from_a_checkpoint():
    history = history_of([1, 10, 20, 30, 15, 25])
    assert history.series("loss", 0)[0].tolist() == [1, 10, 15, 25]


def test_another_grid_begins_anew():
    history = history_of([1, 2, 3])
    history.append(moment(4, count=5))
    assert history.series("loss", 4)[0].tolist() == [4]


def test_saved_and_read_again():
    history = history_of(range(1, 2000, 3), count=7)
    text = history.to_json()
    again = RegionHistory.from_json(text)
    assert len(again) <= SAVED_POINTS
    for measure in MEASURES:
        iterations, values = again.series(measure, 6)
        assert (iterations[0], iterations[-1]) == (1, 1999)
        known, expected = history.series(measure, 6)
        assert values == pytest.approx(np.interp(iterations, known, expected), rel=2e-3)
    assert RegionHistory.from_json(again.to_json()).to_json() == again.to_json()


def test_the_saved_text_is_small():
    dice = np.random.default_rng(0)
    history = RegionHistory()
    for iteration in range(64):
        values = tuple(dice.random(288).tolist())
        history.append(moment(iteration, count=288, loss=values, indicator=values, probability=values, timestep=values))
    assert len(history.to_json()) < 250_000


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"version": 2}'])
def test_what_is_no_history(text):
    with pytest.raises(ValueError, match="no history"):
        RegionHistory.from_json(text)


def test_what_is_damaged():
    document = json.loads(history_of([1, 2]).to_json())
    for change in (
        {"values": "AAAA"},
        {"values": 5},
        {"regions": 1_000_000_000},
        {"iterations": [1]},
        {"iterations": ["x", 2]},
        {"regions": -3},
    ):
        with pytest.raises(ValueError, match="no history"):
            RegionHistory.from_json(json.dumps(document | change))


def test_of_a_job_folder(tmp_path):
    folder = JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})
    assert len(RegionHistory.of_job(folder)) == 0
    for iteration in range(1, 1001):
        folder.append_event(Progress(iteration=iteration, total=1000))
        folder.append_event(moment(iteration))
    folder.close()
    with open(folder.events_path, "ab") as file:
        file.write(b'{"type": "regions", "iterat')
    history = RegionHistory.of_job(folder)
    iterations, values = history.series("loss", 1)
    assert 40 <= len(iterations) <= 70
    assert iterations[0] <= 2
    assert iterations[-1] > 970
    assert values == pytest.approx(1 + iterations / 1000)


def test_of_a_job_that_was_taken_up_again(tmp_path):
    folder = JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})
    for iteration in [*range(1, 300), *range(200, 400)]:
        folder.append_event(moment(iteration))
    folder.close()
    iterations, _ = RegionHistory.of_job(folder).series("loss", 1)
    assert (np.diff(iterations) > 0).all()
    assert iterations[-1] > 380
