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

from backend.job import JobFolder
from backend.protocol import JobSpec

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


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"rubbish\n", "line"),
        (b"\xff\xfe\x00\n", "line"),
        (b'{"type": "weight"}\n', "line"),
        (b'{"type": "weight", "regions": [0], "factor": -1}\n', "command"),
        (b'{"type": "weight", "regions": [-1], "factor": 1}\n', "command"),
        (b"x" * (3 << 20) + b"\n", "line"),
        (b"[" * 500_000 + b"\n", "line"),
    ],
    ids=["text", "binary", "no fields", "negative factor", "negative region", "enormous", "deep"],
)
def test_bad_lines_are_reported_and_survived(start, line, code):
    client = start()
    client.until("progress")
    client.write(line)
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


def test_the_worker_goes_with_its_parent_though_its_pipes_stay_open(folder):
    """A launcher starts the worker with pipes that this test holds, and is killed."""
    commands, events = os.pipe(), os.pipe()
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.run(sys.argv[1:])",
            sys.executable,
            str(FAKE),
            str(folder.path),
            "steps",
        ],
        stdin=commands[0],
        stdout=events[1],
    )
    os.close(events[1])
    os.close(commands[0])
    with os.fdopen(events[0], "rb") as stream:
        assert json.loads(stream.readline())["type"] == "hello"
        while json.loads(stream.readline())["type"] != "progress":
            pass
        launcher.kill()
        launcher.wait()
        last = json.loads(stream.readlines()[-1])
    os.close(commands[1])
    assert (last["type"], last["reason"]) == ("bye", "interrupted")
    assert folder.latest_checkpoint() is not None


def test_a_run_that_does_not_listen_is_left_after_a_while(start, folder):
    client = start("stuck", environment={"GRACE_SECONDS": "0.3"})
    client.until("phase")
    client.process.stdin.close()
    began = time.monotonic()
    assert client.finish() == 130
    assert time.monotonic() - began < 10
    assert client.types()[-1] == "bye"
    assert not folder.in_use


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
    assert [event["type"] for event in events[-2:]] == ["result", "bye"]


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
