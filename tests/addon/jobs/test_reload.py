"""The add-on is reloaded, Blender quits, is killed, or somebody else runs a job: nothing is lost, run twice or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cograd3d.backend.errors import JobError
from cograd3d.backend.job import JobFolder
from cograd3d.backend.protocol import JobSpec
from cograd3d.backend.request import make_request
from cograd3d.cograd3d_addon.jobs import JobStatus, Patience, channel, end_waiting, manager, watch
from cograd3d.cograd3d_addon.jobs.claim import Claim, read_claim, write_claim

from .conftest import FAKE, is_running, wait_until

posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX systems")


@pytest.fixture
def short_lease(monkeypatch):
    monkeypatch.setattr(manager, "LEASE", 1.5)
    monkeypatch.setattr(channel, "_RENEWAL_INTERVAL", 0.3)
    monkeypatch.setattr(channel, "_LIVENESS_INTERVAL", 0.3)


def reload(stage, **options):
    stage.manager.close(keep_running=False)
    stage.new_manager(**options).scan()


def test_a_reload_changes_nothing(stage, short_lease):
    job = stage.submit("long")
    stage.run_until(job, 10)
    (pid,) = stage.pids
    reload(stage)
    found = stage.manager.get(job.id)
    assert found.status is JobStatus.RUNNING
    assert found.progress.iteration >= job.progress.iteration
    assert found.regions is not None
    deadline = time.monotonic() + 2.2  # longer than the lease
    stage.pump(lambda: time.monotonic() > deadline)
    assert found.status is JobStatus.RUNNING
    assert is_running(pid)
    assert stage.pids == {pid}
    stage.manager.set_weights(found, [2], 3.0)
    stage.pump(lambda: found.regions and found.regions.weight[2] == 3.0)
    stage.manager.pause(found)
    stage.pump(lambda: found.status is JobStatus.PAUSED)
    reload(stage)
    again = stage.manager.get(job.id)
    assert again.status is JobStatus.PAUSED
    stage.manager.unpause(again)
    stage.pump(lambda: again.status is JobStatus.RUNNING)
    stage.manager.stop(again)
    stage.finish(again)
    assert again.status is JobStatus.FINISHED
    assert again.result.iterations == again.progress.iteration
    assert len(stage.told(job, "result")) == len(stage.told(job, "bye")) == 1
    iterations, _ = again.history.series("loss", 0)
    assert iterations[0] <= 10
    assert iterations[-1] == again.result.iterations
    trace = [line["iteration"] for line in again.folder.read_trace()]
    assert trace == list(range(len(trace)))


def test_a_reload_before_the_worker_is_awake(stage, short_lease):
    job = stage.submit("long")
    stage.manager.tick()
    assert job.status is JobStatus.STARTING
    reload(stage)
    found = stage.manager.get(job.id)
    assert found.status.is_live
    stage.run_until(found, 5)
    assert read_claim(found.path).worker == int((found.path / "job.lock").read_text())
    stage.manager.cancel(found)
    stage.finish(found)
    assert found.status is JobStatus.CANCELLED
    assert found.folder.log_path.read_text().count("command: Detach") == 1  # there was one worker


def test_a_lease_holds_while_blender_is_busy(stage, short_lease):
    job = stage.submit("long")
    stage.run_until(job, 10)
    reload(stage)
    found = stage.manager.get(job.id)
    (pid,) = stage.pids
    time.sleep(3.0)  # twice the lease, without a tick
    assert is_running(pid)
    reached = found.progress.iteration
    stage.run_until(found, reached + 10)
    stage.manager.close(keep_running=False, at_once=True)
    wait_until(lambda: not is_running(pid), 5.0, "the worker's end")


def test_when_no_new_manager_comes_the_workers_need_not_wait_for_it(stage):
    """Blender quits, and said nothing of it before the add-on was disabled."""
    job = stage.submit("long")
    stage.run_until(job, 5)
    left = stage.manager.close(keep_running=False)
    assert left == [job.path]
    end_waiting(left)
    wait_until(lambda: not any(map(is_running, stage.pids)), 4.0, "the worker's end")
    assert JobFolder.open(job.path).state.status == "interrupted"
    assert stage.new_manager().close(keep_running=False) == []


def test_the_claim_names_the_worker_and_not_its_launcher(stage):
    job = stage.submit("long")
    stage.pump(lambda: stage.told(job, "hello"))
    write_claim(job.path, Claim.mine(worker=1))
    stage.manager._tell(job, stage.told(job, "hello")[0])
    assert {read_claim(job.path).worker} == stage.pids


def test_a_resumed_job_keeps_its_place_in_the_queue(stage):
    first, second = stage.submit("long"), stage.submit("long")
    stage.run_until(first)
    stage.manager.cancel(second)
    assert JobFolder.open(second.path).state.status == "cancelled"
    stage.manager.resume(second)
    reload(stage)
    assert [job.id for job in stage.manager.queued] == [second.id]
    stage.manager.cancel(stage.manager.get(second.id))
    reload(stage)
    assert stage.manager.queued == []
    assert stage.manager.get(second.id).status is JobStatus.CANCELLED


def test_a_job_that_could_not_be_started_is_not_started_unasked(stage, monkeypatch):
    monkeypatch.setattr(stage, "_command", lambda folder: ["/nowhere/python3"])
    job = stage.new_manager().submit(JobSpec(prompt="a red cat"), {})
    stage.finish(job)
    assert job.status is JobStatus.FAILED
    monkeypatch.undo()
    reload(stage)
    assert stage.manager.queued == []


def test_the_queue_keeps_its_order_over_a_reload(stage):
    stage.new_manager(max_running=1)
    running, *waiting = [stage.submit("long") for _ in range(6)]
    stage.run_until(running)
    for _ in range(2):
        reload(stage)
        assert [job.id for job in stage.manager.queued] == [job.id for job in waiting]


def test_settings_can_be_others_when_a_job_is_taken_up(stage):
    job = stage.manager.submit(*make_request("a red cat"))
    stage.manager.cancel(job)
    for allowed in (True, False):
        stage.manager.resume(job, {"prior.allow_download": allowed})
        assert job.config["prior"]["allow_download"] is JobFolder.open(job.path).config["prior"]["allow_download"] is allowed
        stage.manager.cancel(job)


def test_the_queue_goes_on_after_a_reload(stage):
    first, second = stage.submit("long"), stage.submit("long")
    stage.run_until(first)
    reload(stage)
    found = stage.manager.get(second.id)
    assert [job.status for job in stage.manager.jobs if job.id == second.id] == [JobStatus.QUEUED]
    stage.manager.stop(stage.manager.get(first.id))
    stage.run_until(found)


def test_what_ended_during_a_reload_is_told(stage):
    job = stage.submit("steps")
    stage.run_until(job, 350)
    stage.manager.close(keep_running=False)
    wait_until(lambda: JobFolder.open(job.path).state.status == "finished" and not job.folder.in_use, 10.0, "the worker's end")
    wait_until(lambda: not any(map(is_running, stage.pids)), 10.0, "the process's end")
    stage.new_manager().scan()
    assert stage.manager.get(job.id).status is JobStatus.FINISHED
    assert [event.type for _, event in stage.events][-2:] == ["result", "bye"]
    stage.new_manager().scan()
    assert len(stage.told(job, "bye")) == 1


def test_without_a_new_manager_the_worker_leaves(stage, short_lease):
    job = stage.submit("long")
    stage.run_until(job, 5)
    stage.manager.close(keep_running=False)
    wait_until(lambda: not any(map(is_running, stage.pids)), 10.0, "the worker's end")
    found = stage.new_manager()
    found.scan()
    assert found.get(job.id).status is JobStatus.INTERRUPTED
    assert found.get(job.id).checkpoint >= 5


def test_when_blender_quits_the_worker_leaves_at_once(stage):
    job = stage.submit("long")
    stage.run_until(job, 5)
    stage.manager.close(keep_running=False, at_once=True)
    wait_until(lambda: not any(map(is_running, stage.pids)), 5.0, "the worker's end")
    assert JobFolder.open(job.path).state.status == "interrupted"


def test_a_worker_that_is_to_go_on_goes_on(stage):
    job = stage.submit("steps")
    stage.run_until(job, 5)
    stage.manager.close(keep_running=True)
    wait_until(lambda: JobFolder.open(job.path).state.status == "finished", 20.0, "the result")
    stage.new_manager().scan()
    found = stage.manager.get(job.id)
    assert (found.status, found.result.iterations) == (JobStatus.FINISHED, 400)


def restart(monkeypatch, job):
    """As if this were another Blender than the one that ordered the job, which is gone."""
    monkeypatch.delenv("COGRAD3D_SESSION")
    claim = read_claim(job.path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_claim(job.path, replace(claim, blender=gone.pid, session=f"{gone.pid}-gone"))


def test_a_new_blender_takes_over(stage, short_lease, monkeypatch):
    job = stage.submit("long")
    stage.run_until(job, 5)
    stage.manager.close(keep_running=True)
    restart(monkeypatch, job)
    stage.new_manager().scan()
    found = stage.manager.get(job.id)
    assert found.status is JobStatus.RUNNING
    assert read_claim(job.path).is_mine
    reached = found.progress.iteration
    stage.run_until(found, reached + 3)
    stage.manager.close(keep_running=False)  # this one does not want it to go on
    wait_until(lambda: not any(map(is_running, stage.pids)), 10.0, "the worker's end")


def test_jobs_that_waited_in_a_blender_that_is_gone_are_not_started_unasked(stage, monkeypatch):
    stage.new_manager(max_running=0)
    job = stage.submit("quick")
    restart(monkeypatch, job)
    stage.new_manager().scan()
    found = stage.manager.get(job.id)
    assert found.status is JobStatus.INTERRUPTED
    assert not stage.manager.queued
    stage.manager.resume(found)
    stage.finish(found)
    assert found.status is JobStatus.FINISHED


def test_another_blender_only_watches(stage, monkeypatch):
    """Two Blenders look into one folder: what the other one ordered is shown, not renewed, not started and not ended by us."""
    stage.new_manager(max_running=1)
    running, waiting = stage.submit("long"), stage.submit("long")
    stage.run_until(running, 5)
    monkeypatch.delenv("COGRAD3D_SESSION")
    other = os.getppid()  # some process that lives
    for job in (running, waiting):
        write_claim(job.path, replace(read_claim(job.path), blender=other, session=f"{other}-other"))
    first = stage.manager
    watcher = stage.new_manager()
    watcher.scan()
    shown = watcher.get(running.id)
    reached = shown.progress.iteration
    stage.run_until(shown, reached + 3)
    seen = watcher.get(waiting.id)
    assert (seen.status, seen.waits_elsewhere, watcher.queued) == (JobStatus.QUEUED, True, [])
    for refused in (watcher.resume, watcher.discard):
        with pytest.raises(JobError, match="another Blender"):
            refused(seen)
    assert waiting.path.exists()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_claim(waiting.path, replace(read_claim(waiting.path), blender=gone.pid))
    watcher.scan()
    assert watcher.get(waiting.id).status is JobStatus.INTERRUPTED, "nobody is going to run it any more"
    watcher.close(keep_running=False)
    assert not (running.path / "commands.jsonl").exists()
    first.tick()
    assert running.status is JobStatus.RUNNING
    first.close(keep_running=False, at_once=True)


def test_what_waits_in_another_blender_can_be_cancelled_from_here(stage, monkeypatch):
    """That Blender may never run it: its extension may be off, or another process have its number."""
    owner = stage.new_manager(max_running=1)
    running, waiting = stage.submit("long"), stage.submit("long")
    stage.run_until(running, 5)
    name, session = "COGRAD3D_SESSION", os.environ["COGRAD3D_SESSION"]
    for job in (running, waiting):
        write_claim(job.path, replace(read_claim(job.path), blender=os.getppid()))
    monkeypatch.setenv(name, f"{os.getpid()}-another")
    watcher = stage.new_manager()
    watcher.scan()
    seen = watcher.get(waiting.id)
    assert seen.waits_elsewhere
    watcher.cancel(seen)
    assert (seen.status, seen.waits_elsewhere, seen.is_resumable) == (JobStatus.CANCELLED, False, True)
    watcher.close(keep_running=False)
    monkeypatch.setenv(name, session)
    owner.scan()
    assert owner.queued == [] and owner.get(waiting.id).status is JobStatus.CANCELLED
    owner.close(keep_running=False, at_once=True)


def test_what_has_begun_elsewhere_meanwhile_is_not_taken_for_waiting(stage, monkeypatch):
    owner = stage.new_manager(max_running=1)
    job = stage.submit("long")
    session = os.environ["COGRAD3D_SESSION"]
    write_claim(job.path, replace(read_claim(job.path), blender=os.getppid()))
    monkeypatch.setenv("COGRAD3D_SESSION", f"{os.getpid()}-another")
    watcher = stage.new_manager()
    watcher.scan()
    seen = watcher.get(job.id)
    monkeypatch.setenv("COGRAD3D_SESSION", session)
    stage.manager = owner
    stage.run_until(job)
    before = read_claim(job.path)
    monkeypatch.setenv("COGRAD3D_SESSION", f"{os.getpid()}-another")
    with pytest.raises(JobError, match="still working"):
        watcher.cancel(seen)
    assert read_claim(job.path) == before and seen.waits_elsewhere
    watcher.close(keep_running=False)
    monkeypatch.setenv("COGRAD3D_SESSION", session)
    owner.tick()
    assert job.status is JobStatus.RUNNING
    owner.close(keep_running=False, at_once=True)


def test_a_job_that_was_cancelled_elsewhere_a_moment_ago_is_not_started(stage):
    job = stage.submit("long")
    write_claim(job.path, replace(read_claim(job.path), blender=os.getppid(), session="another", waits_since=0.0))
    with job.folder.lock():
        job.folder.update_state(status="cancelled")
    stage.manager.tick()
    assert job.status is JobStatus.CANCELLED and not stage.pids, "whoever waits for it need not wait on"
    assert stage.told(job, "bye")


@pytest.mark.parametrize("says_so", [True, False])
def test_when_blender_quits_nobody_takes_what_waits_for_waiting(stage, says_so):
    stage.new_manager(max_running=1)
    running, waiting = stage.submit("long"), stage.submit("long")
    stage.run_until(running)
    left = stage.manager.close(keep_running=False, at_once=says_so)
    assert left == ([] if says_so else [waiting.path, running.path])
    assert read_claim(waiting.path).is_queued is not says_so
    end_waiting(left)
    assert not read_claim(waiting.path).is_queued
    wait_until(lambda: not any(map(is_running, stage.pids)), 5.0, "the end of the worker")
    assert stage.new_manager().queued == []


@pytest.fixture
def terminal_run(tmp_path):
    """A job that somebody runs in a terminal."""
    folder = JobFolder.create(tmp_path / "jobs", JobSpec(prompt="a red cat"), {})
    process = subprocess.Popen([sys.executable, str(FAKE), str(folder.path), "long"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_until(lambda: folder.events_path.exists() and folder.in_use, 10.0, "the run")
    yield folder, process
    process.kill()
    process.wait()
    process.stdin.close()


def test_a_run_in_a_terminal_is_followed_and_steered(stage, terminal_run):
    folder, process = terminal_run
    stage.manager.scan()
    job = stage.manager.get(folder.path.name)
    stage.run_until(job, 5)
    stage.manager.set_weights(job, [1], 5.0)
    stage.pump(lambda: job.regions and job.regions.weight[1] == 5.0)
    own = stage.submit("quick")  # it does not take the place of one of ours
    stage.finish(own)
    stage.manager.close(keep_running=False)
    time.sleep(0.5)
    assert process.poll() is None
    stage.new_manager().scan()
    job = stage.manager.get(folder.path.name)
    stage.manager.cancel(job)
    stage.finish(job)
    assert job.status is JobStatus.CANCELLED


@posix
def test_a_run_of_somebody_else_is_never_killed(stage, terminal_run):
    folder, process = terminal_run
    stage.patience = Patience(cancel=0.2, terminate=0.2)
    stage.new_manager().scan()
    job = stage.manager.get(folder.path.name)
    process.send_signal(signal.SIGSTOP)  # it hears nothing
    stage.manager.cancel(job)
    stage.pump(lambda: job.notices)
    assert [notice.code for notice in job.notices] == ["foreign"]
    assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    stage.finish(job)
    assert job.status is JobStatus.CANCELLED


@posix
def test_a_worker_found_again_can_be_ended(stage, short_lease):
    stage.patience = Patience(cancel=0.2, terminate=0.2)
    stage.new_manager()
    job = stage.submit("long")
    stage.run_until(job, 5)
    reload(stage)
    found = stage.manager.get(job.id)
    (pid,) = stage.pids
    os.kill(pid, signal.SIGSTOP)
    stage.manager.cancel(found)
    stage.finish(found)
    assert found.status is JobStatus.CANCELLED
    assert not is_running(pid)


def test_a_run_that_is_killed_while_it_is_followed(stage, terminal_run):
    folder, process = terminal_run
    stage.manager.scan()
    job = stage.manager.get(folder.path.name)
    process.kill()
    process.wait()
    stage.finish(job)
    assert job.status is JobStatus.INTERRUPTED


def test_a_job_that_appears_later(stage, terminal_run, monkeypatch):
    folder, _ = terminal_run
    monkeypatch.setattr(watch, "INTERVAL", 0.2)
    stage.pump(lambda: stage.manager.get(folder.path.name))
    assert stage.manager.jobs[0].status is JobStatus.RUNNING


@posix
def test_ctrl_c_in_the_terminal_does_not_reach_the_worker(stage):
    stage.submit("long")
    stage.pump(lambda: stage.pids)
    (pid,) = stage.pids
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)


PARENT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import conftest
    from cograd3d.backend.protocol import JobSpec
    from cograd3d.cograd3d_addon.jobs import JobManager

    manager = JobManager(Path({root!r}), lambda folder: [sys.executable, {fake!r}, str(folder.path), "long"])
    job = manager.submit(JobSpec(prompt="a red cat"), {{}})
    wanted = ("hello", "progress")
    manager.listeners.append(lambda job, event: print(getattr(event, "pid", ""), flush=True) if event.type in wanted else None)
    while True:
        manager.tick()
        time.sleep(0.05)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_when_blender_is_killed_the_worker_leaves(tmp_path, number):
    code = textwrap.dedent(PARENT).format(tests=str(Path(__file__).parents[1]), root=str(tmp_path), fake=str(FAKE))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "\n"
    finally:
        parent.send_signal(number)
        parent.wait()
        parent.stdout.close()
    began = time.monotonic()
    wait_until(lambda: not is_running(pid), 10.0, "the worker's end")
    assert time.monotonic() - began < 10.0
    (path,) = tmp_path.iterdir()
    folder = JobFolder.open(path)
    assert folder.state.status == "interrupted"
    assert folder.latest_checkpoint() is not None


def test_a_claim_that_cannot_be_read_is_none(tmp_path):
    assert read_claim(tmp_path) is None
    for text in ("", "[]", '{"host": 3}', "{"):
        (tmp_path / "claim.json").write_text(text)
        assert read_claim(tmp_path) is None
    write_claim(tmp_path, Claim.mine(worker=5, waits_since=7.5))
    claim = read_claim(tmp_path)
    assert (claim.worker, claim.waits_since, claim.is_queued, claim.is_mine, claim.is_abandoned) == (5, 7.5, True, True, False)
    (tmp_path / "claim.json").write_text(json.dumps({"host": "elsewhere", "blender": 1, "session": claim.session}))
    assert not read_claim(tmp_path).is_mine
