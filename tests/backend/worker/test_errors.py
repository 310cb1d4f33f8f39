"""Jobs that cannot be run and runs that fail: exit codes, and what the user is told."""

import errno
import io
import json
import logging
import os

import pytest

from backend.worker import log_to


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
    [
        ("refused", 5, "prior", "no prior here"),
        ("broken", 1, "error", "a bug"),
        ("misnamed", 1, "error", "backend.y"),
        ("starved", 9, "resources", "enough memory"),
        ("incomplete", 6, "setup", "numpy is missing"),
        ("outdated", 6, "setup", "does not work: libcudart.so.12"),
    ],
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


def test_a_log_on_a_full_disk_is_silent(folder, capsys, monkeypatch):
    """What the user reads is the sentence that says so, not what logging has to say about its own trouble."""

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root = logging.getLogger()
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    log_to(folder)
    handler = root.handlers[-1]
    try:
        handler.setStream(Full()).close()
        logging.getLogger("backend").error("the run failed", exc_info=OSError(errno.ENOSPC, "full"))
    finally:
        handler.close()
        logging.captureWarnings(False)
    assert capsys.readouterr().err == ""
