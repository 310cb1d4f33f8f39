"""A render that goes on while previews come and go, and a bake."""

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
    assert values["during"] == "waits until the render or bake is done"
    assert values["before"] == values["after"] == ""
