"""`batch`: what is refused, what is found again, what is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backend import cli, environment, machine
from backend.commands import batch
from backend.execution import Outcome
from backend.job import JobFolder
from backend.protocol import Result

from .batch_summary import summary

DRAFT = ("--quality", "draft")


class FakeExecutor:
    """Ends every task at once: finished, or as `ends` has it, {prompt: (exit code, state, message)}; those of `stopped` because it was
    interrupted, and no other then.
    """

    def __init__(self, processes=1, gpu_share=0.0):
        self.processes, self.gpu_share = processes, gpu_share
        self.ends, self.ran, self.tasks, self.interrupt_after, self.stopped = {}, [], [], None, {}
        self.remedy = ""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, tasks, *, retries):
        self.ran, self.tasks = [], list(tasks)
        for count, task in enumerate(tasks):
            if count == self.interrupt_after:
                raise KeyboardInterrupt
            assert task.argv[:2] == ("worker", "--job")
            folder = JobFolder.open(task.argv[2])
            if self.stopped and folder.spec.prompt not in self.stopped:
                raise KeyboardInterrupt
            self.ran.append(folder.spec.prompt)
            code, status, message = (self.stopped or self.ends).get(folder.spec.prompt, (0, "finished", ""))
            if status == "finished":
                folder.append_event(Result(asset="asset.glb", gaussians=1200, faces=3400))
                for output in folder.spec.outputs:
                    Path(output).write_text("an asset")
            error = {"code": "x", "message": message, "remedy": self.remedy} if status == "failed" else None
            folder.update_state(status=status, error=error)
            folder.close()
            yield Outcome(task.key, code, 1, 60.0, "killed by signal 9" if code < 0 else "", bool(self.stopped))


@pytest.fixture
def executor(monkeypatch):
    fake = FakeExecutor()
    monkeypatch.setattr(batch, "make_executor", lambda processes, address, shared: fake)
    return fake


@pytest.fixture
def prompts(tmp_path):
    """Writes the file of prompts."""

    def write(*lines):
        path = tmp_path / "prompts.txt"
        path.write_text("\n".join(lines))
        return path

    return write


@pytest.fixture
def run(tmp_path, capsys):
    """Runs `batch` in this process: (exit code, standard output, standard error)."""

    def run(path, *options):
        code = cli.main(["batch", str(path), "--output", str(tmp_path / "toys"), *options], inside=True)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class TestRefusals:
    def test_every_bad_line_is_told_at_once_and_nothing_is_made(self, prompts, run, tmp_path):
        path = prompts("# toys", "a red cat", "", "eine Katze", "a blue dog", "a\x07 cat", "a" * 2000)
        code, _, error = run(path)
        assert code == 3
        assert "3 prompts of 5" in error
        assert all(words in error for words in ("line 4, 'eine Katze'", "line 6", "U+0007", "line 7", "2,000 characters"))
        assert "line 2" not in error and "line 5" not in error
        assert not (tmp_path / "toys").exists()

    @pytest.mark.parametrize(
        ("options", "code", "words"),
        [
            (("--quality", "nromal"), 4, "Did you mean normal?"),
            (("--seed", "-1"), 4, "In --seed -1:"),
            (("--set", "gradient_fusion.capp=1"), 4, "gradient_fusion.cap"),
            (("--set", "run.device=cuda:1"), 4, "CUDA_VISIBLE_DEVICES"),
            (("--prior", "nowhere"), 5, "no image model nowhere"),
            (("--processes", "0"), 2, "at least 1"),
            (("--retries", "-1"), 2, "at least 0"),
            (("--processes", "2", "--ray", "auto"), 2, "not allowed with"),
            (("--format", "blend"), 2, "glb, obj, ply"),
        ],
    )
    def test_bad_options(self, prompts, run, options, code, words):
        ended, _, error = run(prompts("a red cat"), *options)
        assert ended == code
        assert words in error

    def test_no_prompts(self, prompts, run, tmp_path):
        code, _, error = run(tmp_path / "gone.txt")
        assert (code, f"There is no file {tmp_path / 'gone.txt'}." in error) == (10, True)
        assert "has no prompts" in run(prompts("# nothing", ""))[2]
        path = prompts("")
        path.write_bytes(b"a red \xff cat")
        assert "no text in UTF-8" in run(path)[2]

    def test_output_is_needed(self, prompts, capsys):
        assert cli.main(["batch", str(prompts("a red cat"))]) == 2
        assert "required: --output" in capsys.readouterr().err

    def test_files_of_others_are_not_replaced(self, prompts, run, executor, tmp_path):
        (tmp_path / "toys").mkdir()
        (tmp_path / "toys" / "001-a-red-cat.glb").write_text("mine")
        code, _, error = run(prompts("a red cat"), *DRAFT)
        assert code == 8
        assert "not of this batch" in error
        assert (tmp_path / "toys" / "001-a-red-cat.glb").read_text() == "mine"

    def test_two_at_once(self, prompts, run, executor, tmp_path):
        (tmp_path / "toys").mkdir()
        with JobFolder(tmp_path / "toys").lock():
            code, _, error = run(prompts("a red cat"), *DRAFT)
        assert code == 7
        assert f"Another process ({os.getpid()}) is working on {tmp_path / 'toys'}" in error

    def test_a_damaged_manifest(self, prompts, run, tmp_path):
        (tmp_path / "toys").mkdir()
        for text in ("{", "[]", '{"version": 1, "jobs": [{"number": "one"}]}', '{"version": "x", "jobs": []}'):
            (tmp_path / "toys" / "batch.json").write_text(text)
            code, _, error = run(prompts("a red cat"), *DRAFT)
            assert (code, "is damaged" in error) == (7, True), text
        (tmp_path / "toys" / "batch.json").write_text('{"version": 99, "jobs": []}')
        assert "newer version" in run(prompts("a red cat"), *DRAFT)[2]

    def test_a_manifest_that_cannot_be_read_is_not_called_damaged(self, prompts, run, tmp_path):
        (tmp_path / "toys" / "batch.json").mkdir(parents=True)
        code, _, error = run(prompts("a red cat"), *DRAFT)
        assert (code, "batch.json cannot be read: " in error, "damaged" in error) == (7, True, False)

    def test_more_processes_than_memory_holds(self, prompts, run, monkeypatch):
        monkeypatch.setattr(machine, "memory", lambda: (None, int(3.5e9)))
        code, _, error = run(prompts("a red cat", "a red dog", "a red car"), *DRAFT, "--processes", "3")
        assert code == 9
        assert "Take --processes 2" in error


class TestPlan:
    def test_dry_run(self, prompts, run, tmp_path):
        code, out, _ = run(prompts("a red cat", "a blue dog"), *DRAFT, "--dry-run")
        assert code == 0
        assert out.splitlines() == [
            "to make         001-a-red-cat.glb  a red cat",
            "to make         002-a-blue-dog.glb  a blue dog",
        ]
        assert not (tmp_path / "toys").exists()

    @pytest.mark.parametrize(
        ("wanted", "available", "jobs", "processes"),
        [(None, 100e9, 9, 4), (None, 3.2e9, 9, 2), (None, 0.5e9, 9, 1), (None, None, 9, 4), (None, 100e9, 3, 3), (2, 3.2e9, 9, 2)],
    )
    def test_as_many_at_once_as_cores_and_memory_allow(self, prompts, monkeypatch, run, tmp_path, wanted, available, jobs, processes):
        asked = []

        def make(count, address, shared):
            asked.append(count)
            return FakeExecutor()

        monkeypatch.setattr(batch, "make_executor", make)
        monkeypatch.setattr(batch, "usable_gpus", tuple)
        monkeypatch.setattr(machine, "cores", lambda: 8)
        monkeypatch.setattr(machine, "memory", lambda: (None, available and int(available)))
        monkeypatch.setattr("backend.preflight.check_memory", lambda quality, builtin_prior: None)
        colours = ("red", "blue", "green", "yellow", "white", "black", "brown", "orange", "pink")
        options = () if wanted is None else ("--processes", str(wanted))
        assert run(prompts(*(f"a {colour} cat" for colour in colours[:jobs])), *DRAFT, *options)[0] == 0
        assert asked == [processes]

    @pytest.mark.parametrize(("device", "gpus"), [("auto", 0.5), ("cuda", 0.5), ("cpu", 0.0)])
    def test_gpus_are_asked_for_where_they_can_be_used(self, prompts, run, executor, device, gpus):
        executor.gpu_share = 0.5
        run(prompts("a red cat"), *DRAFT, "--set", f"run.device={device}")
        assert executor.tasks[0].gpus == gpus


class TestRuns:
    def test_all_are_made(self, prompts, run, executor, tmp_path):
        code, out, error = run(prompts("\ufeffa red cat", "", "# no", "a blue dog\r", "a red cat"), *DRAFT)
        assert code == 0
        assert executor.ran == ["a red cat", "a blue dog"]
        assert "Line 5 is line 1 again and is made once." in error
        assert "1 of 2  finished after 1:00: a red cat; about 1 min left" in error
        assert "2 of 2  finished after 1:00: a blue dog\n" in error
        assert "2 finished" in out
        rows = summary(tmp_path / "toys")
        asked = {"number": "2", "prompt": "a blue dog", "seed": "0", "prior": "builtin:learned", "quality": "draft", "method": "cograd3d"}
        became = {"status": "finished", "seconds": "60.0", "attempts": "1", "asset": "002-a-blue-dog.glb"}
        assert list(rows[1].items()) == list((asked | became | {"gaussians": "1200", "faces": "3400", "error": ""}).items())
        assert all((tmp_path / "toys" / row["asset"]).is_file() for row in rows)

    def test_again_nothing_is_done(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog")
        run(path, *DRAFT)
        before = (tmp_path / "toys" / "batch.json").read_bytes(), (tmp_path / "toys" / "summary.csv").read_bytes()
        executor.ran = []
        assert run(path, *DRAFT)[0] == 0
        assert executor.ran == []
        assert before == ((tmp_path / "toys" / "batch.json").read_bytes(), (tmp_path / "toys" / "summary.csv").read_bytes())

    def test_failed_ones_are_tried_again_in_their_folder(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog", "a pink pig")
        executor.ends = {"a blue dog": (12, "failed", "No surface."), "a pink pig": (-9, "running", "")}
        code, out, error = run(path, *DRAFT)
        assert code == batch.EXIT_INCOMPLETE
        assert "failed after 1:00: a blue dog: No surface." in error
        assert "1 finished, 2 failed" in out
        assert [(row["status"], row["error"]) for row in summary(tmp_path / "toys")] == [
            ("finished", ""),
            ("failed", "No surface."),
            ("failed", "killed by signal 9"),
        ]
        folders = sorted((tmp_path / "toys" / "jobs").iterdir())
        executor.ends = {}
        assert run(path, *DRAFT)[0] == 0
        assert executor.ran == ["a blue dog", "a pink pig"]
        assert sorted((tmp_path / "toys" / "jobs").iterdir()) == folders
        assert [row["attempts"] for row in summary(tmp_path / "toys")] == ["1", "2", "2"]

    def test_a_remedy_is_told_once_and_following_it_goes_on_with_the_same_jobs(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog")
        executor.remedy = "Allow downloads (several GB)."
        executor.ends = dict.fromkeys(("a red cat", "a blue dog"), (5, "failed", "It is not on this computer."))
        _, _, error = run(path, *DRAFT)
        assert error.count("It is not on this computer.") == 2
        assert error.count("Allow downloads with --set prior.allow_download=true (several GB).") == 1
        lines = [json.loads(line) for line in run(path, *DRAFT, "--json")[1].splitlines()]
        assert [line.get("remedy", "")[:15] for line in lines] == ["Allow downloads"] * 2 + [""]
        executor.ends = {}
        assert run(path, *DRAFT, "--set", "prior.allow_download=true", "--set", "run.device=cpu")[0] == 0
        assert executor.ran == ["a red cat", "a blue dog"]
        (first, second) = (JobFolder.open(folder).config for folder in sorted((tmp_path / "toys" / "jobs").iterdir()))
        assert first["prior"]["allow_download"] and second["prior"]["allow_download"] and first["run"]["device"] == "cpu"
        assert [row["asset"] for row in summary(tmp_path / "toys")] == ["001-a-red-cat.glb", "002-a-blue-dog.glb"]
        executor.ran = []
        assert run(path, *DRAFT)[0] == 0
        assert executor.ran == []

    def test_interruption(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog", "a pink pig")
        executor.interrupt_after = 2
        executor.ends = {"a blue dog": (130, "interrupted", "")}
        code, out, _ = run(path, *DRAFT)
        assert code == 130
        assert [row["status"] for row in summary(tmp_path / "toys")] == ["finished", "interrupted", "waiting"]
        assert "The same command again" in out
        executor.interrupt_after, executor.ends = None, {}
        assert run(path, *DRAFT)[0] == 0
        assert executor.ran == ["a blue dog", "a pink pig"]

    def test_another_seed_or_setting_is_another_job_and_the_default_by_name_is_not(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat")
        run(path, *DRAFT)
        for options, ran in (
            (("--seed", "0"), []),
            (("--set", "run.seed=0"), []),
            (("--prior", "builtin"), []),
            (("--seed", "1"), ["a red cat"]),
            (("--set", "optimizer.iterations=7"), ["a red cat"]),
            (("--set", "run.seed=1"), []),
        ):
            executor.ran = []
            assert run(path, *DRAFT, *options)[0] == 0
            assert executor.ran == ran, options
        assert sorted(file.name for file in (tmp_path / "toys").glob("*.glb")) == [f"00{n}-a-red-cat.glb" for n in (1, 2, 3)]

    def test_the_summary_is_of_all_jobs_of_the_folder_and_the_exit_code_of_those_asked_for(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog")
        executor.ends = {"a blue dog": (9, "failed", "No memory.")}
        assert run(path, *DRAFT)[0] == 1
        code, out, _ = run(prompts("a red cat"), *DRAFT, "--seed", "1")
        assert code == 0 and "blue dog" not in out
        rows = [(row["number"], row["prompt"], row["seed"], row["prior"], row["status"]) for row in summary(tmp_path / "toys")]
        assert rows == [
            ("1", "a red cat", "0", "builtin:learned", "finished"),
            ("2", "a blue dog", "0", "builtin:learned", "failed"),
            ("3", "a red cat", "1", "builtin:learned", "finished"),
        ]

    def test_jobs_keep_their_numbers_when_lines_are_added(self, prompts, run, executor, tmp_path):
        run(prompts("a red cat", "a blue dog"), *DRAFT)
        assert run(prompts("a pink pig", "a blue dog", "a red cat"), *DRAFT)[0] == 0
        assert executor.ran == ["a pink pig"]
        assert [row["asset"] for row in summary(tmp_path / "toys")] == ["001-a-red-cat.glb", "002-a-blue-dog.glb", "003-a-pink-pig.glb"]

    def test_what_was_deleted_is_made_again(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog", "a pink pig")
        run(path, *DRAFT)
        manifest = json.loads((tmp_path / "toys" / "batch.json").read_text())
        (tmp_path / "toys" / "001-a-red-cat.glb").unlink()
        shutil.rmtree(tmp_path / "toys" / manifest["jobs"][1]["folder"])
        assert run(path, *DRAFT, "--dry-run")[1].splitlines() == [
            "to go on with   001-a-red-cat.glb  a red cat",
            "to make         002-a-blue-dog.glb  a blue dog",
            "finished        003-a-pink-pig.glb  a pink pig",
        ]
        assert run(path, *DRAFT)[0] == 0
        assert executor.ran == ["a red cat", "a blue dog"]
        assert len(list((tmp_path / "toys" / "jobs").iterdir())) == 3

    def test_another_format_is_asked_of_the_same_jobs(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat")
        run(path, *DRAFT)
        (tmp_path / "toys" / "001-a-red-cat.mtl").write_text("mine")
        assert run(path, *DRAFT, "--format", "obj")[0] == 8
        assert run(path, *DRAFT, "--format", "ply")[0] == 0
        assert (tmp_path / "toys" / "001-a-red-cat.ply").is_file()
        assert len(list((tmp_path / "toys" / "jobs").iterdir())) == 1

    def test_a_format_that_was_asked_for_before_may_be_asked_for_again(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat")
        run(path, *DRAFT)
        assert run(path, *DRAFT, "--format", "ply")[0] == 0
        executor.ran = []
        assert run(path, *DRAFT)[0] == 0, "001-a-red-cat.glb is of this batch"
        assert run(path, *DRAFT, "--format", "ply")[0] == 0
        assert executor.ran == [], "both are there"
        (tmp_path / "toys" / "001-a-red-cat.glb").unlink()
        assert run(path, *DRAFT)[0] == 0
        assert executor.ran == ["a red cat"]

    def test_what_finished_when_its_batch_was_gone_is_counted(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat")
        run(path, *DRAFT)
        file = tmp_path / "toys" / "batch.json"
        document = json.loads(file.read_text())
        document["jobs"][0] |= {"gaussians": 0, "faces": 0}
        file.write_text(json.dumps(document))
        assert run(path, *DRAFT)[0] == 0
        assert [(row["gaussians"], row["faces"]) for row in summary(tmp_path / "toys")] == [("1200", "3400")]

    def test_what_was_told_to_stop_counts_and_is_not_told_as_an_end(self, prompts, run, executor, tmp_path):
        executor.stopped = {"a red cat": (-9, "running", ""), "a blue dog": (0, "finished", "")}
        code, _, error = run(prompts("a red cat", "a blue dog", "a pink pig"), *DRAFT)
        assert (code, "after 1:00" in error) == (130, False)
        assert [(row["status"], row["seconds"], row["attempts"], row["faces"]) for row in summary(tmp_path / "toys")] == [
            ("interrupted", "60.0", "1", "0"),
            ("finished", "60.0", "1", "3400"),
            ("waiting", "0.0", "0", "0"),
        ]

    def test_a_folder_that_was_moved_goes_on_where_it_is(self, prompts, run, executor, tmp_path):
        path = prompts("a red cat", "a blue dog")
        executor.ends = {"a blue dog": (130, "interrupted", "")}
        run(path, *DRAFT)
        (tmp_path / "toys").rename(tmp_path / "moved")
        executor.ends = {}
        assert cli.main(["batch", str(path), "--output", str(tmp_path / "moved"), *DRAFT], inside=True) == 0
        assert executor.ran == ["a blue dog"]
        assert (tmp_path / "moved" / "002-a-blue-dog.glb").is_file()
        assert not (tmp_path / "toys").exists()

    def test_for_programs(self, prompts, run, executor):
        executor.ends = {"a blue dog": (12, "failed", "No surface.")}
        code, out, error = run(prompts("a red cat", "a blue dog"), *DRAFT, "--json")
        assert (code, error) == (1, "")
        first, second, last = map(json.loads, out.splitlines())
        assert first | {"type": "job", "done": 1, "total": 2, "prompt": "a red cat", "status": "finished", "seconds_left": 60.0} == first
        assert second | {"status": "failed", "error": "No surface.", "asset": ""} == second
        assert last | {"type": "summary", "interrupted": False, "counts": {"finished": 1, "failed": 1}} == last

    @pytest.mark.parametrize(("closed", "options"), [("stdout", ("--json",)), ("stdout", ()), ("stderr", ())])
    def test_goes_on_where_nobody_reads_what_it_says(self, prompts, executor, tmp_path, monkeypatch, closed, options):
        """As `batch ... | head` ends: the pipe is closed after some lines."""
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            monkeypatch.setattr(sys, closed, pipe)
            path = prompts("a red cat", "a blue dog")
            assert cli.main(["batch", str(path), "--output", str(tmp_path / "toys"), *DRAFT, *options], inside=True) == 0
        assert executor.ran == ["a red cat", "a blue dog"]
        assert [row["status"] for row in summary(tmp_path / "toys")] == ["finished", "finished"]

    def test_quiet(self, prompts, run, executor):
        _, out, error = run(prompts("a red cat"), *DRAFT, "--quiet")
        assert error == ""
        assert "1 finished" in out


def test_help_needs_the_standard_library_alone():
    answer = subprocess.run(
        [sys.executable, "-S", "-m", "backend", "batch", "--help"], cwd=environment.PACKAGE_ROOT, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert "exit codes: 0 all prompts are finished" in answer.stdout
