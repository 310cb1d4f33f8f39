"""The little cameras around an asset in a real window, with made-up numbers: drawn, hidden, hovered, clicked, boosted."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).parent / "grid_worker.py"


@pytest.fixture
def grid_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are `grid_worker.py`."""
    script = tmp_path / "grid-python"
    python = os.environ.get("COGRAD3D_TEST_PYTHON") or sys.executable
    # Called as: PYTHON -P -m backend.cli worker --job FOLDER
    script.write_text(f'#!/bin/sh\nwhile [ "$1" != "--job" ]; do shift; done\nexec "{python}" "{WORKER}" "$@"\n', encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("COGRAD3D_PYTHON", str(script))


def assert_coloured(seen: dict[str, list[float]]) -> None:
    """The glyphs that stand alone in the picture have their own colours, and not the ones least like them."""
    own, other = np.array(list(seen.values())).T
    assert len(own) >= 8
    assert np.median(own) < 12 and (own < 40).mean() > 0.85
    assert np.median(other) > 60


@pytest.mark.slow
@pytest.mark.usefixtures("grid_worker")
def test_region_gizmos(play):
    values = play("region_gizmos", timeout=240).values
    assert_coloured(values["loss_colours"])
    assert_coloured(values["visits_colours"])
    assert_coloured(values["running_colours"])

    assert values["drawn"] > 60
    for switch in ("overlays", "gizmos", "views"):
        assert values[f"drawn_without_{switch}"] < 0.1 * values["drawn"], switch
    assert values["builds_while_turning"] == 0

    assert values["over_asset"] < 0.2 < 0.35 < values["behind_asset"]
    assert values["changed_through"] < 0.01
    assert values["changed_aside"] < 0.03

    errors = values["errors"]
    worst = sorted((error for error in errors if error is not None), reverse=True)[:10]
    assert [errors[region] for region in values["listed"]] == pytest.approx(worst), "the list has the worst on top"

    assert values["note_pixels"] > 3000, "the numbers of a hovered view appear"
    assert values["clicked"] == [values["first"]]
    assert values["shift_clicked"] == sorted([values["first"], values["second"]])
    weights = [json.loads(line)["weight"] for line in values["trace"].splitlines()]
    assert [weight[values["first"]] for weight in weights] == [1.0, 4.0, 0.0]
    assert [weight[values["second"]] for weight in weights] == [1.0, 4.0, 0.0]
    assert all(sum(factor != 1.0 for factor in weight) == 2 for weight in weights[1:])
