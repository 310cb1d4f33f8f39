"""The worker, driven by a client that knows nothing but the protocol: one JSON object a line in each direction."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from queue import Empty, Queue

import pytest

from backend.command_file import send_command
from backend.control import Control
from backend.job import JobFolder
from backend.protocol import Alive, Cancel, Detach, JobSpec, Pause, Stop, Weight
from backend.worker import execute

FAKE = Path(__file__).with_name("fake_worker.py")
LIMIT = 30.0


class Client:
    """Starts a worker, sends commands and collects events."""

    def __init__(self, folder, job="steps", environment=None, **options):
        self.process = subprocess.Popen(
            [sys.executable, str(FAKE), str(folder), job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | (environment or {}),
            **options,
        )
        self.events, self.raw, self._queue = [], b"", Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line)
        self._queue.put(None)

    def send(self, **command):
        self.write(json.dumps(command).encode() + b"\n")

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def next(self, limit=LIMIT):
        """The next event, None at the end of the stream."""
        line = self._queue.get(timeout=limit)
        if line is None:
            return None
        self.raw += line
        assert line.endswith(b"\n"), "half a line"
        self.events.append(json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} on the wire")))
        return self.events[-1]

    def until(self, kind, **fields):
        """Read on to the first event of a type with these values."""
        while (event := self.next()) is not None:
            if event["type"] == kind and event | fields == event:
                return event
        raise AssertionError(f"no {kind} {fields} in {[event['type'] for event in self.events]}")

    def finish(self):
        """Read to the end; the exit code."""
        while self.next() is not None:
            pass
        return self.process.wait(LIMIT)

    def types(self):
        return [event["type"] for event in self.events]


@pytest.fixture
def folder(tmp_path):
    return JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})


@pytest.fixture
def start(folder):
    clients = []

    def begin(job="steps", path=folder.path, **options):
        clients.append(Client(path, job, **options))
        return clients[-1]

    yield begin
    for client in clients:
        client.process.kill()
        client.process.wait()


def test_a_whole_run(start, folder):
    client = start("quick")
    assert client.finish() == 0
    hello, bye = client.events[0], client.events[-1]
    assert (hello["type"], hello["protocol"], hello["job"], hello["pid"]) == ("hello", 1, str(folder.path), client.process.pid)
    assert bye == {"type": "bye", "reason": "finished", "exit_code": 0, "resumable": False}
    assert client.types()[1] == "phase"
    assert client.types()[-2] == "result"
    iterations = [event["iteration"] for event in client.events if event["type"] == "progress"]
    assert iterations == sorted(set(iterations))
    assert iterations[-1] == 60
    state = folder.state
    assert (state.status, state.error) == ("finished", None)
    assert [event["type"] for event in folder.read_events()] == [kind for kind in client.types() if kind not in ("hello", "bye")]
    assert json.loads(folder.regions_path.read_text())["iteration"] == 60
    assert [line["iteration"] for line in folder.read_trace()] == list(range(60))


def test_what_libraries_print_goes_to_the_log(start, folder):
    client = start("noisy")
    assert client.finish() == 0
    assert b"printed" not in client.raw
    log = folder.log_path.read_text()
    for text in ("printed by Python", "printed by a native library", "printed by a child", "an unfinished line"):
        assert text in log


def test_standard_input_belongs_to_the_commands(start):
    client = start("greedy")
    client.until("progress")
    client.send(type="stop")
    assert client.finish() == 0


def test_pause_and_resume(start):
    client = start()
    client.until("progress")
    client.send(type="pause")
    client.until("paused", paused=True)
    time.sleep(0.3)
    with pytest.raises(Empty):
        client.next(limit=0.1)
    client.send(type="resume")
    client.until("paused", paused=False)
    client.until("progress")


def test_stop_makes_the_mesh_of_what_is_there(start, folder):
    client = start()
    client.until("progress", iteration=5)
    client.send(type="stop")
    assert client.finish() == 0
    result = next(event for event in client.events if event["type"] == "result")
    assert 5 <= result["iterations"] < 400
    assert client.events[-1]["reason"] == "finished"
    assert folder.state.status == "finished"


@pytest.mark.parametrize("first", [None, "pause"])
def test_cancel_leaves_a_checkpoint_and_no_result(start, folder, first):
    client = start()
    client.until("progress", iteration=5)
    if first:
        client.send(type=first)
        client.until("paused")
    client.send(type="cancel")
    assert client.finish() == 130
    assert "result" not in client.types()
    assert client.events[-1] == {"type": "bye", "reason": "cancelled", "exit_code": 130, "resumable": True}
    assert folder.state.status == "cancelled"
    assert folder.latest_checkpoint().iteration >= 5


def test_weights_reach_the_run(start):
    client = start()
    client.until("progress")
    client.send(type="weight", regions=[1, 3], factor=2.5)
    client.until("regions", weight=[1.0, 2.5, 1.0, 2.5])
    client.send(type="weight", regions=[3], factor=0)
    client.until("regions", weight=[1.0, 2.5, 1.0, 0.0])


def test_a_preview_on_request(start):
    client = start()
    client.until("progress")
    client.send(type="preview")
    assert client.until("preview")["image"] == "preview.png"
    client.send(type="preview", region=2)
    assert client.until("preview", region=2)["image"] == "views/region-002.png"


def test_a_paused_run_answers(start):
    client = start()
    client.until("progress")
    client.send(type="pause")
    client.until("paused", paused=True)
    client.send(type="preview", region=1)
    client.until("preview", region=1)
    client.send(type="weight", regions=[2], factor=4.0)
    client.until("regions", weight=[1.0, 1.0, 4.0, 1.0])
    assert "progress" not in client.types()[client.types().index("paused") :]
    client.send(type="resume")
    client.until("paused", paused=False)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"rubbish\n", "line"),
        (b"\xff\xfe\x00\n", "line"),
        (b'{"type": "weight"}\n', "line"),
        (b'{"type": "weight", "regions": [0], "factor": -1}\n', "command"),
        (b'{"type": "weight", "regions": [-1], "factor": 1}\n', "command"),
        (b'{"type": "preview", "region": -2}\n', "command"),
        (b'{"type": "detach", "lease": -1}\n', "command"),
        (b'{"type": "detach", "lease": null}\n', "command"),
        (b"x" * (3 << 20) + b"\n", "line"),
        (b"[" * 500_000 + b"\n", "line"),
    ],
    ids=["text", "binary", "no fields", "factor", "region", "preview", "lease", "no lease", "enormous", "deep"],
)
@pytest.mark.parametrize("way", ["stdin", "file"])
def test_bad_lines_are_reported_and_survived(start, folder, line, code, way):
    client = start()
    client.until("progress")
    if way == "stdin":
        client.write(line)
    else:
        with open(folder.commands_path, "ab") as file:
            file.write(line)
    warning = client.until("warning")
    assert warning["code"] == code
    assert warning["message"]
    assert warning["remedy"]
    client.send(type="stop")
    assert client.finish() == 0


def test_unknown_commands_and_fields_are_ignored_with_a_log_line(start, folder):
    client = start()
    client.until("progress")
    client.send(type="sing", song=1)
    client.send(type="stop", urgent=True)
    assert client.finish() == 0
    assert "warning" not in client.types()
    log = folder.log_path.read_text()
    assert "'sing'" in log
    assert "urgent" in log


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


def test_commands_come_through_the_file_too(start, folder):
    send_command(folder.path, Cancel())  # to an earlier run, not to this one
    client = start()
    client.until("progress")
    send_command(folder.path, Pause())
    client.until("paused", paused=True)
    send_command(folder.path, Weight(regions=(1,), factor=2.0))
    client.until("regions", weight=[1.0, 2.0, 1.0, 1.0])
    send_command(folder.path, Stop())
    assert client.finish() == 0


def test_a_run_without_the_wire_obeys_the_file_too(folder):
    """`generate` in a terminal."""
    told = []

    def runner(folder, emit, control):
        send_command(folder.path, Stop())
        deadline = time.monotonic() + LIMIT
        while not control.should_stop:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with open(folder.commands_path, "ab") as file:
        file.write(b"rubbish\n")  # not to this run
    assert execute(folder, runner, told.append, Control()).reason == "finished"
    assert told == []


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


def test_an_end_in_the_middle_of_a_line(start):
    client = start()
    client.until("progress")
    client.write(b'{"type": "sto')
    client.process.stdin.close()
    assert client.finish() == 130
    assert "line" in [event["code"] for event in client.events if event["type"] == "warning"]


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


def test_a_parent_that_does_not_read_does_not_stop_the_run(folder):
    process = subprocess.Popen([sys.executable, str(FAKE), str(folder.path), "flood"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + LIMIT
    while not (folder.path / "flooded").exists():
        assert time.monotonic() < deadline, "the run waits for its reader"
        time.sleep(0.02)
    output, _ = process.communicate(timeout=LIMIT)
    events = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert [event["type"] for event in events[-2:]] == ["result", "bye"]
    assert events[0]["type"] == "hello"
    assert len(events) < 20_000, "stale progress was dropped"
    assert [event["iteration"] for event in events if event["type"] == "progress"][-1] == 19_999


def test_a_flood_of_bad_lines_that_nobody_hears_about_does_no_harm(folder):
    process = subprocess.Popen([sys.executable, str(FAKE), str(folder.path), "steps"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"rubbish\n" * 20_000 + b'{"type": "stop"}\n')
    process.stdin.flush()
    wait_until_finished(folder)
    output, _ = process.communicate(timeout=LIMIT)
    events = [json.loads(line) for line in output.splitlines()]
    assert (process.returncode, len(events) < 5000) == (0, True)
    types = [event["type"] for event in events if event["type"] != "warning"]  # the last of which may come late
    assert types[-2:] == ["result", "bye"] and events[-1]["type"] == "bye"


def wait_until_finished(folder):
    deadline = time.monotonic() + LIMIT
    while folder.state.status != "finished":
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def test_a_second_worker_on_one_job_is_refused(start, folder):
    first = start()
    first.until("progress")
    second = start()
    assert second.finish() == 7
    error, bye = second.events[-2:]
    assert (error["type"], error["code"]) == ("error", "job")
    assert str(first.process.pid) in error["message"]
    assert error["remedy"]
    assert (bye["type"], bye["reason"]) == ("bye", "failed")
    assert folder.state.status == "running", "the first one's business"
    first.send(type="stop")
    assert first.finish() == 0


@pytest.mark.parametrize(
    ("job", "exit_code", "code", "words"),
    [("refused", 5, "prior", "no prior here"), ("broken", 1, "error", "a bug"), ("starved", 9, "resources", "enough memory")],
)
def test_errors_say_what_to_do(start, folder, job, exit_code, code, words):
    client = start(job)
    assert client.finish() == exit_code
    error, bye = client.events[-2:]
    assert (error["type"], error["code"]) == ("error", code)
    assert words in error["message"]
    assert error["remedy"]
    assert bye == {"type": "bye", "reason": "failed", "exit_code": exit_code, "resumable": job == "broken"}
    state = folder.state
    assert state.status == "failed"
    assert state.error == {"code": code, "message": error["message"], "remedy": error["remedy"]}
    if job == "broken":
        assert "Traceback" in folder.log_path.read_text()


def test_no_job_folder(start, tmp_path):
    client = start(path=tmp_path / "none")
    assert client.finish() == 7
    assert client.types() == ["hello", "error", "bye"]


def test_a_newer_job_is_refused(start, folder):
    value = json.loads(folder.spec_path.read_text())
    folder.spec_path.write_text(json.dumps(value | {"version": 99}))
    client = start()
    assert client.finish() == 7
    assert "newer version" in client.events[1]["message"]


def test_a_closed_standard_input_from_the_start(folder):
    process = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&-', sys.executable, str(FAKE), str(folder.path), "steps"], capture_output=True, timeout=LIMIT
    )
    assert process.returncode == 130
    assert json.loads(process.stdout.splitlines()[-1])["reason"] == "interrupted"


def test_the_modules_need_the_standard_library_only():
    code = """
        import sys
        import backend.progress, backend.worker
        print([name for name in sys.modules if name.partition(".")[0] in ("torch", "numpy", "safetensors", "bpy")])
    """
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-S", "-c", textwrap.dedent(code)], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
