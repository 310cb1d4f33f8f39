"""What is said to nobody does not end a command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backend import cli, environment


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/full")
class TestNobodyReads:
    """The exit code says what went wrong even where the sentence reaches nobody."""

    def test_a_closed_pipe(self):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            answer = self.refused("--json", stdout=pipe, stderr=subprocess.PIPE)
        assert (answer.returncode, answer.stderr) == (3, b"")

    def test_standard_error_that_was_closed_from_the_start(self, monkeypatch, capsys):
        """As `2>&-` leaves it, and a program without a console: notes go nowhere."""
        from backend.commands import words
        from backend.console import Console

        monkeypatch.setattr(sys, "stderr", None)
        monkeypatch.setattr(words, "run", lambda args: Console().say("a note") or 0)
        assert cli.main(["words"]) == 0
        assert capsys.readouterr().out == ""

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    def test_a_full_disk(self):
        with open("/dev/full", "w") as full:
            assert self.refused(stdout=subprocess.PIPE, stderr=full).returncode == 3

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
    @pytest.mark.parametrize("words", ["words", "--help", "words --help"])
    def test_an_answer_onto_a_full_disk(self, words):
        command = [sys.executable, "-m", "backend", *words.split()]
        with open("/dev/full", "w") as full:
            answer = subprocess.run(command, cwd=environment.PACKAGE_ROOT, stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert answer.returncode == 8 and answer.stderr.decode().splitlines()[0] == "error: The disk is full."

    @pytest.mark.parametrize("words", ["words", "--help", "words --help"])
    def test_an_answer_into_a_closed_pipe(self, words):
        read, write = os.pipe()
        os.close(read)
        command = [sys.executable, "-m", "backend", *words.split()]
        with os.fdopen(write, "w") as pipe:
            answer = subprocess.run(command, cwd=environment.PACKAGE_ROOT, stdout=pipe, stderr=subprocess.PIPE, timeout=60)
        assert (answer.returncode, answer.stderr) == (0, b"")

    @staticmethod
    def refused(*options: str, **streams: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "backend", "generate", "a\x07 cat", *options]
        return subprocess.run(command, cwd=environment.PACKAGE_ROOT, timeout=60, **streams)
