"""A render that goes on while previews come and go, a bake, and a simulation that is calculated."""

from __future__ import annotations


def test_nothing_is_made_or_removed_until_the_render_is_done(play, finished_job):
    values = play("rendering", job=finished_job).values
    assert values["is_rendering"]
    assert values["seen"] == [values["before"]] * 6
    assert values["frames"] == 3
    assert values["after"] == values["before"]


def test_a_bake_is_waited_for(play):
    values = play("baking").values
    assert values["is_baking"]
    assert values["during"] == "waits until Blender is done rendering, baking or calculating"
    assert values["before"] == values["after"] == ""


def test_a_calculation_that_locks_the_interface_is_waited_for(play, finished_job):
    values = play("calculating", job=finished_job).values
    assert values["is_locked"]
    assert values["during"] == "waits until Blender is done rendering, baking or calculating" and values["imported_during"] == 0
    assert values["after"] == "" and values["imported_after"] == 1
