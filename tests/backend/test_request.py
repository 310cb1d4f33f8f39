"""What a program that is not the command line gets when it orders a run: the request, and refusals in words that fit a panel."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from backend import environment, machine, preflight, request, wording
from backend.config import GenerationConfig
from backend.embedded import vocabulary
from backend.errors import CoGradError, ConfigError, InputError, JobError, OutputError, PriorError, PromptError, ResourceError
from backend.job import JobFolder
from backend.protocol import JobSpec


@pytest.fixture(autouse=True)
def roomy(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (16_000_000_000, 12_000_000_000))
    monkeypatch.setattr(machine, "free_disk", lambda path: 50_000_000_000)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "there.glb").write_text("an older result")
    (tmp_path / "cube.obj").touch()
    description = json.dumps({"extensionsRequired": ["KHR_draco_mesh_compression"]}).encode()
    (tmp_path / "draco.glb").write_bytes(
        struct.pack("<4sIIII", b"glTF", 2, 20 + len(description), len(description), 0x4E4F534A) + description
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestJobsFolder:
    def test_in_the_data_folder(self, monkeypatch):
        monkeypatch.delenv("COGRAD3D_JOBS", raising=False)
        assert request.jobs_folder() == environment.data_folder() / "jobs"

    def test_can_be_chosen(self, monkeypatch, tmp_path):
        monkeypatch.setenv("COGRAD3D_JOBS", str(tmp_path))
        assert request.jobs_folder() == tmp_path

    @pytest.mark.skipif(sys.platform == "win32", reason="~ stands for another variable there")
    def test_the_home_folder_may_be_abbreviated(self):
        assert request.jobs_folder({"COGRAD3D_JOBS": "~/runs"}) == Path.home() / "runs"


class TestMakeRequest:
    def test_nothing_but_a_prompt(self):
        spec, config = request.make_request("a red cat")
        assert spec == JobSpec(prompt="a red cat")
        assert (config.run.seed, config.prior.name, config.gaussians.initial) == (0, "builtin:learned", "blob")

    def test_everything(self, here):
        (here / "mine.toml").write_text("[optimizer]\nviews = 3\niterations = 10\n")
        spec, config = request.make_request(
            "a red cat",
            negative_prompt="a dog",
            quality="draft",
            method="annealed-only",
            overrides={"run.seed": 4, "optimizer.iterations": 60, "gaussians.initial": "cube.obj", "gradient_fusion.cap": float("inf")},
            settings_file="mine.toml",
            without=["gradient-fusion"],
            outputs=[Path("cat.glb"), "cat.obj"],
            overwrite=True,
        )
        assert (config.run.seed, config.optimizer.iterations, config.optimizer.views) == (4, 60, 3)
        assert not config.gradient_fusion.enabled
        assert config.gaussians.initial == spec.initial == str(here / "cube.obj")
        assert spec.outputs == (str(here / "cat.glb"), str(here / "cat.obj")) and spec.overwrite
        assert spec.settings_file == str(here / "mine.toml") and spec.without == ("gradient-fusion",)
        assert (spec.prompt, spec.negative_prompt, spec.quality, spec.method) == ("a red cat", "a dog", "draft", "annealed-only")
        assert spec.overrides["optimizer.iterations"] == 60

    def test_makes_a_job_folder_that_reads_back(self, tmp_path):
        given = {"grid.elevation_edges": (-10, 30, 60), "gradient_fusion.cap": float("inf"), "run.seed": 7}
        spec, config = request.make_request("a red cat", overrides=given)
        folder = JobFolder.open(JobFolder.create(tmp_path, spec, config).path)
        assert folder.spec == spec and folder.config["grid"]["elevation_edges"] == [-10, 30, 60]
        assert request.make_request("a red cat", overrides=folder.spec.overrides) == (spec, config)

    @pytest.mark.parametrize("name", request.BUILTIN_PRIORS)
    def test_a_file_called_like_a_builtin_prior_does_not_count(self, here, name):
        (here / name).touch()
        made = request.make_request("a red cat", overrides={"prior.name": name})[1].prior.name
        assert made == (name if ":" in name else "builtin:learned")

    def test_a_model_folder_becomes_an_absolute_path_and_a_hub_id_stays(self, here):
        (here / "models").mkdir()
        assert request.make_request("x", overrides={"prior.name": "models"})[1].prior.name == str(here / "models")
        assert request.make_request("x", overrides={"prior.name": "owner/model"})[1].prior.name == "owner/model"

    @pytest.mark.parametrize(("given", "kept"), [("small", "{}/small"), ("none", "none"), ("madebyollin/taesd", "madebyollin/taesd")])
    def test_so_does_the_folder_of_a_small_image_encoder(self, here, given, kept):
        for name in ("small", "none"):
            (here / name).mkdir()
        spec, config = request.make_request("a red cat", overrides={"prior.small_vae": given})
        assert config.prior.small_vae == kept.format(here)
        request.check_request(spec, config, here)

    def test_a_small_image_encoder_that_is_not_there_is_refused(self, here):
        spec, config = request.make_request("a red cat", overrides={"prior.small_vae": "nowhere"})
        with pytest.raises(PriorError, match="There is no small image encoder nowhere"):
            request.check_request(spec, config, here)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"overrides": {"optimizer.iterations": 0}}, "^optimizer.iterations must be at least"),
            ({"overrides": {"optimizer.iterations": "many"}}, "^optimizer.iterations must be a whole number"),
            ({"overrides": {"optimizer.iteratons": 5}}, "^There is no setting 'optimizer.iteratons'"),
            ({"overrides": {"iterations": 5}}, "^There is no setting 'iterations'"),
            ({"overrides": {"prior.name": ""}}, "^prior.name must be"),
            ({"overrides": {"prior.name": 3}}, "^prior.name must be"),
            ({"quality": "fine"}, "^There is no quality preset 'fine'"),
            ({"method": "best"}, "^There is no method preset 'best'"),
            ({"without": ["everything"]}, "^There is no component 'everything'"),
            ({"settings_file": "none.toml"}, "none.toml cannot be read"),
            ({"overrides": {"run.seed": -1}, "origins": {"run.seed": "the seed"}}, "^In the seed: run.seed must be at least 0"),
        ],
    )
    def test_refusals_name_the_setting(self, here, arguments, words):
        with pytest.raises(ConfigError, match=words) as caught:
            request.make_request("a red cat", **arguments)
        assert_fits_a_panel(caught.value)


BAD = [
    ({"prompt": ""}, {}, PromptError, "is empty"),
    ({"prompt": "a flying saucer"}, {}, PromptError, "does not know"),
    ({"negative_prompt": "two heads"}, {}, PromptError, "does not know"),
    ({"negative_prompt": "a\x00b"}, {}, PromptError, "negative prompt contains"),
    ({"outputs": ["there.glb"]}, {}, OutputError, "exists already"),
    ({"outputs": ["cat.blend"]}, {}, OutputError, "no known format"),
    ({}, {"prior.name": "nowhere"}, PriorError, "no image model nowhere"),
    ({}, {"prior.name": "models/nothing.safetensors"}, PriorError, "no image model models/nothing"),
    ({}, {"prior.small_vae": "models/nothing.safetensors"}, PriorError, "no small image encoder"),
    ({}, {"prior.name": "there.glb"}, PriorError, "no .safetensors file"),
    ({}, {"gaussians.initial": "potato"}, InputError, "no shape to start from"),
    ({}, {"gaussians.initial": "gone.obj"}, InputError, "There is no file"),
    ({}, {"gaussians.initial": "draco.glb"}, InputError, "compressed by KHR_draco_mesh_compression"),
]


class TestCheckRequest:
    @pytest.mark.parametrize(("arguments", "overrides", "kind", "words"), BAD)
    def test_refuses(self, here, arguments, overrides, kind, words):
        before = sorted(here.rglob("*"))
        spec, config = request.make_request(**{"prompt": "a red cat", "overrides": overrides} | arguments)
        with pytest.raises(kind, match=words) as caught:
            request.check_request(spec, config, here / "jobs")
        assert_fits_a_panel(caught.value)
        assert sorted(here.rglob("*")) == before

    @pytest.mark.parametrize(
        ("arguments", "overrides"),
        [
            ({}, {}),
            ({"outputs": ["there.glb"], "overwrite": True}, {}),
            ({"prompt": "anything at all"}, {"prior.name": "owner/model"}),
            ({}, {"gaussians.initial": "cube.obj"}),
            ({"negative_prompt": "a dog"}, {"prior.name": "builtin:exact"}),
        ],
    )
    def test_accepts(self, here, arguments, overrides):
        spec, config = request.make_request(**{"prompt": "a red cat", "overrides": overrides} | arguments)
        request.check_request(spec, config, here / "jobs" / "not" / "yet")

    @pytest.mark.parametrize(
        ("quality", "free", "prior", "enough"),
        [
            ("normal", preflight.MEMORY_BYTES["normal"], "builtin", True),
            ("normal", preflight.MEMORY_BYTES["normal"] - 1, "builtin", False),
            ("draft", preflight.MEMORY_BYTES["normal"] - 1, "builtin", True),
            ("draft", preflight.MEMORY_BYTES["normal"] - 1, "owner/model", False),
        ],
    )
    def test_memory(self, here, monkeypatch, quality, free, prior, enough):
        monkeypatch.setattr(machine, "memory", lambda: (None, free))
        spec, config = request.make_request("a red cat", quality=quality, overrides={"prior.name": prior})
        if enough:
            request.check_request(spec, config, here)
            return
        with pytest.raises(ResourceError) as caught:
            request.check_request(spec, config, here)
        assert_fits_a_panel(caught.value)
        assert ("choose the draft quality" in caught.value.remedy) == (quality != "draft")

    def test_disk(self, here, monkeypatch):
        monkeypatch.setattr(machine, "free_disk", lambda path: preflight.JOB_BYTES - 1)
        with pytest.raises(ResourceError, match="are needed"):
            request.check_request(*request.make_request("a red cat"), here)

    @pytest.mark.skipif(sys.platform != "linux", reason="a folder in which even root cannot write")
    def test_a_jobs_folder_that_cannot_be_written(self):
        with pytest.raises(OutputError, match="Nothing can be written"):
            request.check_request(*request.make_request("a red cat"), Path("/proc/jobs"))


class TestCheckResume:
    @pytest.fixture
    def job(self, here) -> JobFolder:
        return JobFolder.create(here / "jobs", *request.make_request("a red cat", outputs=["there.glb"], overwrite=False))

    def test_an_output_that_came_into_being_meanwhile(self, job):
        with pytest.raises(OutputError, match="exists already"):
            request.check_resume(job)
        request.check_resume(job, overwrite=True)
        request.check_resume(job, ["other.glb"])
        with pytest.raises(OutputError):
            request.check_resume(job, ["there.glb"])

    def test_a_finished_run_replaces_its_own_results(self, job):
        with job.lock():
            job.update_state(status="finished")
        request.check_resume(job)

    def test_that_it_may_replace_its_own_results_holds_for_no_others(self, job, here):
        job.write_spec(dataclasses.replace(job.spec, overwrite=True))
        assert resumed("--resume", str(job.path)).spec == job.spec
        other = resumed("--resume", str(job.path), "--output", "other.glb").spec
        assert (other.outputs, other.overwrite) == ((str(here / "other.glb"),), False)
        assert resumed("--resume", str(job.path), "--overwrite").spec == dataclasses.replace(other, overwrite=True)

    def test_a_job_that_is_being_worked_on(self, job):
        with job.lock(), pytest.raises(JobError, match="Another process"):
            request.check_resume(JobFolder.open(job.path), overwrite=True)

    def test_room_is_needed_again(self, job, monkeypatch):
        monkeypatch.setattr(machine, "memory", lambda: (None, 1_000_000_000))
        with pytest.raises(ResourceError):
            request.check_resume(job, overwrite=True)

    @pytest.mark.parametrize("content", ["[]", "{}", '{"prior": null}', '{"prior": {}}'])
    def test_a_damaged_job(self, job, content):
        job.config_path.write_text(content)
        with pytest.raises(JobError, match=r"config\.json is damaged"):
            request.check_resume(job, overwrite=True)


class TestWording:
    def test_every_phrase_is_one_that_a_remedy_has(self):
        """Whoever words a remedy anew must not lose its option unnoticed."""
        package = Path(inspect.getfile(preflight)).parent
        source = "".join(path.read_text("utf-8") for path in package.rglob("*.py") if path.name != "wording.py")
        assert [phrase for phrase in wording.IN_OPTIONS if phrase not in source] == []

    def test_the_command_line_names_its_options(self):
        with pytest.raises(PromptError) as caught:
            vocabulary.parse("a flying saucer")
        assert_fits_a_panel(caught.value)
        assert "--prior" in wording.in_options(caught.value.remedy)

    def test_what_names_no_choice_stays(self):
        assert wording.in_options("Say it shorter.") == "Say it shorter."


def resumed(*options: str) -> JobFolder:
    """The job that a `generate` goes on with."""
    from backend import cli
    from backend.commands import generate

    parser = cli.Parser(prog="generate")
    generate.add_arguments(parser)
    return generate._resumed(parser.read(list(options)))


def assert_fits_a_panel(error: CoGradError) -> None:
    """No option of the command line, and both sentences are there."""
    assert error.message.endswith(".") and error.remedy.endswith((".", "?"))
    assert not re.search(r"--\w|python3|`", str(error))


def test_needs_the_standard_library_alone():
    code = "from backend.request import *; check_request(*make_request('a red cat'), jobs_folder())"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=environment.PACKAGE_ROOT, check=True, timeout=60)  # -S: without site-packages


def test_a_request_is_the_same_from_here_and_from_the_command_line(here):
    from backend import cli
    from backend.commands import generate

    parser = cli.Parser(prog="generate")
    generate.add_arguments(parser)
    typed = parser.read(["a red cat", "--seed", "3", "--iterations", "60", "--initial", "cube.obj", "--output", "cat.glb"])
    spoken = request.make_request(
        "a red cat", overrides={"run.seed": 3, "optimizer.iterations": 60, "gaussians.initial": "cube.obj"}, outputs=["cat.glb"]
    )
    assert generate.make_request(typed) == spoken
    assert isinstance(spoken[1], GenerationConfig)
