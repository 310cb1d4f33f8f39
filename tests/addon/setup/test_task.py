"""Commands of the tasks, and what their lines mean."""

import json
import sys
from pathlib import Path

import pytest
from cograd3d.cograd3d_addon.setup import task
from cograd3d.cograd3d_addon.setup.task import Options, Transcript, setup_command
from cograd3d.cograd3d_addon.setup.words import in_blender

ROOT = Path(__file__).parents[3]


class TestCommand:
    def test_asks_nothing_and_speaks_json(self):
        command = setup_command(*Options().arguments(), location=None)
        assert command[0] == sys.executable and command[-4:] == ["setup", "--json", "--yes", "--attached"]

    def test_a_removal_goes_on_without_blender(self):
        assert "--attached" not in setup_command(task.REMOVE, location=None)

    def test_says_everything_that_was_chosen(self, tmp_path):
        options = Options(wheels=tmp_path, python=Path("/a/python3"), allow_cuda=True, repair=True)
        command = setup_command(*options.arguments(), location=tmp_path / "env")
        rest = command[command.index("--yes") + 1 :]
        assert rest.pop(0) == "--attached"
        named = {"--location": str(tmp_path / "env"), "--offline-wheels": str(tmp_path), "--python": "/a/python3"}
        assert rest == [*(word for pair in named.items() for word in pair), "--allow-cuda", "--repair"]

    def test_runs_a_python_where_blender_names_itself(self, monkeypatch, tmp_path):
        """Blenders built against the system's Python have been seen to put their own path into sys.executable."""
        monkeypatch.setattr(sys, "executable", "/usr/bin/blender")
        (tmp_path / "python3").write_text("#!/bin/sh\n")
        (tmp_path / "python3").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert task.installer_python() == str(tmp_path / "python3")

    def test_says_so_where_there_is_no_python(self, monkeypatch):
        monkeypatch.setattr(sys, "executable", None)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(task.SetupError, match="no Python program"):
            task.installer_python()


class TestTranscript:
    def test_reads_each_kind_of_line(self):
        heard = Transcript()
        heard.hear('{"type": "note", "text": "a"}')
        assert (heard.text, heard.fraction) == ("a", None)
        heard.hear('{"type": "progress", "text": "b", "fraction": 0.5}')
        assert (heard.text, heard.fraction) == ("b", 0.5)
        heard.hear('{"type": "result", "verified": {"torch": "2"}}')
        assert heard.found == {"torch": "2"}
        assert heard.ending(0) is None

    @pytest.mark.parametrize(("said", "shown"), [(-1, 0.0), (2, 1.0), ("x", None), (None, None), (1, 1.0)])
    def test_fractions_stay_between_0_and_1(self, said, shown):
        heard = Transcript()
        heard.hear(json.dumps({"type": "progress", "text": "a", "fraction": said}))
        assert heard.fraction == shown

    @pytest.mark.parametrize("line", ["", "null", "3", '"a"', "[]", "{", "[" * 100_000, '{"type": 3}', '{"type": ["note"]}'])
    def test_survives_any_line(self, line):
        heard = Transcript()
        heard.hear(line)
        assert heard.found is None and heard.failure is None

    def test_an_error_line_counts_even_with_exit_code_0(self):
        heard = Transcript()
        heard.hear('{"type": "error", "message": "No.", "remedy": "Run `python3 -m backend setup --repair`."}')
        failure = heard.ending(0)
        assert failure is not None and (failure.message, failure.remedy) == ("No.", 'Press "Repair".')

    def test_a_crash_is_explained_by_its_last_words(self):
        heard = Transcript()
        heard.hear("some warning")
        assert heard.ending(1, ["Traceback", "MemoryError: no", ""]).message == "The process ended with exit code 1: MemoryError: no."
        assert heard.ending(-9).message == "The process was ended by signal 9: some warning."


def test_no_remedy_of_the_installer_asks_for_a_terminal_where_a_button_does_it():
    """Every remedy in the backend's installer, as it stands in the source, reads as something to do in Blender."""
    source = (ROOT / "backend/installation.py").read_text() + (ROOT / "backend/environment.py").read_text()
    remedies = [text for text in source.split('"') if "python3 -m backend" in text and "Made by" not in text]
    assert len(remedies) >= 5
    for text in remedies:
        shown = in_blender(text)
        assert "python3 -m backend" not in shown or "--download-wheels" in shown, shown
