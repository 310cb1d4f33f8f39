"""The classifier of the world's pictures, and what is said of the learned prior's samples with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from backend import cli
from backend.embedded import vocabulary
from backend.embedded.learned import classifier, dataset, evaluate
from backend.embedded.vocabulary import HELD_OUT, VIEW_WORDS, Description
from tests.backend.embedded.learned.small_world import small_dataset


@pytest.mark.slow
def test_classifier_names_what_it_sees(tmp_path: Path) -> None:
    data = dataset.WorldDataset(300, np.random.default_rng(0), objects=("cat", "car", "mug"), held_out=frozenset())
    judge = classifier.train_classifier(data, 12_800)
    shares = classifier.accuracy(judge, data, 512)
    assert shares["object"] > 0.97
    assert shares["colour"] > 0.85
    assert shares["view"] > 0.75


def test_classifier_labels_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_dataset(held_out=frozenset())
    examples = data.draw(32)
    truth = classifier.labels(examples)
    for row, description in enumerate(examples.descriptions):
        assert classifier.ANSWERS["object"][truth["object"][row]] == description.object
        if description.base_colour is None:
            assert truth["colour"][row] == -100
    path = tmp_path / "judge.safetensors"
    monkeypatch.setattr(classifier, "TRAINING_IMAGES", 128)
    first = classifier.cached_classifier(data, path=path)
    monkeypatch.delattr(classifier, "train_classifier")
    second = classifier.cached_classifier(data, path=path)
    assert first.name(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))) == second.name(
        torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    )


def test_a_classifier_of_fewer_views_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cached(blank, train, name, path):
        asked.append(name)
        return blank

    monkeypatch.setattr(classifier, "cached_judge", cached)
    for views in (20, 30, 20):
        data = dataset.WorldDataset(views, np.random.default_rng(0), objects=("cat",))
        classifier.cached_classifier(data)
    assert asked[0] == asked[2] != asked[1]


def test_prompt_sets_keep_held_out_pairs_apart() -> None:
    sets = evaluate.prompt_sets(10, np.random.default_rng(0))
    assert {name: len(members) for name, members in sets.items()} == dict.fromkeys(evaluate.SETS, 40)
    for name, members in sets.items():
        assert [member.view for member in members[:4]] == list(VIEW_WORDS)
        assert all(((member.object, member.base_colour) in HELD_OUT) == (name == "held out") for member in members)


def test_table_by_hand() -> None:
    right = {"object": True, "colour": True, "material": True, "view": True}
    rows = [
        {"set": "seen", "prompt": "a red cat, front view", **right},
        {"set": "seen", "prompt": "a red cat, back view", **right, "view": False, "object": False},
        {"set": "materials", "prompt": "a golden cat, front view", **right, "colour": None},
    ]
    lines = evaluate.table(rows, dict.fromkeys(evaluate.QUESTIONS, 0.99)).splitlines()
    assert "| seen | 2 | 50.0% | 100.0% | 100.0% | 50.0% | 50.0% |" in lines
    assert "| materials | 1 | 100.0% |  | 100.0% | 100.0% | 100.0% |" in lines
    assert "| front view | 2 | 100.0% | 100.0% | 100.0% | 100.0% | 100.0% |" in lines
    assert "| true pictures | | 99.0% | 99.0% | 99.0% | 99.0% | |" in lines


def test_denoising_errors_by_hand() -> None:
    """A prior whose x0 is half of the true picture errs by a quarter of its mean square."""
    examples = small_dataset().draw(5)
    asked: list[str] = []

    class Half:
        alphas_cumprod = torch.linspace(0.99, 0.01, 1000)

        def encode_prompts(self, texts: list[str]) -> None:
            asked.extend(texts)

        def predict_noise(self, z: torch.Tensor, t: torch.Tensor, conditioning: None) -> torch.Tensor:
            alpha_bar = self.alphas_cumprod[t[0]]
            end = (len(asked) - 1) % 5 + 1
            shown = examples.images[end - len(z) : end]
            return (z - alpha_bar.sqrt() * shown / 2) / (1 - alpha_bar).sqrt()

    found = evaluate.denoising_errors(Half(), examples, torch.Generator().manual_seed(0), batch=3)  # type: ignore[arg-type]
    assert len(found) == len(evaluate.TIMESTEPS)
    assert found == pytest.approx([examples.images.square().mean().item() / 4] * len(found), rel=1e-4)
    words = [vocabulary.parse(text).view for text in asked[:5]]
    assert words == examples.view_words
    table = evaluate.error_table({"two": [0.01, 0.02, 0.03, 0.04, 0.05]}).splitlines()
    assert table[0] == "| backdrops | t = 100 | t = 400 | t = 600 | t = 700 | t = 780 |"
    assert table[2] == "| two | 0.0100 | 0.0200 | 0.0300 | 0.0400 | 0.0500 |"


def test_judgement() -> None:
    named = {"object": "cat", "colour": "orange", "material": "plain", "view": "side view"}
    assert evaluate.judged(Description("cat", None, None, "side view"), named) == dict.fromkeys(
        evaluate.QUESTIONS, True
    )  # orange by nature
    assert evaluate.judged(Description("cat", None, "golden", "side view"), named)["colour"] is None


@pytest.mark.slow
def test_the_report_of_the_shipped_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By a judge that has learned nothing: what it says is written down all the same."""
    monkeypatch.setattr(classifier, "cached_classifier", lambda data, progress: classifier.Classifier().eval())
    weights = Path(evaluate.__file__).parents[1] / "weights"
    sizes = ["--pairs", "1", "--pictures", "4", "--views", "20", "--steps", "2", "--threads", "1"]
    assert cli.main(["evaluate", "prior", str(weights), "--output", str(tmp_path / "out"), *sizes], inside=True) == 0
    figures = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert len(figures["samples"]) == 12 and set(figures["errors"]) == {"varied", "two"}
    assert all(0 < error < 0.2 for errors in figures["errors"].values() for error in errors)
    report = (tmp_path / "out" / "table.md").read_text()
    assert report in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {"seen.png", "held-out.png", "materials.png"}
