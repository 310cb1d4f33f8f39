"""Grid views: from jobs and objects, made anew only when something has changed."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from cograd3d.backend.method.view_grid import ViewGrid
from cograd3d.backend.protocol import PHASES, Regions
from cograd3d.backend.wire import to_json
from cograd3d.cograd3d_addon.jobs import JobStatus, RegionHistory
from cograd3d.cograd3d_addon.viewport import frustums, glyphs, measures, selection
from cograd3d.cograd3d_addon.viewport.colours import Ramp
from cograd3d.cograd3d_addon.viewport.focus import Focus
from cograd3d.cograd3d_addon.viewport.grid_view import GridViews
from cograd3d.cograd3d_addon.viewport.legend_text import legend, region_lines, weight_words
from cograd3d.cograd3d_addon.viewport.pictures import PictureRequests

CENTERS = ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.3, 3.3)).centers
LOSS = measures.measure("loss")


def some_regions(iteration: int = 10, **changes) -> Regions:
    n = len(CENTERS)
    values = {
        "iteration": iteration, "azimuth": tuple(CENTERS[:, 0].tolist()), "elevation": tuple(CENTERS[:, 1].tolist()),
        "distance": tuple(CENTERS[:, 2].tolist()), "loss": tuple(1.0 + k for k in range(n)), "current": 3, "indicator": (1.0,) * n,
        "probability": (1 / n,) * n, "weight": (1.0,) * n, "visits": tuple(range(n)),
    }  # fmt: skip
    return Regions(**(values | changes))


def some_job(**changes):
    values = {
        "id": "cat",
        "spec": SimpleNamespace(prompt="a cat"),
        "regions": some_regions(),
        "fov": 40.0,
        "status": JobStatus.RUNNING,
        "phase": "optimise",
        "history": RegionHistory(),
    }
    return SimpleNamespace(**(values | changes))


def test_the_same_view_while_nothing_changes():
    views, job = GridViews(), some_job()
    first = views.of_job(job, np.eye(4))
    assert views.of_job(job, np.eye(4)) is first
    assert views.of_job(job, 2 * np.eye(4)) is not first
    second = views.of_job(job, np.eye(4))
    job.regions = some_regions(11)
    third = views.of_job(job, np.eye(4))
    assert third is not second and third.live
    job.status = JobStatus.FINISHED
    assert not views.of_job(job, np.eye(4)).live


def test_nothing_to_show():
    views = GridViews()
    assert views.of_job(some_job(regions=None), np.eye(4)) is None
    assert views.of_job(some_job(fov=None), np.eye(4)) is None
    assert views.of_job(some_job(), None) is None
    assert views.of_job(some_job(regions=some_regions(azimuth=())), np.eye(4)) is None


@pytest.mark.parametrize(
    ("status", "phase", "is_live"),
    [(JobStatus.STARTING, "", True), (JobStatus.RUNNING, "prior", True), (JobStatus.RUNNING, "prepare", True),
     (JobStatus.PAUSED, "optimise", True), (JobStatus.STOPPING, "optimise", False), (JobStatus.QUEUED, "", False),
     (JobStatus.RUNNING, "surface", False), (JobStatus.RUNNING, "texture", False), (JobStatus.RUNNING, "export", False),
     (JobStatus.FINISHED, "done", False)],
)  # fmt: skip
def test_regions_can_be_weighed_as_long_as_somebody_obeys(status, phase, is_live):
    view = GridViews().of_job(some_job(status=status, phase=phase), np.eye(4))
    assert view.live == is_live and view.current == (3 if is_live else -1)


def test_every_phase_of_a_run_is_thought_of():
    weighed = [phase for phase in PHASES if GridViews().of_job(some_job(phase=phase), np.eye(4)).live]
    assert weighed == ["prepare", "prior", "optimise"]


def test_windows_that_show_different_grids_do_not_disturb_each_other():
    views, jobs = GridViews(), [some_job(id=f"cat {k}") for k in range(3)]
    first = [views.of_job(job, np.eye(4), stands=job is jobs[0]) for job in jobs]
    assert [view.stands for view in first] == [True, False, False]
    for _ in range(3):
        assert all(views.of_job(job, np.eye(4), stands=job is jobs[0]) is view for job, view in zip(jobs, first))
    elsewhere = views.of_job(jobs[0], np.eye(4), stands=False)
    assert elsewhere is not first[0] and views.of_job(jobs[0], np.eye(4), stands=True) is first[0]


@pytest.mark.parametrize("place", [np.diag([0.0, 0.0, 0.0, 1.0]), np.diag([1.0, 1.0, 0.0, 1.0]), np.full((4, 4), np.nan)])
def test_nothing_stands_around_what_was_scaled_to_nothing(place):
    assert GridViews().of_job(some_job(), place) is None
    assert GridViews().of_metadata(metadata(), place) is None


def test_around_what_is_tiny_there_are_cameras():
    view = GridViews().of_job(some_job(), np.diag([1e-5, -1e-5, 1e-5, 1.0]))
    assert np.isfinite(view.cameras).all() and np.isfinite(view.glyph_sizes()[0]).all()


def test_sizes_are_worked_out_once_a_place(monkeypatch):
    calls = []
    sizes = frustums.glyph_sizes
    monkeypatch.setattr(frustums, "glyph_sizes", lambda *arguments: calls.append(1) or sizes(*arguments))
    views, job, place = GridViews(), some_job(), np.diag([0.123, 0.123, 0.123, 1.0])
    for iteration in (1, 2, 3):
        job.regions = some_regions(iteration)
        view = views.of_job(job, place)
        np.testing.assert_array_equal(view.glyph_sizes(0.7), sizes(view.cameras, view.centre, view.fov, 0.7))
    assert len(calls) == 1
    assert views.of_job(job, 2 * place).glyph_sizes(0.7)[0][0] != view.glyph_sizes(0.7)[0][0]


def metadata(**changes) -> dict:
    values = {
        "uuid": "u", "job": "cat", "prompt": "a cat", "fov": 40.0, "regions": to_json(some_regions()), "history": RegionHistory().to_json(),
    }  # fmt: skip
    return values | changes


def test_from_the_object_alone():
    views, place = GridViews(), np.diag([0.5, 0.5, 0.5, 1.0])
    place[:3, 3] = (1, 2, 3)
    view = views.of_metadata(metadata(), place)
    assert (len(view), view.title, view.source, view.live, view.current) == (36, "a cat", "cat", False, -1)
    np.testing.assert_allclose(view.centre, (1, 2, 3))
    np.testing.assert_allclose(view.cameras[0][:3, 3], (1, 2 - 3.3 / 2, 3), atol=1e-12)
    assert views.of_metadata(metadata(), place) is view
    assert isinstance(view.history, RegionHistory) and view.picture(0) is None


@pytest.mark.parametrize(
    "broken",
    [{"regions": ""}, {"regions": "{"}, {"regions": "[1]"}, {"regions": json.dumps({"iteration": "x"})}, {"fov": 0.0},
     {"regions": "[" * 100_000}],
)  # fmt: skip
def test_objects_from_anywhere_do_no_harm(broken):
    assert GridViews().of_metadata(metadata(**broken), np.eye(4)) is None
    assert GridViews().of_metadata(metadata(), np.full((4, 4), np.nan)) is None


def test_broken_history_is_no_history():
    assert GridViews().of_metadata(metadata(history="{"), np.eye(4)).history is None


def wishing():
    """Grid views of a job whose worker was just told weights, the job, and the clock."""
    clock, job = SimpleNamespace(now=100.0), some_job()
    views = GridViews(lambda: clock.now)
    view = views.of_job(job, np.eye(4))
    views.wish(view, (1, 2), 4.0)
    views.wish(view, (2,), 0.0)
    return views, job, clock


def test_weights_show_at_once_and_give_way_to_what_the_worker_tells():
    views, job, _ = wishing()
    wished = views.of_job(job, np.eye(4))
    assert wished.weights[:4].tolist() == [1, 4, 0, 1]
    assert views.of_job(job, np.eye(4)) is wished
    told = (1.0, 4.0, 0.0, *(1.0,) * 33)
    job.regions = some_regions(20, weight=told)
    assert views.of_job(job, np.eye(4)).regions is job.regions
    job.regions = some_regions(30)  # somebody else took them back
    assert views.of_job(job, np.eye(4)).weights.tolist() == [1.0] * 36


def test_a_fast_run_tells_old_weights_after_many_steps():
    views, job, clock = wishing()
    job.regions, clock.now = some_regions(60), 100.25
    assert views.of_job(job, np.eye(4)).weights[:3].tolist() == [1, 4, 0]
    job.regions, clock.now = some_regions(110), 103.0  # it had its time
    assert views.of_job(job, np.eye(4)).weights.tolist() == [1.0] * 36


def test_a_slow_run_takes_long_for_a_step():
    views, job, clock = wishing()
    job.regions, clock.now = some_regions(11), 160.0
    assert views.of_job(job, np.eye(4)).weights[:3].tolist() == [1, 4, 0]


def test_taken_back_at_once_it_does_not_come_up_again():
    views, job, _ = wishing()
    views.wish(views.of_job(job, np.eye(4)), (1, 2), 1.0)
    assert views.of_job(job, np.eye(4)).weights.tolist() == [1.0] * 36
    job.regions = some_regions(11, weight=(1.0, 4.0, 0.0, *(1.0,) * 33))  # between the two
    assert views.of_job(job, np.eye(4)).weights.tolist() == [1.0] * 36


def test_frozen_regions_come_last():
    view = GridViews().of_job(some_job(regions=some_regions(weight=(1.0,) * 35 + (0.0,))), np.eye(4))
    assert view.worst_first(LOSS)[:2].tolist() == [34, 33] and view.worst_first(LOSS)[-1] == 35


def test_glyphs_have_the_colours_of_their_regions():
    view = GridViews().of_job(some_job(), np.eye(4))
    ramp = Ramp.named("VIRIDIS")
    drawn = glyphs.build(view, LOSS, glyphs.Style(ramp), {5}, 5)
    assert drawn.hulls.shape == (36, 5, 3)
    for part in (drawn.fill, drawn.thin, drawn.bold):
        assert part.vertices.shape[1:] == (3,) and part.colours.shape == (len(part.vertices), 4)
        assert part.vertices.dtype == part.colours.dtype == np.float32
    expected = glyphs.region_colours(view, LOSS, ramp)
    np.testing.assert_allclose(drawn.thin.colours[-1, :3], expected[35], atol=1e-6)
    lightness = expected @ (0.2126, 0.7152, 0.0722)
    assert lightness[35] == max(lightness) and lightness[0] == min(lightness)
    assert len(drawn.bold.vertices) == 8 + 8  # the halo of the current region, the outline of the selected one


def test_a_grid_of_which_nothing_is_known_is_grey():
    view = GridViews().of_job(some_job(regions=some_regions(loss=(None,) * 36, weight=(), visits=())), np.eye(4))
    drawn = glyphs.build(view, LOSS, glyphs.Style(Ramp.named("CIVIDIS")), (), -1)
    np.testing.assert_allclose(drawn.thin.colours[:, :3], 0.5)
    assert np.isfinite(drawn.fill.vertices).all()


def test_selection():
    chosen = selection.Selection()
    chosen.click(3)
    chosen.click(5, extend=True)
    assert (chosen.regions, chosen.active, chosen.version) == ({3, 5}, 5, 2)
    chosen.click(3, extend=True)
    assert chosen.active == 3
    chosen.click(3, extend=True)
    assert (chosen.regions, chosen.active) == ({5}, 5)
    version = chosen.version
    chosen.click(5)
    assert chosen.version == version
    chosen.limit(4)
    assert (chosen.regions, chosen.active) == (set(), -1)
    assert selection.of("a") is selection.of("a") and selection.of("a") is not selection.of("b")
    selection.forget_all()


def test_whatever_was_chosen_last_is_shown():
    focus = Focus()
    assert not focus.shows_object("job", "")
    assert focus.shows_object("job", "object")
    assert focus.shows_object("job", "object")
    assert not focus.shows_object("other job", "object")
    assert focus.shows_object("", "object")
    assert not focus.shows_object("", "")


def test_pictures_are_asked_for_now_and_then():
    requests = PictureRequests()
    assert requests.is_due("job", 1, 10, now=0.0)
    assert not requests.is_due("job", 2, 10, now=0.1)
    assert requests.is_due("job", 2, 10, now=1.0)
    assert not requests.is_due("job", 1, 20, now=3.0)
    assert requests.is_due("job", 1, 20, now=6.0)
    assert not requests.is_due("job", 1, 20, now=60.0)  # no progress, no other picture


def test_legend():
    view = GridViews().of_job(some_job(), np.eye(4))
    content = legend(view, LOSS, Ramp.named("VIRIDIS"))
    assert (content.title, content.measure, content.ends) == ("a cat", "Error", ("ahead", "lags"))
    assert all(0 <= place <= 1 for place, _ in content.ticks) and len({text for _, text in content.ticks}) == len(content.ticks)
    np.testing.assert_allclose(content.colours[-1], Ramp.named("VIRIDIS").table[-1])
    visits = legend(view, measures.measure("visits"), Ramp.named("VIRIDIS"))
    assert visits.ends == ("few", "many")
    np.testing.assert_allclose(visits.colours[0], Ramp.named("VIRIDIS").table[-1])


def test_numbers_of_a_region():
    view = GridViews().of_job(some_job(regions=some_regions(weight=(1.0, 0.0, 4.0) + (1.0,) * 33)), np.eye(4))
    name, rows = region_lines(view, 2, LOSS)
    assert name == "Front right 60°, level"
    assert rows[0] == ("Error", LOSS.format(view.values(LOSS)[2])) and ("Weight", "boosted 4 ×") in rows
    assert "Coarse or fine" not in dict(rows)
    assert ("Now", "being worked on") in region_lines(view, 3, LOSS)[1]
    assert [weight_words(w) for w in (1, 0, 0.25)] == ["", "frozen", "calmed 0.25 ×"]


def test_views_do_not_change():
    view = GridViews().of_job(some_job(), np.eye(4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.title = "another"
