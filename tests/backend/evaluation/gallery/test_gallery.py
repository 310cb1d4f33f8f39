"""`evaluate gallery` as a command: runs in processes, records, a report; what is done is not done again."""

import argparse
import csv
import json
import os
import sys
from dataclasses import fields, replace

import pytest

from backend import machine, settings
from backend.errors import ConfigError, InputError, JobError, ResourceError, UsageError
from backend.evaluation.gallery import command, single
from backend.evaluation.gallery.public_scores import parse_scores
from backend.evaluation.gallery.records import Record, read_records, write_records
from backend.evaluation.gallery.runs import RECORD_FILE, Run, _plain, prepare
from backend.execution import Outcome
from backend.job import JobFolder

from . import synthetic

TINY = (
    *("prior.views=60", "optimizer.iterations=4", "optimizer.resolution_steps=[[0.0, 64]]", "densification.enabled=false"),
    *("surface.resolution=32", "surface.views=8", "surface.faces=300", "texture.size=64", "texture.views=6", "texture.refine=0"),
    "region_sampling.warmup_passes=0",
)


def parsed(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([*words, *(word for setting in TINY for word in ("--set", setting))])


@pytest.mark.slow
def test_from_prompts_to_a_report(tmp_path, capsys):
    report = tmp_path / "report"
    words = ("--methods", "cograd3d", "w/o A", "--prompts", "a red cat", "--seeds", "2", "--report", str(report), "--processes", "2")
    assert command.run(parsed(*words)) == 0
    records = read_records(report / "records.csv")
    assert {(r.variant, r.seed) for r in records} == {(v, s) for v in ("cograd3d", "w/o A") for s in (0, 1)}
    for record in records:
        assert record.iterations == 4 and 0 < record.psnr < 60 and 0 <= record.janus <= 1 and len(record.alignment_angles) == 12
    page = (report / "index.html").read_text("utf-8")
    assert "w/o A" in page and "data:image" in page and "http://" not in page.replace("http://www.w3.org", "")
    assert (report / "ranking.html").exists() and "cograd3d" not in (report / "ranking.html").read_text("utf-8")
    with (report / "table.csv").open(encoding="utf-8") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == {"cograd3d", "w/o A"}

    # All of it is there: only the report is made again, from the figures alone if need be.
    folders = sorted((report / "work").glob("*/run.json"))
    before = {path: path.stat().st_mtime_ns for path in folders}
    write_records(report / "records.csv", records[:1])
    capsys.readouterr()
    assert command.run(parsed(*words)) == 0
    assert "to go" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folders} == before
    assert read_records(report / "records.csv") == records


def test_one_gallery_at_a_time_adds_to_a_report(tmp_path, capsys):
    (tmp_path / "report").mkdir()
    words = ("--methods", "cograd3d", "--prompts", "a red cat", "--seeds", "1", "--report", str(tmp_path / "report"))
    with JobFolder(tmp_path / "report").lock():
        with pytest.raises(JobError, match="Another process"):
            command.run(parsed(*words))
        assert [path.name for path in (tmp_path / "report").iterdir()] == ["job.lock"]
        assert command.run(parsed(*words, "--report-only")) == 0  # which runs nothing
        assert not (tmp_path / "report" / "records.csv").exists(), "the other one writes it"
    assert "nothing to report" in capsys.readouterr().out


def test_it_goes_on_where_nobody_reads_what_it_says(tmp_path, monkeypatch):
    """As `evaluate gallery ... | head` ends: the pipe is closed after some lines."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        words = ("--methods", "cograd3d", "--prompts", "a red cat", "--seeds", "1", "--report", str(tmp_path))
        assert command.run(parsed(*words, "--report-only")) == 0
        assert command.run(parsed(*words, "--report-only")) == 0, "and says more, to nobody"


def test_all_prompts_once_before_any_twice(tmp_path):
    args = parsed("--prompts", "core", "a gray mug", "--seeds", "1", "--core-seeds", "3", "--report", str(tmp_path))
    pairs = command._pairs(args)
    assert [seed for _, seed in pairs] == [0] * 7 + [1] * 6 + [2] * 6 and ("a gray mug", 1) not in pairs


@pytest.mark.parametrize("option", ["--seeds", "--core-seeds", "--iterations", "--processes"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_counts_are_counts(option, value, capsys):
    with pytest.raises(SystemExit):
        parsed("--report", "r", f"{option}={value}")
    assert "whole number" in capsys.readouterr().err


def test_the_report_says_how_it_was_made(tmp_path):
    words = (
        "--methods",
        "w/o A, B",
        "--prompts",
        "a red cat",
        "--seeds",
        "2",
        "--score",
        "clip_b32=/models/clip",
        "--report",
        str(tmp_path),
    )
    text = command.command_line(parsed(*words))
    assert "'w/o A, B'" in text and "'a red cat'" in text and "--score clip_b32=/models/clip" in text and "--set prior.views=60" in text


def test_the_command_makes_the_same_report(tmp_path):
    words = command.command_line(parsed("--reliability", "0.3333333333", "--report", str(tmp_path)))
    assert "--reliability 0.3333333333 " in words


def test_several_budgets_make_curves_and_tables_of_the_largest(tmp_path):
    words = ("--methods", "cograd3d", "w/o A", "--prompts", "a red cat", "a blue car", "--seeds", "1", "--iterations", "5", "2")
    args = parsed(*words, "--report", str(tmp_path / "report"), "--report-only")
    args.sets.remove("optimizer.iterations=4")
    runs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "_complete", lambda planned, args, gpus: runs.extend(planned) or 0)
        command.run(args)
    assert {(run.record.budget, run.record.iterations) for run in runs} == {(8, 2), (20, 5)} and len(runs) == 8
    write_records(args.report / "records.csv", [replace(run.record, psnr=20.0 + run.record.budget) for run in runs])
    assert command.run(args) == 0
    text = (args.report / "tables.md").read_text("utf-8")
    assert "--iterations 5 2 " in text and "largest budget alone, 20 predictions" in text and "PSNR against predictions" in text


def test_answers_are_part_of_the_command_and_read_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_execute", lambda *arguments: pytest.fail("worked first"))
    args = parsed("--methods", "cograd3d", "--prompts", "a red cat", "--answers", str(tmp_path / "gone.csv"), "--report", str(tmp_path))
    assert f"--answers {tmp_path / 'gone.csv'} " in command.command_line(args)
    with pytest.raises(InputError, match="key"):
        command.run(args)


def test_prompts_are_on_one_line(tmp_path):
    args = parsed("--prompts", " a red\rcat", "a  red cat", "--seeds", "1", "--report", str(tmp_path))
    assert command._pairs(args) == [("a red cat", 0)]


def test_scores_by_name_and_model():
    assert parse_scores(["clip_b32", "vqa_score=clip-flant5-xl"]) == {
        "clip_b32": "openai/clip-vit-base-patch32",
        "vqa_score": "clip-flant5-xl",
    }
    with pytest.raises(UsageError, match="no score 'clip'"):
        parse_scores(["clip=x"])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run of a gallery"):
        single.run(argparse.Namespace(folder=tmp_path, scores=[]))


def test_a_run_that_cannot_be_measured_again_has_failed(tmp_path, monkeypatch, capsys):
    """Its record of before is there all the same, and stays."""
    run = Run(synthetic.record("cograd3d", "a red cat", psnr=20.0, janus=0.0), settings.resolve("draft"), tmp_path / "run")
    prepare(run)
    (run.folder / RECORD_FILE).write_text(json.dumps(_plain(run.record)))
    outcomes = [Outcome("run", 9, 1, 2.0, "No model is there."), Outcome("run", -15, 1, 2.0, stopped=True), Outcome("run", 0, 1, 2.0)]

    class Executor:
        gpu_share = 0.0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def run(self, tasks, retries):
            return outcomes[:1]

    monkeypatch.setattr("backend.execution.make_executor", lambda *arguments, **options: Executor())
    args = parsed("--report", str(tmp_path / "report"))
    args.report.mkdir()
    for failed, said in ((1, "1/1 run failed: No model is there."), (0, ""), (0, "1/1 cograd3d, a red cat, seed 0")):
        assert command._execute([run], [], args)[1] == failed
        assert said in capsys.readouterr().out
        outcomes.pop(0)


@pytest.mark.parametrize(
    ("words", "available", "processes"), [((), 100e9, 8), ((), 4e9, 2), ((), None, 8), (("--processes", "2"), 4e9, 2), ((), 1e9, 1)]
)
def test_as_many_runs_at_once_as_memory_holds(tmp_path, monkeypatch, words, available, processes):
    asked = []

    def make(count, *arguments, **options):
        asked.append(count)
        raise InputError("enough", remedy="")

    monkeypatch.setattr("backend.execution.make_executor", make)
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(machine, "memory", lambda: (None, available and int(available)))
    record = synthetic.record("cograd3d", "a red cat", psnr=20.0, janus=0.0)
    runs = [Run(record, settings.resolve("draft"), tmp_path / f"run-{n}") for n in range(20)]
    with pytest.raises(InputError):
        command._execute(runs, [], parsed("--report", str(tmp_path), *words), gpus=())
    assert asked == [processes]
    with pytest.raises(ResourceError, match="need about"):
        monkeypatch.setattr(machine, "memory", lambda: (None, 4_000_000_000))
        command._execute(runs, [], parsed("--report", str(tmp_path), "--processes", "3"), gpus=())


def test_one_gpu_cannot_be_all_runs(tmp_path):
    with pytest.raises(ConfigError, match="cannot be cuda:1"):
        command.run(parsed("--report", str(tmp_path / "report"), "--set", "run.device=cuda:1"))


def test_records_without_a_score_are_measured_again(tmp_path):
    values = {"variant": "a", "prompt": "b", "seed": 0, "prior": "c", "reliability": 1, "quality": "draft", "budget": 1, "fingerprint": "f"}
    values |= {"iterations": 1, "predictions": 1, "clip_b32": 31.5, "clip_b32_model": "/models/clip"}
    names = [field.name for field in fields(Record)]
    (tmp_path / "records.csv").write_text(",".join(names) + "\n" + ",".join(str(values.get(name, "")) for name in names) + "\n")
    (record,) = read_records(tmp_path / "records.csv")
    assert command.has_scores(record, {}) and command.has_scores(record, {"clip_b32": "/models/clip"})
    assert not command.has_scores(record, {"clip_b32": "/models/clip", "vqa_score": "clip-flant5-xl"})
    assert not command.has_scores(record, {"clip_b32": "openai/clip-vit-base-patch32"}), "another model's says nothing of this one's"
