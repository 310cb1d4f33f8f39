"""One process at a time has a job."""

import os
import threading
import time

import pytest

from backend.errors import JobError
from backend.job import JobFolder

from .folders import start_python


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


def test_what_a_killed_process_was_writing_goes(folder):
    left, fresh = [folder.path / ".writing-0123.json", folder.path / ".writing-4567", folder.views_path / ".writing-89ab.png"], []
    folder.views_path.mkdir()
    left[1].mkdir()
    for path in (left[0], left[2], left[1] / "inner"):
        path.touch()
    for path in left:
        os.utime(path, (time.time() - 60,) * 2)
    fresh.append(folder.path / ".writing-cdef.json")  # of Blender's claim, which needs no lock
    fresh[0].touch()
    kept = {path.name for path in folder.path.iterdir()} - {left[0].name, left[1].name} | {"job.lock"}
    with folder.lock():
        assert {path.name for path in folder.path.iterdir()} == kept
        assert not any(folder.views_path.iterdir())
        os.utime(fresh[0], (time.time() - 60,) * 2)
    assert not fresh[0].exists(), "left shortly before, and not taken for that at first"


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


def test_the_state_is_read_anew_after_another_process_had_the_lock(folder):
    with folder.lock():
        folder.update_state(status="interrupted", iteration=10)
    other = JobFolder.open(folder.path)
    with other.lock():
        other.update_state(iteration=70, phase="surface")
    with folder.lock():
        folder.update_state(status="cancelled")
    assert (folder.state.status, folder.state.iteration, folder.state.phase) == ("cancelled", 70, "surface")
