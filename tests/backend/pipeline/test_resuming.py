"""Runs that were interrupted or killed go on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.control import Control, JobCancelled
from backend.job import JobFolder
from backend.protocol import CheckpointWritten, Event, Result

from .small_runs import config, execute, make_job


def test_a_resumed_run_gives_the_same_trace(tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]) -> None:
    folder = make_job(tmp_path, config())
    control = Control()

    def interrupt_after_a_while(event: Event) -> None:
        if isinstance(event, CheckpointWritten) and event.iteration == 40:
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, config(), control, interrupt_after_a_while)
    assert len(list(folder.read_trace())) == 40
    execute(folder, config())
    expected, actual = (list(job.read_trace()) for job in (finished[0], folder))
    assert actual == expected


def test_a_run_killed_between_checkpoints_goes_on_from_the_last_one(
    tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]
) -> None:
    class Killed(Exception):
        pass

    folder = make_job(tmp_path, config())
    append = folder.append_trace

    def die_at_50(line: dict) -> None:
        append(line)
        if line["iteration"] == 50:
            raise Killed

    folder.append_trace = die_at_50  # type: ignore[method-assign]
    with pytest.raises(Killed):
        execute(folder, config())
    folder.close()
    again = JobFolder.open(folder.path)
    execute(again, config())
    assert list(again.read_trace()) == list(finished[0].read_trace())


def test_a_run_goes_on_though_the_shape_it_began_with_is_gone(tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]) -> None:
    shape = tmp_path / "shape.ply"
    shape.write_bytes(finished[0].splats_path.read_bytes())
    settled = config("optimizer.iterations=30", f"gaussians.initial={shape}")
    traces = []
    for gone in (False, True):
        folder, control = make_job(tmp_path, settled), Control()

        def interrupt(event: Event, control: Control = control) -> None:
            if isinstance(event, CheckpointWritten) and event.iteration == 20:
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(folder, settled, control, interrupt)
        if gone:
            shape.unlink()
        execute(folder, settled)
        traces.append(list(folder.read_trace()))
    assert traces[0] == traces[1]
