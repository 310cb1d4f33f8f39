"""`evaluate methods`: what an iteration costs, that budgets are kept, what is written."""

import argparse
import dataclasses
import json
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from backend import cli, settings
from backend.embedded.exact_prior import ExactPrior
from backend.evaluation import methods
from backend.evaluation.distil import (
    HEADER_HEIGHT,
    LABEL_WIDTH,
    TILE,
    VIEWS,
    CountedPrior,
    contact_sheet,
    described,
    distil,
    rows_per_iteration,
)
from backend.gaussians.initialize import initialize

PROMPT = "a red cat"
SMALL = ("prior.views=60", "gaussians.count=100", "optimizer.views=2", "densification.enabled=false")


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield ExactPrior(views=60)


def config(method, *sets):
    return settings.resolve("draft", method, sets=[*SMALL, *sets])


@pytest.mark.parametrize(
    ("method", "sets", "expected"),
    [
        ("dreamfusion", ["guidance.scale=1"], 2),  # a row a view: the prompt alone
        ("dreamfusion", ["guidance.scale=7"], 4),  # and the negative prompt
        ("cograd3d", ["guidance.scale=1"], 2),
        ("cograd3d", ["guidance.scale=0", "guidance.rule=csd"], 4),
        ("scaledreamer", ["guidance.scale=7", "guidance.perp_neg=0"], 6),  # and the prompt again, at the higher noise level
        ("consistent3d", ["guidance.scale=7"], 8),  # both twice
    ],
)
def test_an_iteration_asks_for_so_many_rows(prior, method, sets, expected):
    assert rows_per_iteration(config(method, *sets), prior) == expected


def test_the_rows_of_an_inversion_follow_the_noise(prior):
    """ISM's strides of 0.2 T from 0 to t - d: for t up to 0.98 at first, up to 0.5 later, one to five, and the guided prediction."""
    rows = rows_per_iteration(config("luciddreamer", "guidance.scale=1"), prior)
    assert 2 * 2.2 < rows < 2 * 5
    assert rows_per_iteration(config("luciddreamer", "guidance.scale=1", "guidance.ism_stride=1"), prior) == pytest.approx(2 * 3, abs=0.5)


def test_steps_and_negatives_multiply(prior):
    plain = rows_per_iteration(config("hifa", "guidance.scale=1", "guidance.perp_neg=0"), prior)
    assert plain == 4 * 2
    assert 2 * plain < rows_per_iteration(config("hifa", "guidance.scale=1"), prior) <= 4 * plain


def test_the_count_is_what_a_run_asks(prior):
    counted = CountedPrior(prior)
    words = counted.encode_prompts([PROMPT, ""])
    counted.predict_noise(torch.zeros(2, 3, 64, 64), torch.tensor([500, 500]), words)
    assert counted.rows == 2
    assert CountedPrior(prior, blank=True).predict_noise(torch.ones(3, 3, 8, 8), torch.zeros(3).long(), words).abs().sum() == 0


def test_a_counted_prior_knows_how_far_the_run_is(prior):
    counted = CountedPrior(prior)
    counted.progress = 0.75
    assert prior.progress == counted.progress == 0.75


def test_a_method_makes_the_same_with_or_without_another_before_it(prior, monkeypatch):
    """What the prior draws at random, whether it heeds the view word, is not what the method before it left."""
    monkeypatch.setattr(prior, "reliability", 0.5)
    monkeypatch.setattr("backend.evaluation.distil.score", lambda *arguments: None)
    small = config("cograd3d", "optimizer.iterations=4", "optimizer.resolution_steps=[[0.0, 64]]")
    first, second = (distil(small, prior, PROMPT).model.params["means"] for _ in range(2))
    assert torch.equal(first, second)


def test_words_of_another_world_have_no_truth():
    assert described(PROMPT) is not None and described("a corgi in a top hat") is None


def test_contact_sheet_has_a_row_a_result_beneath_the_truth(prior):
    model = initialize(settings.resolve("draft").gaussians, torch.Generator().manual_seed(0))
    for prompt, rows in ((PROMPT, 3), ("a corgi in a top hat", 2)):
        sheet = contact_sheet(prompt, [("one\n20 dB", model), ("two", model)])
        assert sheet.size == (LABEL_WIDTH + TILE * len(VIEWS), HEADER_HEIGHT + TILE * rows)
        tiles = np.asarray(sheet)[HEADER_HEIGHT:, LABEL_WIDTH:]
        assert (tiles.std(axis=(0, 1)) > 1).all() and (np.asarray(sheet)[:, :LABEL_WIDTH].min() < 100)


@pytest.mark.slow
def test_report(tmp_path, monkeypatch, prior, capsys):
    """Both budgets of two methods, in miniature: one asks four times as much as the other, so it gets a quarter of the iterations."""
    monkeypatch.setattr("backend.evaluation.truth.best_turn", lambda fit, roughly=None: 0.0)
    monkeypatch.setattr("backend.guidance.load.load_prior", lambda *arguments, **options: prior)
    sets = [word for assignment in (*SMALL, "hifa_image_weight=0", "perp_neg=0") for word in ("--set", assignment)]
    sets = [word.replace("hifa_", "guidance.hifa_").replace("perp_neg=", "guidance.perp_neg=") for word in sets]
    parser = argparse.ArgumentParser()
    methods.add_arguments(parser)
    options = f"--output {tmp_path}/m --methods hifa dreamfusion --iterations 8 --budgets evaluations iterations".split()
    assert methods.run(parser.parse_args([*options, *sets])) == 0
    page = (tmp_path / "m" / "comparison.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines() if line.startswith("| `")]
    assert [(row[1], row[2], row[7], row[8]) for row in rows] == [
        ("`hifa`", "`hifa`", "2", "16"),
        ("`dreamfusion`", "`sds`", "8", "16"),
        ("`hifa`", "`hifa`", "8", "64"),
        ("`dreamfusion`", "`sds`", "8", "16"),
    ]
    assert all(row[3].endswith(" dB") for row in rows)
    for name in ("contact-sheet.png", "contact-sheet-iterations.png"):
        assert name in page and Image.open(tmp_path / "m" / name).width == LABEL_WIDTH + TILE * len(VIEWS)
    assert "dreamfusion" in capsys.readouterr().out


def test_the_report_names_the_whole_command():
    parser = argparse.ArgumentParser()
    methods.add_arguments(parser)
    whole = "--prompt 'a red cat' --prior builtin:exact --quality draft --seed 0 --budgets evaluations"
    assert f"`python3 -m backend evaluate methods {whole}`, version" in methods._introduction(parser.parse_args([]))
    whole = "--prompt 'it'\"'\"'s a cat' --methods hifa cograd3d --prior a/b --quality high --seed 1 --iterations 5"
    whole += " --budgets iterations --set a.b=c"
    assert f"`python3 -m backend evaluate methods {whole}`, version" in methods._introduction(parser.parse_args(shlex.split(whole)))


def test_the_methods_are_those_of_table_1():
    assert len(methods.METHODS) == 9 and set(methods.METHODS) <= set(settings.presets("method"))
    assert methods.METHODS[-1] == "cograd3d"


def test_methods_command_lists_all(capsys):
    assert cli.main(["methods"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in settings.presets("method"):
        information = settings.method_information(name)
        assert all(part in text for part in (name, information.description, information.source, information.approximates))
    assert cli.main(["methods", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [method["name"] for method in told["methods"]] == list(settings.presets("method"))
    assert told["methods"][0].keys() == {field.name for field in dataclasses.fields(settings.MethodInformation)}
    assert "ism" in told["rules"]


def test_generate_help_lists_the_methods(capsys):
    with pytest.raises(SystemExit):
        cli.main(["generate", "--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and description in text for name, description in settings.presets("method").items())
