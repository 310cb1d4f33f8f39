"""Undo, redo and Adjust Last Operation around a result that comes by itself."""

from __future__ import annotations


def test_adjusting_the_last_operation_leaves_a_result_that_came_meanwhile(play, finished_job):
    values = play("adjusting", job=finished_job).values
    before, brought = values["before"], sorted([*values["before"], "a golden teapot"])
    assert "Sphere" in before and values["brought"] == brought and values["state"] == ""
    assert values["last"] == "COGRAD3D_OT_bring_result" and values["label"] == "Import Finished Result"
    assert values["adjusted"] == brought, "the import is what was adjusted, not what the user did before it"
    assert values["repeated"] == brought, "it does not come twice"
    assert values["undone"] == before, "one step back takes back the import alone"
    assert values["undone_twice"] == sorted({*before} - {"Sphere"})
    assert values["redone"] == before and values["redone_twice"] == brought
