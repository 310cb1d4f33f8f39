"""Training runs of a network of a few thousand weights: resuming, budgets, damage; their loss curve."""

from __future__ import annotations

import argparse
import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backend import cli
from backend.embedded import vocabulary
from backend.embedded.learned import model, train, trainer
from backend.embedded.learned.loss_curve import draw_curve, smooth
from backend.embedded.vocabulary import HELD_OUT, OBJECTS
from backend.errors import ConfigError
from backend.guidance.diffusers_prior import load_diffusers_prior
from backend.job import JobFolder
from tests.backend.embedded.learned.small_world import small_dataset


@pytest.fixture
def small_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over two objects with a network of a few thousand weights."""
    monkeypatch.setattr(trainer, "WorldDataset", lambda views, rng, **options: small_dataset(rng, device=options["device"]))
    monkeypatch.setattr(trainer, "LOG_STEPS", 2)
    monkeypatch.setattr(trainer, "WARMUP_STEPS", 1)
    monkeypatch.setattr(trainer, "FIT_IMAGES", 100)
    monkeypatch.setattr(trainer, "IMAGES_A_POOL", 2)
    monkeypatch.setattr(model, "CHANNELS", 64)
    monkeypatch.setattr(model, "COMPONENTS", 64)


SETTINGS = trainer.Settings(batch=4, references=3, threads=1)


def weights(run: trainer.Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in run.parameters.items()}


@pytest.mark.usefixtures("small_training")
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer.Trainer(tmp_path / "whole", SETTINGS)
    whole.run(trainer.Budget(images=24))
    first = trainer.Trainer(tmp_path / "parts", SETTINGS)
    first.run(trainer.Budget(images=12))
    second = trainer.Trainer(tmp_path / "parts", dataclasses.replace(SETTINGS, seed=99))  # the seed belongs to the beginning
    assert (second.step, second.images) == (3, 12)
    second.run(trainer.Budget(images=24), export=tmp_path / "prior")
    for name, value in weights(whole).items():
        torch.testing.assert_close(second.parameters[name].detach(), value, rtol=0, atol=0)
        torch.testing.assert_close(second.averages[name], whole.averages[name], rtol=0, atol=0)
    assert len(list((tmp_path / "parts").glob("checkpoint-*"))) == 2
    assert (tmp_path / "parts" / "loss.png").exists()
    steps = [int(row["step"]) for row in csv.DictReader((tmp_path / "whole" / "loss.csv").open())]
    assert steps == [2, 4, 6]
    prior = load_diffusers_prior(tmp_path / "prior", device=torch.device("cpu"))
    assert prior.encode_prompts(["a cat"]).tensors["embeddings"].shape == (1, 16, 128)


@pytest.mark.usefixtures("small_training")
def test_run_survives_new_words_and_refuses_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer.Trainer(tmp_path, SETTINGS)
    run.run(trainer.Budget(images=4))
    row = run.parameters[f"text_encoder/{model.EMBEDDING}"][run.tokenizer.get_vocab()["mug</w>"]].detach().clone()
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "OBJECTS", ("aardvark", *OBJECTS))
        renewed = trainer.Trainer(tmp_path, SETTINGS)
        ids = renewed.tokenizer.get_vocab()
        torch.testing.assert_close(renewed.parameters[f"text_encoder/{model.EMBEDDING}"][ids["mug</w>"]].detach(), row)
        renewed.train_step()
    path = next(tmp_path.glob("checkpoint-*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        trainer.Trainer(tmp_path, SETTINGS)


@pytest.mark.usefixtures("small_training")
def test_loss_falls_on_one_batch(tmp_path: Path) -> None:
    run = trainer.Trainer(tmp_path, SETTINGS)
    state = run.rng.bit_generator.state
    losses = []
    for _ in range(25):
        run.rng.bit_generator.state = state
        run.generator.manual_seed(0)
        losses.append(run.train_step()[0])
    assert losses[-1] < 0.5 * losses[0]


def test_budget_and_annealing() -> None:
    assert trainer._progress(trainer.Budget(), 1e9, 0, 10**9) == 0
    assert trainer._progress(trainer.Budget(minutes=10), 300, 0, 0) == pytest.approx(0.5)
    assert trainer._progress(trainer.Budget(minutes=10, images=200), 60, 100, 150) == pytest.approx(0.5)
    assert trainer._progress(trainer.Budget(images=100), 0, 200, 200) == 1


def test_threads_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for load, own, expected in ((0.1, 4, 4), (4.0, 4, 4), (6.0, 4, 2), (20.0, 1, 1), (2.6, 1, 2)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0, 0), raising=False)
        assert trainer.free_cores(own) == expected


def test_command_line(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(["--run", str(tmp_path), "--minutes", "5", "--anneal", "--init", "x"])
    assert (args.minutes, args.anneal, args.init, args.threads) == (5, True, Path("x"), 0)


@pytest.mark.usefixtures("small_training")
def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-prior", "--run", str(tmp_path / "run"), "--batch", "4", "--references", "3", "--threads", "1", "--images", "4"]
    assert cli.main(words, inside=True) == 0
    checkpoints = sorted(tmp_path.glob("run/checkpoint-*"))
    with JobFolder(tmp_path / "run").lock():
        assert cli.main([*words[:-1], "8"], inside=True) == 7
    assert f"is working on {tmp_path / 'run'}." in capsys.readouterr().err
    assert sorted(tmp_path.glob("run/checkpoint-*")) == checkpoints
    assert cli.main([*words[:-1], "8"], inside=True) == 0
    assert len(list(tmp_path.glob("run/checkpoint-*"))) == 2


@pytest.mark.parametrize(
    ("options", "exit_code", "says"),
    [
        (["--device", "foo"], 9, "The device 'foo' cannot be used"),
        (["--device", "cuda:99"], 9, "The device 'cuda:99' cannot be used"),
        (["--threads", "-1"], 2, "--threads: '-1' is no whole number of at least 0"),
        (["--views", "0"], 2, "--views: '0' is no whole number of at least 1"),
        (["--batch", "0"], 2, "--batch"),
        (["--images", "-5"], 2, "--images"),
        (["--seed", "-1"], 2, "--seed"),
        (["--minutes", "nan"], 2, "--minutes"),
        (["--lr", "0"], 2, "--lr"),
    ],
)
def test_what_cannot_be_done_is_refused_first(
    options: list[str], exit_code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train-prior", "--run", str(tmp_path / "run"), *options], inside=True) == exit_code
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_a_folder_that_cannot_be_made(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["train-prior", "--run", str(tmp_path / place)], inside=True) == 8
    assert "could not be written" in capsys.readouterr().err


def test_sheet_has_every_object_and_held_out_pairs() -> None:
    texts = [vocabulary.parse(text) for pair in trainer.sheet_prompts() for text in pair]
    assert [description.object for description in texts] == list(OBJECTS)
    held = sum((description.object, description.colour) in HELD_OUT for description in texts)
    assert held == -(-len(OBJECTS) // 3)


def test_smoothing_has_no_bias_at_the_start() -> None:
    np.testing.assert_allclose(smooth(np.array([4.0, 4.0, 4.0])), 4.0)
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0]), factor=0.5), [1.0, 5 / 3])


def test_curve_needs_two_rows(tmp_path: Path) -> None:
    source, picture = tmp_path / "loss.csv", tmp_path / "loss.png"
    draw_curve(source, picture)
    head = ",".join(trainer.COLUMNS)
    source.write_text(f"{head}\n1,32,0.1,0.5,0.1,0.2,0.3,9\n")
    draw_curve(source, picture)
    assert not picture.exists()
    source.write_text(f"{head}\n1,32,0.1,0.5,0.1,0.2,0.3,9\n2,64,0.2,0.4,0.1,nan,0.3,9\n")
    draw_curve(source, picture)
    assert picture.exists()
