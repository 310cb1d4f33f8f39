"""Runs that were interrupted or killed go on as if nothing had happened."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend import request, settings
from backend.control import Control, JobCancelled
from backend.errors import OutputError
from backend.job import JobFolder
from backend.meshing import export
from backend.protocol import CheckpointWritten, Event, Notice, Phase, Result

from .small_runs import SMALL, config, execute, make_job

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.slow
def test_it_makes_no_difference_who_compiled_the_kernels(tmp_path: Path, own_home: dict[str, str]) -> None:
    """The process itself, or one before it: a run that is resumed may be begun by the one and ended by the other."""
    sets = [word for assignment in (*SMALL, "optimizer.iterations=40", "gradient_fusion.stop=1") for word in ("--set", assignment)]
    environ = own_home | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    traces = []
    for name in ("compiles", "finds"):
        command = [sys.executable, "-m", "backend", "generate", "a red cat", "--quality", "draft", "--quiet", *sets]
        subprocess.run([*command, "--job", str(tmp_path / name)], env=environ, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
        traces.append(list(JobFolder.open(tmp_path / name).read_trace()))
    assert traces[0][-1]["neighbours"], "nothing was fused"
    assert traces[0] == traces[1]


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


class TestAnotherModel:
    """The name of an image model, or its folder, may have come to mean another one since a run was interrupted."""

    @pytest.mark.parametrize("begun", [True, False])
    def test_is_told_of_where_steps_were_made_with_the_first(self, tmp_path: Path, begun: bool) -> None:
        settled = config("optimizer.iterations=30")
        folder, control = make_job(tmp_path, settled), Control()

        def interrupt(event: Event) -> None:
            if isinstance(event, CheckpointWritten) if begun else event == Phase(name="prepare"):
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(folder, settled, control, interrupt)
        other = settings.changed(settled, {"prior.views": 160})
        events: list[Event] = []
        execute(folder, other, emit=events.append)
        notices = [event for event in events if isinstance(event, Notice)]
        assert [notice.code for notice in notices] == ["prior"] * begun
        assert all("builtin:exact has changed" in notice.message and notice.remedy for notice in notices)
        events.clear()
        execute(folder, other, emit=events.append)
        assert not any(isinstance(event, Notice) for event in events), "told of once"


class TestDamagedCheckpoints:
    @pytest.fixture
    def interrupted(self, tmp_path: Path) -> JobFolder:
        """After step 45, with checkpoints of step 40 and 45."""
        folder, control = make_job(tmp_path, config()), Control()
        append = folder.append_trace

        def interrupt(line: dict) -> None:
            append(line)
            if line["iteration"] == 44:
                control.interrupt()

        folder.append_trace = interrupt  # type: ignore[method-assign]
        with pytest.raises(JobCancelled):
            execute(folder, config(), control)
        assert [iteration for iteration, _ in folder.checkpoints()] == [45, 40]
        return JobFolder.open(folder.path)

    def test_the_one_before_is_taken_and_told_of(self, interrupted: JobFolder, finished: tuple[JobFolder, Result, list[Event]]) -> None:
        (interrupted.checkpoints_path / "000045" / "state.json").write_text("")
        events: list[Event] = []
        execute(interrupted, config(), emit=events.append)
        (notice,) = [event for event in events if isinstance(event, Notice)]
        assert notice.message == "What was saved after step 45 cannot be read: the run goes on from step 40."
        assert notice.code == "checkpoint" and notice.remedy
        assert list(interrupted.read_trace()) == list(finished[0].read_trace())

    def test_without_any_the_run_begins_anew_and_nothing_is_lost(self, interrupted: JobFolder) -> None:
        trace = interrupted.trace_path.read_bytes()
        for _, path in interrupted.checkpoints():
            (path / "state.json").write_text("")
        events, control = [], Control()

        def interrupt_after_a_while(event: Event) -> None:
            events.append(event)
            if isinstance(event, Notice):
                assert interrupted.state.iteration == 0
            if isinstance(event, CheckpointWritten) and event.iteration == 20:
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(interrupted, config(), control, interrupt_after_a_while)
        (notice,) = [event for event in events if isinstance(event, Notice)]
        assert notice.message == "What was saved after step 40 and 45 cannot be read: the run begins anew."
        assert (interrupted.path / "trace-1.jsonl").read_bytes() == trace
        assert [line["iteration"] for line in interrupted.read_trace()] == list(range(20))
        assert interrupted.latest_checkpoint().iteration == 20, "not dropped for those of higher numbers"
        assert {path.name for path in interrupted.checkpoints_path.iterdir()} == {"000020", "000040-1", "000045-1"}


class TestOwnOutputs:
    """What a job has written beside its folder is not in the way of going on with it."""

    def test_after_a_kill_between_the_files_of_an_output(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Killed(Exception):
            pass

        def die(path: Path, data: bytes) -> None:
            if path.suffix == ".obj":
                raise Killed
            path.write_bytes(data)

        settled, output = config("optimizer.iterations=5"), tmp_path / "cat.obj"
        folder = make_job(tmp_path, settled, outputs=(str(output),))
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(export, "atomic_write_bytes", die)
            execute(folder, settled)
        assert output.with_suffix(".mtl").exists() and not output.exists()
        again = JobFolder.open(folder.path)
        request.check_resume(again)
        execute(again, settled)
        assert output.exists()

    def test_what_a_killed_run_was_writing_there_goes(self, tmp_path: Path) -> None:
        outputs = tmp_path / "outputs"
        outputs.mkdir()
        left, fresh = outputs / ".writing-0123456789ab.glb", outputs / ".writing-ba9876543210.glb"
        left.touch()
        os.utime(left, (time.time() - 300,) * 2)
        settled = config("optimizer.iterations=5")

        def begin_another(event: Event) -> None:
            if isinstance(event, Phase) and event.name == "export":
                fresh.touch()  # another run, which is at work

        execute(make_job(tmp_path, settled, outputs=(str(outputs / "cat.glb"),)), settled, emit=begin_another)
        assert {path.name for path in outputs.iterdir()} == {"cat.glb", fresh.name}

    def test_after_an_interruption_of_going_on_with_a_finished_run(self, tmp_path: Path) -> None:
        settled, output, control = config("optimizer.iterations=5"), tmp_path / "cat.glb", Control()
        folder = make_job(tmp_path, settled, outputs=(str(output),))
        execute(folder, settled)

        def interrupt(event: Event) -> None:
            if isinstance(event, Phase) and event.name == "surface":
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(folder, settled, control, interrupt)
        request.check_resume(JobFolder.open(folder.path))

    def test_but_a_file_that_was_there_before_is(self, tmp_path: Path) -> None:
        settled, output, control = config("optimizer.iterations=5"), tmp_path / "cat.glb", Control()
        folder = make_job(tmp_path, settled, outputs=(str(output),))

        def interrupt(event: Event) -> None:
            if isinstance(event, Phase) and event.name == "texture":
                output.touch()
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(folder, settled, control, interrupt)
        with pytest.raises(OutputError, match="exists already"):
            request.check_resume(JobFolder.open(folder.path))
