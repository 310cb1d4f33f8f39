"""Memory that runs out: the run goes on with less of it."""

from __future__ import annotations

import pytest
import torch

from backend import settings
from backend.control import Control, JobCancelled
from backend.embedded.exact_prior import ExactPrior
from backend.errors import ResourceError
from backend.guidance.memory import MODES
from backend.job import JobFolder
from backend.memory import is_out_of_memory
from backend.out_of_memory import relief
from backend.protocol import CheckpointWritten, Event, Notice

from .small_runs import config, execute, make_job


class ShortOfMemory(ExactPrior):
    """Runs out of memory in the given calls, in every mode above `enough`; in every mode if that is empty."""

    def __init__(self, asked: str, enough: str, fails: set[int], **options) -> None:
        super().__init__(**options)
        self.memory = "high" if asked == "auto" else asked
        self.enough, self.fails, self.steps = enough, fails, 0
        self.modes: list[str] = []

    def use_memory(self, mode: str) -> None:
        self.memory = mode

    def predict_noise(self, z_t, t, conditioning):
        self.modes.append(self.memory)
        self.steps += 1
        if self.steps in self.fails and (not self.enough or MODES.index(self.memory) < MODES.index(self.enough)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().predict_noise(z_t, t, conditioning)


class TestMemoryRunsOut:
    """With batches of one call a step: the k-th call is step k - 1 until something fails."""

    @pytest.fixture
    def short(self, monkeypatch: pytest.MonkeyPatch):
        """Called with what fails, it makes the next runs' priors; the list has the one in use last."""
        made: list[ShortOfMemory] = []

        def prepare(enough: str, fails: set[int]) -> list[ShortOfMemory]:
            def load(config, device, *, seed, progress):
                made.append(ShortOfMemory(config.memory, enough, fails, seed=seed, views=config.views, progress=progress))
                return made[-1]

            monkeypatch.setattr("backend.pipeline.load_prior", load)
            return made

        return prepare

    def test_it_goes_on_from_the_last_checkpoint_in_a_lower_mode(self, tmp_path, finished, short) -> None:
        """The trace is that of a run in which nothing happened: modes give the same answers."""
        priors = short("normal", {31})
        folder, events = make_job(tmp_path, config()), []
        result = execute(folder, config(), emit=events.append)
        assert result.iterations == 90
        assert folder.asset_path.exists()
        assert list(folder.read_trace()) == list(finished[0].read_trace())
        (notice,) = (event for event in events if isinstance(event, Notice))
        assert (notice.code, notice.message) == (
            "memory",
            "Memory ran out at step 30. The run goes on from step 20 with less of it, more slowly.",
        )
        assert priors[-1].modes == ["high"] * 31 + ["normal"] * 70
        assert [event.iteration for event in events if isinstance(event, CheckpointWritten)] == [20, 40, 60, 80, 90]

    def test_before_the_first_checkpoint_it_begins_again_and_may_step_down_twice(self, tmp_path, finished, short) -> None:
        priors = short("low", {4, 9})
        folder = make_job(tmp_path, config())
        execute(folder, config())
        assert list(folder.read_trace()) == list(finished[0].read_trace())
        assert priors[-1].modes[:9] == ["high"] * 4 + ["normal"] * 5
        assert set(priors[-1].modes[9:]) == {"low"}

    def test_the_mode_is_kept_for_those_who_resume(self, tmp_path, finished, short) -> None:
        priors = short("normal", {31})
        folder, control = make_job(tmp_path, config()), Control()

        def interrupt(event: Event) -> None:
            if isinstance(event, CheckpointWritten) and event.iteration == 40:
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(folder, config(), control, interrupt)
        again = JobFolder.open(folder.path)
        assert again.config["prior"]["memory"] == "normal"
        execute(again, settings.from_dict(again.config))
        assert set(priors[-1].modes) == {"normal"}
        assert list(again.read_trace()) == list(finished[0].read_trace())

    def test_what_the_user_weighed_meanwhile_stays(self, tmp_path, short) -> None:
        short("normal", {28})
        settled = config("optimizer.iterations=35")
        folder, control = make_job(tmp_path, settled), Control()
        append = folder.append_trace

        def weigh_at_24(line: dict) -> None:
            append(line)
            if line["iteration"] == 24:
                control.set_weights([7], 3.0)

        folder.append_trace = weigh_at_24  # type: ignore[method-assign]
        execute(folder, settled, control)
        assert [line["weight"][7] for line in folder.read_trace()] == [1.0] * 20 + [3.0] * 15

    def test_where_nothing_is_left_to_give_up_it_says_so(self, tmp_path, short) -> None:
        short("", {3})
        settled = config("prior.memory=low")
        with pytest.raises(ResourceError, match="not enough memory") as caught:
            execute(make_job(tmp_path, settled), settled)
        assert "densification.max_count" in caught.value.remedy

    def test_other_errors_are_none_of_its_business(self, tmp_path, short, monkeypatch) -> None:
        priors = short("low", set())

        def break_down(self, *arguments):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        monkeypatch.setattr(ShortOfMemory, "predict_noise", break_down)
        with pytest.raises(RuntimeError, match="mat1"):
            execute(make_job(tmp_path, config()), config())
        assert priors[-1].memory == "high"

    def test_while_the_model_is_loaded(self, tmp_path, monkeypatch) -> None:
        asked = []

        def load(settled, device, *, seed, progress):
            asked.append(settled.memory)
            if settled.memory != "low":
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried")
            return ShortOfMemory("low", "low", set(), seed=seed, views=settled.views, progress=progress)

        monkeypatch.setattr("backend.pipeline.load_prior", load)
        short = config("optimizer.iterations=3")
        folder = make_job(tmp_path, short)
        execute(folder, short)
        assert asked == ["auto", "low"]
        assert folder.config["prior"]["memory"] == "low"

    def test_a_prior_without_modes_may_still_have_a_history_to_move(self) -> None:
        settled = config()
        assert relief(settled, "", torch.device("cuda")) == {"gradient_fusion.history_device": "cpu"}
        assert relief(settled, "normal", torch.device("cuda")) == {"prior.memory": "low", "gradient_fusion.history_device": "cpu"}
        assert relief(settled, "high", torch.device("cuda")) == {"prior.memory": "normal"}
        assert relief(settled, "normal", torch.device("cpu")) == {"prior.memory": "low"}
        for mode, device in (("", "cpu"), ("low", "cpu")):
            with pytest.raises(ResourceError):
                relief(settled, mode, torch.device(device))
        moved = settings.changed(settled, {"gradient_fusion.history_device": "cpu"})
        with pytest.raises(ResourceError):
            relief(moved, "low", torch.device("cuda"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:81] data. DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, max allowed: 9.07 GB)."), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (OSError("The paging file is too small for this operation to complete. (os error 1455)"), True),
        (OSError("not enough memory"), False),
        (ResourceError("can't allocate memory"), False),
    ],
)
def test_how_the_lack_of_memory_shows(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
