"""A second run that begins with a finished one's result."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backend import settings
from backend.cameras import orbit_camera
from backend.config import GaussiansConfig
from backend.control import Control
from backend.errors import ConfigError, JobError
from backend.gaussians.initialize import initialize
from backend.gaussians.model import GaussianModel
from backend.gaussians.rendering import render_cameras
from backend.job import JobFolder
from backend.job_lines import trace_visits
from backend.meshing.views import pixel_blur, with_pixel_blur
from backend.method.view_grid import ViewGrid
from backend.pipeline import run_job
from backend.protocol import JobSpec
from backend.refinement import refine

SMALL = (
    "prior.views=150",
    "run.seed=3",
    "gaussians.count=400",
    "densification.max_count=600",
    "densification.every=10",
    "optimizer.iterations=80",
    "optimizer.views=1",
    "optimizer.resolution_steps=[[0.0, 64]]",
    "optimizer.sparsity=0.02",
    "run.preview_every=0",
    "surface.resolution=48",
    "surface.views=12",
    "surface.faces=1000",
    "texture.size=128",
    "texture.views=8",
    "texture.refine=0",
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGRAD3D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def execute(folder):
    with folder.lock():
        return run_job(folder, settings.from_dict(folder.config), folder.spec, lambda event: None, Control())


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished run that asked for things that a refinement must not repeat."""
    root = tmp_path_factory.mktemp("jobs")
    config = settings.resolve("draft", sets=[*SMALL, "region_sampling.weights=[[30, 0.5]]"])
    spec = JobSpec(prompt="a red cat", quality="draft", initial="sphere", outputs=(str(root / "cat.glb"),), overwrite=True)
    folder = JobFolder.create(root, spec, config)
    execute(folder)
    return folder


def test_what_is_kept_and_what_is_not(job):
    old = settings.from_dict(job.config)
    spec, config = refine(job, [3, 5, 3], factor=6, iterations=40)
    assert spec == JobSpec(prompt="a red cat", quality="draft", initial=str(job.splats_path), refines=str(job.path)), (
        "nothing is overwritten that was not asked for again"
    )
    guidance = dataclasses.replace(old.guidance, ism_step=0.08)  # a schedule, by default: held where the finished run left it
    assert (config.prior, config.guidance, config.grid, config.surface, config.texture, config.run) == (
        *(old.prior, guidance, old.grid, old.surface, old.texture),
        old.run,
    )
    assert config.gaussians.initial == str(job.splats_path)
    assert config.region_sampling.weights == ((3, 6.0), (5, 6.0))
    assert config.optimizer.iterations == 40
    assert config.timestep_sampling.start < old.timestep_sampling.start
    assert config.optimizer.lr_means < old.optimizer.lr_means
    assert settings.from_dict(job.config) == old


def test_its_length_follows_from_that_of_the_finished_run(job):
    assert 20 <= refine(job, [3])[1].optimizer.iterations < 80


def test_it_sees_as_well_as_the_finished_run_did_at_its_end(tmp_path):
    coarse_to_fine = settings.resolve("draft", sets=["optimizer.resolution_steps=[[0.0, 64], [0.5, 128]]"])
    folder = JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), coarse_to_fine)
    folder.splats_path.touch()
    assert refine(folder, [3])[1].optimizer.resolution_steps == ((0.0, 128),)


def finished(tmp_path, method, *sets, without=()):
    """The folder of a run of a method that is said to have a result."""
    config = settings.resolve("draft", method, sets=sets, without=without)
    folder = JobFolder.create(tmp_path, JobSpec(prompt="a red cat", method=method), config)
    folder.splats_path.touch()
    return folder


def test_it_is_shorter_and_gentler_and_neither_grows_nor_thins(tmp_path):
    """By the figures of docs/method.md: 0.375 of the iterations (of 101 that is 37.9), 0.15 of every learning rate."""
    folder = finished(tmp_path, "cograd3d", "optimizer.iterations=101", "gaussians.sh_degree=1")
    old, config = settings.from_dict(folder.config), refine(folder, [3])[1]
    assert config.optimizer.iterations == 38
    for group in ("means", "scales", "quats", "opacities", "sh0", "shN"):
        before, after = (getattr(each.optimizer, f"lr_{group}") for each in (old, config))
        assert after == pytest.approx(0.15 * before) and before > 0, group
    assert old.densification.enabled and not config.densification.enabled
    assert old.region_sampling.warmup_passes > 0 == config.region_sampling.warmup_passes
    assert old.optimizer.sparsity > 0 == config.optimizer.sparsity
    assert (config.optimizer.opacity_entropy, config.optimizer.views) == (old.optimizer.opacity_entropy, old.optimizer.views)


def test_schedules_stay_where_the_finished_run_left_them(tmp_path):
    config = refine(finished(tmp_path, "consistent3d", "guidance.perp_neg=[[0, 2], [0.5, 0.5]]"), [3])[1]
    assert (config.guidance.clamp, config.guidance.nominal_scale, config.guidance.perp_neg) == (8.0, 51.0, 0.5)
    assert (config.guidance.ism_step, config.guidance.rule) == (0.08, "cds")
    assert not any(
        isinstance(getattr(getattr(config, s.section), s.name), tuple) for s in settings.catalogue().values() if is_a_schedule(s)
    )


def is_a_schedule(setting):
    return settings.is_schedule(setting.type)


@pytest.mark.parametrize("method", settings.presets("method"))
def test_a_refinement_of_any_method_works_on_regions_at_low_noise(method, tmp_path):
    """Where a method's own noise ends high (HiFA's at 0.30) or is drawn from a range (mode uniform), too."""
    spec, config = refine(finished(tmp_path, method), [3, 5])
    t = config.timestep_sampling
    assert (t.start, t.end) == (0.35, 0.05)
    assert t.clip_low <= t.end and (t.clip_high == t.start if t.mode == "uniform" else t.clip_high >= t.start)
    if t.mode == "uniform":
        assert t.clip_low == t.end
    assert config.grid.cameras == "region" and config.region_sampling.weights == ((3, 4.0), (5, 4.0))
    assert config.guidance.rule == settings.resolve("draft", method).guidance.rule
    assert spec.refines


def test_a_range_of_timesteps_that_is_too_narrow_is_widened(tmp_path):
    folder = finished(tmp_path, "cograd3d", "timestep_sampling.clip_low=0.2", "timestep_sampling.clip_high=0.3")
    t = refine(folder, [3])[1].timestep_sampling
    assert (t.clip_low, t.end, t.start, t.clip_high) == (0.05, 0.05, 0.35, 0.35)


def test_timesteps_switched_off_stay_low_too(tmp_path):
    t = refine(finished(tmp_path, "cograd3d", without=["timestep-sampling"]), [3])[1].timestep_sampling
    assert (t.enabled, t.clip_low, t.clip_high) == (False, 0.05, 0.35)


def test_orbits_stay_orbits(tmp_path):
    assert refine(finished(tmp_path, "cograd3d", "grid.cameras=orbit"), [3])[1].grid.cameras == "orbit"


def test_no_regions_at_all(job):
    assert refine(job, [])[1].region_sampling.weights == ()


@pytest.mark.parametrize(
    ("regions", "options", "words"),
    [
        ([36], {}, "names region 36"),
        ([-1], {}, "names region -1"),
        ([3], {"factor": -1.0}, "factor -1"),
        ([3], {"factor": float("nan")}, "must be a number"),
        ([3], {"iterations": 0}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(job, regions, options, words):
    with pytest.raises(ConfigError, match=words):
        refine(job, regions, **options)


def test_a_run_without_a_result_is_refused(tmp_path):
    folder = JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), settings.resolve("draft"))
    with pytest.raises(JobError, match="no result") as caught:
        refine(folder, [3])
    assert caught.value.remedy


def test_gaussians_of_a_file_are_seen_as_wide_as_they_are(tmp_path):
    """Whatever the size they are optimised at: the file's widths are those that are seen."""
    generator = torch.Generator().manual_seed(0)
    first = initialize(GaussiansConfig(count=50, min_scale=0.01), generator)
    with_pixel_blur(first, 40.0, 3.3, 64).save_ply(tmp_path / "splats.ply")
    seen = GaussianModel.load_ply(tmp_path / "splats.ply").params["scales"]
    for size in (64, 128):
        again = initialize(
            GaussiansConfig(initial=str(tmp_path / "splats.ply"), max_scale=1.0), generator, pixel_blur=pixel_blur(40.0, 3.3, size)
        )
        assert torch.allclose(with_pixel_blur(again, 40.0, 3.3, size).params["scales"], seen, atol=1e-4)
        assert (again.params["scales"] < seen).all()


def alpha(job):
    cameras = [orbit_camera(azimuth, elevation, 3.3, 40.0, 256) for azimuth in range(0, 360, 60) for elevation in (0, 45)]
    rgb, coverage, _ = render_cameras(GaussianModel.load_ply(job.splats_path), cameras)
    return rgb.numpy(), coverage[..., 0].numpy()


def test_a_refinement_of_one_step_leaves_the_result_as_it_was(job, tmp_path):
    spec, config = refine(job, [3, 5], iterations=1)
    again = JobFolder.create(tmp_path, spec, config)
    execute(again)
    (old_rgb, old), (new_rgb, new) = alpha(job), alpha(again)
    assert np.abs(new.mean() / old.mean() - 1) < 0.005, "neither thicker nor thinner"
    assert np.logical_and(old > 0.5, new > 0.5).sum() / np.logical_or(old > 0.5, new > 0.5).sum() > 0.99
    assert np.abs(new_rgb - old_rgb).mean() < 0.002
    assert again.spec.refines == str(job.path)


def test_a_refinement_works_most_on_the_regions_that_need_it(job, tmp_path):
    spec, config = refine(job, [3, 5], factor=20.0, iterations=40)
    again = JobFolder.create(tmp_path, spec, config)
    execute(again)
    trace = [visit for line in again.read_trace() for visit in trace_visits(line)]
    assert sum(line["region"] in (3, 5) for line in trace) > 4 * len(trace) * 2 / 36, "much more often than if all were alike"
    assert max(line["t"] for line in trace) < 600
    assert {line["gaussians"] for line in trace} == {trace[0]["gaussians"]}


def test_the_module_needs_the_standard_library_only():
    code = "import sys, backend.refinement; print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'numpy', 'bpy')])"
    found = subprocess.run([sys.executable, "-S", "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_run_of_mode_uniform_with_schedules_is_refined(tmp_path):
    """Carried out: the noise keeps to the low range and the cameras to the regions, though the first run's kept to neither."""
    sets = [*SMALL, "optimizer.iterations=8", "timestep_sampling.clip_high=[[0, 0.98], [0.5, 0.5]]", "guidance.clamp=[[0, 1], [1, 2]]"]
    first = JobFolder.create(
        tmp_path / "first", JobSpec(prompt="a red cat", method="dreamfusion"), settings.resolve("draft", "dreamfusion", sets=sets)
    )
    execute(first)
    again = JobFolder.create(tmp_path / "again", *refine(first, [3], factor=20.0, iterations=12))
    execute(again)
    early, late = list(first.read_trace()), list(again.read_trace())
    assert max(line["t"] for line in early) > 350 >= max(line["t"] for line in late) and min(line["t"] for line in late) >= 50
    assert sum(line["region"] == 3 for line in late) >= 3


def test_the_trace_of_views_from_anywhere_names_the_first_cameras_region(tmp_path):
    config = settings.resolve("draft", "dreamfusion", sets=[*SMALL, "optimizer.iterations=6", "optimizer.views=3"])
    folder = JobFolder.create(tmp_path, JobSpec(prompt="a red cat", method="dreamfusion"), config)
    execute(folder)
    grid = ViewGrid.from_config(settings.from_dict(folder.config).grid, (3.3, 3.3))
    trace = list(folder.read_trace())
    assert [line["region"] for line in trace] == [grid.region_of(line["azimuth"], line["elevation"], line["distance"]) for line in trace]
    assert len({line["region"] for line in trace}) > 1
