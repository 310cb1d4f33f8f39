"""One run from prompt to asset, in a job folder: prior, optimisation, surface, texture, export.

Whatever kills the process, the folder still reads, and the run goes on from its last checkpoint. What people ask for
through a `Control` is honoured between two steps.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from . import __version__, meshing, settings
from .cameras import orbit_camera
from .checkpoint import flatten, unflatten
from .config import GenerationConfig
from .control import Control
from .errors import ResourceError
from .files import atomic_path, atomic_write_json
from .gaussians.initialize import initialize
from .gaussians.model import GaussianModel
from .guidance.load import load_prior
from .guidance.prior import DiffusionPrior
from .job import JobFolder
from .memory import resident_bytes
from .meshing.export import write_asset
from .meshing.views import with_pixel_blur
from .method.optimizer import Distillation, render_cameras
from .protocol import CheckpointWritten, Event, JobSpec, Paused, Phase, PreviewReady, Progress, Regions, Result

Emit = Callable[[Event], None]

PREVIEW_AZIMUTHS, PREVIEW_ELEVATION, PREVIEW_PIXELS = (0, 90, 180, 270), 15, 128

REGIONS_INTERVAL = 0.25
"""Seconds between two `regions` events: often enough to watch, seldom enough for a pipe."""


def run_job(folder: JobFolder, config: GenerationConfig, spec: JobSpec, emit: Emit, control: Control) -> Result:
    """Runs the job, from its last checkpoint if it has one, and tells of it through `emit`.

    The folder must be locked by the caller. Outputs named in the spec are written last.

    Raises:
        JobCancelled: it was told to end without a mesh; a checkpoint is there.
        CoGradError: anything a user can mend.
    """
    started = time.monotonic()
    run = _Run(folder, config, spec, emit, control)
    run.prepare()
    run.optimise()
    counts = run.make_asset()
    result = Result(
        asset=folder.asset_path.name,
        splats=folder.splats_path.name,
        outputs=run.copy_outputs(),
        iterations=run.distillation.iteration,
        seconds=time.monotonic() - started - run.paused_seconds,
        gaussians=len(run.model),
        **counts,
    )
    emit(result)
    return result


class _Run:
    """The phases of one run; `prepare`, `optimise`, `make_asset` and `copy_outputs` in this order."""

    model: GaussianModel
    prior: DiffusionPrior
    distillation: Distillation

    def __init__(self, folder: JobFolder, config: GenerationConfig, spec: JobSpec, emit: Emit, control: Control) -> None:
        self.folder, self.config, self.spec, self.emit, self.control = folder, config, spec, emit, control
        self.paused_seconds = 0.0

    def prepare(self) -> None:
        """Loads the prior, makes the Gaussians, and takes up the last checkpoint."""
        self._phase("prior")
        device = pick_device(self.config.run.device)
        self.prior = load_prior(
            self.config.prior, device, seed=self.config.run.seed, progress=lambda message: self.emit(Phase(name="prior", message=message))
        )
        self.config = settle(self.config, self.prior)
        self.folder.write_config(settings.to_dict(self.config))
        atomic_write_json(self.folder.path / "made_by.json", self.made_by())
        self._phase("prepare")
        self.control.raise_if_cancelled()
        generator = torch.Generator().manual_seed(self.config.run.seed)
        self.model = initialize(self.config.gaussians, generator, device)
        self.distillation = Distillation(self.config, self.prior, self.model, self.spec.prompt, self.spec.negative_prompt)
        checkpoint = self.folder.latest_checkpoint()
        if checkpoint is not None:
            self.distillation.load_state_dict(unflatten(checkpoint.tensors, checkpoint.state))
        self.folder.truncate_trace(self.distillation.iteration)

    def made_by(self) -> dict[str, str]:
        """What the result depends on besides the settings."""
        return {"cograd3d": __version__, "torch": torch.__version__, "prior": self.prior.name, "prior_fingerprint": self.prior.fingerprint}

    def optimise(self) -> None:
        """Figure 2, until the iterations are done or somebody says stop."""
        self._phase("optimise")
        total, every = self.config.optimizer.iterations, self.config.run
        clock, last_told = _Clock(), 0.0
        while self.distillation.iteration < total and not self.control.should_stop:
            self._obey()
            line = self.distillation.step()
            self.folder.append_trace(line)
            clock.tick()
            done = self.distillation.iteration
            if time.monotonic() - last_told >= REGIONS_INTERVAL or done == total:
                last_told = time.monotonic()
                self._tell_progress(clock, line)
            if done % every.checkpoint_every == 0 and done < total:
                self.write_checkpoint()
            if self.control.take_preview_request() or (every.preview_every and done % every.preview_every == 0):
                self.write_preview()
        self.write_checkpoint()
        self.write_preview()

    def make_asset(self) -> dict[str, int]:
        """The textured mesh and the splats of the Gaussians as they are; returns counts for the result."""
        splats = self.seen_gaussians()
        with atomic_path(self.folder.splats_path) as path:
            splats.save_ply(path)

        def progress(share: float, phase: str) -> None:
            self.control.raise_if_cancelled()
            if phase != self._current_phase:
                self._phase(phase)
            self.emit(Progress(phase=phase, iteration=round(100 * share), total=100, memory=resident_bytes()))

        mesh = meshing.textured_mesh(
            splats, self.config.surface, self.config.texture, progress, np.random.default_rng(self.config.run.seed)
        )
        self._phase("export")
        write_asset(mesh, self.folder.asset_path)
        self._mesh = mesh
        return {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "texture_size": mesh.texture.shape[0]}

    def copy_outputs(self) -> tuple[str, ...]:
        """Writes the asset to where the spec wants it, in the format each suffix names."""
        for output in map(Path, self.spec.outputs):
            if output.suffix.lower() == ".glb":
                with atomic_path(output) as path:
                    shutil.copyfile(self.folder.asset_path, path)
            else:
                write_asset(self._mesh, output)
        return tuple(self.spec.outputs)

    def seen_gaussians(self) -> GaussianModel:
        """A copy as wide as the optimisation saw them: what is shown, saved and meshed, at whatever size."""
        distance = float(np.mean(self.config.grid.distance_edges))
        return with_pixel_blur(self.model, self.distillation.fov, distance, self.distillation.resolution)

    def write_checkpoint(self) -> None:
        """Everything the run needs to go on, on disk."""
        tensors, document = flatten(self.distillation.state_dict())
        path = self.folder.write_checkpoint(self.distillation.iteration, tensors, document)
        self.folder.update_state(iteration=self.distillation.iteration, total=self.config.optimizer.iterations)
        self.emit(CheckpointWritten(iteration=self.distillation.iteration, path=str(path.relative_to(self.folder.path))))

    def write_preview(self) -> None:
        """`preview.png`, the asset from four sides, and `preview.ply`, its Gaussians."""
        splats, distance = self.seen_gaussians(), float(np.mean(self.config.grid.distance_edges))
        cameras = [
            orbit_camera(azimuth, PREVIEW_ELEVATION, distance, self.distillation.fov, PREVIEW_PIXELS) for azimuth in PREVIEW_AZIMUTHS
        ]
        rgb, _, _ = render_cameras(splats, cameras)
        strip = np.concatenate(list(rgb.clamp(0, 1).cpu().numpy()), axis=1)
        with atomic_path(self.folder.preview_image_path, durable=False) as path:
            Image.fromarray((strip * 255).round().astype(np.uint8)).save(path)
        with atomic_path(self.folder.preview_splats_path, durable=False) as path:
            splats.save_ply(path)
        self.emit(
            PreviewReady(
                iteration=self.distillation.iteration,
                image=self.folder.preview_image_path.name,
                splats=self.folder.preview_splats_path.name,
            )
        )

    def _phase(self, name: str) -> None:
        self._current_phase = name
        self.folder.update_state(phase=name)
        self.emit(Phase(name=name))

    def _obey(self) -> None:
        """Pauses, cancels and weighs regions as asked."""

        def told(paused: bool) -> None:
            self.emit(Paused(paused=paused))

        if self.control.paused:
            self.write_checkpoint()
            began = time.monotonic()
            self.control.wait_if_paused(told)
            self.paused_seconds += time.monotonic() - began
        if self.control.should_cancel:
            self.write_checkpoint()
        self.control.raise_if_cancelled()
        for region, factor in self.control.take_weights(len(self.distillation.grid)).items():
            self.distillation.regions.set_weight(region, factor)

    def _tell_progress(self, clock: _Clock, line: dict[str, Any]) -> None:
        done, total = self.distillation.iteration, self.config.optimizer.iterations
        speed = clock.speed
        self.emit(
            Progress(
                iteration=done,
                total=total,
                loss=line["loss"],
                iterations_per_second=speed,
                seconds_left=(total - done) / speed if speed else -1.0,
                gaussians=line["gaussians"],
                memory=resident_bytes(),
            )
        )
        self.emit(self._regions(line["region"]))

    def _regions(self, current: int) -> Regions:
        """What is known of every region after this step."""
        regions, centers = self.distillation.regions, self.distillation.grid.centers
        return Regions(
            iteration=self.distillation.iteration,
            azimuth=tuple(centers[:, 0].tolist()),
            elevation=tuple(centers[:, 1].tolist()),
            distance=tuple(centers[:, 2].tolist()),
            loss=tuple(regions.levels),
            current=current,
            indicator=tuple(regions.indicators().tolist()),
            probability=tuple(regions.probabilities().tolist()),
            weight=tuple(regions.weights.tolist()),
            visits=tuple(regions.visits.tolist()),
        )


class _Clock:
    """Iterations a second over the last few."""

    def __init__(self, window: int = 50) -> None:
        self._times: deque[float] = deque([time.monotonic()], maxlen=window)

    def tick(self) -> None:
        self._times.append(time.monotonic())

    @property
    def speed(self) -> float:
        span = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / span if span > 0 else 0.0


def pick_device(name: str) -> torch.device:
    """The torch device that a setting names; auto prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        ResourceError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        raise ResourceError(
            f"The device {name!r} cannot be used: {error}.", remedy="Choose another with --device, or leave it at auto."
        ) from error


def settle(config: GenerationConfig, prior: DiffusionPrior) -> GenerationConfig:
    """The settings with everything that was left to the prior's recommendation filled in."""
    recommended = prior.recommended
    guidance = replace(
        config.guidance,
        scale=recommended.guidance_scale if config.guidance.scale is None else config.guidance.scale,
        weighting=recommended.weighting if config.guidance.weighting == "auto" else config.guidance.weighting,
        clamp=recommended.clamp if config.guidance.clamp is None else config.guidance.clamp,
    )
    grid = replace(
        config.grid,
        fov=recommended.fov if config.grid.fov is None else config.grid.fov,
        distance_edges=config.grid.distance_edges or tuple(recommended.distance),
    )
    available = recommended.resolutions
    steps = tuple((p, pixels) for p, pixels in config.optimizer.resolution_steps if pixels in available) or ((0.0, available[-1]),)
    return replace(config, guidance=guidance, grid=grid, optimizer=replace(config.optimizer, resolution_steps=steps))
