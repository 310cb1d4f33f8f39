"""Locks that end with their process."""

import errno
import os
import time

import pytest

from backend import locks
from backend.errors import JobError, OutputError
from backend.locks import LOCK_FILE, FolderLock, try_lock, work_alone

fcntl = pytest.importorskip("fcntl", reason="Windows locks otherwise")


def refuse(monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_waiting(tmp_path, monkeypatch, caplog, code):
    refuse(monkeypatch, code)
    with (tmp_path / "file").open("wb") as file:
        assert try_lock(file.fileno())
    assert "no locks" in caplog.text


def test_what_is_wrong_with_the_file_is_told(tmp_path, monkeypatch):
    refuse(monkeypatch, errno.EIO)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=os.strerror(errno.EIO)):
        try_lock(file.fileno())
    with pytest.raises(OutputError):
        FolderLock(tmp_path).acquire()


def test_one_at_a_time_works_in_a_folder(tmp_path):
    with work_alone(tmp_path):
        other = FolderLock(tmp_path)
        assert other.is_held_elsewhere()
        with pytest.raises(JobError, match=rf"Another process \({os.getpid()}\) is working on {tmp_path}"):
            other.acquire()
        assert not other.is_held
    other.acquire()
    assert other.is_held
    assert not other.is_held_elsewhere()
    other.release()
    other.release()


def test_those_who_only_look_do_not_see_each_other(tmp_path):
    lock = FolderLock(tmp_path)
    descriptor = lock._take(patience=0.0, shared=True)  # as for the moment of a look
    assert not lock.is_held_elsewhere()
    os.close(descriptor)
    with work_alone(tmp_path):
        assert FolderLock(tmp_path).is_held_elsewhere()


def test_the_number_of_the_last_process_goes_even_if_it_was_longer(tmp_path):
    (tmp_path / LOCK_FILE).write_text("123456789012\n")
    with work_alone(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == f"{os.getpid()}\n"


def test_a_lock_that_is_refused_leaves_no_file_open(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    opened, closed = [], []
    open_, close = os.open, os.close
    monkeypatch.setattr(os, "open", lambda *arguments: opened.append(open_(*arguments)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda descriptor: closed.append(descriptor) or close(descriptor))
    with work_alone(tmp_path):
        opened.clear()
        closed.clear()
        with pytest.raises(JobError):
            FolderLock(tmp_path).acquire()
        assert FolderLock(tmp_path).is_held_elsewhere()
        assert len(opened) == 2 and closed == opened


def test_what_a_killed_process_left_in_the_folder_goes(tmp_path):
    left, mine = tmp_path / ".writing-0123.csv", tmp_path / "summary.csv"
    for path in (left, mine):
        path.touch()
        os.utime(path, (time.time() - 60,) * 2)
    with pytest.raises(ZeroDivisionError), work_alone(tmp_path):
        assert not left.exists()
        raise ZeroDivisionError
    assert mine.exists()
    assert not FolderLock(tmp_path).is_held_elsewhere()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OutputError), work_alone(tmp_path / "missing"):
        pytest.fail("a lock in no folder")
