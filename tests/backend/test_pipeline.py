"""Whole runs on the built-in exact prior, small: prompt to files, resumed, stopped, cancelled, steered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from backend import settings
from backend.cameras import orbit_camera
from backend.config import GenerationConfig
from backend.control import Control, JobCancelled
from backend.embedded.exact_prior import ExactPrior
from backend.errors import ConfigError, ResourceError
from backend.gaussians.model import GaussianModel
from backend.guidance.memory import MODES
from backend.guidance.prior import PriorDefaults
from backend.job import JobFolder
from backend.job_lines import trace_visits
from backend.memory import is_out_of_memory
from backend.method.optimizer import render_cameras
from backend.out_of_memory import relief
from backend.pipeline import run_job, settle
from backend.protocol import CheckpointWritten, Event, JobSpec, Notice, Paused, Phase, PreviewReady, Regions, Result

SMALL = (
    "prior.views=150",
    "gaussians.count=400",
    "densification.max_count=600",
    "densification.every=10",
    "optimizer.iterations=90",
    "optimizer.views=2",
    "optimizer.resolution_steps=[[0.0, 64]]",
    "run.checkpoint_every=20",
    "run.preview_every=0",
    "surface.resolution=48",
    "surface.views=12",
    "surface.faces=1000",
    "texture.size=128",
    "texture.views=8",
    "texture.refine=0",
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config(*sets: str) -> GenerationConfig:
    return settings.resolve("draft", sets=[*SMALL, *sets])


def make_job(root: Path, settled: GenerationConfig, **spec: object) -> JobFolder:
    return JobFolder.create(root, JobSpec(prompt="a red cat", **spec), settled)


def execute(folder: JobFolder, settled: GenerationConfig, control: Control | None = None, emit=lambda event: None) -> Result:
    with folder.lock():
        return run_job(folder, settled, folder.spec, emit, control or Control())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[JobFolder, Result, list[Event]]:
    root = tmp_path_factory.mktemp("finished")
    events: list[Event] = []
    folder = make_job(root, config(), outputs=(str(root / "cat.glb"), str(root / "cat.obj")))
    return folder, execute(folder, config(), emit=events.append), events


def test_a_run_leaves_every_promised_file(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    folder, result, _ = finished
    for path in (folder.asset_path, folder.splats_path, folder.preview_image_path, folder.preview_splats_path):
        assert path.stat().st_size > 0, path.name
    assert all(Path(output).stat().st_size > 0 for output in result.outputs)
    assert result.iterations == 90
    assert result.faces > 100


def test_events_come_in_the_order_of_the_phases(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    events = finished[2]
    names = [event.name for event in events if isinstance(event, Phase) and not event.message]
    assert names == ["prior", "prepare", "optimise", "surface", "texture", "export"]
    assert isinstance(events[-1], Result)
    assert [event.iteration for event in events if isinstance(event, CheckpointWritten)] == [20, 40, 60, 80, 90]
    regions = [event for event in events if isinstance(event, Regions)]
    assert len(regions[-1].probability) == len(regions[-1].timestep) == 36
    assert sum(regions[-1].visits) == 2 * 90
    assert 0 < np.abs(regions[-1].timestep).max() <= 0.5, "fractions of T"


def test_every_region_has_a_picture_before_the_result(tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]) -> None:
    folder, _, events = finished
    assert sorted(path.name for path in folder.views_path.iterdir()) == [f"region-{region:03d}.png" for region in range(36)]
    assert not any(isinstance(event, PreviewReady) and event.region >= 0 for event in events)
    centers = next(event for event in events if isinstance(event, Regions))
    splats = GaussianModel.load_ply(folder.splats_path)
    for region in (0, 14, 35):
        camera = orbit_camera(centers.azimuth[region], centers.elevation[region], centers.distance[region], 40.0, 256)
        expected, _, _ = render_cameras(splats, [camera])
        with Image.open(folder.view_path(region)) as image:
            pixels = np.asarray(image) / 255
        assert pixels == pytest.approx(expected[0].clamp(0, 1).numpy(), abs=0.01)
        assert (pixels[0, 0] == 1).all(), "on white"


def test_config_repeats_the_run(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    settled = settings.from_dict(finished[0].config)
    assert settled.guidance.scale == 1.0
    assert settled.guidance.weighting == "x0"
    assert settled.grid.fov == 40.0
    assert settled.grid.distance_edges == (3.3, 3.3)


def test_the_trace_recomputes_equations_6_and_7(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    trace = list(finished[0].read_trace())
    assert [line["iteration"] for line in trace] == list(range(90))
    losses: dict[int, list[float]] = {}
    for line in trace:
        first, second = trace_visits(line)
        assert first["region"] != second["region"]
        assert (first["indicator"], first["probability"]) == (second["indicator"], second["probability"]), "two regions of one draw"
        for region, r in enumerate(line["indicator"]):
            seen = losses.get(region, [])[-10:]
            if len(seen) < 2:
                assert r == 1
            else:
                mean, n = np.mean(seen[:-1]), 10
                assert r == pytest.approx((mean * (n - 1) + seen[-1]) / (mean * n), rel=1e-4)
        if line["iteration"] >= 36:  # the two warm-up passes over 36 regions are over
            softmax = np.exp(np.array(line["indicator"]) / 0.1)
            assert line["probability"] == pytest.approx(0.85 * softmax / softmax.sum() + 0.15 / 36, rel=1e-4)
        for visit in (first, second):
            losses.setdefault(visit["region"], []).append(visit["loss_normalised"])


def test_the_trace_recomputes_equations_8_and_10(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    trace = [visit for line in finished[0].read_trace() for visit in trace_visits(line)]
    fused = [line for line in trace if line["neighbours"]]
    assert fused, "the run must be long enough for some fusion"
    for line in fused:
        assert sum(neighbour["weight"] for neighbour in line["neighbours"]) == pytest.approx(1)
        for neighbour in line["neighbours"]:
            assert abs(neighbour["t"] - line["t"]) <= 100
            iteration = line["iteration"] - neighbour["age"]
            assert neighbour["age"] >= 1
            assert (neighbour["region"], neighbour["t"]) in [(stored["region"], stored["t"]) for stored in trace[2 * iteration :][:2]]
        for group, main in line["norm_main"].items():
            projected, whole = line["norm_projected"][group], line["norm_fused"][group]
            assert projected <= 0.5 * main * (1 + 1e-4)
            assert whole**2 == pytest.approx(main**2 + projected**2, rel=1e-3, abs=1e-20), "orthogonal parts add in squares"
    for line in trace:
        assert abs(line["t"] - np.clip(line["t_mix"], 20, 980)) <= 51
        assert line["t_mix"] == pytest.approx(line["t_global"] + line["t_neighbourhood"])


def test_a_resumed_run_gives_the_same_trace(tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]) -> None:
    folder = make_job(tmp_path, config())
    control = Control()

    def interrupt_after_a_while(event: Event) -> None:
        if isinstance(event, CheckpointWritten) and event.iteration == 40:
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, config(), control, interrupt_after_a_while)
    assert len(list(folder.read_trace())) == 40
    execute(folder, config())
    expected, actual = (list(job.read_trace()) for job in (finished[0], folder))
    assert actual == expected


def test_a_run_killed_between_checkpoints_goes_on_from_the_last_one(
    tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]
) -> None:
    class Killed(Exception):
        pass

    folder = make_job(tmp_path, config())
    append = folder.append_trace

    def die_at_50(line: dict) -> None:
        append(line)
        if line["iteration"] == 50:
            raise Killed

    folder.append_trace = die_at_50  # type: ignore[method-assign]
    with pytest.raises(Killed):
        execute(folder, config())
    folder.close()
    again = JobFolder.open(folder.path)
    execute(again, config())
    assert list(again.read_trace()) == list(finished[0].read_trace())


def test_stop_makes_the_mesh_of_what_is_there(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config()), Control()

    def stop(event: Event) -> None:
        if isinstance(event, CheckpointWritten):
            control.stop()

    result = execute(folder, config(), control, stop)
    assert result.iterations == 20
    assert folder.asset_path.exists()


def test_cancel_during_the_mesh_leaves_no_asset_but_a_checkpoint(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config()), Control()

    def cancel(event: Event) -> None:
        if isinstance(event, Phase) and event.name == "texture":
            control.cancel()

    with pytest.raises(JobCancelled):
        execute(folder, config(), control, cancel)
    assert not folder.asset_path.exists()
    assert folder.latest_checkpoint().iteration == 90


def test_it_says_when_steps_would_be_lost(tmp_path: Path) -> None:
    """Then a process that has to go is given more time."""
    folder, control, unsaved = make_job(tmp_path, config("optimizer.iterations=5")), Control(), {}

    def note(event: Event) -> None:
        name = event.name if isinstance(event, Phase) else type(event).__name__
        unsaved.setdefault(name, control.has_unsaved)

    execute(folder, config("optimizer.iterations=5"), control, note)
    assert [name for name, flag in unsaved.items() if flag] == ["Progress", "Regions"], unsaved


@pytest.mark.parametrize("after", [CheckpointWritten, PreviewReady])
def test_the_last_pictures_wait_for_nobody_who_leaves(tmp_path: Path, after: type[Event]) -> None:
    folder, control = make_job(tmp_path, config("optimizer.iterations=5")), Control()

    def leave(event: Event) -> None:
        if isinstance(event, after):
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, config("optimizer.iterations=5"), control, leave)
    assert folder.latest_checkpoint().iteration == 5
    assert folder.preview_image_path.exists() is (after is PreviewReady)
    assert not list(folder.path.glob("views/*"))


def test_a_run_may_be_left_while_the_prior_is_loaded(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config()), Control()
    told: list[str] = []

    def leave(event: Event) -> None:
        if isinstance(event, Phase):
            told.append(event.message or event.name)
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, config("prior.views=151"), control, leave)
    assert told == ["prior", "prepare"]


def test_a_frozen_region_is_not_visited_and_a_boosted_one_is_more_often(tmp_path: Path) -> None:
    folder, control = make_job(tmp_path, config("optimizer.iterations=150")), Control()
    control.set_weights([5], 0.0)
    control.set_weights([7], 20.0)
    execute(folder, config("optimizer.iterations=150"), control)
    visits = np.bincount([line["region"] for line in folder.read_trace()], minlength=36)
    assert visits[5] == 0
    assert visits[7] > 10


def test_weights_of_the_settings_hold_from_the_first_step_and_later_ones_replace_them(tmp_path: Path) -> None:
    settled = config("optimizer.iterations=60", "region_sampling.weights=[[5, 0.0], [7, 20.0]]", "region_sampling.warmup_passes=0")
    folder, control = make_job(tmp_path, settled), Control()

    def interrupt(event: Event) -> None:
        if isinstance(event, CheckpointWritten) and event.iteration == 20:
            control.set_weights([7], 1.0)
        if isinstance(event, CheckpointWritten) and event.iteration == 40:
            control.interrupt()

    with pytest.raises(JobCancelled):
        execute(folder, settled, control, interrupt)
    execute(folder, settled)
    weights = [(line["weight"][5], line["weight"][7]) for line in folder.read_trace()]
    assert weights == [(0.0, 20.0)] * 20 + [(0.0, 1.0)] * 40, "a resumed run keeps the weights it was given last"


@pytest.mark.parametrize("weights", ["[[36, 2.0]]", "[[-1, 2.0]]", "[[3, -2.0]]", "[[3, 2.0], [3, 4.0]]"])
def test_senseless_weights_are_refused_before_the_run(weights: str) -> None:
    with pytest.raises(ConfigError, match=r"region_sampling\.weights"):
        config(f"region_sampling.weights={weights}")
    config("region_sampling.weights=[[36, 2.0]]", "grid.azimuth_bins=13")
    config("region_sampling.weights=[[36, 2.0]]", "grid.distance_edges=[3.0, 3.3, 3.6]")


class TestAskedForWhileItRuns:
    """Weights and pictures, from a run that goes on and from one that is paused."""

    def test_pictures_of_regions(self, tmp_path: Path) -> None:
        folder, control, events = make_job(tmp_path, config("optimizer.iterations=5")), Control(), []
        for region in (3, 12, 3, -1, 12):
            control.request_preview(region)
        control.set_weights([12], 4.0)

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, PreviewReady) and event.region >= 0:
                assert (folder.path / event.image).stat().st_size > 0, "it is there when it is told of"

        execute(folder, config("optimizer.iterations=5"), control, emit)
        first = [event for event in events if isinstance(event, PreviewReady) and event.iteration == 0]
        assert [(event.region, event.image, event.splats) for event in first] == [
            (-1, "preview.png", "preview.ply"),
            (3, "views/region-003.png", ""),
            (12, "views/region-012.png", ""),
        ]
        regions = next(event for event in events if isinstance(event, Regions))
        assert (regions.iteration, regions.current, regions.weight[12]) == (0, -1, 4.0), "told at once"

    def test_while_paused(self, tmp_path: Path) -> None:
        folder, control, events = make_job(tmp_path, config("optimizer.iterations=5")), Control(), []

        def emit(event: Event) -> None:
            """An artist: pauses, weighs a region, looks at it when the weight has arrived, goes on when the picture is there."""
            events.append(event)
            match event:
                case Phase(name="optimise"):
                    control.pause()
                case Paused(paused=True):
                    control.set_weights([4], 0.0)
                case Regions() if control.paused:
                    control.request_preview(4)
                case PreviewReady(region=4):
                    control.resume()

        execute(folder, config("optimizer.iterations=5"), control, emit)
        kinds = [type(event) for event in events[[isinstance(event, Paused) for event in events].index(True) :]]
        assert kinds[:4] == [Paused, Regions, PreviewReady, Paused]
        assert all(line["weight"][4] == 0 for line in folder.read_trace())

    def test_while_the_mesh_is_made(self, tmp_path: Path) -> None:
        folder, control, events = make_job(tmp_path, config("optimizer.iterations=5")), Control(), []

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, Phase) and event.name == "texture":
                control.request_preview(7)

        execute(folder, config("optimizer.iterations=5"), control, emit)
        assert [event.iteration for event in events if isinstance(event, PreviewReady) and event.region == 7] == [5]


def test_a_run_goes_on_though_the_shape_it_began_with_is_gone(tmp_path: Path, finished: tuple[JobFolder, Result, list[Event]]) -> None:
    shape = tmp_path / "shape.ply"
    shape.write_bytes(finished[0].splats_path.read_bytes())
    settled = config("optimizer.iterations=30", f"gaussians.initial={shape}")
    traces = []
    for gone in (False, True):
        folder, control = make_job(tmp_path, settled), Control()

        def interrupt(event: Event, control: Control = control) -> None:
            if isinstance(event, CheckpointWritten) and event.iteration == 20:
                control.interrupt()

        with pytest.raises(JobCancelled):
            execute(folder, settled, control, interrupt)
        if gone:
            shape.unlink()
        execute(folder, settled)
        traces.append(list(folder.read_trace()))
    assert traces[0] == traces[1]


@pytest.mark.parametrize("part", ["region-sampling", "timestep-sampling", "gradient-fusion"])
def test_every_module_can_be_left_out(tmp_path: Path, part: str) -> None:
    settled = settings.resolve("draft", sets=[*SMALL, "optimizer.iterations=80"], without=[part])
    folder = make_job(tmp_path, settled)
    execute(folder, settled)
    trace = list(folder.read_trace())
    if part == "region-sampling":
        assert all(line["probability"] == pytest.approx([1 / 36] * 36) for line in trace)
    elif part == "timestep-sampling":
        assert all(line["t_local"] == 0 for line in trace)
        assert np.std([line["t"] for line in trace[-20:]]) > 150, "uniform to the end"
    else:
        assert not any(line["neighbours"] for line in trace)
        assert all(line["norm_fused"] == line["norm_main"] for line in trace)


def test_the_same_seed_repeats_and_another_does_not(tmp_path: Path) -> None:
    short = ("optimizer.iterations=5",)
    traces = []
    for index, sets in enumerate((short, short, (*short, "run.seed=1"))):
        folder = make_job(tmp_path / str(index), config(*sets))
        execute(folder, config(*sets))
        traces.append(list(folder.read_trace()))
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


def test_the_made_by_record_names_versions_and_prior(finished: tuple[JobFolder, Result, list[Event]]) -> None:
    record = json.loads((finished[0].path / "made_by.json").read_text())
    assert record["prior"] == "builtin:exact"
    assert record["torch"] == torch.__version__
    assert len(record["prior_fingerprint"]) == 16


def test_view_words_decide_where_the_face_is(tmp_path: Path) -> None:
    """With view words off, the prompt says nothing of the back, so the run must differ from the first step's prompt on."""
    settled = config("optimizer.iterations=3", "guidance.view_prompts=false")
    folder = make_job(tmp_path, settled)
    execute(folder, settled)
    plain = [line["loss"] for line in folder.read_trace()]
    worded = make_job(tmp_path, replace(settled, guidance=replace(settled.guidance, view_prompts=True)))
    execute(worded, settings.from_dict(worded.config))
    assert plain != [line["loss"] for line in worded.read_trace()]


def test_the_first_render_size_that_the_prior_has_is_used_from_the_beginning() -> None:
    prior = SimpleNamespace(
        recommended=PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(64, 128)), views_per_prediction=1
    )
    wanted = {
        "[[0.0, 32], [0.5, 64]]": ((0.0, 64),),
        "[[0.0, 32], [0.2, 64], [0.5, 128]]": ((0.0, 64), (0.5, 128)),
        "[[0.0, 32]]": ((0.0, 128),),
    }
    for steps, expected in wanted.items():
        assert settle(config(f"optimizer.resolution_steps={steps}"), prior).optimizer.resolution_steps == expected


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
        (OSError("not enough memory"), False),
        (ResourceError("can't allocate memory"), False),
    ],
)
def test_how_the_lack_of_memory_shows(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_what_a_prior_warns_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ["It runs as it is."]
    monkeypatch.setattr(ExactPrior, "take_warnings", lambda self: [waiting.pop()] if waiting else [])
    events: list[Event] = []
    execute(make_job(tmp_path, config("optimizer.iterations=3")), config("optimizer.iterations=3"), emit=events.append)
    assert [event.message for event in events if isinstance(event, Notice)] == ["It runs as it is."]


def test_sizes_between_half_and_whole_are_kept_where_a_prior_takes_their_multiples() -> None:
    recommended = PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(512,), resolution_multiple=64)
    prior = SimpleNamespace(recommended=recommended, views_per_prediction=1)
    wanted = {
        "[[0.0, 256], [0.5, 512]]": ((0.0, 256), (0.5, 512)),
        "[[0.0, 64], [0.5, 128]]": ((0.0, 512),),
        "[[0.0, 64], [0.3, 300], [0.5, 384], [0.6, 1024]]": ((0.0, 384),),
    }
    for steps, expected in wanted.items():
        assert settle(config(f"optimizer.resolution_steps={steps}"), prior).optimizer.resolution_steps == expected
