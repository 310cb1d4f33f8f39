"""What happens to a run when things go wrong around it, in a real window with a real worker."""

from __future__ import annotations

import json

import pytest

from tests.screen import processes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("real_worker")]


def workers(run) -> list[int]:
    return [pid for pid, command in processes.marked(run.name).items() if "worker" in command and "--job" in command]


def test_files_undo_scenes_and_a_reload_during_a_run(play):
    values = play("upheaval", timeout=420).values
    for moment in ("after_a_new_file", "after_an_undo_storm", "after_a_scene_switch", "after_opening_a_file", "after_a_reload"):
        assert values[moment]["status"] == "running", moment
        assert values[moment]["worker"] == values["worker"], f"{moment}: another worker has taken over"
    # The cube, the lamp and the camera, and of thirty new cubes, all undone, fifteen done again: a preview made no step of its own
    assert values["objects"] == 3 + 15
    assert values["status"] == "finished", values["error"]
    assert values["asset"]


def test_a_killed_blender_leaves_no_worker_and_a_job_that_can_be_resumed(start, play, tmp_path):
    with start("run_until_killed") as run:
        job = run.recorded("job", timeout=90)
        checkpoint = run.recorded("checkpoint", timeout=240)
        assert len(workers(run)) == 1
        run.process.kill()
        assert run.left(seconds=10.0) == {}
    trace = tmp_path / "jobs" / job / "trace.jsonl"
    before = trace.read_text(encoding="utf-8").splitlines()
    values = play("take_up_again", timeout=300, job=job).values
    assert values["found"] == "interrupted"
    # The worker has seen Blender die, and saved once more
    saved = values["checkpoint"]
    assert checkpoint <= saved <= len(before)
    assert saved < values["first_iteration"] < saved + 20, "it goes on where it was saved"
    after = trace.read_text(encoding="utf-8").splitlines()
    assert after[:saved] == before[:saved]
    assert [json.loads(line)["iteration"] for line in after] == list(range(len(after))), "no step is missing, none is there twice"
    assert len(after) >= values["last_iteration"] > saved + 20
    assert values["status"] == "finished"
    assert values["asset"]


def test_quitting_stops_the_run_where_it_can_be_continued(play, tmp_path):
    values = play("quit_during_a_run", timeout=240, on_quit="STOP").values  # which leaves no process
    folder = tmp_path / "jobs" / values["job"]
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state["iteration"] >= values["iteration"]
    assert list((folder / "checkpoint").iterdir())


def test_quitting_leaves_the_run_alone_if_that_was_chosen(start, play):
    with start("quit_during_a_run", on_quit="KEEP") as run:
        outcome = run.finish(timeout=240, linger=5.0)
        assert not outcome.failure and not outcome.complaints, outcome.failure or outcome.complaints
        assert len(workers(run)) == 1
        values = play("find_running", timeout=400, job=outcome.values["job"]).values
        assert run.left(seconds=10.0) == {}
    assert values["found"] == "running"
    assert values["status"] == "finished"
    assert values["imported"] == 1
