"""What the doctor says about computers and environments in various states of health."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from backend import cli, doctor, environment, machine, packaging
from backend.doctor import MISSING, OK, WARNING
from backend.environment import MARKER_FILE, OWNER_FILE, Environment
from backend.errors import SetupError

FACTS = {
    "python": "3.11.7", "torch": "2.13.0+cpu", "torch_cuda": None, "device": "cpu", "gpus": [], "threads": 2,
    "rasterizer": "numba", "rasterizer_reason": "the fastest on the CPU",
}  # fmt: skip

FREE_DISK = machine.free_disk


@pytest.fixture(autouse=True)
def computer(monkeypatch, tmp_path):
    """A healthy computer without a GPU and without an environment."""
    for name in ("COGRAD3D_ENV", "COGRAD3D_PYTHON", "HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "nvidia_gpus", list)
    monkeypatch.setattr(machine, "gpus", list)
    monkeypatch.setattr(packaging, "find_blender", lambda: None)
    monkeypatch.setattr(machine, "memory", lambda: (8_000_000_000, 6_000_000_000))
    monkeypatch.setattr(machine, "free_disk", lambda path: 50_000_000_000)


@pytest.fixture
def ready(monkeypatch):
    """A complete environment, in which Python finds FACTS."""
    monkeypatch.setattr(Environment, "state", lambda self, thorough=False: environment.State(environment.Status.READY, "Complete."))
    monkeypatch.setattr(doctor, "_facts", lambda python: FACTS)


def found() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


def test_nothing_installed(capsys):
    assert found()["environment"].status == MISSING
    assert cli.main(["doctor"]) == 6
    text = capsys.readouterr().out
    assert "environment: python3 -m backend setup\n" in text and "Not able to run yet." in text


def test_all_well(ready, capsys):
    assert all(finding.status == OK and not finding.remedy for finding in found().values())
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "2.13.0+cpu" in text and "numba: the fastest on the CPU" in text and text.endswith("Able to run.\n")


def test_for_programs(ready, capsys):
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["able_to_run"] is True
    assert report["findings"]["PyTorch"]["device"] == "cpu"
    assert report["findings"]["memory"]["available"] == 6_000_000_000


def test_an_interrupted_installation_is_to_be_repaired():
    root = environment.default_location()
    root.mkdir(parents=True)
    (root / OWNER_FILE).touch()
    finding = found()["environment"]
    assert finding.status == MISSING and finding.remedy == "python3 -m backend setup --repair"


def test_a_folder_that_is_not_ours_is_to_be_avoided():
    root = environment.default_location()
    root.mkdir(parents=True)
    (root / "thesis.tex").touch()
    assert found()["environment"].remedy == "python3 -m backend setup --location DIR"


def test_a_variable_that_names_such_a_folder_is_to_be_corrected(monkeypatch, tmp_path):
    """`setup --location` would be of no use: the variable wins."""
    (tmp_path / "thesis.tex").touch()
    monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path))
    assert found()["environment"].remedy == "Correct the variable COGRAD3D_ENV, or unset it."


def test_folders_that_cannot_be_looked_into_are_findings(monkeypatch, tmp_path):
    """As are those in the home of another user, whose HOME was passed on."""
    nowhere = tmp_path / ("x" * 300)  # the system refuses the name, to an administrator too
    monkeypatch.setattr(machine, "free_disk", FREE_DISK)
    for variable in ("XDG_DATA_HOME", "LOCALAPPDATA", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(nowhere))
    assert found()["environment"].status == MISSING
    assert found()["image models"].text.startswith("none")


@pytest.mark.parametrize(("cuda", "remedy"), [(None, "setup --remove"), ("13.0", "Update the graphics driver.")])
def test_a_gpu_that_is_not_used(ready, monkeypatch, cuda, remedy):
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0: H200"])
    monkeypatch.setattr(doctor, "_facts", lambda python: FACTS | {"torch_cuda": cuda})
    finding = found()["PyTorch"]
    assert finding.status == WARNING and remedy in finding.remedy
    assert doctor.able_to_run(doctor.examine())


def test_a_gpu_that_is_used(ready, monkeypatch):
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: ["GPU 0: H200"])
    monkeypatch.setattr(doctor, "_facts", lambda python: FACTS | {"torch_cuda": "13.0", "device": "cuda", "gpus": ["H200"]})
    finding = found()["PyTorch"]
    assert finding.status == OK and "H200" in finding.text


def test_little_memory_and_disk_are_warnings(ready, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (2_000_000_000, 400_000_000))
    monkeypatch.setattr(machine, "free_disk", lambda path: 300_000_000)
    findings = found()
    assert findings["memory"].status == findings["disk"].status == WARNING
    assert "400 MB free" in findings["memory"].text and findings["memory"].remedy
    monkeypatch.setattr(machine, "memory", lambda: (None, None))
    assert found()["memory"].status == OK


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo '[1]'", "kill -9 $$", 'echo \'{"error": "no numpy"}\'; exit 1'])
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for Python")
def test_an_environment_that_answers_nonsense(monkeypatch, tmp_path, script):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setenv("COGRAD3D_PYTHON", str(python))
    finding = found()["environment"]
    assert finding.status == MISSING and "does not work" in finding.text


def test_image_models_on_this_computer(monkeypatch, tmp_path):
    assert found()["image models"].data == {"models": [], "recommended": None}
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("Big One", 24 * machine.GIB)])
    finding = found()["image models"]
    assert finding.status == OK and not finding.remedy and "Stable Diffusion XL is recommended" in finding.text
    unet = tmp_path / "cache" / "huggingface" / "hub" / "models--owner--a--model" / "snapshots" / "abc" / "unet"
    unet.mkdir(parents=True)
    (unet / "diffusion_pytorch_model.safetensors").touch()
    (unet.parents[2] / "refs").mkdir()
    (unet.parents[2] / "refs" / "main").write_text("abc")
    (unet.parent / "model_index.json").write_text('{"unet": ["x", "UNet2DConditionModel"], "text_encoder": ["x", "CLIPTextModel"]}')
    finding = found()["image models"]
    assert finding.data["models"] == ["owner/a--model"] and "1 on this computer" in finding.text and "recommended" not in finding.text


def test_a_state_names_its_folder_once():
    root = environment.default_location()
    root.mkdir(parents=True)
    (root / OWNER_FILE).touch()
    (root / MARKER_FILE).touch()
    assert doctor.report(doctor.examine()).count(str(root)) == 1


@pytest.mark.parametrize(("version", "status"), [((4, 2, 0), OK), ((5, 2, 2), OK), ((4, 1, 1), WARNING), ((3, 6), WARNING)])
def test_blenders_of_many_ages(ready, monkeypatch, version, status):
    monkeypatch.setattr(packaging, "find_blender", lambda: Path("/opt/blender"))
    monkeypatch.setattr(packaging, "blender_version", lambda executable: version)
    finding = found()["Blender"]
    assert (finding.status, finding.data["extensions"]) == (status, status == OK) and bool(finding.remedy) == (status == WARNING)
    assert doctor.able_to_run(doctor.examine())  # the command line needs none


def test_a_blender_that_does_not_start(ready, monkeypatch):
    def fail(executable):
        raise SetupError("/opt/blender is no Blender.", remedy="Name Blender's executable.")

    monkeypatch.setattr(packaging, "find_blender", lambda: Path("/opt/blender"))
    monkeypatch.setattr(packaging, "blender_version", fail)
    assert found()["Blender"].status == WARNING
