"""What the session does in its turns, and what it leaves to do when it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path


def test_workers_that_wait_for_a_reload_are_told_that_blender_quits(addon_module, tmp_path: Path, monkeypatch) -> None:
    session = addon_module("session")
    monkeypatch.setenv("COGRAD3D_WAITING", json.dumps([os.getpid(), str(tmp_path)]))
    session._at_exit()
    assert json.loads((tmp_path / "commands.jsonl").read_text())["type"] == "detach"
    session._at_exit()
    assert len((tmp_path / "commands.jsonl").read_text().splitlines()) == 1, "once"


def test_those_of_another_blender_are_not(addon_module, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("COGRAD3D_WAITING", json.dumps([os.getppid(), str(tmp_path)]))
    addon_module("session")._at_exit()
    assert not (tmp_path / "commands.jsonl").exists()


def test_a_poller_that_ends_does_not_cost_the_next_one_its_turn(addon_module) -> None:
    session, turns = addon_module("session"), []

    def ends() -> None:
        turns.append("ends")
        session.unregister_poller(ends)

    def stays() -> None:
        turns.append("stays")

    session.register_poller(ends)
    session.register_poller(stays)
    try:
        session.poll()
        session.poll()
    finally:
        session.unregister_poller(stays)
    assert turns == ["ends", "stays", "stays"]
