"""The command `setup`: which folder it remembers, and what it says of places that cannot be used."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from backend import cli, environment, installation
from backend.console import Console
from backend.environment import Environment, Status
from backend.errors import SetupError
from backend.installation import _Installer
from backend.pip_process import Progress

from .installed import put_environment


@pytest.fixture(autouse=True)
def pip_fails(monkeypatch, tmp_path):
    """A virtual environment takes no time, and nothing can be installed into it; there is disk enough."""

    def make_venv(self: _Installer, python: str | None, *, clear: bool) -> bool:
        installation.base_python(python)
        if not self.environment.is_ours():
            put_environment(self.environment.root, marker=False)
            next(self.environment.root.rglob("numpy-*.dist-info/RECORD")).unlink()
        return True

    def complete(self: _Installer) -> dict:
        raise SetupError("The packages could not be installed: no network.")

    monkeypatch.setattr(_Installer, "make_venv", make_venv)
    monkeypatch.setattr(_Installer, "complete", complete)
    monkeypatch.setattr(installation.machine, "free_disk", lambda path: 10**12)


@pytest.fixture
def kept(tmp_path) -> Path:
    """The file that says where the environment is; an environment that works is remembered."""
    environment.remember_location(put_environment(tmp_path / "works").root)
    return environment.data_folder() / "location.txt"


def setup(*arguments: str) -> int:
    return cli.main(["setup", *map(str, arguments)])


class TestLocation:
    @pytest.mark.parametrize("python", [(), ("--python", "/nowhere/python")])
    def test_a_folder_of_somebody_else_is_not_remembered(self, tmp_path, kept, python):
        (tmp_path / "foreign" / "x").mkdir(parents=True)
        (tmp_path / "foreign" / "x" / "thesis.tex").write_text("precious")
        assert setup("--yes", "--location", tmp_path / "foreign" / "x", *python) == SetupError.exit_code
        assert Environment().root == tmp_path / "works" and Environment().state().status is Status.READY

    def test_nor_one_in_which_nothing_could_be_made(self, tmp_path, kept, root):
        assert setup("--yes", "--location", root, "--python", "/nowhere/python") == SetupError.exit_code
        (tmp_path / "file").touch()
        assert setup("--yes", "--location", tmp_path / "file" / "x") == SetupError.exit_code
        assert kept.read_text() == f"{tmp_path / 'works'}\n"

    def test_nor_one_that_was_declined(self, kept, root, monkeypatch, tmp_path):
        monkeypatch.setattr(Console, "confirm", lambda self, question: False)
        assert setup("--location", root) == SetupError.exit_code
        assert kept.read_text() == f"{tmp_path / 'works'}\n" and not root.exists()

    def test_one_that_works_is_kept_until_the_next_one_does(self, kept, root, monkeypatch, tmp_path):
        assert setup("--yes", "--location", root) == SetupError.exit_code
        assert Environment(root).is_ours() and kept.read_text() == f"{tmp_path / 'works'}\n"
        monkeypatch.setattr(_Installer, "complete", lambda self: {})
        assert setup("--yes", "--location", root) == 0
        assert kept.read_text() == f"{root}\n"

    def test_without_one_an_interrupted_installation_is_found_again(self, root):
        assert setup("--yes", "--location", root) == SetupError.exit_code
        assert Environment().root == root and Environment().state().status is Status.INTERRUPTED

    def test_one_that_is_there_already_is_remembered(self, kept, root):
        put_environment(root)
        assert setup("--location", root) == 0
        assert Environment().root == root

    def test_a_variable_that_overrides_it_is_told(self, root, monkeypatch, tmp_path, capsys):
        put_environment(root)
        monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "other"))
        assert setup("--location", root) == 0
        assert f"COGRAD3D_ENV is set: later commands look in {tmp_path / 'other'}, not in {root}" in capsys.readouterr().err
        monkeypatch.setenv("COGRAD3D_ENV", str(root))
        assert setup("--location", root) == 0
        assert "COGRAD3D_ENV" not in capsys.readouterr().err

    def test_the_help_has_the_order_in_which_it_is_looked_for(self, capsys):
        with pytest.raises(SystemExit):
            setup("--help")
        text = " ".join(capsys.readouterr().out.split())
        assert (
            "Without --location, the folder is the one that the variable COGRAD3D_ENV names, else the one that --location named last"
            in text
        )

    def test_removing_another_one_does_not_forget_it(self, kept, root, monkeypatch, tmp_path):
        put_environment(root)
        monkeypatch.setenv("COGRAD3D_ENV", str(root))
        assert setup("--remove") == 0 and not root.exists()
        monkeypatch.delenv("COGRAD3D_ENV")
        assert Environment().root == tmp_path / "works"
        assert setup("--remove") == 0 and not kept.exists()


class TestDownloadingWheels:
    @pytest.mark.parametrize("other", [("--offline-wheels", "x"), ("--location", "x"), ("--repair",)])
    def test_goes_with_no_other_task(self, other, tmp_path, capsys):
        assert setup("--download-wheels", tmp_path, *other) == 2
        assert "--download-wheels only fills a folder" in capsys.readouterr().err

    def test_for_the_python_that_was_named_to_a_folder_at_home(self, monkeypatch, tmp_path):
        asked = []
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        monkeypatch.setattr(installation, "download_wheels", lambda folder, report, **options: asked.append((folder, options["python"])))
        assert setup("--download-wheels=~/wheels", "--python", "python3.12") == 0
        assert asked == [(tmp_path / "wheels", "python3.12")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at_a_terminal(monkeypatch, typed: str = "") -> Terminal:
    """From now on a person sits there; returns the screen."""
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    return screen


class TestTerminal:
    @pytest.mark.parametrize(("typed", "agreed"), [("\n", True), ("y\n", True), ("n\n", False), ("", False)])
    def test_an_end_of_the_input_is_no_consent(self, monkeypatch, typed, agreed):
        at_a_terminal(monkeypatch, typed)
        assert Console().confirm("Install it now?") is agreed

    def test_a_quiet_question_says_what_it_is_about(self, monkeypatch, root):
        terminal = at_a_terminal(monkeypatch, "n\n")
        assert setup("--quiet", "--location", root) == SetupError.exit_code
        assert "384 MB to download" in terminal.getvalue() and str(root) in terminal.getvalue()

    def test_nobody_is_asked_for_what_cannot_be_done(self, monkeypatch, root):
        terminal = at_a_terminal(monkeypatch, "y\n")
        assert setup("--location", root, "--python", "/nowhere/python") == SetupError.exit_code
        assert "Install it now?" not in terminal.getvalue() and "is no Python" in terminal.getvalue()

    @pytest.mark.parametrize(("lacks", "told"), [("torch", "up to 384 MB"), ("numpy", "1 package to be downloaded")])
    @pytest.mark.parametrize("is_updated", [False, True])
    def test_the_rest_of_an_installation_is_asked_for_too(self, monkeypatch, root, lacks, told, is_updated):
        """Whoever stopped it may have done so because of its size, and an update brings other versions."""
        made = put_environment(root, marker=False)
        if is_updated:
            made.marker_file.write_text('{"requirements": "of another version"}')
        next(root.rglob(f"{lacks}-*.dist-info/RECORD")).unlink()
        monkeypatch.setattr(_Installer, "complete", lambda self: pytest.fail("installed"))
        monkeypatch.setenv("COGRAD3D_ENV", str(root))
        for arguments in (
            ["setup"],
            ["setup", "--quiet"],
            ["generate", "a red cat", "--output", str(root.with_name("cat.glb")), "--quiet"],
        ):
            terminal = at_a_terminal(monkeypatch, "n\n")
            assert cli.main(arguments) == SetupError.exit_code
            assert told in terminal.getvalue() and str(root) in terminal.getvalue()

    def test_what_needs_no_network_is_not_asked_for(self, monkeypatch, root):
        put_environment(root, marker=False)
        monkeypatch.setattr(_Installer, "complete", lambda self: {})
        terminal = at_a_terminal(monkeypatch, "n\n")
        assert setup("--location", root) == 0
        assert "Install it now?" not in terminal.getvalue() and "It is verified." in terminal.getvalue()

    def test_an_error_has_a_line_of_its_own(self, monkeypatch, root):
        def complete(self):
            self.report(Progress("Fetching torch", 0.4))
            raise SetupError("No network.")

        monkeypatch.setattr(_Installer, "complete", complete)
        terminal = at_a_terminal(monkeypatch)
        assert setup("--yes", "--location", root) == SetupError.exit_code
        assert "Fetching torch\nerror: No network." in terminal.getvalue()


class TestPlacesThatCannotBeUsed:
    def test_a_data_folder_that_is_none(self, root, monkeypatch, tmp_path, capsys):
        (tmp_path / "file").touch()
        monkeypatch.setattr(environment, "data_folder", lambda environ=None: tmp_path / "file")
        put_environment(root)
        assert setup("--location", root) == SetupError.exit_code
        assert "COGRAD3D_ENV" in capsys.readouterr().err
        assert setup("--yes") == SetupError.exit_code

    def test_a_folder_in_place_of_the_file(self, root, capsys):
        file = environment.data_folder() / "location.txt"
        file.mkdir(parents=True)
        put_environment(root)
        assert environment.default_location() == environment.data_folder() / "env"
        assert setup("--location", root) == SetupError.exit_code
        assert f"{file} cannot be used" in capsys.readouterr().err
        assert list(file.parent.iterdir()) == [file], "no temporary file is left"
        with pytest.raises(SetupError):
            environment.remember_location(None)

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"/a\0b", b"\n"])
    def test_a_file_that_cannot_be_read(self, content):
        file = environment.data_folder() / "location.txt"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        assert environment.default_location() == environment.data_folder() / "env"
        assert Environment().state().status is Status.ABSENT

    def test_wheels_below_a_file(self, tmp_path, capsys):
        (tmp_path / "file").touch()
        assert setup("--download-wheels", tmp_path / "file" / "x") == SetupError.exit_code
        assert str(tmp_path / "file" / "x") in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("option", "name"),
        [
            ("--location", "x" * 5000),
            ("--offline-wheels", "x" * 5000),
            ("--download-wheels", "x" * 5000),
            ("--location", "~nobody-of-this-name/env"),
        ],
    )
    def test_names_that_cannot_be(self, option, name, capsys):
        assert setup(option, name) == 2
        assert "cannot be used" in capsys.readouterr().err

    def test_what_the_system_refuses_on_the_way(self, root, monkeypatch, capsys):
        def complete(self):
            raise PermissionError(13, "Permission denied", str(root / "installed.json"))

        monkeypatch.setattr(_Installer, "complete", complete)
        assert setup("--yes", "--location", root) == SetupError.exit_code
        assert f"{root / 'installed.json'} cannot be used: Permission denied." in capsys.readouterr().err

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="no folder is closed to root")
    def test_a_folder_that_nobody_may_look_into(self, root):
        root.mkdir(mode=0o000)
        assert Environment(root).state().status is Status.FOREIGN

    def test_a_folder_that_cannot_be_listed(self, root, monkeypatch):
        def refuse(self):
            raise PermissionError(13, "Permission denied", str(self))

        root.mkdir()
        monkeypatch.setattr(Path, "iterdir", refuse)
        state = Environment(root).state()
        assert (state.status, state.detail) == (Status.FOREIGN, f"{root} cannot be read: Permission denied.")
        with pytest.raises(SetupError, match="cannot be read"):
            installation.plan(Environment(root))
