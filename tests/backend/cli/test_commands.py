"""The command line from outside: what is refused, with which exit code, in which words, and that nothing happens before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backend import __version__, cli, environment, machine, preflight
from backend.config import GenerationConfig
from backend.errors import EXIT_INTERRUPTED, OutputError, PriorError, PromptError, SetupError
from backend.job import JobFolder
from backend.protocol import JobSpec

from .outside import WENT_ON, generate_arguments


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
            (["setup", "--location", ""], "Argument --location: an empty name names no file or folder"),
            (["turntable", " "], "Argument FILE: an empty name"),
            (["train-prior", "--run="], "Argument --run: an empty name"),
        ],
    )
    def test_unknown_options(self, arguments, hint, capsys):
        assert cli.main(arguments) == 2
        assert hint in capsys.readouterr().err

    def test_what_was_typed_is_safe_to_print(self, capsys):
        assert cli.main(["generate", "a red cat", "--\x1b[2Jquiet"]) == 2
        assert "\x1b" not in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [["--set", "gradient_fusion.cap=\x1b[2J"], ["--settings", "\x1b[2J.toml"]])
    def test_nor_is_anything_else_obeyed_by_the_terminal(self, arguments, capsys):
        assert cli.main(["generate", "a red cat", *arguments]) == 4
        said = capsys.readouterr().err
        assert "\x1b" not in said and "\\x1b[2J" in said and len(said.splitlines()) == 2

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
            (RuntimeError("Could not determine home directory."), 2, "Set the variable HOME"),
            (ModuleNotFoundError("No module named 'numpy'", name="numpy"), 6, "setup --repair"),
            (ImportError("DLL load failed while importing _C", name="_C"), 6, "DLL load failed"),
        ],
    )
    def test_what_may_go_wrong_in_any_command(self, monkeypatch, capsys, error, code, words):
        def fail(arguments, inside):
            raise error

        monkeypatch.setattr(cli, "_dispatch", fail)
        assert cli.main(["generate", "a cat"]) == code
        assert words in capsys.readouterr().err

    def test_a_python_that_somebody_else_equipped_is_theirs_to_mend(self, monkeypatch, capsys):
        def fail(arguments, inside):
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

        monkeypatch.setattr(cli, "_dispatch", fail)
        monkeypatch.setenv("COGRAD3D_PYTHON", "/opt/python")
        assert cli.main(["generate", "a cat"]) == 6
        said = capsys.readouterr().err
        assert "COGRAD3D_PYTHON" in said and "--repair" not in said

    def test_a_command_that_cannot_even_be_imported_here_goes_on_in_the_environment(self, monkeypatch):
        def missing(name, package):
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

        monkeypatch.setattr(cli.importlib, "import_module", missing)
        monkeypatch.setattr(environment, "is_inside", lambda: False)
        assert cli.main(["evaluate", "--help"]) == WENT_ON
        assert cli.main(["doctor"]) == 6  # needs no environment, so none would help

    def test_saying_what_would_be_done_installs_nothing(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr("backend.commands.setup.ensure_environment", lambda *args, **options: pytest.fail("installed"))
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("a red cat\n")
        arguments = ["batch", str(prompts), "--output", str(tmp_path / "toys")]
        assert cli.main([*arguments, "--dry-run"]) == 0
        assert "001-a-red-cat.glb" in capsys.readouterr().out and not (tmp_path / "toys").exists()
        monkeypatch.setattr("backend.commands.setup.ensure_environment", lambda *args, **options: Path("/python"))
        assert cli.main(arguments) == WENT_ON

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
        args = generate_arguments(
            "a red cat", "--output", "cat.glb", "--seed", "3", "--initial", "cube.obj", "--without", "gradient-fusion",
            "--set", "run.seed=4", "--quality", "draft", "--negative", "a dog",
        )  # fmt: skip
        from backend.commands import generate

        spec, config = generate.make_request(args)
        assert (config.run.seed, config.gradient_fusion.enabled, config.prior.name) == (4, False, "builtin:learned")
        assert config.gaussians.initial == str(tmp_path / "cube.obj") == spec.initial
        assert spec.outputs == (str(tmp_path / "cat.glb"),) and spec.without == ("gradient-fusion",)
        assert (spec.prompt, spec.negative_prompt, spec.quality, spec.overrides["run.seed"]) == ("a red cat", "a dog", "draft", 4)

    def test_a_run_is_repeated_from_its_settings(self, tmp_path):
        from backend import settings
        from backend.commands import generate

        first = generate._created(
            generate_arguments("a red cat", "--quality", "draft", "--method", "perpneg", "--seed", "3", "--job", "first")
        )
        spec, config = generate.make_request(generate_arguments("a red cat", "--settings", "first/config.json"))
        assert settings.to_dict(config) == first.config and spec.settings_file == str(tmp_path / "first" / "config.json")

    def test_the_job_folder_is_the_one_that_was_named(self, tmp_path):
        from backend.commands import generate

        folder = generate._created(generate_arguments("a red cat", "--job", "here/mine"))
        assert folder.path == tmp_path / "here" / "mine" and folder.spec.prompt == "a red cat"
        assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]
        elsewhere = generate._created(generate_arguments("a red cat"))
        assert elsewhere.path.parent == environment.data_folder() / "jobs"


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

        args = generate_arguments("--resume", str(job.path), "--output", "other.obj")
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

        args = generate_arguments(
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

    def test_a_folder_at_home(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        (tmp_path / "asset-views.png").touch()
        assert cli.main(["turntable", "asset.glb", "--output=~"]) == 8  # most shells leave a ~ alone there
        assert f"{tmp_path / 'asset-views.png'} exists already" in capsys.readouterr().err

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
