"""Whose grid of view regions is drawn where, in real windows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CAT = Path(__file__).parents[1] / "data" / "cat"


@pytest.mark.slow
def test_grid_in_windows(play, tmp_path):
    for job in ("2026-01-01-a-red-cat-0a1b2c", "2026-01-02-a-red-cat-3d4e5f"):
        shutil.copytree(CAT, tmp_path / "jobs" / job)
    values = play("grid_in_windows", timeout=180).values
    assert values["drawn_over_the_cube"] == 0, "a job of an earlier day has no place in a new file"
    assert values["drawn_around_the_asset"] > 3000
    assert values["legends_made"] == 0 < values["legends_used"]

    assert values["still_through"] == 13 and values["offers_back"], "a maximised viewport is the same one"
    assert values["distance_after_back"] == pytest.approx(9.0)

    assert values["quadrants"] == 4
    assert [pixels > 3000 for pixels in values["legends"]] == [False, False, False, True], "in the one that can be turned"
    assert values["through_in_quadrant"] == 13

    assert min(values["drawn_in_turns"]) >= 5
    assert values["builds_in_turns"] == 0
    assert values["owners"] == [["first"], ["second"]]
    assert values["owners_of_what_is_nowhere"] == [[""], [""]]
    assert values["owners_of_the_job"] == [["a red cat"], [""]], "in the other scene it is not"
