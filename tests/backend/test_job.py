"""The job folder, whole after whatever killed its process."""

import errno
import json
import math
import os
import re
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.config import GenerationConfig
from backend.errors import JobError, OutputError
from backend.job import JobFolder, JobState, slug
from backend.protocol import JobSpec, Progress
from backend.settings import from_dict

ROOT = Path(__file__).parents[2]
CONFIG = {"run": {"seed": 3}}


@pytest.fixture
def folder(tmp_path):
    return JobFolder.create(tmp_path / "jobs", JobSpec(prompt="a red cat"), CONFIG)


def start_python(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# --- making and opening


def test_a_new_folder_is_complete(tmp_path):
    spec = JobSpec(prompt="A réd cat, 2 m tall!", outputs=("/x/cat.glb",))
    made = JobFolder.create(tmp_path / "deep" / "jobs", spec, CONFIG)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-a-red-cat-2-m-tall-[0-9a-f]{6}", made.path.name)
    assert sorted(entry.name for entry in made.path.iterdir()) == ["config.json", "spec.json", "state.json"]
    opened = JobFolder.open(made.path)
    assert opened.spec == spec
    assert opened.config == CONFIG
    assert opened.state.status == "created"
    assert opened.state.created == opened.state.updated != ""


def test_settings_come_back_infinite_ones_too(tmp_path):
    config = GenerationConfig()
    config.gradient_fusion.cap = math.inf
    folder = JobFolder.create(tmp_path, JobSpec(prompt="x"), config)
    json.loads(folder.config_path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert from_dict(JobFolder.open(folder.path).config) == config


def test_text_that_is_no_unicode_comes_back(tmp_path):
    spec = JobSpec(prompt="a cat \udc80", outputs=(os.fsdecode(b"/x/\xff.glb"),))
    assert JobFolder.open(JobFolder.create(tmp_path, spec, CONFIG).path).spec == spec


def test_two_jobs_of_one_prompt_are_two_folders(tmp_path):
    spec = JobSpec(prompt="a red cat")
    assert JobFolder.create(tmp_path, spec, CONFIG).path != JobFolder.create(tmp_path, spec, CONFIG).path


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red cat", "a-red-cat"),
        ("Ein Bär / ..\\x", "ein-bar-x"),
        ("赤い猫", "untitled"),
        ("", "untitled"),
        ("x" * 100, "x" * 32),
        ("a very long sentence about one red cat", "a-very-long-sentence-about-one"),
    ],
)
def test_slugs(prompt, expected):
    assert slug(prompt) == expected


@given(st.text())
def test_a_slug_is_always_a_file_name(prompt):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(prompt))
    assert len(slug(prompt)) <= 32


def test_the_root_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        JobFolder.create(tmp_path / "file" / "jobs", JobSpec(prompt="x"), CONFIG)


def test_no_folder_and_no_job_folder(tmp_path):
    with pytest.raises(JobError, match="There is no job folder"):
        JobFolder.open(tmp_path / "none")
    with pytest.raises(JobError, match=r"no spec\.json") as caught:
        JobFolder.open(tmp_path)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["spec.json", "config.json", "state.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 10_000, b"null"])
def test_a_damaged_file_is_named(folder, name, content):
    (folder.path / name).write_bytes(content)
    with pytest.raises(JobError, match=re.escape(name)):
        JobFolder.open(folder.path)


@pytest.mark.parametrize("name", ["spec.json", "state.json"])
def test_a_newer_version_is_refused(folder, name):
    value = json.loads((folder.path / name).read_text())
    (folder.path / name).write_text(json.dumps(value | {"version": value["version"] + 1}))
    with pytest.raises(JobError, match="newer version") as caught:
        JobFolder.open(folder.path)
    assert "Update" in caught.value.remedy


@pytest.mark.parametrize(("name", "field"), [("spec.json", "prompt"), ("state.json", "iteration"), ("state.json", "error")])
def test_a_field_of_the_wrong_type_is_damage(folder, name, field):
    value = json.loads((folder.path / name).read_text())
    (folder.path / name).write_text(json.dumps(value | {field: [1]}))
    with pytest.raises(JobError, match=re.escape(name)):
        JobFolder.open(folder.path)


@pytest.mark.parametrize("name", ["spec.json", "state.json"])
@pytest.mark.parametrize("version", [None, "1", True])
def test_a_senseless_version_is_damage(folder, name, version):
    value = json.loads((folder.path / name).read_text())
    (folder.path / name).write_text(json.dumps(value | {"version": version}))
    with pytest.raises(JobError, match="damaged"):
        JobFolder.open(folder.path)


def test_unknown_fields_of_a_state_are_ignored(folder):
    value = json.loads(folder.state_path.read_text())
    folder.state_path.write_text(json.dumps(value | {"mood": "good"}))
    assert JobFolder.open(folder.path).state.status == "created"


def test_state_changes_keep_the_rest(folder):
    folder.update_state(status="running", phase="optimise")
    folder.update_state(iteration=100, total=400)
    state = JobFolder.open(folder.path).state
    assert (state.status, state.phase, state.iteration, state.total, state.version) == ("running", "optimise", 100, 400, JobState.VERSION)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(folder):
    folder.path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        for action in (lambda: folder.lock().__enter__(), lambda: folder.append_trace({}), lambda: folder.write_checkpoint(1, {}, {})):
            with pytest.raises(OutputError, match="permission denied"):
                action()
    finally:
        folder.path.chmod(stat.S_IRWXU)


# --- one process


def test_a_second_lock_is_refused_until_the_first_is_given_up(folder):
    other = JobFolder.open(folder.path)
    with folder.lock():
        with folder.lock():
            pass
        assert other.in_use
        assert not folder.in_use
        with pytest.raises(JobError, match=rf"Another process \({os.getpid()}\)"), other.lock():
            pytest.fail("two locks")
    assert not other.in_use
    with other.lock():
        pass


def test_a_lock_ends_with_its_process(folder):
    holder = start_python(
        """
        import sys
        from backend.job import JobFolder
        with JobFolder.open(sys.argv[1]).lock():
            print("locked", flush=True)
            sys.stdin.read()
        """,
        folder.path,
    )
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(JobError, match=rf"Another process \({holder.pid}\)"), folder.lock():
        pytest.fail("two processes")
    holder.kill()
    holder.wait()
    with folder.lock():
        assert (folder.path / "job.lock").read_text() == f"{os.getpid()}\n"


def test_looking_whether_a_job_is_in_use_does_not_keep_others_from_it(folder):
    over = threading.Event()

    def look():
        looker = JobFolder.open(folder.path)
        while not over.is_set():
            _ = looker.in_use

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(200):
            with folder.lock():
                pass
    finally:
        over.set()
        thread.join()


# --- trace and events


def test_the_trace_comes_back(folder):
    folder.append_trace({"iteration": 0, "loss": 0.1, "probability": np.array([0.25, 0.75]), "cosine": {"means": np.float32(0.5)}})
    folder.append_trace({"iteration": 1, "loss": math.nan, "norm": math.inf})
    assert list(folder.read_trace()) == [
        {"iteration": 0, "loss": 0.1, "probability": [0.25, 0.75], "cosine": {"means": 0.5}},
        {"iteration": 1, "loss": None, "norm": None},
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
    folder.append_trace({"iteration": iteration})
    folder.close()
    assert list(folder.read_trace())[-1] == {"iteration": iteration}


def test_the_end_of_a_long_torn_file_is_found(folder):
    line = b'{"x": "' + b"y" * 100_000 + b'"}\n'
    folder.trace_path.write_bytes(line * 3 + line[:70_000])
    folder.append_trace({"iteration": 3})
    assert folder.trace_path.read_bytes() == line * 3 + b'{"iteration": 3}\n'


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
    assert folder.trace_path.read_bytes() == b'{"iteration": 0}\n'


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


# --- checkpoints


def arrays(value):
    return {"means": np.full((4, 3), value, np.float32), "empty": np.zeros((0, 3), np.float16), "rng": np.arange(5, dtype=np.uint8)}


def test_checkpoints_come_back_and_two_are_kept(folder):
    assert folder.latest_checkpoint() is None
    for iteration in (100, 200, 300):
        path = folder.write_checkpoint(
            iteration, arrays(iteration), {"iteration": iteration, "nested": [{"loss": math.nan}, math.inf, 0.1]}
        )
        assert path.parent.name == "checkpoint"
    assert [iteration for iteration, _ in folder.checkpoints()] == [300, 200]
    checkpoint = folder.latest_checkpoint()
    assert checkpoint.iteration == 300
    assert checkpoint.state["iteration"] == 300
    assert math.isnan(checkpoint.state["nested"][0]["loss"])
    assert checkpoint.state["nested"][1:] == [math.inf, 0.1]
    for name, expected in arrays(300).items():
        np.testing.assert_array_equal(checkpoint.tensors[name], expected)
        assert checkpoint.tensors[name].dtype == expected.dtype
    json.loads((checkpoint.path / "state.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_torch_tensors_come_back_as_torch_tensors(folder):
    torch = pytest.importorskip("torch")
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {"half": base.to(torch.bfloat16), "view": base.T, "part": base[1], "array": np.arange(3.0), "none": torch.zeros(0, 3)}
    folder.write_checkpoint(1, tensors, {})
    back = folder.latest_checkpoint().tensors
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = torch.as_tensor(tensor)
        assert back[name].dtype == expected.dtype
        assert torch.equal(back[name], expected)


def test_a_checkpoint_of_the_same_iteration_replaces_the_old_one(folder):
    folder.write_checkpoint(100, arrays(1), {"try": 1})
    folder.write_checkpoint(100, arrays(2), {"try": 2})
    assert folder.latest_checkpoint().state == {"try": 2}
    assert [entry.name for entry in folder.checkpoints_path.iterdir()] == ["000100"]


def damage_truncate(path):
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def damage_bit(path):
    file = path / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def damage_state(path):
    (path / "state.json").write_text('{"version": 1')


def damage_missing_state(path):
    (path / "state.json").unlink()


def damage_missing_tensors(path):
    (path / "tensors.safetensors").unlink()


def damage_shape_of_state(path):
    (path / "state.json").write_text("[]")


@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_bit, damage_state, damage_missing_state, damage_missing_tensors, damage_shape_of_state]
)
def test_a_damaged_checkpoint_is_passed_over(folder, damage, caplog):
    folder.write_checkpoint(100, arrays(1), {})
    damage(folder.write_checkpoint(200, arrays(2), {}))
    assert folder.latest_checkpoint().iteration == 100
    assert "000200" in caplog.text
    damage(folder.checkpoints_path / "000100")
    assert folder.latest_checkpoint() is None


def test_a_checkpoint_of_a_newer_version_is_refused(folder):
    path = folder.write_checkpoint(100, arrays(1), {}) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(JobError, match="newer version"):
        folder.latest_checkpoint()


def test_what_a_killed_process_left_goes_with_the_next_checkpoint(folder):
    folder.write_checkpoint(100, arrays(1), {})
    (folder.checkpoints_path / ".writing-0123456789ab").mkdir()
    assert folder.latest_checkpoint().iteration == 100
    folder.write_checkpoint(200, arrays(1), {})
    assert sorted(entry.name for entry in folder.checkpoints_path.iterdir()) == ["000100", "000200"]


def test_a_full_disk_keeps_the_earlier_checkpoint(folder, monkeypatch):
    folder.write_checkpoint(100, arrays(1), {})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        folder.write_checkpoint(200, arrays(2), {})
    assert [entry.name for entry in folder.checkpoints_path.iterdir()] == ["000100"]
    assert folder.latest_checkpoint().iteration == 100


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], capture_output=True, check=False)
        if os.name == "posix"
        else None
    )
    if made is None or made.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield mount
    subprocess.run(["umount", mount], check=True)


def test_the_state_is_read_anew_after_another_process_had_the_lock(folder):
    with folder.lock():
        folder.update_state(status="interrupted", iteration=10)
    other = JobFolder.open(folder.path)
    with other.lock():
        other.update_state(iteration=70, phase="surface")
    with folder.lock():
        folder.update_state(status="cancelled")
    assert (folder.state.status, folder.state.iteration, folder.state.phase) == ("cancelled", 70, "surface")


def test_a_disk_that_is_really_full(tiny_disk):
    folder = JobFolder.create(tiny_disk, JobSpec(prompt="x"), CONFIG)
    folder.write_checkpoint(1, {"a": np.zeros(10_000, np.float32)}, {})
    with pytest.raises(OutputError, match="disk is full"):
        folder.write_checkpoint(2, {"a": np.zeros(100_000, np.float32)}, {})
    with pytest.raises(OutputError, match="disk is full"):
        for iteration in range(100_000):
            folder.append_trace({"iteration": iteration, "x": "y" * 1000})
    folder.close()
    assert folder.trace_path.read_bytes().endswith(b"}\n")
    assert JobFolder.open(folder.path).latest_checkpoint().iteration == 1


def test_kill_while_checkpointing_leaves_a_whole_one(folder):
    writer = start_python(
        """
        import sys
        import numpy as np
        from backend.job import JobFolder
        folder = JobFolder.open(sys.argv[1])
        for iteration in range(10**9):
            folder.write_checkpoint(iteration, {"a": np.full(200_000, iteration, np.float32)}, {"i": iteration})
            if iteration == 3:
                print("going", flush=True)
        """,
        folder.path,
    )
    assert writer.stdout.readline() == "going\n"
    writer.kill()
    writer.wait()
    checkpoint = folder.latest_checkpoint()
    assert checkpoint.iteration >= 3
    assert checkpoint.state == {"i": checkpoint.iteration}
    assert (checkpoint.tensors["a"] == checkpoint.iteration).all()
