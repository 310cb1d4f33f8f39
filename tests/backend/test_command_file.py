"""Commands through a file in the job folder."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.command_file import CommandFollower, send_command
from backend.errors import OutputError
from backend.protocol import Alive, Cancel, Detach, Pause, PreviewNow, Resume, Weight, decode_command, encode_line
from backend.wire import MAX_LINE_BYTES, LineError


@pytest.fixture
def follower(tmp_path):
    follower = CommandFollower(tmp_path)
    yield follower
    follower.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "commands.jsonl"


def commands(follower):
    return [decode_command(line) for line in follower.poll()]


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


def test_what_is_sent_is_read_once(tmp_path, follower):
    assert commands(follower) == []
    sent = [Pause(), Weight(regions=(1, 2), factor=0.5), PreviewNow(region=3), Detach(lease=60.0), Alive()]
    for command in sent[:2]:
        send_command(tmp_path, command)
    assert commands(follower) == sent[:2]
    for command in sent[2:]:
        send_command(str(tmp_path), command)
    assert commands(follower) == sent[2:]
    assert commands(follower) == []


def test_what_was_sent_to_an_earlier_run_is_not_obeyed(tmp_path):
    send_command(tmp_path, Cancel())
    follower = CommandFollower(tmp_path)
    assert commands(follower) == []
    send_command(tmp_path, Pause())
    assert commands(follower) == [Pause()]
    follower.close()


def test_half_a_line_waits_for_its_end(path, follower):
    line = encode_line(Pause())
    append(path, line[:5])
    assert commands(follower) == []
    append(path, line[5:])
    assert commands(follower) == [Pause()]


def test_half_a_line_of_a_writer_that_died_costs_no_other_command(tmp_path, path, follower):
    append(path, b'{"type": "wei')
    send_command(tmp_path, Pause())
    torn, whole = follower.poll()
    with pytest.raises(LineError):
        decode_command(torn)
    assert decode_command(whole) == Pause()


@pytest.mark.parametrize("length", [MAX_LINE_BYTES + 1, 5 * MAX_LINE_BYTES])
def test_an_enormous_line_is_one_error(tmp_path, path, follower, length):
    append(path, b"x" * length)
    assert list(follower.poll()) == []
    append(path, b"\n")
    send_command(tmp_path, Pause())
    error, line = follower.poll()
    assert isinstance(error, LineError)
    assert decode_command(line) == Pause()


def test_a_removed_file_begins_anew(tmp_path, path, follower):
    send_command(tmp_path, Pause())
    send_command(tmp_path, Pause())
    assert len(commands(follower)) == 2
    path.unlink()
    assert commands(follower) == []
    send_command(tmp_path, Resume())
    assert commands(follower) == [Resume()]


def test_a_file_that_was_replaced_by_a_longer_one_is_read_from_its_beginning(tmp_path, path, follower):
    send_command(tmp_path, Pause())
    assert commands(follower) == [Pause()]
    send_command(tmp_path, Cancel())
    path.unlink()
    for _ in range(10):
        send_command(tmp_path, Resume())
    assert commands(follower) == [Cancel()] + 10 * [Resume()], "what was appended to the old one counts too"


def test_a_file_that_was_cut_short_is_read_from_its_beginning(tmp_path, path, follower):
    for _ in range(3):
        send_command(tmp_path, Pause())
    assert len(commands(follower)) == 3
    os.truncate(path, 0)
    send_command(tmp_path, Resume())
    assert commands(follower) == [Resume()]


@pytest.mark.parametrize("obstacle", ["folder", "pipe", "dangling link"])
def test_what_is_no_file_is_passed_over(tmp_path, path, follower, obstacle, caplog):
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    for _ in range(3):
        assert commands(follower) == []
    assert len(caplog.records) <= 1, "said once"
    path.rmdir() if obstacle == "folder" else path.unlink()
    send_command(tmp_path, Pause())
    assert commands(follower) == [Pause()]


def test_a_folder_that_is_gone(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    send_command(folder, Pause())
    follower = CommandFollower(folder)
    (folder / "commands.jsonl").unlink()
    folder.rmdir()
    assert commands(follower) == []
    with pytest.raises(OutputError, match="could not be written"):
        send_command(folder, Pause())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind everybody")
def test_a_file_that_may_not_be_read_is_passed_over(tmp_path, path, caplog):
    send_command(tmp_path, Pause())
    path.chmod(0)
    assert commands(CommandFollower(tmp_path)) == []
    assert "cannot be read" in caplog.text


def test_a_full_disk_is_an_output_error_and_the_next_command_is_whole(tmp_path, follower, monkeypatch):
    write, calls = os.write, []

    def full(descriptor, data):
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, bytes(data[:7]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OutputError, match="disk is full"):
            send_command(tmp_path, Pause())
    send_command(tmp_path, Resume())
    assert decode_command(list(follower.poll())[-1]) == Resume()


def test_several_processes_may_send_at_once(tmp_path, follower):
    code = """
        import sys
        from backend.command_file import send_command
        from backend.protocol import Weight
        for k in range(300):
            send_command(sys.argv[1], Weight(regions=tuple(range(int(sys.argv[2]) * 7)), factor=k))
    """
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), tmp_path, str(n)], cwd=root) for n in range(3)]
    found = {0: [], 7: [], 14: []}
    while any(writer.poll() is None for writer in writers):
        for command in commands(follower):
            found[len(command.regions)].append(command.factor)
    for command in commands(follower):
        found[len(command.regions)].append(command.factor)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert all(factors == list(range(300)) for factors in found.values())


@given(pieces=st.lists(st.binary(max_size=60) | st.just(encode_line(Pause())), max_size=12))
def test_whatever_stands_in_the_file_the_next_command_is_read(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("any")
    follower = CommandFollower(folder)
    for piece in pieces:
        append(folder / "commands.jsonl", piece)
        for line in follower.poll():
            assert isinstance(line, bytes)
    send_command(folder, Alive())
    assert decode_command(list(follower.poll())[-1]) == Alive()
    follower.close()


def test_the_module_needs_the_standard_library_only():
    code = "import sys, backend.command_file; print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'numpy', 'bpy')])"
    found = subprocess.run([sys.executable, "-S", "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
