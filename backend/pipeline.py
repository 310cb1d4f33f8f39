"""One run from prompt to asset, in a job folder: prior, optimisation, surface, texture, export.

Whatever kills the process, the folder still reads, and the run goes on from its last checkpoint. What people ask for
through a `Control` is honoured between two steps.
"""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import __version__, meshing, settings
from .checkpoint import flatten, unflatten
from .config import GenerationConfig, GuidanceConfig
from .control import Control
from .errors import ConfigError
from .files import LEFT_BESIDE_SECONDS, atomic_path, remove_leftovers
from .gaussians import rasterize
from .gaussians.initialize import initialize
from .gaussians.model import GaussianModel
from .guidance.load import load_prior
from .guidance.prior import DiffusionPrior
from .guidance.rules import rule_class, share_of_nominal
from .job import JobFolder
from .job_lines import trace_visits
from .memory import resident_bytes
from .meshing.export import write_asset
from .meshing.views import gaussian_render, pixel_blur, with_pixel_blur
from .method import timestep_sampling
from .method.optimizer import Distillation, settled_opacity_entropy
from .out_of_memory import free_caches, relief, retrying
from .pace import Pace
from .previews import write_preview, write_views
from .protocol import CheckpointWritten, Event, JobSpec, Notice, Paused, Phase, PreviewReady, Progress, Regions, Result

Emit = Callable[[Event], None]

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
        self._region = -1  # the one drawn last
        self._beginning: tuple[dict[str, torch.Tensor], Any] | None = None  # what a new run falls back to before its first checkpoint

    def prepare(self) -> None:
        """Loads the prior, makes the Gaussians, and takes up the last checkpoint."""
        self.control.has_unsaved = False
        self._phase("prior")
        device = pick_device(self.config.run.device)
        self.prior = retrying(lambda: self._load_prior(device), lambda: self._use_less(self.config.prior.memory, device))
        self.config = settle(self.config, self.prior)
        if self.prior.memory:  # what `auto` chose is kept, so that a resumed run goes on alike
            self.config = settings.changed(self.config, {"prior.memory": self.prior.memory})
        self.folder.write_config(settings.to_dict(self.config))
        before, made_by = self.folder.made_by, self.made_by()
        self.folder.write_made_by(made_by)
        self._phase("prepare")
        self.control.raise_if_cancelled()
        # While a long run goes on, an update of Blender's extension may replace the source of what comes later, or its removal take it.
        rasterize.load(rasterize.choose_implementation(device, self.config.run.rasterizer).name)
        meshing.load()
        self._take_up(device)
        self._warn_of_another_model(before, made_by)
        self._warn_of_unheeded_words()

    def _load_prior(self, device: torch.device) -> DiffusionPrior:
        return load_prior(self.config.prior, device, seed=self.config.run.seed, progress=self._tell_of_prior)

    def _take_up(self, device: torch.device) -> None:
        """Gaussians and method as the last checkpoint has them, or as the run begins."""
        damaged: list[Path] = []
        checkpoint = self.folder.latest_checkpoint(damaged.append)
        saved = copy.deepcopy(self._beginning) if checkpoint is None else (checkpoint.tensors, checkpoint.state)
        state = None if saved is None else unflatten(*saved)
        self.model = self._first_gaussians(device) if state is None else self._gaussians(state["model"], device)
        self.distillation = Distillation(self.config, self.prior, self.model, self.spec.prompt, self.spec.negative_prompt)
        if state is None:
            self._beginning = flatten(self.distillation.state_dict())
        else:
            self.distillation.load_state_dict(state)
        if damaged:
            self._set_aside(damaged, begins_anew=checkpoint is None)
        self.folder.truncate_trace(self.distillation.iteration)
        self.control.has_unsaved = False

    def _set_aside(self, damaged: list[Path], begins_anew: bool) -> None:
        """Damaged checkpoints make room: new ones of lower numbers would be dropped for theirs. Where none is left, so does the trace."""
        reached = self.distillation.iteration
        for path in (self.folder.trace_path, *damaged) if begins_anew else damaged:
            self.folder.set_aside(path)
        self.folder.update_state(iteration=reached)
        steps = " and ".join(str(int(path.name)) for path in reversed(damaged))
        onward = "begins anew" if begins_anew else f"goes on from step {reached}"
        message = f"What was saved after step {steps} cannot be read: the run {onward}."
        self.emit(Notice(code="checkpoint", message=message, remedy="If that happens again, check the disk for errors."))

    def _warn_of_another_model(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """A run that was begun with other weights goes on, for they may be gone; that it did is told."""
        if self.distillation.iteration and before.get("prior_fingerprint", now["prior_fingerprint"]) != now["prior_fingerprint"]:
            was, name = before.get("prior"), now["prior"]
            changed = f"The image model {name} has changed since the run was begun."
            message = changed if was in (name, None) else f"The run was begun with the image model {was} and goes on with {name}."
            remedy = "For a result of one model alone, start the run anew."
            self.emit(Notice(code="prior", message=message, remedy=remedy))

    def _warn_of_unheeded_words(self) -> None:
        if self.spec.negative_prompt and not self.distillation.rule.heeds_negative_prompt():
            message = "The negative prompt makes no difference: at a prompt strength of 1 the image model is asked for the prompt alone."
            remedy = "A prompt strength (guidance.scale) above 1 lets it count; steps take longer then."
            self.emit(Notice(code="negative_prompt", message=message, remedy=remedy))

    def _tell_of_prior(self, message: str) -> None:
        self.control.raise_if_cancelled()
        self.emit(Phase(name="prior", message=message))

    def _first_gaussians(self, device: torch.device) -> GaussianModel:
        """What a new run begins with."""
        grid, pixels = self.config.grid, self.config.optimizer.resolution_steps[0][1]
        blur = pixel_blur(grid.fov or self.prior.recommended.fov, float(np.mean(grid.distance_edges)), pixels)
        generator = torch.Generator().manual_seed(self.config.run.seed)
        return initialize(self.config.gaussians, generator, device, pixel_blur=blur)

    def _gaussians(self, state: dict[str, torch.Tensor], device: torch.device) -> GaussianModel:
        """Those of a checkpoint: the file that a run began with may be gone when it is taken up again."""
        settings = self.config.gaussians
        return GaussianModel(state, (settings.min_scale, settings.max_scale), settings.bound).to(device)

    def made_by(self) -> dict[str, str]:
        """What the result depends on besides the settings."""
        return {"cograd3d": __version__, "torch": torch.__version__, "prior": self.prior.name, "prior_fingerprint": self.prior.fingerprint}

    def optimise(self) -> None:
        """Figure 2, until the iterations are done or somebody says stop."""
        self._phase("optimise")
        retrying(self._optimise, self._step_down)

    def _optimise(self) -> None:
        total, every = self.config.optimizer.iterations, self.config.run
        pace = Pace([self.distillation.resolution_at(i / total) ** self.prior.cost_power for i in range(total)])
        last_told, line = 0.0, None
        while self.distillation.iteration < total and not self.control.should_stop:
            self._obey()
            self.control.has_unsaved = True
            line = self.distillation.step()
            self.folder.append_trace(line)
            done, self._region = self.distillation.iteration, line["region"]
            pace.tick(done, time.monotonic() - self.paused_seconds)
            if time.monotonic() - last_told >= REGIONS_INTERVAL and done < total:
                last_told = time.monotonic()
                self._tell_progress(pace, line)
            if done % every.checkpoint_every == 0 and done < total:
                self.write_checkpoint()
            if every.preview_every and done % every.preview_every == 0:
                self.write_preview()
        if line is not None:
            self._tell_progress(pace, line)
        self.write_checkpoint()
        self.control.raise_if_cancelled()
        self.write_preview()
        self.write_views(range(len(self.distillation.grid)), check=self.control.raise_if_cancelled)

    def _step_down(self) -> None:
        """After memory ran out: back to the last checkpoint, with settings that need less."""
        device, reached = self.model.device, self.distillation.iteration
        weights = self.distillation.regions.weights.copy()  # as the user wants them now
        del self.model, self.distillation
        self._use_less(self.prior.memory, device)
        self.prior.use_memory(self.config.prior.memory)
        self._take_up(device)
        for region, factor in enumerate(weights):
            self.distillation.regions.set_weight(region, factor)
        message = f"Memory ran out at step {reached}. The run goes on from step {self.distillation.iteration} with less of it, more slowly."
        self.emit(Notice(code="memory", message=message, remedy="Other programs may be closed; fewer views or smaller pictures need less."))

    def _use_less(self, mode: str, device: torch.device) -> None:
        """The next settings that need less memory, kept in the job folder. Raises `ResourceError` where there are none."""
        self.config = settings.changed(self.config, relief(self.config, mode, device))
        self.folder.write_config(settings.to_dict(self.config))
        free_caches()

    def make_asset(self) -> dict[str, int]:
        """The textured mesh and the splats of the Gaussians as they are; returns counts for the result."""
        splats = self.seen_gaussians()
        splats.save_ply(self.folder.splats_path)
        told = -1, ""

        def progress(share: float, phase: str) -> None:
            nonlocal told
            self.control.raise_if_cancelled()
            self._show_what_was_asked()
            if phase != self._current_phase:
                self._phase(phase)
            if (now := (percent := round(100 * share), phase)) != told:
                told = now
                self.emit(Progress(phase=phase, iteration=percent, total=100, memory=resident_bytes()))

        rng, lowest = np.random.default_rng(self.config.run.seed), self.config.grid.elevation_edges[0]
        render = gaussian_render(splats, self.config.run.rasterizer)
        mesh = meshing.textured_mesh(render, self.config.surface, self.config.texture, progress, rng, lowest)
        self.control.raise_if_cancelled()
        self._phase("export")
        write_asset(mesh, self.folder.asset_path)
        self._mesh = mesh
        return {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "texture_size": mesh.texture.shape[0]}

    def copy_outputs(self) -> tuple[str, ...]:
        """Writes the asset to where the spec wants it, in the format each suffix names."""
        if self.spec.outputs and not self.spec.overwrite:
            # That nothing is in their way was checked at the start. From now on they are the job's own: going on with it replaces them.
            self.spec = replace(self.spec, overwrite=True)
            self.folder.write_spec(self.spec)
        for output in map(Path, self.spec.outputs):
            if output.suffix.lower() == ".glb":
                with atomic_path(output) as path:
                    shutil.copyfile(self.folder.asset_path, path)
            else:
                write_asset(self._mesh, output)
            remove_leftovers(Path(os.path.realpath(output)).parent, LEFT_BESIDE_SECONDS)  # of this run, killed here before, or of others
        return tuple(self.spec.outputs)

    def seen_gaussians(self) -> GaussianModel:
        """A copy as wide as the optimisation saw them: what is shown, saved and meshed, at whatever size."""
        distance = float(np.mean(self.config.grid.distance_edges))
        return with_pixel_blur(self.model, self.distillation.fov, distance, self.distillation.resolution)

    def write_checkpoint(self) -> None:
        """Everything the run needs to go on, on disk."""
        tensors, document = flatten(self.distillation.state_dict())
        path = self.folder.write_checkpoint(self.distillation.iteration, tensors, document)
        self.control.has_unsaved = False
        self.folder.update_state(iteration=self.distillation.iteration, total=self.config.optimizer.iterations)
        self.emit(CheckpointWritten(iteration=self.distillation.iteration, path=str(path.relative_to(self.folder.path))))

    def write_preview(self) -> None:
        """The asset as it is now, for those who wait for it."""
        distance = float(np.mean(self.config.grid.distance_edges))
        write_preview(self.folder, self.seen_gaussians(), distance, self.distillation.fov, self.config.run.rasterizer)
        self.emit(
            PreviewReady(
                iteration=self.distillation.iteration,
                image=self.folder.preview_image_path.name,
                splats=self.folder.preview_splats_path.name,
            )
        )

    def write_views(self, regions: Sequence[int], check: Callable[[], None] = lambda: None) -> None:
        """What these regions see now; see `previews.write_views`."""
        grid, fov = self.distillation.grid, self.distillation.fov
        write_views(self.folder, self.seen_gaussians(), grid, fov, regions, self.config.run.rasterizer, check)

    def _phase(self, name: str) -> None:
        self._current_phase = name
        self.folder.update_state(phase=name)
        self.emit(Phase(name=name))

    def _obey(self) -> None:
        """Pauses, cancels, weighs regions and shows them, as asked."""

        def told(paused: bool) -> None:
            self.emit(Paused(paused=paused))

        if self.control.paused:
            self.write_checkpoint()
            began = time.monotonic()
            self.control.wait_if_paused(told, self._serve)
            self.paused_seconds += time.monotonic() - began
        if self.control.should_cancel:
            self.write_checkpoint()
        self.control.raise_if_cancelled()
        self._serve()

    def _serve(self) -> None:
        """Does what is asked of a run that may stand still: weighs regions and shows them."""
        if weights := self.control.take_weights(len(self.distillation.grid)):
            for region, factor in weights.items():
                self.distillation.regions.set_weight(region, factor)
            self.emit(self._regions())
        for message in self.prior.take_warnings():
            self.emit(Notice(message=message))
        self._show_what_was_asked()

    def _show_what_was_asked(self) -> None:
        asked = self.control.take_previews(len(self.distillation.grid))
        if -1 in asked:
            self.write_preview()
        if regions := [region for region in asked if region >= 0]:
            self.write_views(regions)
            for region in regions:
                image = self.folder.view_path(region).relative_to(self.folder.path).as_posix()
                self.emit(PreviewReady(iteration=self.distillation.iteration, image=image, region=region))

    def _tell_progress(self, pace: Pace, line: dict[str, Any]) -> None:
        self.emit(
            Progress(
                iteration=self.distillation.iteration,
                total=self.config.optimizer.iterations,
                loss=statistics.fmean(visit["loss"] for visit in trace_visits(line)),
                iterations_per_second=pace.per_second,
                seconds_left=pace.seconds_left,
                gaussians=line["gaussians"],
                memory=resident_bytes(),
            )
        )
        self.emit(self._regions())

    def _regions(self) -> Regions:
        """What is known of every region now."""
        regions, centers = self.distillation.regions, self.distillation.grid.centers
        shifts = self.distillation.timesteps.t_local / self.prior.num_train_timesteps
        return Regions(
            iteration=self.distillation.iteration,
            azimuth=tuple(centers[:, 0].tolist()),
            elevation=tuple(centers[:, 1].tolist()),
            distance=tuple(centers[:, 2].tolist()),
            loss=tuple(regions.levels),
            current=self._region,
            indicator=tuple(regions.indicators().tolist()),
            probability=tuple(regions.probabilities().tolist()),
            weight=tuple(regions.weights.tolist()),
            visits=tuple(regions.visits.tolist()),
            timestep=tuple(shifts.tolist()),
        )


def pick_device(name: str) -> torch.device:
    """The torch device that a setting names; auto prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"The device {name!r} cannot be used: {error}.", remedy="Choose another device, or leave it at auto.") from error


def settle(config: GenerationConfig, prior: DiffusionPrior) -> GenerationConfig:
    """The settings with everything that was left to the prior's recommendation, or to the rule's, filled in."""
    recommended = prior.recommended
    rule = rule_class(config.guidance.rule)
    guidance = replace(
        config.guidance,
        scale=settled_scale(config.guidance, recommended.guidance_scale),
        weighting=rule.settled_weighting(config.guidance, recommended.weighting),
        perp_neg=rule.settled_perp_neg(config.guidance),
        clamp=recommended.clamp if config.guidance.clamp is None else config.guidance.clamp,
        view_prompts=config.guidance.view_prompts and recommended.view_words,
    )
    grid = replace(
        config.grid,
        fov=recommended.fov if config.grid.fov is None else config.grid.fov,
        distance_edges=config.grid.distance_edges or tuple(recommended.distance),
        cameras="orbit" if prior.views_per_prediction > 1 else config.grid.cameras,  # it knows no other views together
    )
    steps = tuple((p, pixels) for p, pixels in config.optimizer.resolution_steps if recommended.serves(pixels))
    steps = steps or ((0.0, recommended.resolutions[-1]),)
    steps = ((0.0, steps[0][1]), *steps[1:])  # those before it may not be available
    return replace(
        config,
        guidance=guidance,
        grid=grid,
        timestep_sampling=timestep_sampling.settled(config.timestep_sampling, recommended),
        optimizer=replace(config.optimizer, resolution_steps=steps, opacity_entropy=settled_opacity_entropy(config.optimizer, recommended)),
    )


def settled_scale(guidance: GuidanceConfig, recommended: float) -> float | None:
    """The guidance scale as a number, or None where it changes over the run, so that `nominal_scale` holds."""
    if guidance.scale is not None:
        return guidance.scale
    if guidance.nominal_scale is None:
        return recommended
    if isinstance(guidance.nominal_scale, tuple):
        return None
    return max(share_of_nominal(guidance.nominal_scale, recommended), guidance.least_scale)
