"""The command line from outside: what is refused, with which exit code, in which words, and that nothing happens before."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend import __version__, cli, environment, machine, preflight
from backend.config import GenerationConfig
from backend.errors import EXIT_INTERRUPTED, OutputError, PriorError, PromptError, ResourceError, SetupError
from backend.job import JobFolder
from backend.protocol import JobSpec


@pytest.fixture(autouse=True)
def outside(monkeypatch, tmp_path):
    """An empty home, no environment, and a process that would notice if it went on in one."""
    for name in ("COGRAD3D_ENV", "COGRAD3D_PYTHON", "COGRAD3D_JOBS", "COGRAD3D_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "is_inside", lambda: False)
    monkeypatch.setattr(environment, "ready_python", lambda: Path("/the/environment/bin/python"))
    monkeypatch.setattr(environment, "run_inside", lambda python, arguments: WENT_ON)


WENT_ON = 99


class TestGeneral:
    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
    def test_overview_lists_commands_and_exit_codes(self, arguments, capsys):
        assert cli.main(arguments) == 0
        text = capsys.readouterr().out
        assert all(f"  {name} " in text for name in cli.COMMANDS)
        assert all(f" {code}  " in text for code in (0, 1, 2, 3, 9, 12, 130))

    def test_no_command(self, capsys):
        assert cli.main([]) == 2
        assert "usage:" in capsys.readouterr().out

    def test_version(self, capsys):
        assert cli.main(["--version"]) == 0
        assert capsys.readouterr().out == f"CoGrad3D {__version__}\n"

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            (["genrate", "a red cat"], "Did you mean generate?"),
            (["docter"], "Did you mean doctor?"),
            (["train-piror"], "Did you mean train-prior?"),
            (["bench", "rasteriser"], "Did you mean rasterizer?"),
            (["bench"], "rasterizer or iteration"),
            (["a red cat"], 'generate "a red cat" --output'),
            (["zzzzzz"], "--help` lists the commands"),
            (["--verison"], "no option"),
        ],
    )
    def test_unknown_commands(self, arguments, hint, capsys):
        assert cli.main(arguments) == 2
        assert hint in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "hint"),
        [
            (["generate", "a red cat", "--itertions", "5"], "Did you mean --iterations?"),
            (["generate", "a red cat", "--ouput=cat.glb"], "Did you mean --output?"),
            (
                ["generate", "a red cat", "--iter", "5"],
                "has no option --iter.",
            ),  # no abbreviations: a later option could change what they mean
            (["setup", "--ofline-wheels", "."], "Did you mean --offline-wheels?"),
            (["worker", "--jobs", "x"], "Did you mean --job?"),
            (["worker"], "required: --job"),
            (["generate", "a", "red", "cat"], 'in quotes: "a red cat"'),
            (["generate", "a red cat", "--seed"], "--seed: expected one argument"),
            (["evaluate", "results", "--promts", "x"], "Did you mean --prompts?"),
            (["evaluate", "resluts"], "Did you mean results?"),
            (["turntable", "asset.glb", "--view", "3"], "Did you mean --views?"),
        ],
    )
    def test_unknown_options(self, arguments, hint, capsys):
        assert cli.main(arguments) == 2
        assert hint in capsys.readouterr().err

    def test_what_was_typed_is_safe_to_print(self, capsys):
        assert cli.main(["generate", "a red cat", "--\x1b[2Jquiet"]) == 2
        assert "\x1b" not in capsys.readouterr().err

    def test_errors_for_programs(self, capsys):
        assert cli.main(["generate", "", "--json"]) == 3
        said = json.loads(capsys.readouterr().out)
        assert (said["type"], said["code"], said["exit_code"]) == ("error", "prompt", 3) and said["message"] and said["remedy"]

    @pytest.mark.parametrize(
        ("error", "code", "words"),
        [
            (KeyboardInterrupt(), EXIT_INTERRUPTED, "Interrupted"),
            (MemoryError(), 9, "not enough memory"),
            (OSError(28, "No space left on device"), 8, "disk is full"),
            (ModuleNotFoundError("No module named 'numpy'", name="numpy"), 6, "setup --repair"),
        ],
    )
    def test_what_may_go_wrong_in_any_command(self, monkeypatch, capsys, error, code, words):
        def fail(arguments, inside):
            raise error

        monkeypatch.setattr(cli, "_dispatch", fail)
        assert cli.main(["generate", "a cat"]) == code
        assert words in capsys.readouterr().err

    def test_a_command_that_cannot_even_be_imported_here_goes_on_in_the_environment(self, monkeypatch):
        def missing(name, package):
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

        monkeypatch.setattr(cli.importlib, "import_module", missing)
        monkeypatch.setattr(environment, "is_inside", lambda: False)
        assert cli.main(["evaluate", "--help"]) == WENT_ON
        assert cli.main(["doctor"]) == 6  # needs no environment, so none would help

    def test_programming_errors_stay_visible(self, monkeypatch):
        def fail(arguments, inside):
            raise ModuleNotFoundError("No module named 'backend.nothing'", name="backend.nothing")

        monkeypatch.setattr(cli, "_dispatch", fail)
        with pytest.raises(ModuleNotFoundError):
            cli.main(["generate"])

    @pytest.mark.parametrize("arguments", [["--help"], ["words"], ["generate", "--help"], ["setup", "--help"], ["doctor", "--help"]])
    def test_needs_the_standard_library_alone(self, arguments):
        answer = subprocess.run(  # -S: without site-packages
            [sys.executable, "-S", "-m", "backend", *arguments], cwd=environment.PACKAGE_ROOT, capture_output=True, text=True, timeout=60
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout

    @pytest.mark.parametrize("name", list(cli.COMMANDS))
    def test_every_command_has_help(self, name, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main([*name.split(), "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: python3 -m backend {name} ")

    def test_words(self, capsys):
        assert cli.main(["words"]) == 0
        assert "cat" in capsys.readouterr().out
        assert cli.main(["words", "--json"]) == 0
        assert "red" in json.loads(capsys.readouterr().out)["colours"]


BAD = [
    # prompts
    ([""], 3, "The prompt is empty."),
    ([" \t "], 3, "The prompt is empty."),
    (["a" * 10_000], 3, "10,000 characters"),
    (["a red\x07 cat"], 3, "U+0007"),
    (["a red\ncat"], 3, "U+000A"),
    (["a red \udcff cat"], 3, "U+DCFF"),
    (["eine rote Katze"], 3, "does not know 'eine', 'rote' and 'katze'"),
    (["赤い猫"], 3, "does not know"),
    (["a red cta"], 3, "nearest words it knows: car, cat"),
    (["a red cat", "--negative", "two heads"], 3, "does not know"),
    (["a red cat", "--negative", "a\x00b"], 3, "The negative prompt contains"),
    ([], 2, "What should be made?"),
    # numbers and names
    (["a red cat", "--iterations", "0"], 4, "In --iterations 0:"),
    (["a red cat", "--iterations", "many"], 4, "whole number"),
    (["a red cat", "--seed", "-1"], 4, "In --seed -1:"),
    (["a red cat", "--quality", "nromal"], 4, "Did you mean normal?"),
    (["a red cat", "--device", "cuba"], 4, "no device"),
    (["a red cat", "--set", "gradient_fusion.capp=1"], 4, "gradient_fusion.cap"),
    (["a red cat", "--set", "gradient_fusion.cap=-1"], 4, "at least 0"),
    (["a red cat", "--without", "everything"], 4, "region-sampling"),
    (["a red cat", "--settings", "none.toml"], 4, "none.toml"),
    (["a red cat", "--method", "nothing"], 4, "method preset"),
    # files
    (["a red cat", "--output", "cat.blend"], 8, "End the name in .glb, .obj or .ply."),
    (["a red cat", "--output", "cat"], 8, "no known format"),
    (["a red cat", "--output", "there.glb"], 8, "exists already"),
    (["a red cat", "--output", "new.glb", "--output", "there.glb"], 8, "exists already"),
    (["a red cat", "--output", "folder.glb"], 8, "is a folder"),
    (["a red cat", "--output", "nowhere/cat.glb"], 8, "There is no folder"),
    (["a red cat", "--output", "there.glb/cat.glb"], 8, "There is no folder"),
    (["a red cat", "--prior", "nowhere"], 5, "no image model nowhere"),
    (["a red cat", "--prior", "there.glb"], 5, "no .safetensors file"),
    (["a red cat", "--initial", "potato"], 10, "no shape to start from"),
    (["a red cat", "--initial", "gone.obj"], 10, "There is no file"),
    (["a red cat", "--job", "folder.glb"], 8, "exists already"),
    # resume
    (["--resume", "nowhere"], 7, "no job folder"),
    (["--resume", "folder.glb"], 7, "no spec.json"),
    (["a red cat", "--resume", "folder.glb"], 2, "does not go with a prompt"),
    (["--resume", "folder.glb", "--seed", "3"], 2, "does not go with --seed"),
    (["--resume", "folder.glb", "--refine", "folder.glb"], 2, "does not go with --refine"),
    # refine
    (["--refine", "nowhere"], 7, "no job folder"),
    (["--refine", "folder.glb"], 7, "no spec.json"),
    (["a red cat", "--refine", "folder.glb"], 2, "does not go with a prompt"),
    (["--refine", "folder.glb", "--quality", "high"], 2, "does not go with --quality"),
    (["a red cat", "--regions", "3,4"], 2, "go with --refine"),
]


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

    @pytest.mark.parametrize("link", [False, True])
    def test_an_empty_folder_becomes_the_job_and_stays_what_it_was(self, tmp_path, link):
        """It may be a disk's root, a link, or the folder that this process is in."""
        from backend.commands import generate

        place = tmp_path / "place"
        place.mkdir()
        if link:
            (tmp_path / "link").symlink_to(place)
        before = place.stat().st_ino
        args = TestGenerate.parse("a red cat", "--job", "link" if link else "place")
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

    @staticmethod
    def refused(*options: str, **streams: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "backend", "generate", "a\x07 cat", *options]
        return subprocess.run(command, cwd=environment.PACKAGE_ROOT, timeout=60, **streams)


class TestGenerate:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path):
        (tmp_path / "there.glb").write_text("an older result")
        (tmp_path / "folder.glb").mkdir()
        (tmp_path / "folder.glb" / "something").touch()

    @pytest.mark.parametrize(("arguments", "code", "words"), BAD)
    def test_bad_input_is_refused_before_anything_happens(self, arguments, code, words, capsys, tmp_path):
        before = sorted(tmp_path.rglob("*"))
        assert cli.main(["generate", *arguments]) == code
        said = capsys.readouterr().err
        assert words in said and said.startswith("error: ") and len(said.splitlines()) <= 2 and "Traceback" not in said
        assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there.glb").read_text() == "an older result"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["a red cat"],
            ["a red cat", "--output", "cat.glb", "--output", "cat.OBJ"],
            ["a red cat", "--output", "there.glb", "--overwrite"],
            ["a red cat", "--without", "region-sampling", "--without", "gradient-fusion", "--set", "run.seed=3"],
            ["a red cat", "--prior", "owner/some-model"],
            ["anything at all", "--prior", "owner/some-model"],
            ["a red cat", "--job", "new"],
        ],
    )
    def test_what_is_fine_goes_on_in_the_environment(self, arguments):
        assert cli.main(["generate", *arguments]) == WENT_ON

    @pytest.mark.skipif(sys.platform != "linux", reason="a folder in which even root cannot write")
    def test_a_folder_that_cannot_be_written(self, capsys):
        assert cli.main(["generate", "a red cat", "--output", "/proc/cat.glb"]) == 8
        assert "Nothing can be written to /proc" in capsys.readouterr().err

    def test_too_little_memory(self, monkeypatch, capsys):
        monkeypatch.setattr(machine, "memory", lambda: (2_000_000_000, 1_700_000_000))
        assert cli.main(["generate", "a red cat"]) == 9
        assert "choose --quality draft" in capsys.readouterr().err
        assert cli.main(["generate", "a red cat", "--quality", "draft"]) == WENT_ON
        assert cli.main(["generate", "a red cat", "--quality", "draft", "--prior", "owner/model"]) == 9

    def test_too_little_disk(self, monkeypatch, capsys):
        monkeypatch.setattr(machine, "free_disk", lambda path: 20_000_000)
        assert cli.main(["generate", "a red cat"]) == 9
        assert "20 MB free" in capsys.readouterr().err

    def test_the_request_holds_what_was_asked(self, tmp_path):
        (tmp_path / "cube.obj").touch()
        args = self.parse(
            "a red cat", "--output", "cat.glb", "--seed", "3", "--initial", "cube.obj", "--without", "gradient-fusion",
            "--set", "run.seed=4", "--quality", "draft", "--negative", "a dog",
        )  # fmt: skip
        from backend.commands import generate

        spec, config = generate.make_request(args)
        assert (config.run.seed, config.gradient_fusion.enabled, config.prior.name) == (4, False, "builtin")
        assert config.gaussians.initial == str(tmp_path / "cube.obj") == spec.initial
        assert spec.outputs == (str(tmp_path / "cat.glb"),) and spec.without == ("gradient-fusion",)
        assert (spec.prompt, spec.negative_prompt, spec.quality, spec.overrides["run.seed"]) == ("a red cat", "a dog", "draft", 4)

    def test_a_run_is_repeated_from_its_settings(self, tmp_path):
        from backend import settings
        from backend.commands import generate

        first = generate._created(self.parse("a red cat", "--quality", "draft", "--method", "perpneg", "--seed", "3", "--job", "first"))
        spec, config = generate.make_request(self.parse("a red cat", "--settings", "first/config.json"))
        assert settings.to_dict(config) == first.config and spec.settings_file == str(tmp_path / "first" / "config.json")

    def test_the_job_folder_is_the_one_that_was_named(self, tmp_path):
        from backend.commands import generate

        folder = generate._created(self.parse("a red cat", "--job", "here/mine"))
        assert folder.path == tmp_path / "here" / "mine" and folder.spec.prompt == "a red cat"
        assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]
        elsewhere = generate._created(self.parse("a red cat"))
        assert elsewhere.path.parent == environment.data_folder() / "jobs"

    @staticmethod
    def parse(*arguments: str):
        from backend.commands import generate

        parser = cli.Parser(prog="generate")
        generate.add_arguments(parser)
        return parser.read(arguments)


class TestResume:
    @pytest.fixture
    def job(self, tmp_path) -> JobFolder:
        from backend import settings

        spec = JobSpec(prompt="a red cat", outputs=(str(tmp_path / "cat.glb"),))
        return JobFolder.create(tmp_path / "jobs", spec, settings.to_dict(GenerationConfig()))

    def test_goes_on(self, job):
        assert cli.main(["generate", "--resume", str(job.path)]) == WENT_ON

    def test_an_output_that_came_into_being_meanwhile(self, job, tmp_path, capsys):
        (tmp_path / "cat.glb").touch()
        assert cli.main(["generate", "--resume", str(job.path)]) == 8
        assert "exists already" in capsys.readouterr().err
        assert cli.main(["generate", "--resume", str(job.path), "--overwrite"]) == WENT_ON

    def test_another_output(self, job, tmp_path):
        from backend.commands import generate

        args = TestGenerate.parse("--resume", str(job.path), "--output", "other.obj")
        generate.check(args)
        assert generate._resumed(args).spec.outputs == (str(tmp_path / "other.obj"),)

    def test_a_job_that_is_being_worked_on(self, job, capsys):
        with job.lock():
            assert cli.main(["generate", "--resume", str(job.path)]) == 7
        assert "Another process" in capsys.readouterr().err

    def test_a_job_of_a_newer_version(self, job, capsys):
        state = json.loads(job.state_path.read_text())
        job.state_path.write_text(json.dumps(state | {"version": 99}))
        assert cli.main(["generate", "--resume", str(job.path)]) == 7
        assert "newer version" in capsys.readouterr().err


class TestRefine:
    @pytest.fixture
    def job(self, tmp_path) -> JobFolder:
        from backend import settings

        spec = JobSpec(prompt="a red cat", outputs=(str(tmp_path / "cat.glb"),))
        job = JobFolder.create(tmp_path / "jobs", spec, settings.to_dict(GenerationConfig()))
        job.splats_path.touch()
        return job

    def test_goes_on_in_the_environment(self, job):
        assert cli.main(["generate", "--refine", str(job.path)]) == WENT_ON

    def test_the_request_holds_what_was_asked(self, job, tmp_path):
        from backend.commands import generate

        args = TestGenerate.parse(
            "--refine", str(job.path), "--regions", "3,4", "--factor", "2.5", "--iterations", "50", "--output", "better.glb"
        )
        generate.check(args)
        spec, config = generate.make_request(args)
        assert (spec.prompt, spec.refines, spec.outputs) == ("a red cat", str(job.path), (str(tmp_path / "better.glb"),))
        assert config.region_sampling.weights == ((3, 2.5), (4, 2.5))
        assert config.optimizer.iterations == 50

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--regions", "36"), "names region 36"),
            (("--regions", "3", "--factor", "-1"), "factor -1"),
            (("--iterations", "0"), "at least 1"),
            (("--iterations", "many"), "whole number"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, job, arguments, words, capsys):
        assert cli.main(["generate", "--refine", str(job.path), *arguments]) == 4
        assert words in capsys.readouterr().err

    def test_a_factor_of_no_regions(self, job, capsys):
        assert cli.main(["generate", "--refine", str(job.path), "--factor", "3"]) == 2
        assert "--factor goes with --regions" in capsys.readouterr().err

    def test_no_list_of_regions(self, job, capsys):
        assert cli.main(["generate", "--refine", str(job.path), "--regions", "3;4"]) == 2
        assert "'3;4' is no list of region numbers" in capsys.readouterr().err

    def test_a_run_without_a_result(self, job, capsys):
        job.splats_path.unlink()
        assert cli.main(["generate", "--refine", str(job.path)]) == 7
        assert "no result" in capsys.readouterr().err


class TestPreflight:
    @pytest.mark.parametrize("text", ["a red cat", "ein roter Käfer", "赤い猫", "a cat 🐈‍⬛ with a hat"])
    def test_text_is_text_in_any_language(self, text):
        preflight.check_prompt(text)

    def test_longest(self):
        preflight.check_prompt("a" * preflight.LONGEST_PROMPT)
        with pytest.raises(PromptError):
            preflight.check_prompt("a" * (preflight.LONGEST_PROMPT + 1))

    def test_an_unknown_amount_of_memory_is_enough(self, monkeypatch):
        monkeypatch.setattr(machine, "memory", lambda: (None, None))
        preflight.check_memory("high", builtin_prior=False)

    def test_boundaries(self, monkeypatch, tmp_path):
        monkeypatch.setattr(machine, "memory", lambda: (None, int(preflight.MEMORY_BYTES["draft"])))
        preflight.check_memory("draft", builtin_prior=True)
        with pytest.raises(ResourceError):
            preflight.check_memory("normal", builtin_prior=True)
        monkeypatch.setattr(machine, "free_disk", lambda path: 100)
        preflight.check_disk(tmp_path, 100)
        with pytest.raises(ResourceError):
            preflight.check_disk(tmp_path, 101)

    def test_checking_leaves_no_trace(self, tmp_path):
        preflight.check_writable(tmp_path / "not" / "yet" / "there")
        assert list(tmp_path.iterdir()) == []


class TestMachine:
    def test_memory_and_disk_of_this_computer_are_plausible(self, tmp_path):
        total, available = machine.memory()
        assert total is not None and available is not None and 10_000_000 < available <= total
        assert machine.free_disk(tmp_path / "not" / "there") > 0
        assert 1 <= machine.cores() <= 4096

    def test_a_containers_limit_counts(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(machine, "_meminfo", lambda key: 8 * machine.GIB)
        monkeypatch.setattr(machine, "_cgroup_available", lambda: machine.GIB)
        assert machine.memory() == (8 * machine.GIB, machine.GIB)

    @pytest.mark.parametrize(
        ("folder", "limit", "usage", "statistic"),
        [
            (".", "memory.max", "memory.current", "inactive_file"),
            ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ],
        ids=["version 2", "version 1"],
    )
    @pytest.mark.parametrize(
        ("statistics", "available"),
        [
            ("anon 400\n{} 500\nactive_file 50\n", 600),  # files that were read are given up for the asking
            ("anon 900\n{} 0\n", 100),
            ("{} 5000\n", 1000),  # never more than the limit
            ("{} -5\n", 100),
            ("{} many\n", 100),
            ("{}\n", 100),
            ("not_{} 500\n", 100),
            ("\xff\0", 100),
            (None, 100),
        ],
    )
    def test_what_a_container_has_read_of_files_is_free(self, tmp_path, folder, limit, usage, statistic, statistics, available):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / limit).write_text("1000\n")
        (place / usage).write_text("900\n")
        if statistics is not None:
            (place / "memory.stat").write_bytes(statistics.format(statistic).encode("latin-1"))
        assert machine._cgroup_available(tmp_path) == available

    def test_a_container_without_a_limit(self, tmp_path):
        assert machine._cgroup_available(tmp_path) is None
        (tmp_path / "memory.max").write_text("max\n")
        (tmp_path / "memory.current").write_text("900\n")
        assert machine._cgroup_available(tmp_path) is None

    @pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for the driver's tool")
    @pytest.mark.parametrize(
        ("script", "gpus"),
        [("echo 'GPU 0: NVIDIA H200 (UUID: x)'", 1), ("echo 'No devices were found'", 0), ("echo 'GPU 0: x'; exit 9", 0)],
    )
    def test_only_a_driver_that_answers_counts(self, monkeypatch, tmp_path, script, gpus):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        assert len(machine.nvidia_gpus()) == gpus

    @pytest.mark.parametrize(("count", "text"), [(383_945_509, "384 MB"), (2_930_000_000, "2.9 GB"), (999_600, "1 MB")])
    def test_sizes(self, count, text):
        assert machine.format_bytes(count) == text


def test_messages_are_one_sentence_with_a_remedy():
    """The house's rule for errors, on those raised here."""
    for error in (
        lambda: preflight.check_prompt(""),
        lambda: preflight.check_output(Path("/nowhere/x.glb"), overwrite=False),
        lambda: preflight.check_output(Path("x.blend"), overwrite=False),
    ):
        with pytest.raises((PromptError, OutputError, PriorError)) as caught:
            error()
        assert caught.value.message.endswith(".") and caught.value.remedy.endswith(".")


class TestTurntable:
    @pytest.fixture(autouse=True)
    def asset(self, tmp_path):
        (tmp_path / "asset.glb").touch()

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["gone.glb"], 10, "There is no file"),
            (["asset.glb", "--views", "0"], 2, "from 1 to 360"),
            (["asset.glb", "--size", "9999"], 2, "from 16 to 4096"),
            (["asset.glb", "--output", "picture.bmp"], 8, "no known format"),
            (["asset.glb", "--output", "there.png"], 8, "exists already"),
            (["asset.glb", "--output", "old"], 8, "asset-views.png exists already"),
        ],
    )
    def test_refuses(self, arguments, code, words, tmp_path, capsys):
        (tmp_path / "there.png").touch()
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "asset-views.png").touch()
        assert cli.main(["turntable", *arguments]) == code
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [["asset.glb"], ["asset.glb", "--output", "new"], ["asset.glb", "--output", "new.gif"]])
    def test_goes_on(self, arguments):
        assert cli.main(["turntable", *arguments]) == WENT_ON


def test_the_worker_never_installs_unasked(tmp_path, monkeypatch, capsys):
    """Its standard output is a wire, and whoever holds the other end has to ask a person first."""
    assert cli.main(["worker", "--job", str(tmp_path)]) == WENT_ON
    monkeypatch.setattr(environment, "ready_python", lambda: None)
    assert cli.main(["worker", "--job", str(tmp_path)]) == SetupError.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "setup" in captured.err


@pytest.mark.parametrize("companion", ["cat.mtl", "cat.png"])
def test_the_files_beside_an_obj_are_not_replaced_unasked(tmp_path, companion):
    (tmp_path / companion).write_text("mine")
    with pytest.raises(OutputError, match=companion):
        preflight.check_output(tmp_path / "cat.obj", overwrite=False)
    preflight.check_output(tmp_path / "cat.obj", overwrite=True)
    preflight.check_output(tmp_path / "cat.glb", overwrite=False)


def test_a_folder_in_the_place_of_a_file_beside_an_obj_is_not_found_at_the_end_of_the_run(tmp_path):
    (tmp_path / "cat.png").mkdir()
    with pytest.raises(OutputError, match=r"cat\.png, which comes with cat\.obj, is a folder"):
        preflight.check_output(tmp_path / "cat.obj", overwrite=True)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_an_output_that_is_a_link_is_checked_where_it_leads(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cat.glb").symlink_to(tmp_path / "elsewhere" / "real.glb")
    preflight.check_output(tmp_path / "cat.glb", overwrite=False)
    (tmp_path / "elsewhere").rmdir()
    with pytest.raises(OutputError, match=r"There is no folder .*elsewhere"):
        preflight.check_output(tmp_path / "cat.glb", overwrite=True)
