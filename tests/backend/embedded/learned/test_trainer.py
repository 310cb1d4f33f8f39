"""Training runs of a network of a few thousand weights: resuming, budgets, damage; their loss curve."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backend import cli, environment
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


@pytest.mark.parametrize(
    ("allowed", "cases"),
    [
        (4, ((0.1, 4, 4), (4.0, 4, 4), (6.0, 4, 2), (20.0, 1, 1), (2.6, 1, 2))),
        (2, ((0.1, 2, 2), (4.0, 2, 2), (4.6, 2, 1), (20.0, 1, 1))),
    ],
)
def test_threads_give_way(monkeypatch: pytest.MonkeyPatch, allowed: int, cases: tuple[tuple[float, int, int], ...]) -> None:
    """On four cores, all of which this process may use or two."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(allowed)), raising=False)
    for load, own, expected in cases:
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0, 0), raising=False)
        assert trainer.free_cores(own) == expected


@pytest.mark.usefixtures("small_training")
def test_cores_are_those_that_this_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {5}, raising=False)
    unlimited = dataclasses.replace(SETTINGS, batch=4 * trainer.SMALLEST_SHARE, threads=0)
    assert trainer.Trainer(tmp_path, unlimited, device="cpu").cores == 1


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
        (["--device", "foo"], 4, "The device 'foo' cannot be used"),
        (["--device", "cuda:99"], 4, "The device 'cuda:99' cannot be used"),
        (["--threads", "-1"], 2, "--threads: '-1' is no whole number of at least 0"),
        (["--views", "0"], 2, "--views: '0' is no whole number of at least 1"),
        (["--batch", "0"], 2, "--batch"),
        (["--images", "-5"], 2, "--images"),
        (["--seed", "-1"], 2, "--seed"),
        (["--minutes", "nan"], 2, "--minutes"),
        (["--lr", "0"], 2, "--lr"),
        (["--views", "49"], 2, "--views must be at least 50"),
        (["--anneal"], 2, "--anneal needs an end"),
        (["--init", "/nowhere"], 5, "/nowhere is no pipeline folder"),
        (["--export", "/dev/null"], 8, "/dev/null is no folder"),
        (["--export", "/"], 8, "holds the run"),
    ],
)
def test_what_cannot_be_done_is_refused_first(
    options: list[str], exit_code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train-prior", "--run", str(tmp_path / "run"), *options], inside=True) == exit_code
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("export", "says"), [("photos", "is no folder that this command exported"), ("run", "holds the run"), ("here", "holds the run")]
)
def test_an_export_replaces_nothing_but_an_export(
    export: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "here").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train-prior", "--run", "run", "--export", export], inside=True) == 8
    assert says in capsys.readouterr().err
    assert (tmp_path / "photos" / "cat.jpg").exists() and not list((tmp_path / "run").iterdir())


def test_a_new_and_an_earlier_export_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-00000001.safetensors").touch()
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "cograd3d.json").touch()
    for export in ("new", "earlier", "run/prior"):
        options = argparse.Namespace(
            anneal=False, minutes=None, images=None, views=1500, run=tmp_path / "run", export=tmp_path / export, init=tmp_path / "gone"
        )
        train.check(options)  # a run that goes on needs no --init any more


@pytest.mark.usefixtures("small_training")
def test_a_run_that_diverges_keeps_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer.Trainer(tmp_path, SETTINGS)
    run.run(trainer.Budget(images=4))
    checkpoints = sorted(tmp_path.glob("checkpoint-*"))
    monkeypatch.setattr(run, "train_step", lambda annealed: (float("nan"), torch.zeros(4), torch.zeros(4)))
    with pytest.raises(ConfigError, match="diverged") as error:
        run.run(trainer.Budget(images=8), checkpoint_minutes=0)
    assert "--lr" in error.value.remedy and sorted(tmp_path.glob("checkpoint-*")) == checkpoints


@pytest.mark.parametrize(
    ("table", "kept"),
    [
        ("", []),  # killed while it was made
        ("{head}\r\n2,8,0.1,0.5,0.1,0.2,0.3,9\r\n4,16,0.1,0.5,0.1,0.2,0.3,9\r\n", ["2,8,0.1,0.5,0.1,0.2,0.3,9"]),
        ("{head}\n2,8,0.1,0.5,0.1,0.2,0.3,9\n3,12,0.", ["2,8,0.1,0.5,0.1,0.2,0.3,9"]),
        ("2,8,0.1,0.5,0.1,0.2,0.3,9\n\0\0", ["2,8,0.1,0.5,0.1,0.2,0.3,9"]),
    ],
)
def test_a_damaged_loss_table_is_mended(table: str, kept: list[str], tmp_path: Path) -> None:
    head = ",".join(trainer.COLUMNS)
    path = tmp_path / "loss.csv"
    path.write_text(table.format(head=head), newline="")
    trainer._truncate_csv(path, 3)
    assert path.read_text() == "\n".join([head, *kept]) + "\n"


@pytest.mark.usefixtures("small_training")
def test_a_run_that_was_killed_before_its_first_checkpoint_begins_its_table_anew(tmp_path: Path) -> None:
    head = ",".join(trainer.COLUMNS)
    (tmp_path / "loss.csv").write_text(f"{head}\n50,200,0.1,0.5,0.1,0.2,0.3,9\n")
    trainer.Trainer(tmp_path, SETTINGS).run(trainer.Budget(images=8))
    assert [row["step"] for row in csv.DictReader((tmp_path / "loss.csv").open())] == ["2"]


def test_nobody_need_read_what_a_training_says(tmp_path: Path) -> None:
    code = (
        "import logging, pathlib, sys; from backend.embedded.learned import trainer\n"
        "trainer._log_to(pathlib.Path(sys.argv[1])); [trainer.log.info('a note') for _ in range(3)]"
    )
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        command = [sys.executable, "-c", code, str(tmp_path / "train.log")]
        answer = subprocess.run(command, cwd=environment.PACKAGE_ROOT, stdout=pipe, stderr=subprocess.PIPE, timeout=120)
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert (tmp_path / "train.log").read_text().count("a note") == 3


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
    picture.unlink()
    source.write_text(f"{head}\n1,32,0.1,nan,nan,nan,nan,9\n2,64,0.2,nan,nan,nan,nan,9\n")
    draw_curve(source, picture)
    assert not picture.exists()
