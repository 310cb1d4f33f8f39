"""What goes over the wire: events out, commands in, and what is neither."""

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .client import FAKE, LIMIT


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


def test_the_modules_need_the_standard_library_only():
    code = """
        import sys
        import backend.progress, backend.worker
        print([name for name in sys.modules if name.partition(".")[0] in ("torch", "numpy", "safetensors", "bpy")])
    """
    root = Path(__file__).parents[3]
    found = subprocess.run([sys.executable, "-S", "-c", textwrap.dedent(code)], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
