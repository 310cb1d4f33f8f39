"""Runs that go on without whoever started them, for as long as their lease is renewed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from backend.command_file import send_command
from backend.control import Control
from backend.protocol import Alive, Detach, Stop
from backend.worker import execute

from .client import FAKE, LIMIT


def test_the_lease_of_a_run_without_the_wire(folder):
    def runner(folder, emit, control):
        send_command(folder.path, Detach(lease=0.2))
        while True:
            control.raise_if_cancelled()
            time.sleep(0.01)

    bye = execute(folder, runner, lambda event: None, Control())
    assert (bye.reason, bye.resumable) == ("interrupted", True)


class TestDetached:
    """After a `detach` the run goes on without whoever started it."""

    @pytest.mark.parametrize("way", ["stdin", "file"])
    def test_closed_pipes_are_harmless(self, folder, way):
        events = os.pipe()
        process = subprocess.Popen([sys.executable, str(FAKE), str(folder.path), "steps"], stdin=subprocess.PIPE, stdout=events[1])
        os.close(events[1])
        with os.fdopen(events[0], "rb") as stream:
            while json.loads(stream.readline())["type"] != "progress":
                pass
            if way == "stdin":
                process.stdin.write(b'{"type": "detach", "lease": 0}\n')
            else:
                send_command(folder.path, Detach())
            process.stdin.close()
        assert process.wait(LIMIT) == 0
        assert folder.state.status == "finished"
        events = list(folder.read_events())
        assert events[-1]["type"] == "result"
        assert [event["iteration"] for event in events if event["type"] == "progress"] == list(range(1, 401)), "all of it is on record"
        assert not folder.in_use

    def test_the_death_of_the_parent_is_harmless(self, folder):
        launcher = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import subprocess, sys; subprocess.run(sys.argv[1:])",
                *(sys.executable, str(FAKE), str(folder.path), "steps"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        while json.loads(launcher.stdout.readline())["type"] != "progress":
            pass
        launcher.stdin.write(b'{"type": "detach"}\n')
        launcher.stdin.flush()
        launcher.kill()
        launcher.wait()
        types = [json.loads(line)["type"] for line in launcher.stdout]
        launcher.stdin.close()
        assert types[-2:] == ["result", "bye"]
        assert folder.state.status == "finished"

    def test_a_lease_that_nobody_renews_ends_it(self, start, folder):
        client = start()
        client.until("progress")
        client.send(type="detach", lease=0.3)
        client.process.stdin.close()
        assert client.finish() == 130
        assert client.events[-1] == {"type": "bye", "reason": "interrupted", "exit_code": 130, "resumable": True}
        assert folder.state.status == "interrupted"
        assert folder.latest_checkpoint().iteration < 400
        assert not folder.in_use

    def test_a_lease_is_renewed_through_the_file(self, start, folder):
        client = start("long")
        client.until("progress")
        client.send(type="detach", lease=1.0)
        client.process.stdin.close()
        began = time.monotonic()
        while time.monotonic() - began < 3:
            send_command(folder.path, Alive())
            time.sleep(0.2)
        assert client.process.poll() is None
        send_command(folder.path, Stop())
        assert client.finish() == 0

    def test_a_lease_holds_while_paused_too(self, start, folder):
        client = start()
        client.until("progress")
        client.send(type="pause")
        client.until("paused")
        client.send(type="detach", lease=0.3)
        assert client.finish() == 130
        assert client.events[-1]["reason"] == "interrupted"

    def test_a_paused_run_that_nobody_may_wake_is_left_at_a_checkpoint(self, start, folder):
        client = start()
        client.until("progress")
        client.send(type="pause")
        client.until("paused")
        client.send(type="detach")
        assert client.finish() == 130
        assert client.events[-1] == {"type": "bye", "reason": "interrupted", "exit_code": 130, "resumable": True}

    @pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM"])
    def test_of_the_signals_only_that_of_a_closed_terminal_is_harmless(self, start, folder, number):
        client = start()
        client.until("progress")
        client.send(type="preview", region=0)
        client.send(type="detach")
        client.send(type="preview", region=1)
        client.until("preview", region=1)
        client.process.send_signal(getattr(signal, number))
        assert client.finish() == (0 if number == "SIGHUP" else 130)

    def test_told_to_end_a_run_that_does_not_listen_is_left_after_a_while(self, start, folder):
        client = start("stuck", environment={"GRACE_SECONDS": "0.3"})
        client.until("phase")
        client.send(type="detach")
        client.send(type="cancel")
        began = time.monotonic()
        assert client.finish() == 130
        assert time.monotonic() - began < 10
        assert not folder.in_use

    def test_it_does_not_wait_for_a_reader_that_never_reads(self, folder):
        """Somebody else may hold the other end of the pipe: a child of whoever started the run."""
        process = subprocess.Popen(
            [sys.executable, str(FAKE), str(folder.path), "flood"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"READER_SECONDS": "0.3"},
        )
        process.stdin.write(b'{"type": "detach"}\n')
        process.stdin.close()
        assert process.wait(LIMIT) == 0
        process.stdout.close()
        assert folder.state.status == "finished"
