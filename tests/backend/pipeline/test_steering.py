"""Weights of regions and pictures asked for, before a run and while it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.control import Control, JobCancelled
from backend.errors import ConfigError
from backend.protocol import CheckpointWritten, Event, Paused, Phase, PreviewReady, Regions

from .small_runs import config, execute, make_job


def test_a_frozen_region_is_not_visited_and_a_boosted_one_is_more_often(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config("optimizer.iterations=150")), Control()
    control.set_weights([5], 0.0)
    control.set_weights([7], 20.0)
    execute(folder, config("optimizer.iterations=150"), control)
    visits = np.bincount([line["region"] for line in folder.read_trace()], minlength=36)
    assert visits[5] == 0
    assert visits[7] > 10


def test_weights_of_the_settings_hold_from_the_first_step_and_later_ones_replace_them(tmp_path: Path) -> None:
    settled = config("optimizer.iterations=60", "region_sampling.weights=[[5, 0.0], [7, 20.0]]", "region_sampling.warmup_passes=0")
    folder, control = make_job(tmp_path, settled), Control()

    def interrupt(event: Event) -> None:
        if isinstance(event, CheckpointWritten) and event.iteration == 20:
            control.set_weights([7], 1.0)
        if isinstance(event, CheckpointWritten) and event.iteration == 40:
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, settled, control, interrupt)
    execute(folder, settled)
    weights = [(line["weight"][5], line["weight"][7]) for line in folder.read_trace()]
    assert weights == [(0.0, 20.0)] * 20 + [(0.0, 1.0)] * 40, "a resumed run keeps the weights it was given last"


@pytest.mark.parametrize("weights", ["[[36, 2.0]]", "[[-1, 2.0]]", "[[3, -2.0]]", "[[3, 2.0], [3, 4.0]]"])
def test_senseless_weights_are_refused_before_the_run(weights: str) -> None:
    with pytest.raises(ConfigError, match=r"region_sampling\.weights"):
        config(f"region_sampling.weights={weights}")
    config("region_sampling.weights=[[36, 2.0]]", "grid.azimuth_bins=13")
    config("region_sampling.weights=[[36, 2.0]]", "grid.distance_edges=[3.0, 3.3, 3.6]")


class TestAskedForWhileItRuns:
    """Weights and pictures, from a run that goes on and from one that is paused."""

    def test_pictures_of_regions(self, tmp_path: Path) -> None:
        folder, control, events = make_job(tmp_path, config("optimizer.iterations=5")), Control(), []
        for region in (3, 12, 3, -1, 12):
            control.request_preview(region)
        control.set_weights([12], 4.0)

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, PreviewReady) and event.region >= 0:
                assert (folder.path / event.image).stat().st_size > 0, "it is there when it is told of"

        execute(folder, config("optimizer.iterations=5"), control, emit)
        first = [event for event in events if isinstance(event, PreviewReady) and event.iteration == 0]
        assert [(event.region, event.image, event.splats) for event in first] == [
            (-1, "preview.png", "preview.ply"),
            (3, "views/region-003.png", ""),
            (12, "views/region-012.png", ""),
        ]
        regions = next(event for event in events if isinstance(event, Regions))
        assert (regions.iteration, regions.current, regions.weight[12]) == (0, -1, 4.0), "told at once"

    def test_while_paused(self, tmp_path: Path) -> None:
        folder, control, events = make_job(tmp_path, config("optimizer.iterations=5")), Control(), []

        def emit(event: Event) -> None:
            """An artist: pauses, weighs a region, looks at it when the weight has arrived, goes on when the picture is there."""
            events.append(event)
            match event:
                case Phase(name="optimise"):
                    control.pause()
                case Paused(paused=True):
                    control.set_weights([4], 0.0)
                case Regions() if control.paused:
                    control.request_preview(4)
                case PreviewReady(region=4):
                    control.resume()

        execute(folder, config("optimizer.iterations=5"), control, emit)
        kinds = [type(event) for event in events[[isinstance(event, Paused) for event in events].index(True) :]]
        assert kinds[:4] == [Paused, Regions, PreviewReady, Paused]
        assert all(line["weight"][4] == 0 for line in folder.read_trace())

    def test_while_the_mesh_is_made(self, tmp_path: Path) -> None:
        folder, control, events = make_job(tmp_path, config("optimizer.iterations=5")), Control(), []

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, Phase) and event.name == "texture":
                control.request_preview(7)

        execute(folder, config("optimizer.iterations=5"), control, emit)
        assert [event.iteration for event in events if isinstance(event, PreviewReady) and event.region == 7] == [5]
