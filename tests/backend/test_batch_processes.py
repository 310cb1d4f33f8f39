"""`batch` as a process of its own: real runs that are killed in the middle. Slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.job import JobFolder

from .batch_summary import summary

ROOT = Path(__file__).parents[2]
ITERATIONS, EVERY = 160, 20
TINY = (
    *("--quality", "draft", "--set", f"optimizer.iterations={ITERATIONS}", "--set", f"run.checkpoint_every={EVERY}"),
    *("--set", "prior.views=100", "--set", "run.preview_every=0", "--set", "surface.resolution=32", "--set", "texture.size=64"),
)
LIMIT = 400.0


class Batch:
    """A batch in a folder, as a process of its own."""

    def __init__(self, folder: Path, prompts: tuple[str, ...], surroundings: dict[str, str], *options: str) -> None:
        self.root, self.file, self.surroundings = folder / "toys", folder / "prompts.txt", surroundings
        self.options = options or ("--processes", "1")
        self.file.write_text("\n".join(prompts))

    def start(self, *options: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "backend", "batch", str(self.file), "--output", str(self.root), *TINY, *self.options, *options],
            cwd=ROOT,
            env=self.surroundings,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )

    def job(self, number: int) -> JobFolder:
        entries = json.loads((self.root / "batch.json").read_text())["jobs"]
        return JobFolder.open(self.root / next(entry["folder"] for entry in entries if entry["number"] == number))

    def reach(self, process: subprocess.Popen, number: int, iteration: int) -> JobFolder:
        """Wait until a job has a checkpoint, and some steps since."""

        def reached() -> bool:
            if not (self.root / "batch.json").exists():
                return False
            job = self.job(number)
            return bool(job.checkpoints()) and job.checkpoints()[0][0] >= iteration and steps(job) > job.checkpoints()[0][0] + 2

        deadline = time.monotonic() + LIMIT
        while not reached():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        return self.job(number)


def steps(job: JobFolder) -> int:
    return sum(1 for _ in job.read_trace())


def worker_of(job: JobFolder) -> int:
    return int((job.path / "job.lock").read_text())


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "job.lock"}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
class TestRealRuns:
    def test_a_killed_worker_costs_at_most_a_checkpoints_work(self, tmp_path, own_home):
        batch = Batch(tmp_path, ("a red cat", "a yellow duck"), own_home)
        process = batch.start()
        job = batch.reach(process, 2, 2 * EVERY)
        first = files(batch.job(1).path)
        worker = worker_of(job)
        os.kill(worker, signal.SIGSTOP)  # so that what is read now is what it had done
        checkpoint, done, events = job.checkpoints()[0][0], steps(job), sum(1 for _ in job.read_events())
        os.kill(worker, signal.SIGKILL)
        assert process.wait(LIMIT) == 0
        assert 0 < done - checkpoint <= EVERY
        later = [event["iteration"] for event in list(job.read_events())[events:] if event["type"] == "checkpoint"]
        assert later[0] == checkpoint + EVERY, "it went on from its last checkpoint"
        assert [line["iteration"] for line in job.read_trace()] == list(range(ITERATIONS))
        assert files(batch.job(1).path) == first, "the finished one was left alone"
        rows = summary(batch.root)
        assert [(row["status"], row["attempts"]) for row in rows] == [("finished", "1"), ("finished", "2")]
        assert all((batch.root / row["asset"]).stat().st_size > 1000 and int(row["faces"]) > 100 for row in rows)

        before = files(batch.root / "jobs"), (batch.root / "batch.json").read_bytes()
        assert batch.start().wait(LIMIT) == 0
        assert (files(batch.root / "jobs"), (batch.root / "batch.json").read_bytes()) == before, "again, nothing is done"

        trace = job.trace_path.read_bytes()
        assert batch.start("--format", "obj").wait(LIMIT) == 0
        assert (batch.root / "002-a-yellow-duck.obj").stat().st_size > 1000
        assert job.trace_path.read_bytes() == trace, "another format takes no step"

    def test_an_interrupted_and_a_killed_batch_go_on(self, tmp_path, own_home):
        batch = Batch(tmp_path, ("a red cat",), own_home)
        process = batch.start()
        job = batch.reach(process, 1, EVERY)
        worker = worker_of(job)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(LIMIT) == 130
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
        assert job.state.status == "interrupted"
        assert job.checkpoints()[0][0] == steps(job), "no step is lost"
        assert summary(batch.root)[0]["status"] == "interrupted"

        process = batch.start()
        job = batch.reach(process, 1, job.checkpoints()[0][0] + EVERY)
        process.kill()
        process.wait()
        assert batch.start().wait(LIMIT) == 0, "at once, while the worker of the killed one may still be writing its checkpoint"
        assert [line["iteration"] for line in job.read_trace()] == list(range(ITERATIONS))
        assert summary(batch.root)[0]["status"] == "finished"

    def test_on_ray(self, tmp_path, own_home):
        pytest.importorskip("ray", reason="Ray is not installed: backend/requirements-ray.txt")
        batch = Batch(tmp_path, ("a red cat",), own_home, "--ray", "local")
        process = batch.start()
        job = batch.reach(process, 1, EVERY)
        os.kill(worker_of(job), signal.SIGKILL)
        assert process.wait(LIMIT) == 0
        assert [line["iteration"] for line in job.read_trace()] == list(range(ITERATIONS))
        assert (summary(batch.root)[0]["status"], summary(batch.root)[0]["attempts"]) == ("finished", "2")
