"""What `evaluate results` refuses before it works for minutes, and that it reports what was asked for."""

import shlex
from dataclasses import fields
from types import SimpleNamespace

import pytest
from PIL import Image

from backend import cli
from backend.evaluation.measure import Row


@pytest.mark.parametrize("name", ["report", "report.txt", "there.md"])
def test_a_report_that_could_not_be_written_is_refused_first(name, tmp_path, capsys):
    (tmp_path / "there.md").mkdir()
    options = ["--output", str(tmp_path / name), "--work", str(tmp_path / "work")]
    assert cli.main(["evaluate", "results", *options], inside=True) == 8
    said = capsys.readouterr().err
    assert f"{name} is no name for a report in Markdown." in said and "results.md" in said
    assert [path.name for path in tmp_path.iterdir()] == ["there.md"]


@pytest.mark.parametrize(
    "words",
    [
        ("results", "--output", "file/results.md", "--work", "work"),
        ("methods", "--output", "file"),
        ("methods", "--output", "file/methods"),
        ("gallery", "--report", "file"),
        ("gallery", "--report", "report", "--work", "file/work"),
        ("prior", "prior", "--output", "file/samples"),
    ],
)
def test_folders_that_cannot_be_made_are_told_before_any_work(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("backend.guidance.load.load_prior", lambda *arguments, **options: pytest.fail("loaded"))
    (tmp_path / "file").write_text("precious")
    assert cli.main(["evaluate", *words], inside=True) == 8
    said = capsys.readouterr().err
    assert "file" in said and "could not be written" in said
    assert (tmp_path / "file").read_text() == "precious"


@pytest.fixture
def measured(monkeypatch):
    """(prompt, seed, prior) of everything that was measured, where nothing is generated; its row and pictures say the seed."""
    done = []

    def measure(prompt, config, quality, folder):
        done.append((prompt, config.run.seed, config.prior.name))
        values = {field.name: float(config.run.seed) for field in fields(Row)}
        for name in ("sheet.png", "portrait.png"):
            Image.new("RGB", (4, 4), (config.run.seed,) * 3).save(folder / name)
        return Row(**values | {"prompt": prompt, "held_out": False, "gaussians": 1, "faces": 1, "watertight": True})

    monkeypatch.setattr("backend.evaluation.measure.measure", measure)
    return done


def report(tmp_path, *options):
    """The report's text, made with these options on the one work folder."""
    output = tmp_path / "report.md"
    assert cli.main(["evaluate", "results", "--work", str(tmp_path / "work"), "--output", str(output), *options], inside=True) == 0
    return output.read_text("utf-8")


def test_what_was_asked_for_is_what_is_reported(tmp_path, measured):
    cat = report(tmp_path, "--prompts", "a red cat")
    assert "| a red cat | 0.0 dB" in cat and measured == [("a red cat", 0, "builtin:learned")]
    car = report(tmp_path, "--prompts", "a blue car", "--seed", "5", "--prior", "builtin:exact")
    assert "| a blue car | 5.0 dB" in car and "red cat" not in car
    assert measured[1:] == [("a blue car", 5, "builtin:exact")]
    assert Image.open(tmp_path / "report" / "00.png").getpixel((0, 0)) == (5, 5, 5)
    both = report(tmp_path, "--prompts", "a blue car", "a red cat")
    assert "| a red cat | 0.0 dB" in both and "| a blue car | 0.0 dB" in both and measured[2:] == [("a blue car", 0, "builtin:learned")]
    assert report(tmp_path, "--prompts", "a red cat") == cat and len(measured) == 3, "what is done is not repeated"


def test_another_model_under_the_same_name_is_another_job(tmp_path, measured, monkeypatch):
    options = ("--prompts", "a red cat", "--prior", "builtin:learned")
    report(tmp_path, *options)
    report(tmp_path, *options)
    assert len(measured) == 1
    monkeypatch.setattr("backend.guidance.load.load_prior", lambda *arguments, **options: SimpleNamespace(fingerprint="another"))
    report(tmp_path, *options)
    assert len(measured) == 2


@pytest.mark.parametrize("options", [["--quality", "draft"], ["--set", "gradient_fusion.cap=0.4"], ["--seed", "1"]])
def test_other_settings_are_another_job(options, tmp_path, measured):
    report(tmp_path, "--prompts", "a red cat")
    report(tmp_path, "--prompts", "a red cat", *options)
    assert len(measured) == 2


def test_the_report_names_the_whole_command(tmp_path, measured):
    command = "python3 -m backend evaluate results --prior builtin:learned --quality normal --seed 0"
    assert f"`{command}`, version" in report(tmp_path)
    options = "--prompts 'a red cat' --set 'optimizer.resolution_steps=[[0.0, 64]]'"
    assert f"`{command} {options}`, version" in report(tmp_path, *shlex.split(options))


def test_a_prompt_outside_the_world_is_refused_first(tmp_path, measured, capsys):
    options = ["--work", str(tmp_path / "work"), "--output", str(tmp_path / "report.md"), "--prompts", "a red cat", "a flying unicorn"]
    assert cli.main(["evaluate", "results", *options], inside=True) == 3
    assert "unicorn" in capsys.readouterr().err and not measured and not list(tmp_path.iterdir())
