"""Ordering, following and steering jobs, with workers that behave."""

from __future__ import annotations

import errno
import json
import os

import pytest
from cograd3d.backend import files
from cograd3d.backend.errors import JobError, OutputError, SetupError
from cograd3d.backend.job import JobFolder
from cograd3d.backend.protocol import JobSpec
from cograd3d.cograd3d_addon.jobs import JobManager, JobStatus
from cograd3d.cograd3d_addon.jobs.job import Wish

from .conftest import wait_until


def test_a_whole_run(stage):
    job = stage.submit("quick", extra={"blender.json": {"yaw": 0.5}})
    assert job.status is JobStatus.QUEUED
    assert json.loads((job.path / "blender.json").read_text()) == {"yaw": 0.5}
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    assert job.result.iterations == job.progress.iteration == job.regions.iteration == 60
    assert (job.phase, job.error, job.bad_lines, job.notices) == ("surface", None, 0, [])
    kinds = [event.type for _, event in stage.events]
    assert (kinds[0], kinds[-2:]) == ("hello", ["result", "bye"])
    assert job.history.series("loss", 2)[0][-1] == 60
    assert stage.manager.get(job.id) is job
    assert not stage.manager.running
    assert not stage.manager.is_busy


def test_what_is_read_at_once_is_told_in_order(stage):
    job = stage.submit("bad-at-once")
    stage.finish(job)
    told = [(event.type, getattr(event, "iteration", None)) for _, event in stage.events]
    before, after = [("hello", None), ("phase", None)], [("phase", None), ("result", None), ("bye", None)]
    assert told == [*before, ("progress", 2), ("regions", 2), *after]


def test_nothing_is_ticked_as_changed_when_nothing_changes(stage):
    stage.manager.tick()
    stage.pump(lambda: not stage.manager.tick())


def test_the_version_rises_with_every_change(stage):
    job, versions = stage.submit("quick"), []
    stage.manager.listeners.append(lambda job, event: versions.append(job.version))
    stage.finish(job)
    assert versions == sorted(set(versions))


def test_jobs_wait_for_their_turn(stage):
    jobs = [stage.submit("quick") for _ in range(3)]
    most = 0

    def all_over():
        nonlocal most
        most = max(most, len(stage.manager.running))
        return all(job.status.is_over for job in jobs)

    stage.pump(all_over)
    assert most == 1
    assert [job.status for job in jobs] == [JobStatus.FINISHED] * 3
    hellos = [id for id, event in stage.events if event.type == "hello"]
    assert hellos == [job.id for job in jobs]


def test_several_at_a_time(stage):
    stage.new_manager(max_running=2)
    jobs = [stage.submit("steps") for _ in range(3)]
    stage.pump(lambda: len(stage.manager.running) == 2 and all(job.progress for job in jobs[:2]))
    assert jobs[2].status is JobStatus.QUEUED
    for job in jobs[:2]:
        stage.manager.stop(job)
    stage.run_until(jobs[2])


def test_pause_and_go_on(stage):
    job = stage.submit()
    stage.run_until(job)
    stage.manager.pause(job)
    assert job.wish == "pause"
    stage.pump(lambda: job.status is JobStatus.PAUSED)
    assert job.wish == ""
    stage.manager.unpause(job)
    stage.pump(lambda: job.status is JobStatus.RUNNING)
    stage.manager.stop(job)
    assert job.status is JobStatus.STOPPING
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    assert job.result.iterations < 400


def test_weights_and_previews_reach_the_worker(stage):
    job = stage.submit("long")
    stage.run_until(job)
    stage.manager.set_weights(job, [1, 3], 4.0)
    stage.pump(lambda: job.regions and job.regions.weight == (1, 4, 1, 4))
    stage.manager.request_preview(job)
    stage.manager.request_preview(job, 2)
    stage.pump(lambda: job.preview and job.views.get(2))


def test_cancel_and_resume(stage):
    job = stage.submit()
    stage.run_until(job, 60)
    stage.manager.cancel(job)
    assert (job.status, job.wish) == (JobStatus.STOPPING, "cancel")
    stage.finish(job)
    assert job.status is JobStatus.CANCELLED
    assert job.is_resumable
    reached = job.checkpoint
    assert reached >= 60
    stage.manager.resume(job)
    stage.run_until(job, reached + 1)
    assert stage.told(job, "progress")[-1].iteration > reached
    stage.manager.stop(job)
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    with pytest.raises(JobError):
        stage.manager.resume(job)


def test_a_job_that_waits_is_cancelled_without_a_worker(stage):
    first, second = stage.submit("long"), stage.submit("long")
    stage.run_until(first)
    stage.manager.cancel(second)
    assert second.status is JobStatus.CANCELLED
    assert JobFolder.open(second.path).state.status == "cancelled"
    assert not stage.manager.queued
    stage.new_manager().scan()
    assert stage.manager.get(second.id).status is JobStatus.CANCELLED


def test_what_cannot_be_told(stage):
    job = stage.submit("quick")
    with pytest.raises(JobError):
        stage.manager.pause(job)
    stage.finish(job)
    with pytest.raises(JobError):
        stage.manager.set_weights(job, [0], 2.0)


def test_a_pause_that_would_never_come_is_refused_and_forgotten(stage):
    job = stage.submit("bad-meshes")
    stage.pump(lambda: job.phase == "optimise")
    stage.manager.pause(job)
    assert job.wish is Wish.PAUSE
    stage.pump(lambda: job.phase == "surface")
    assert (job.wish, job.status) == (Wish.NONE, JobStatus.RUNNING)
    with pytest.raises(JobError, match="nearly done"):
        stage.manager.pause(job)
    stage.manager.cancel(job)
    stage.finish(job)


def test_a_cancelled_resume_leaves_what_another_process_did(stage):
    job = stage.submit("quick")
    stage.manager.cancel(job)
    other = JobFolder.open(job.path)
    with other.lock():
        other.update_state(status="interrupted", phase="optimise", iteration=700)
    stage.new_manager(max_running=0)  # with the folder of the first one
    stage.manager.jobs = [job]
    stage.manager.resume(job)
    stage.manager.cancel(job)
    state = JobFolder.open(job.path).state
    assert (state.status, state.phase, state.iteration) == ("cancelled", "optimise", 700)


def test_discard(stage):
    job = stage.submit("long")
    stage.run_until(job)
    with pytest.raises(JobError):
        stage.manager.discard(job)
    stage.manager.cancel(job)
    stage.finish(job)
    stage.manager.discard(job)
    assert not job.path.exists()
    assert stage.manager.jobs == []
    wait_until(lambda: os.listdir(stage.root) == [], 10.0, "what is deleted in the background")
    waiting = stage.submit()
    stage.manager.discard(waiting)
    assert not waiting.path.exists()
    assert not stage.manager.queued


def test_what_another_process_works_on_is_not_discarded(stage):
    folder = JobFolder.create(stage.root, JobSpec(prompt="a red cat"), {})
    stage.manager.scan()
    job = stage.manager.get(folder.path.name)
    with folder.lock(), pytest.raises(JobError):
        stage.manager.discard(job)
    assert folder.path.exists()


def refinement(stage, job, **spec):
    """A job that begins with the result of another one."""
    initial = str(job.folder.splats_path)
    return stage.manager.submit(JobSpec(prompt="a red cat", initial=initial, **({"refines": str(job.path)} | spec)), {})


@pytest.mark.parametrize("refines", [True, False], ids=["refined", "ordered again from its object"])
def test_what_another_job_begins_with_is_not_discarded(stage, refines):
    job = stage.submit("quick")
    stage.finish(job)
    stage.part = "long"
    other = refinement(stage, job, **({} if refines else {"refines": ""}))
    with pytest.raises(JobError, match=other.id):
        stage.manager.discard(job)
    assert stage.manager.needed_by(job) is other and stage.manager.needed_by(other) is None
    stage.manager.cancel(other)  # before it began: it can still be taken up
    with pytest.raises(JobError, match=other.id):
        stage.manager.discard(job)
    assert job.path.exists()
    stage.manager.resume(other)
    stage.run_until(other)
    with pytest.raises(JobError, match=other.id):
        stage.manager.discard(job)
    stage.manager.cancel(other)
    stage.finish(other)
    assert other.checkpoint and other.is_resumable
    stage.manager.discard(job)
    assert not job.path.exists()


def test_what_a_discarded_job_was_to_begin_with_can_be_discarded(stage):
    job = stage.submit("quick")
    stage.finish(job)
    stage.manager.discard(refinement(stage, job))
    stage.manager.discard(job)
    assert stage.manager.jobs == []


def test_what_a_finished_job_began_with_can_be_discarded(stage):
    job = stage.submit("quick")
    stage.finish(job)
    other = refinement(stage, job)
    stage.finish(other)
    stage.manager.discard(job)
    assert stage.manager.jobs == [other]


def test_a_worker_that_cannot_be_called(tmp_path):
    def command(folder):
        raise SetupError("There is no environment.", remedy="Set it up.")

    manager = JobManager(tmp_path, command)
    job = manager.submit(JobSpec(prompt="a red cat"), {})
    manager.tick()
    assert (job.status, job.error.code, job.error.remedy) == (JobStatus.FAILED, "setup", "Set it up.")
    assert job.is_resumable

    manager = JobManager(tmp_path, lambda folder: [str(tmp_path / "no-such-python")])
    job = manager.submit(JobSpec(prompt="a red cat"), {})
    manager.tick()
    assert (job.status, job.error.code) == (JobStatus.FAILED, "start")
    assert "no-such-python" in job.error.message


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    manager = JobManager(tmp_path / "file" / "jobs", lambda folder: [])
    manager.scan()
    with pytest.raises(OutputError):
        manager.submit(JobSpec(prompt="a red cat"), {})
    assert manager.jobs == []


@pytest.mark.parametrize("file", ["blender.json", "claim.json"])
def test_a_disk_that_is_full_when_a_job_is_ordered(file, stage, monkeypatch):
    """Neither a folder nor a job that would wait for ever is left of it."""
    move = files._move

    def move_others(source, destination):
        if destination.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        move(source, destination)

    monkeypatch.setattr(files, "_move", move_others)
    with pytest.raises(OutputError, match="disk is full"):
        stage.submit(extra={"blender.json": {}})
    assert stage.manager.jobs == stage.manager.queued == [] and not list(stage.root.iterdir())
    stage.manager.scan()
    assert stage.manager.jobs == [] and not stage.manager.is_busy


def test_a_listener_that_fails_stops_nobody(stage, caplog):
    def broken(job, event):
        raise ZeroDivisionError

    stage.manager.listeners.insert(0, broken)
    job = stage.submit("quick")
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    assert stage.told(job, "result")
    assert "a listener failed" in caplog.text


def test_a_failure_comes_with_its_remedy(stage):
    job = stage.submit("refused")
    stage.finish(job)
    assert job.status is JobStatus.FAILED
    assert (job.error.message, job.error.remedy) == ("There is no prior here.", "Put one there.")
    stage.new_manager().scan()
    assert stage.manager.jobs[0].error == job.error


def test_the_config_is_read_when_the_worker_has_settled_it(stage):
    job = stage.submit("long")
    assert job.fov is None
    JobFolder(job.path).write_config({"grid": {"fov": 40.0}})
    stage.run_until(job)
    assert job.fov == 40.0
