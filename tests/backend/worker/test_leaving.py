"""Signals, closed pipes, killed parents, kill: the worker goes, and leaves a job that can be resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from backend.command_file import send_command
from backend.job import JobFolder
from backend.protocol import Alive, Cancel, Detach

from .client import FAKE, LIMIT


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_hang_up_that_is_ignored_stays_ignored(start):
    """As `nohup` starts what is to outlive its terminal."""
    client = start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    client.until("progress")
    client.process.send_signal(signal.SIGHUP)
    assert client.finish() == 0


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT"])
def test_the_worker_leaves_a_checkpoint_and_goes(start, folder, end):
    client = start()
    client.until("progress", iteration=5)
    if end == "stdin":
        client.process.stdin.close()
    else:
        client.process.send_signal(getattr(signal, end))
    assert client.finish() == 130
    assert client.events[-1] == {"type": "bye", "reason": "interrupted", "exit_code": 130, "resumable": True}
    assert folder.state.status == "interrupted"
    checkpoint = folder.latest_checkpoint()
    assert [line["iteration"] for line in folder.read_trace()] == list(range(checkpoint.iteration))
    assert not folder.in_use


def test_an_end_in_the_middle_of_a_line(start):
    client = start()
    client.until("progress")
    client.write(b'{"type": "sto')
    client.process.stdin.close()
    assert client.finish() == 130
    assert "line" in [event["code"] for event in client.events if event["type"] == "warning"]


def test_a_closed_standard_error_from_the_start(folder):
    """As programs without a console start others: Python has no such stream."""
    process = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" 2>&- </dev/null', sys.executable, str(FAKE), str(folder.path), "steps"],
        stdout=subprocess.PIPE,
        timeout=LIMIT,
    )
    assert process.returncode == 130
    assert json.loads(process.stdout.splitlines()[-1])["reason"] == "interrupted"


def test_a_closed_standard_input_from_the_start(folder):
    process = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&-', sys.executable, str(FAKE), str(folder.path), "steps"], capture_output=True, timeout=LIMIT
    )
    assert process.returncode == 130
    assert json.loads(process.stdout.splitlines()[-1])["reason"] == "interrupted"


def test_the_worker_goes_when_nobody_reads(folder):
    events = os.pipe()
    process = subprocess.Popen([sys.executable, str(FAKE), str(folder.path), "steps"], stdin=subprocess.PIPE, stdout=events[1])
    os.close(events[1])
    with os.fdopen(events[0], "rb") as stream:
        assert json.loads(stream.readline())["type"] == "hello"
    assert process.wait(LIMIT) == 130
    process.stdin.close()
    assert folder.state.status == "interrupted"
    assert folder.latest_checkpoint() is not None


class Launcher:
    """A program that starts a worker and is killed; its pipes are this test's (`held`), or its own and so gone with it."""

    def __init__(self, folder, *, held=True, job="long"):
        self.folder = folder
        pipes = "" if held else ", stdin=subprocess.PIPE, stdout=subprocess.PIPE"
        code = f"import subprocess, sys; subprocess.Popen(sys.argv[1:]{pipes}).wait()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, sys.executable, str(FAKE), str(folder.path), job], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.until(lambda: any(event["type"] == "progress" for event in folder.read_events()))

    def until(self, reached, limit=LIMIT):
        deadline = time.monotonic() + limit
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self):
        """As a crash of Blender does it: nothing is closed, told or waited for."""
        self.process.kill()
        self.process.wait()

    def close(self):
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()
        send_command(self.folder.path, Cancel())
        self.kill()


@pytest.fixture
def launch(folder):
    launchers = []

    def begin(**options):
        launchers.append(Launcher(folder, **options))
        return launchers[-1]

    yield begin
    for launcher in launchers:
        launcher.close()


class TestParentKilled:
    @pytest.mark.parametrize("held", [True, False], ids=["pipes stay open", "pipes close"])
    def test_an_attached_worker_leaves_no_orphan(self, launch, folder, held):
        launcher = launch(held=held)
        launcher.kill()
        launcher.until(lambda: not folder.in_use, limit=10)
        assert folder.state.status == "interrupted"
        assert folder.latest_checkpoint().iteration == sum(1 for _ in folder.read_trace()), "up to the last step"
        if held:
            last = json.loads(launcher.process.stdout.readlines()[-1])  # ends when the process does
            assert (last["type"], last["reason"]) == ("bye", "interrupted")

    def test_a_detached_one_stays_for_as_long_as_its_lease_is_renewed(self, launch, folder):
        launcher = launch(held=False)
        send_command(folder.path, Detach(lease=2))
        launcher.kill()
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            send_command(folder.path, Alive())
            time.sleep(0.1)
        assert folder.in_use
        launcher.until(lambda: not folder.in_use, limit=10)
        assert folder.state.status == "interrupted"
        assert folder.latest_checkpoint() is not None


@pytest.mark.parametrize(("job", "limit"), [("stuck", "GRACE_SECONDS"), ("stuck_saved", "SAVED_GRACE_SECONDS")])
def test_a_run_that_does_not_listen_is_left_after_a_while(start, folder, job, limit):
    client = start(job, environment={limit: "0.3"})
    client.until("phase")
    client.process.stdin.close()
    began = time.monotonic()
    assert client.finish() == 130
    assert time.monotonic() - began < 10
    assert client.events[-1] == {"type": "bye", "reason": "interrupted", "exit_code": 130, "resumable": True}
    assert folder.state.status == "interrupted"
    assert not folder.in_use


def test_a_run_with_unsaved_steps_is_given_more_time(start, folder):
    client = start("stuck", environment={"SAVED_GRACE_SECONDS": "0.1", "GRACE_SECONDS": "2.5"})
    client.until("phase")
    client.process.stdin.close()
    began = time.monotonic()
    assert client.finish() == 130
    assert time.monotonic() - began > 2.4


def test_kill_leaves_a_folder_that_reads_and_goes_on(start, folder):
    client = start()
    client.until("checkpoint", iteration=100)
    client.process.kill()
    client.process.wait()
    left = JobFolder.open(folder.path)
    assert left.state.status == "running"
    assert not left.in_use, "so it was killed"
    assert left.latest_checkpoint().iteration >= 100
    assert next(left.read_events())["type"] == "phase"
    again = start()
    assert again.until("progress")["iteration"] == left.latest_checkpoint().iteration + 1
    assert again.finish() == 0
    assert [line["iteration"] for line in folder.read_trace()] == list(range(400)), "as if nothing had happened"
