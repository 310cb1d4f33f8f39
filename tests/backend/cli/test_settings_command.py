"""`settings`: what it prints is a file that gives the same settings again."""

from __future__ import annotations

import json
import tomllib

import pytest

from backend import settings
from backend.cli import main


def printed(capsys, *words: str) -> str:
    assert main(["settings", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("quality", settings.presets("quality"))
@pytest.mark.parametrize("method", settings.presets("method"))
def test_as_a_file_it_gives_the_same_settings(quality, method, tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text(printed(capsys, "--quality", quality, "--method", method), encoding="utf-8")
    assert settings.resolve(quality, method, file) == settings.resolve(quality, method)
    assert settings.resolve("draft", None, file).optimizer == settings.resolve(quality, method).optimizer


def test_every_setting_is_there_with_its_meaning(capsys):
    text, described = printed(capsys), json.loads(printed(capsys, "--json"))
    unbroken = text.replace("\n#   ", " ")
    assert list(described) == list(settings.catalogue())
    for setting in settings.catalogue().values():
        assert f"\n{setting.name} =" in text or f"\n# {setting.name} =" in text
        assert setting.help in unbroken
        assert described[setting.path]["help"] == setting.help


def test_some_by_name(capsys):
    found = tomllib.loads(printed(capsys, "grid", "gradient_fusion.cap"))
    assert found["gradient_fusion"] == {"cap": settings.resolve("normal", None).gradient_fusion.cap}
    assert found.keys() == {"grid", "gradient_fusion"} and found["grid"]["azimuth_bins"] == 12


def test_what_it_may_be_is_told(capsys):
    assert "(0 to 1)" in printed(capsys, "prior.reliability")
    assert "(at least 0)" in printed(capsys, "gradient_fusion.cap")
    assert "(auto, low, normal, high)" in printed(capsys, "prior.memory").replace("\n#   ", " ")


@pytest.mark.parametrize(("name", "near"), [("cap", "gradient_fusion.cap is near"), ("gird", "grid is near"), ("xyz", "lists them all")])
def test_unknown_names(name, near, capsys):
    assert main(["settings", name]) == 2
    assert near in capsys.readouterr().err
