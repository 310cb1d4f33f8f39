"""Commands to a run, over the wire and through the file."""

import logging
import time
from queue import Empty

import pytest

from backend.command_file import send_command
from backend.control import Control
from backend.listening import obey
from backend.protocol import Cancel, Pause, Stop, Weight
from backend.worker import execute

from .client import LIMIT


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


def test_the_log_tells_what_people_asked_for_and_not_that_a_lease_was_renewed(caplog):
    with caplog.at_level(logging.INFO):
        for line in (b'{"type": "alive"}', b'{"type": "pause"}'):
            obey(line, Control(), lambda notice: None)
    assert [record.getMessage() for record in caplog.records] == ["command: Pause()"]
