"""Checkpoints: the last whole one counts, after damage, full disks and kill."""

import errno
import json
import math
import os
import subprocess

import numpy as np
import pytest

from backend.errors import JobError, OutputError
from backend.job import JobFolder, JobState
from backend.protocol import JobSpec

from .folders import CONFIG, start_python


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
    passed_over = []
    assert folder.latest_checkpoint(passed_over.append).iteration == 100
    assert [path.name for path in passed_over] == ["000200"]
    assert "000200" in caplog.text
    damage(folder.checkpoints_path / "000100")
    assert folder.latest_checkpoint() is None


def test_damage_anywhere_in_a_large_checkpoint_is_found(folder):
    file = folder.write_checkpoint(100, {"a": np.zeros(3 * 2**20, np.uint8)}, {}) / "tensors.safetensors"
    whole = file.read_bytes()
    for place in (2**19, 3 * 2**19, -1):
        data = bytearray(whole)
        data[place] ^= 1
        file.write_bytes(data)
        assert folder.latest_checkpoint() is None
    file.write_bytes(whole)
    assert folder.latest_checkpoint().iteration == 100


def test_a_checkpoint_of_a_newer_version_is_refused(folder):
    path = folder.write_checkpoint(100, arrays(1), {}) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": JobState.VERSION + 1}))
    with pytest.raises(JobError, match="newer version"):
        folder.latest_checkpoint()


def test_what_a_killed_process_left_goes_with_the_next_checkpoint(folder):
    folder.write_checkpoint(100, arrays(1), {})
    (folder.checkpoints_path / ".writing-0123456789ab").mkdir()
    assert folder.latest_checkpoint().iteration == 100
    folder.write_checkpoint(200, arrays(1), {})
    assert sorted(entry.name for entry in folder.checkpoints_path.iterdir()) == ["000100", "000200"]


def test_the_trace_is_on_the_disk_before_the_checkpoint(folder, monkeypatch):
    folder.append_trace({"iteration": 0})
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    path = folder.write_checkpoint(1, arrays(1), {})
    trace = folder.trace_path.stat().st_ino
    assert flushed.count(trace) == 1
    for name in ("state.json", "tensors.safetensors"):
        assert flushed.index(trace) < flushed.index((path / name).stat().st_ino), name


def test_a_file_in_the_place_of_the_checkpoints_is_told_of_when_one_is_written(folder):
    folder.checkpoints_path.touch()
    assert folder.checkpoints() == [] and folder.latest_checkpoint() is None
    with pytest.raises(OutputError, match="something else already has that name"):
        folder.write_checkpoint(1, arrays(1), {})


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
