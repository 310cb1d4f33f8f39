"""The image models that the panel offers, how they are looked for, and the methods in words."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from cograd3d.backend import settings
from cograd3d.backend.guidance.kinds import KINDS
from cograd3d.backend.machine import GIB, Gpu
from cograd3d.backend.model_files import ModelFile, Scan
from cograd3d.backend.models import CATALOGUE
from cograd3d.cograd3d_addon.settings import models
from cograd3d.cograd3d_addon.settings.choices import Choices
from cograd3d.cograd3d_addon.settings.methods import NAMES, methods
from cograd3d.cograd3d_addon.settings.models import Found, Shelf

FILE = ModelFile("/models/dreams.safetensors", "dreams", "sd", "file", 2_100_000_000)
PART = ModelFile("/models/flux.safetensors", "flux", "flux", "file", 23_800_000_000, is_whole=False)
FOLDER = ModelFile("/models/mine", "mine", "sdxl", "folder", 7_000_000_000)
CACHED = ModelFile(CATALOGUE[0].hub_id, CATALOGUE[0].hub_id, "sd", "hub", 2_100_000_000)
GPU = Gpu("Big One", 24 * GIB)
FULL = Found(Scan((FILE, PART, FOLDER, CACHED), {"LoRAs": 12}, False), (GPU,))


def entries(found):
    return [entry for _, group in models.menu(found) for entry in group]


class TestMenu:
    @pytest.mark.parametrize("found", [None, Found(), FULL], ids=["unknown", "nothing", "much"])
    def test_everything_is_offered_once(self, found):
        offered = [(entry.source, entry.value) for entry in entries(found)]
        assert len(offered) == len(set(offered))
        assert offered[:2] == [("BUILTIN", ""), ("EXACT", "")] and {("FOLDER", ""), ("FILE", ""), ("HUB", "")} <= set(offered)
        assert {model.hub_id for model in CATALOGUE} <= {value for source, value in offered if source == "HUB"}
        assert all(group for _, group in models.menu(found))

    def test_what_is_to_be_known_before(self):
        about = {entry.value: entry.about for entry in entries(Found())}
        for model in CATALOGUE:
            text = about[model.hub_id]
            assert model.licence in text and f"{model.download:g} GB" in text and f"{model.memory:g} GB of GPU memory" in text
        about = {entry.value: entry.about for entry in entries(FULL)}
        assert KINDS["sd"].name in about[FILE.name] and "2.1 GB" in about[FILE.name] and "hub" not in about[FILE.name]
        assert "come from the hub" in about[PART.name]

    def test_what_is_here_is_not_offered_for_download(self):
        headings = {heading: {entry.value for entry in group} for heading, group in models.menu(FULL)}
        assert headings["On This Computer"] == {FILE.name, PART.name, FOLDER.name, CACHED.name}
        assert CACHED.name not in headings["From the Hub"]
        assert next(entry for entry in entries(FULL) if entry.value == CACHED.name).title == CATALOGUE[0].title

    def test_one_is_recommended_to_who_has_a_gpu(self):
        assert [entry.title for entry in entries(Found(gpus=(GPU,))) if entry.is_recommended] == ["Stable Diffusion XL"]
        assert not any(entry.is_recommended for entry in entries(Found()))


class TestChosen:
    @pytest.mark.parametrize(
        ("choices", "title"),
        [
            (Choices(), "Built-in"),
            (Choices(prior_source="EXACT"), "Built-in, Exact"),
            (Choices(prior_source="FILE", prior_path=FILE.name), "dreams"),
            (Choices(prior_source="FOLDER", prior_path=f"{FOLDER.name}/"), "mine"),
            (Choices(prior_source="HUB", prior_hub=f" {CATALOGUE[2].hub_id}"), CATALOGUE[2].title),
            (Choices(prior_source="HUB", prior_hub="owner/model"), "owner/model"),
            (Choices(prior_source="FOLDER", prior_path="/elsewhere/other/"), "other"),
            (Choices(prior_source="FILE"), "None Chosen"),
            (Choices(prior_source="HUB", prior_path=FILE.name), "None Chosen"),
        ],
    )
    def test_by_its_name(self, choices, title):
        assert models.title_of(choices, FULL) == title

    def test_a_field_is_shown_for_ones_own(self):
        assert models.chosen(Choices(prior_source="FILE", prior_path="/elsewhere.safetensors"), FULL) is None
        assert models.chosen(Choices(prior_source="FILE"), FULL) in models.OWN


class TestSuggestion:
    def test_only_who_has_a_gpu_and_nothing_else_is_told(self):
        alone = Found(gpus=(GPU,))
        assert "Stable Diffusion XL" in models.suggestion(Choices(), alone)
        assert models.suggestion(Choices(), None) == models.suggestion(Choices(), Found()) == models.suggestion(Choices(), FULL) == ""
        assert models.suggestion(Choices(prior_source="HUB", prior_hub="owner/model"), alone) == ""

    def test_summary(self):
        assert "4 found" in models.summary(FULL) and "12 LoRAs" in models.summary(FULL) and "fewer files" in models.summary(FULL)
        assert models.summary(Found()) == "None found." and "yet" in models.summary(None)


ANSWER = {
    "found": [dataclasses.asdict(FILE)],
    "left_out": {"LoRAs": 12},
    "complete": False,
    "looked_in": ["/cache", "/models"],
    "gpus": [dataclasses.asdict(GPU)],
}


class TestShelf:
    @pytest.fixture
    def shelf(self, tmp_path):
        shelf = Shelf(log=tmp_path / "models.log")
        yield shelf
        shelf.stop()

    def wait(self, shelf):
        patience = time.monotonic() + 30
        while shelf.poll() and time.monotonic() < patience:
            time.sleep(0.01)
        assert not shelf.is_looking

    def saying(self, text):
        return lambda: [sys.executable, "-c", f"print({text!r})"]

    def test_nothing_waits(self, shelf):
        shelf.command = lambda: [sys.executable, "-c", f"input(); print({json.dumps(ANSWER)!r})"]
        assert shelf.found is None and not shelf.has_news()
        shelf.look()
        assert shelf.poll() and shelf.is_looking and shelf.found is None
        shelf._process._child.write(b"\n")
        self.wait(shelf)
        assert shelf.found == Found(Scan((FILE,), {"LoRAs": 12}, False), (GPU,), (Path("/models"),))
        assert shelf.has_news() and not shelf.has_news()

    def test_what_was_added_meanwhile_is_found_too(self, shelf):
        looked = []
        shelf.command = lambda: looked.append(1) or self.saying(json.dumps(ANSWER))()
        for _ in range(3):
            shelf.look()
        self.wait(shelf)
        assert len(looked) == 2

    @pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"found": [{"colour": 1}], "left_out": {}, "complete": true}'])
    def test_a_failure_keeps_what_was_known(self, shelf, text):
        for answer in (text, json.dumps(ANSWER), text):
            shelf.command = self.saying(answer)
            shelf.look()
            self.wait(shelf)
            assert shelf.has_news() and shelf.found is not None
        assert shelf.found.scan.models == (FILE,)

    def test_a_program_that_cannot_be_run(self, shelf, tmp_path):
        shelf.command = lambda: [str(tmp_path / "none")]
        shelf.look()
        assert not shelf.is_looking and shelf.found == Found()

    def test_stopping(self, shelf):
        shelf.command = lambda: [sys.executable, "-c", "input()"]
        shelf.look()
        shelf.stop()
        assert not shelf.is_looking and not shelf.poll() and shelf.found is None

    def test_this_computer(self, shelf, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
        shelf.look()
        self.wait(shelf)
        assert shelf.found.scan.models == () and shelf.found.folders == ()


class TestMethods:
    def test_all_presets_with_names_that_people_know(self):
        assert set(methods()) == set(settings.presets("method")) >= set(NAMES)
        assert next(iter(methods())) == "cograd3d"
        for method in methods().values():
            assert method.label and method.description and not method.description.endswith(".") and "\n" not in method.description

    def test_each_has_a_number_of_its_own(self):
        """By which .blend files know it."""
        assert set(settings.presets("method")) == set(NAMES), "a new one gets the next number"
        numbers = [method.number for method in methods().values()]
        assert len(set(numbers)) == len(numbers)

    def test_one_that_somebody_added_changes_nobody_elses_number(self, monkeypatch):
        before, described = {name: method.number for name, method in methods().items()}, settings.presets("method")
        monkeypatch.setattr(settings, "presets", lambda kind: {"a-new-one": "New", **described, "z-new-one": "New"})
        told = SimpleNamespace(description="New", source="", approximates="")
        monkeypatch.setattr(settings, "method_information", lambda name: told)
        methods.cache_clear()
        try:
            after = {name: method.number for name, method in methods().items()}
        finally:
            methods.cache_clear()
        assert before.items() <= after.items()
        assert len(set(after.values())) == len(before) + 2

    def test_where_they_come_from(self):
        assert any("Poole" in text for text in methods()["dreamfusion"].details)


def test_consent_for_what_a_file_lacks():
    asked = Choices(prompt="a cat", prior_source="FILE", prior_path="/a.safetensors")
    assert not asked.request()[1].prior.allow_download
    assert Choices(**{**vars(asked), "allow_download": True}).request()[1].prior.allow_download
