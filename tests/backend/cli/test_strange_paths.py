"""Paths that the system does not even look at, and letters that an encoding lacks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from backend import cli, environment, preflight

from .outside import WENT_ON, generate_arguments


@pytest.mark.skipif(sys.platform == "win32", reason="other limits, other homes")
class TestStrangePaths:
    """What the system does not even look at, or what only begins like a home, is told as everything else is."""

    LONG = "a" * 300

    @pytest.mark.parametrize(
        "arguments",
        [
            ("generate", "a red cat", "--output", f"{LONG}.glb"),
            ("generate", "a red cat", "--job", LONG),
            ("generate", "a red cat", "--initial", f"{LONG}.obj"),
            ("generate", "--resume", LONG),
            ("turntable", f"{LONG}.glb"),
            ("turntable", "asset.glb", "--output", LONG),
            ("batch", "prompts.txt", "--output", LONG),
        ],
    )
    def test_a_name_that_is_too_long(self, arguments, tmp_path, capsys):
        (tmp_path / "asset.glb").touch()
        (tmp_path / "prompts.txt").write_text("a red cat")
        assert cli.main(arguments) == 2
        assert "cannot be used: File name too long." in capsys.readouterr().err

    def test_a_folder_that_may_not_be_looked_into(self, monkeypatch, capsys):
        def refuse(path, **options):  # as the system does, unless root asks
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(preflight, "check_output", refuse)
        assert cli.main(["generate", "a red cat", "--output", "secret/cat.glb"]) == 2
        assert "cannot be used: Permission denied." in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("generate", "a red cat", "--output", "~nobody-here/cat.glb"), 8, "There is no folder"),
            (("generate", "a red cat", "--initial", "~cube.obj"), 10, "There is no file ~cube.obj"),
            (("generate", "a red cat", "--prior", "~model"), 5, "There is no image model ~model"),
            (("models", "--add-folder", "~nobody-here"), 10, "is no folder"),
        ],
    )
    def test_the_home_of_nobody(self, arguments, code, words, capsys):
        assert cli.main(arguments) == code
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize("option", ["--resume", "--refine"])
    def test_a_job_at_home(self, option, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cli.main(["generate", f"{option}=~/job"]) == 7  # most shells leave a ~ alone there
        assert f"There is no job folder {tmp_path / 'job'}" in capsys.readouterr().err

    @pytest.mark.parametrize("variable", ["COGRAD3D_ENV", "COGRAD3D_JOBS"])
    def test_a_variable_that_names_the_home_of_nobody(self, variable, monkeypatch, capsys):
        monkeypatch.setenv(variable, "~nobody-here/x")
        assert cli.main(["setup", "--remove"] if variable == "COGRAD3D_ENV" else ["generate", "a red cat"]) == 2
        assert "home folder that cannot be found out" in capsys.readouterr().err

    @pytest.mark.parametrize("link", [False, True])
    def test_an_empty_folder_becomes_the_job_and_stays_what_it_was(self, tmp_path, link):
        """It may be a disk's root, a link, or the folder that this process is in."""
        from backend.commands import generate

        place = tmp_path / "place"
        place.mkdir()
        if link:
            (tmp_path / "link").symlink_to(place)
        before = place.stat().st_ino
        args = generate_arguments("a red cat", "--job", "link" if link else "place")
        generate.check(args)
        job = generate._created(args)
        assert (place.stat().st_ino, job.spec.prompt) == (before, "a red cat")
        assert sorted(path.name for path in place.iterdir()) == ["config.json", "spec.json", "state.json"]
        assert {path.name for path in tmp_path.iterdir()} <= {"place", "link"}

    def test_a_name_that_begins_with_a_tilde(self):
        arguments = ["generate", "a red cat", "--quality", "draft", "--output", "~cat.glb", "--job", "~job"]
        assert cli.main(arguments) == WENT_ON


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(tmp_path, encoding):
    """A name in another script, and one that is no text at all."""
    path = tmp_path / ("кот" if encoding == "ascii" else "\udcff")
    code = "import sys; from backend import cli, environment; environment.is_inside = lambda: True; "
    code += "from backend.commands import words; words.run = lambda args: print(sys.argv[1]) or 0; sys.exit(cli.main(['words']))"
    answer = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=environment.PACKAGE_ROOT,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert path.name.encode("ascii", "backslashreplace") in answer.stdout
