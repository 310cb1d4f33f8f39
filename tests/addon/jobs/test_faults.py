"""Workers that misbehave, and what is pulled away from under them: nothing waits, nothing is lost, nobody stays behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from cograd3d.cograd3d_addon.jobs import JobStatus, Patience

from .conftest import is_running, wait_until

IMPATIENT = Patience(silence=0.5, silence_loading=0.5, cancel=0.4, terminate=0.4)


@pytest.fixture
def impatient(stage):
    stage.patience = IMPATIENT
    stage.new_manager()
    return stage


def test_lines_that_nobody_can_read(stage):
    job = stage.submit("bad-garbled")
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    assert job.progress.iteration == 3
    assert job.bad_lines == 6
    assert [notice.code for notice in job.notices] == ["line"]


def test_an_enormous_line(stage):
    job = stage.submit("bad-enormous")
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    assert job.progress.iteration == 3
    assert job.bad_lines == 2
    assert len(job.notices) == 1


def test_a_flood(stage):
    job = stage.submit("bad-flood")
    stage.finish(job)
    assert job.status is JobStatus.FINISHED
    assert job.progress.iteration == 199_999


@pytest.mark.parametrize("part", ["bad-foreign", "bad-foreign-deaf"])
def test_another_protocol(impatient, part):
    job = impatient.submit(part)
    impatient.finish(job)
    assert (job.status, job.error.code) == (JobStatus.FAILED, "protocol")
    assert "update" in job.error.remedy
    assert job.progress is None


def test_a_worker_that_cannot_start(stage):
    job = stage.submit("bad-cannot-start")
    stage.finish(job)
    assert (job.status, job.error.code) == (JobStatus.FAILED, "start")
    assert "libtorch_cpu.so" in job.error.message
    assert "libtorch_cpu.so" in job.log_tail()


def test_the_last_words_are_those_of_this_process(stage):
    job = stage.submit("bad-cannot-start")
    stage.finish(job)
    stage.part = "bad-dies"
    stage.manager.resume(job)
    stage.finish(job)
    assert (job.status, job.error.code) == (JobStatus.FAILED, "crash")
    assert "the last thing it did" in job.error.message
    assert "libtorch" not in job.error.message


def test_a_native_crash(stage):
    job = stage.submit("bad-crashes")
    stage.finish(job)
    assert (job.status, job.error.code) == (JobStatus.FAILED, "crash")


@pytest.mark.parametrize("part", ["bad-silent", "bad-hangs"])
def test_a_worker_that_says_nothing(impatient, part):
    job = impatient.submit(part)
    impatient.pump(lambda: job.silent)
    assert [notice.code for notice in job.notices] == ["silent"]
    assert job.status.is_live
    impatient.manager.cancel(job)
    impatient.finish(job)
    assert job.status is JobStatus.CANCELLED
    assert not job.silent


def test_a_worker_that_was_only_slow(impatient):
    job = impatient.submit("bad-hiccups")
    impatient.pump(lambda: job.silent)
    impatient.finish(job)
    assert (job.status, job.silent) == (JobStatus.FINISHED, 0.0)


def test_a_worker_that_obeys_nobody_is_ended(impatient):
    job = impatient.submit("bad-stubborn")
    impatient.run_until(job)
    impatient.manager.cancel(job)
    began = time.monotonic()
    impatient.finish(job)
    assert time.monotonic() - began >= IMPATIENT.cancel
    assert job.status is JobStatus.CANCELLED
    assert not any(map(is_running, impatient.pids))


def test_cancelling_twice_needs_no_patience(stage):
    job = stage.submit("bad-hangs")
    stage.run_until(job)
    stage.manager.cancel(job)
    stage.manager.cancel(job)
    stage.finish(job, limit=5.0)
    assert job.status is JobStatus.CANCELLED


@pytest.mark.parametrize("part", ["bad-lingers", "bad-closes-its-mouth"])
def test_a_worker_that_stays_after_its_end(impatient, part):
    job = impatient.submit(part)
    if part == "bad-closes-its-mouth":
        impatient.pump(lambda: impatient.pids)
        impatient.manager.cancel(job)
    impatient.finish(job)
    assert job.status is (JobStatus.FINISHED if part == "bad-lingers" else JobStatus.CANCELLED)
    assert not any(map(is_running, impatient.pids))


def test_a_pipe_that_a_grandchild_holds_open(stage):
    job = stage.submit("bad-leaves-a-child")
    stage.finish(job, limit=2.5)
    assert job.status is JobStatus.FINISHED


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(stage):
    job = stage.submit("steps")
    job.folder.events_path.symlink_to("/dev/full")
    stage.finish(job)
    assert (job.status, job.error.code) == (JobStatus.FAILED, "output")
    assert "disk is full" in job.error.message
    assert job.error.remedy


def test_a_deleted_folder(stage):
    job = stage.submit()
    stage.run_until(job, 20)
    gone = job.path.rename(job.path.with_name(".gone"))  # at once, or the worker writes into what is being deleted
    shutil.rmtree(gone, ignore_errors=True)
    stage.finish(job)
    assert job.status is JobStatus.FAILED
    assert "was deleted while it ran" in job.error.message, "whatever the worker said of it"
    assert job.error.remedy == "Start the job anew."
    assert not job.is_resumable
    stage.manager.scan()
    assert job in stage.manager.jobs  # so that the user can read why
    stage.manager.discard(job)
    assert stage.manager.jobs == []


def test_an_error_of_ours_with_one_job_leaves_the_others_alone(stage, monkeypatch):
    stage.new_manager(max_running=2)
    bad, good = stage.submit("steps"), stage.submit("steps")
    stage.pump(lambda: len(stage.pids) == 2)
    apply = type(bad).apply

    def stumble(job, event):
        if job is bad and event.type == "progress":
            raise ZeroDivisionError("a bug")
        apply(job, event)

    monkeypatch.setattr(type(bad), "apply", stumble)
    stage.finish(bad)
    assert (bad.status, bad.error.code) == (JobStatus.FAILED, "error")
    assert "ZeroDivisionError: a bug" in bad.error.message
    stage.finish(good)
    assert good.status is JobStatus.FINISHED
    monkeypatch.undo()
    wait_until(lambda: not bad.folder.in_use, 10.0, "the end of the worker that nobody follows")
    stage.manager.resume(bad)
    stage.finish(bad)
    assert bad.status is JobStatus.FINISHED


def test_an_error_of_ours_at_the_start_of_one_job(stage, monkeypatch):
    bad, good = stage.submit("quick"), stage.submit("quick")
    monkeypatch.setattr(bad, "begin", lambda *, fresh: 1 / 0)
    stage.finish(good)
    assert good.status is JobStatus.FINISHED
    assert bad.status is JobStatus.FAILED and "ZeroDivisionError" in bad.error.message


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_killed_at_any_moment(stage, seed):
    dice = random.Random(seed)
    job = stage.submit()
    stage.pump(lambda: stage.pids)
    deadline = time.monotonic() + dice.uniform(0.0, 1.5)
    stage.pump(lambda: time.monotonic() > deadline)
    os.kill(max(stage.pids), signal.SIGKILL)
    stage.finish(job)
    assert (job.status, job.error.code) == (JobStatus.INTERRUPTED, "killed")
    stage.new_manager().scan()
    found = stage.manager.get(job.id)
    assert found.status is JobStatus.INTERRUPTED
    stage.manager.resume(found)
    stage.run_until(found, found.checkpoint + 1)
    stage.manager.stop(found)
    stage.finish(found)
    assert found.status is JobStatus.FINISHED
    trace = [line["iteration"] for line in found.folder.read_trace()]
    assert trace == list(range(len(trace)))


def test_closing_never_waits(stage):
    stage.submit("bad-stubborn")
    stage.pump(lambda: stage.pids)
    began = time.monotonic()
    stage.manager.close(keep_running=False)
    assert time.monotonic() - began < 0.2
    for pid in stage.pids:
        os.kill(pid, signal.SIGKILL)


def test_the_process_is_waited_for(stage):
    """No zombie stays, whoever lets go of it."""
    stage.submit("long")
    stage.pump(lambda: stage.pids)
    stage.manager.close(keep_running=False, at_once=True)
    wait_until(lambda: not any(map(is_running, stage.pids)), 10.0, "the worker's end")
