"""The trace and the events, whole lines after whatever killed their process."""

import errno
import json
import math
import os
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.errors import OutputError
from backend.job import JobFolder
from backend.job_lines import trace_visits
from backend.protocol import Progress

from .folders import start_python


def test_the_trace_comes_back(folder):
    folder.append_trace({"iteration": 0, "loss": 0.1, "probability": np.array([0.25, 0.75]), "cosine": {"means": np.float32(0.5)}})
    folder.append_trace({"iteration": 1, "loss": math.nan, "norm": np.array([math.inf, 1.0]), "weight": torch.tensor([0.25])})
    assert list(folder.read_trace()) == [
        {"iteration": 0, "loss": 0.1, "probability": [0.25, 0.75], "cosine": {"means": 0.5}},
        {"iteration": 1, "loss": None, "norm": [None, 1.0], "weight": [0.25]},
    ]
    json.loads(folder.trace_path.read_text().splitlines()[1], parse_constant=lambda name: pytest.fail(name))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_come_back_exactly(folder, values):
    folder.append_trace({"x": values})
    assert list(folder.read_trace())[-1]["x"] == values


def test_events_carry_their_time(folder):
    folder.append_event(Progress(iteration=1, total=2))
    (event,) = folder.read_events()
    assert event["type"] == "progress"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", event["time"])


def test_a_line_has_a_visit_a_region():
    line = {"iteration": 3, "region": 5, "t": 500, "loss": 0.5, "also": [{"region": 7, "loss": 0.25}, {"region": 1, "t": 480}]}
    assert trace_visits(line) == [
        {"iteration": 3, "region": 5, "t": 500, "loss": 0.5},
        {"iteration": 3, "region": 7, "t": 500, "loss": 0.25},
        {"iteration": 3, "region": 1, "t": 480, "loss": 0.5},
    ]
    assert trace_visits({"iteration": 3, "region": 5}) == [{"iteration": 3, "region": 5}], "as lines of earlier versions are"


def test_no_trace_is_an_empty_trace(folder):
    assert list(folder.read_trace()) == []
    folder.truncate_trace(0)
    assert list(folder.read_trace()) == []


def trace_bytes(count):
    return b"".join(json.dumps({"iteration": i, "note": "}\u2028\n{" * (i % 3)}).encode() + b"\n" for i in range(count))


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_trace_torn_at_any_byte_reads_and_goes_on(folder, data):
    whole = trace_bytes(6)
    length = data.draw(st.integers(0, len(whole)))
    garbage = data.draw(st.sampled_from([b"", b"\0" * 40, b"\0" * 40 + b"\n"]))
    folder.trace_path.write_bytes(whole[:length] + garbage)
    lines = whole[:length].count(b"\n")
    assert [line["iteration"] for line in folder.read_trace()] == list(range(lines))
    again = JobFolder.open(folder.path)
    again.append_trace({"iteration": 99})
    again.close()
    assert [line["iteration"] for line in folder.read_trace()] == [*range(lines), 99]
    assert folder.trace_path.read_bytes().count(b"\n") == lines + 1, "the torn line is gone, not just passed over"


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncating_keeps_what_the_checkpoint_holds(folder, data):
    whole = trace_bytes(8)
    folder.trace_path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    before = [line["iteration"] for line in folder.read_trace()]
    iteration = data.draw(st.integers(0, 9))
    folder.truncate_trace(iteration)
    assert [line["iteration"] for line in folder.read_trace()] == [i for i in before if i < iteration]
    assert folder.trace_path.read_bytes()[-1:] in (b"", b"\n"), "nothing torn is left either"
    folder.append_trace({"iteration": iteration})
    folder.close()
    assert list(folder.read_trace())[-1] == {"iteration": iteration}


def test_the_end_of_a_long_torn_file_is_found(folder):
    line = b'{"x": "' + b"y" * 100_000 + b'"}\n'
    folder.trace_path.write_bytes(line * 3 + line[:70_000])
    folder.append_trace({"iteration": 3})
    assert folder.trace_path.read_bytes() == line * 3 + b'{"iteration":3}\n'


def test_a_damaged_line_in_the_middle_is_passed_over(folder):
    folder.trace_path.write_bytes(b'{"iteration": 0}\nrubbish\n{"iteration": 2}\n')
    assert [line["iteration"] for line in folder.read_trace()] == [0, 2]


def test_a_full_disk_leaves_no_part_of_a_line(folder, monkeypatch):
    folder.append_trace({"iteration": 0})
    appender = folder._appenders["trace.jsonl"]

    class Full:
        """A file on a disk with room for seven more bytes."""

        room = 7

        def __init__(self, file):
            self.file = file

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written, self.room = self.file.write(data[: self.room]), 0
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(appender, "_file", Full(appender._file))
    with pytest.raises(OutputError, match="disk is full"):
        folder.append_trace({"iteration": 1})
    assert folder.trace_path.read_bytes() == b'{"iteration":0}\n'


def test_kill_while_appending_leaves_whole_lines(folder):
    writer = start_python(
        """
        import sys
        from backend.job import JobFolder
        folder = JobFolder.open(sys.argv[1])
        for iteration in range(10**9):
            folder.append_trace({"iteration": iteration, "x": [0.1] * 50})
            if iteration == 200:
                print("going", flush=True)
        """,
        folder.path,
    )
    assert writer.stdout.readline() == "going\n"
    writer.kill()
    writer.wait()
    iterations = [line["iteration"] for line in folder.read_trace()]
    assert len(iterations) > 200
    assert iterations == list(range(len(iterations)))
