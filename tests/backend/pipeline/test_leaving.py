"""Stopping, cancelling and interrupting a run, at any phase."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.control import Control, JobCancelled
from backend.protocol import CheckpointWritten, Event, Phase, PreviewReady

from .small_runs import config, execute, make_job


def test_stop_makes_the_mesh_of_what_is_there(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config()), Control()

    def stop(event: Event) -> None:
        if isinstance(event, CheckpointWritten):
            control.stop()

    result = execute(folder, config(), control, stop)
    assert result.iterations == 20
    assert folder.asset_path.exists()


def test_cancel_during_the_mesh_leaves_no_asset_but_a_checkpoint(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config()), Control()

    def cancel(event: Event) -> None:
        if isinstance(event, Phase) and event.name == "texture":
            control.cancel()

    with pytest.raises(JobCancelled):
        execute(folder, config(), control, cancel)
    assert not folder.asset_path.exists()
    assert folder.latest_checkpoint().iteration == 90


def test_it_says_when_steps_would_be_lost(tmp_path: Path) -> None:
    """Then a process that has to go is given more time."""
    folder, control, unsaved = make_job(tmp_path, config("optimizer.iterations=5")), Control(), {}

    def note(event: Event) -> None:
        name = event.name if isinstance(event, Phase) else type(event).__name__
        unsaved.setdefault(name, control.has_unsaved)

    execute(folder, config("optimizer.iterations=5"), control, note)
    assert [name for name, flag in unsaved.items() if flag] == ["Progress", "Regions"], unsaved


@pytest.mark.parametrize("after", [CheckpointWritten, PreviewReady])
def test_the_last_pictures_wait_for_nobody_who_leaves(tmp_path: Path, after: type[Event]) -> None:
    folder, control = make_job(tmp_path, config("optimizer.iterations=5")), Control()

    def leave(event: Event) -> None:
        if isinstance(event, after):
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, config("optimizer.iterations=5"), control, leave)
    assert folder.latest_checkpoint().iteration == 5
    assert folder.preview_image_path.exists() is (after is PreviewReady)
    assert not list(folder.path.glob("views/*"))


def test_a_run_may_be_left_while_the_prior_is_loaded(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config()), Control()
    told: list[str] = []

    def leave(event: Event) -> None:
        if isinstance(event, Phase):
            told.append(event.message or event.name)
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, config("prior.views=151"), control, leave)
    assert told == ["prior", "prepare"]
