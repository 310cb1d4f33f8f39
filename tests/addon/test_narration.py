"""What is told on standard output where there is no window."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from cograd3d.backend.job import JobFolder
from cograd3d.backend.protocol import Bye, JobSpec, Phase, Progress
from cograd3d.cograd3d_addon.jobs import Job, JobStatus
from cograd3d.cograd3d_addon.narration import INTERVAL, Narrator, of_environment, of_job
from cograd3d.cograd3d_addon.setup import Phase as SetupPhase
from cograd3d.cograd3d_addon.setup import Situation


@pytest.fixture
def clock():
    return SimpleNamespace(now=100.0)


@pytest.fixture
def narrator(clock):
    return Narrator(lambda: clock.now)


@pytest.fixture
def job(tmp_path):
    return Job(JobFolder(tmp_path / "a-red-cat"), JobSpec(prompt="a red cat"), JobStatus.STARTING)


class TestWhen:
    def test_a_new_step_is_told_at_once(self, narrator, capsys):
        narrator.tell("Shaping", "Shaping  1 of 9")
        narrator.tell("Saving", "Saving")
        assert capsys.readouterr().out == "CoGrad3D | Shaping  1 of 9\nCoGrad3D | Saving\n"

    def test_one_that_goes_on_is_told_now_and_then(self, narrator, clock, capsys):
        for tenth in range(201):  # twenty seconds
            clock.now = 100 + tenth / 10
            narrator.tell("Shaping", f"Shaping  {tenth} of 200")
        assert len(capsys.readouterr().out.splitlines()) == 1 + round(20 / INTERVAL)

    def test_nothing_is_told_twice(self, narrator, clock, capsys):
        for _ in range(3):
            narrator.tell("Saving", "Saving")
            clock.now += 2 * INTERVAL
        assert capsys.readouterr().out == "CoGrad3D | Saving\n"

    def test_what_nobody_can_read_stops_nothing(self, narrator, monkeypatch):
        class Closed:
            def write(self, text: str) -> int:
                raise BrokenPipeError

        monkeypatch.setattr(sys, "stdout", Closed())
        narrator.tell("Saving", "Saving")


class TestWhat:
    def test_a_job(self, job):
        assert of_job(job) == ("", "")
        job.apply(Phase(name="optimise"))
        assert of_job(job) == ("Shaping", "a red cat | Shaping")
        job.apply(Progress(iteration=120, total=400, seconds_left=185.0))
        assert of_job(job) == ("Shaping", "a red cat | Shaping  120 of 400 | Time left 3:05 min")

    def test_a_phase_that_says_more(self, job):
        job.apply(Phase(name="prior", message="preparing 2000 views of a cat"))
        assert of_job(job)[1] == "a red cat | Loading the image model | preparing 2000 views of a cat"

    def test_the_progress_of_an_earlier_phase_is_not_told(self, job):
        job.apply(Progress(iteration=400, total=400))
        job.apply(Phase(name="surface"))
        assert of_job(job)[1] == "a red cat | Building the surface"

    def test_nothing_of_one_that_has_ended(self, job):
        job.apply(Phase(name="export"))
        job.apply(Bye(reason="finished"))
        assert of_job(job) == ("", "")

    def test_the_environment(self):
        installing = Situation(SetupPhase.INSTALLING, "It is being installed.", progress="Fetching torch", fraction=0.4)
        assert of_environment(installing) == ("Fetching torch", "Fetching torch | 40%")
        assert of_environment(Situation(SetupPhase.READY, "It is ready.")) == ("", "")
