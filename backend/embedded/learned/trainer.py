"""One training run of the learned prior: a folder that can be left and taken up again for days.

    run/checkpoint-<step>.safetensors   weights, their average, the optimisers' moments, generators' states; the last two are kept
    run/loss.csv  run/loss.png          means over `LOG_STEPS` steps
    run/samples-<images>.png            the same prompts and noise every time
    run/train.log

The objective is the error of x0, each relative to the usual one at its noise level (`noise_levels.py`). The target is
the posterior mean over a pool of views in the place of the one drawn (`objective.py`). All of it happens in the
coefficients of a basis that is fitted when the run begins (`block_basis.py`, `pools.py`).

Forward and backward pass run on bfloat16 copies of the weights (`replicas.py`), which the optimisers (`optimizers.py`)
move and average in single precision.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ... import machine
from ...console import give_up
from ...errors import EXIT_INTERRUPTED, ConfigError
from ...files import atomic_path, atomic_write_text, remove_quietly
from ...guidance.diffusers_prior import DiffusersPrior, choose_dtype
from ...guidance.families.stable_diffusion import StableDiffusion
from ...guidance.pipeline_components import Components, quiet_libraries
from ...guidance.text_encoders import TextReader
from .. import vocabulary, world
from . import model as parts
from .block_basis import BlockBasis
from .dataset import WorldDataset
from .loss_curve import draw_curve
from .noise_levels import NoiseLevels
from .objective import Objective
from .optimizers import Optimizers, Rates
from .pools import PoolBank
from .replicas import Replicas, named
from .sampling import ddim, save_sheet

CHECKPOINT_FORMAT = 3
WARMUP_STEPS = 50
EMA = 0.998
IMAGES_A_POOL = 16
"""Views of a pool that are learned from in a step; all of them are references."""
FIT_IMAGES = 4000
"""Pictures that the basis is fitted to."""
ANNEAL_TO = 0.02
LOG_STEPS = 50
SMALLEST_SHARE = 64
"""Images of a step that a core of its own is worth."""
THREAD_STEPS = 10
"""Steps between two looks at how many cores are free."""
COLUMNS = ("step", "images", "hours", "loss", "mse_low_t", "mse_mid_t", "mse_high_t", "images_per_second")
SHEET_SCALE, SHEET_STEPS, SHEET_SEED = 3.0, 25, 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How a run trains; `threads` 0 means as many as the machine has cores free, followed as that changes."""

    batch: int = 384
    rates: Rates = field(default_factory=Rates)
    views: int = 1500
    references: int = 96
    seed: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Budget:
    """When to stop: this many minutes from now, or this many images since the run began; `anneal`: the learning rate falls towards it."""

    minutes: float | None = None
    images: int | None = None
    anneal: bool = False


class Trainer:
    """A run at some step.

    Args:
        folder: made if missing; a checkpoint in it is taken up.
        settings: of this process; only `seed` belongs to the run's beginning.
        device: `auto`, `cpu`, `cuda` ...
        init: pipeline folder to start from if the run begins.

    Raises:
        ConfigError: the folder's checkpoint is unreadable or from a newer version.
    """

    def __init__(self, folder: Path, settings: Settings, *, device: str = "auto", init: Path | None = None) -> None:
        self.folder = folder
        self.settings = settings
        folder.mkdir(parents=True, exist_ok=True)
        _log_to(folder / "train.log")
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.arithmetic = _arithmetic(self.device)
        self.cores = min(settings.threads or machine.cores(), -(-settings.batch // SMALLEST_SHARE)) if self.device.type == "cpu" else 1
        self.step = self.images = 0
        self.seconds = 0.0
        self.rng = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.tokenizer = parts.build_tokenizer()
        torch.manual_seed(settings.seed)
        self.text_encoder, self.unet = parts.build_models(len(self.tokenizer))
        checkpoints = self._checkpoints()
        state, tensors = _read(checkpoints[-1]) if checkpoints else ({}, {})
        self.dataset = WorldDataset(settings.views, self.rng, progress=log.info, device=self.device)
        if self.device.type == "cpu":
            # Numba, which has rendered, shares its threads with torch, and their number decides on how sums are rounded.
            torch.set_num_threads(self.cores)
        self.basis = BlockBasis.from_state(tensors) if checkpoints else self._fit_basis()
        if init and not checkpoints:
            log.info(parts.warm_start(init, self.text_encoder, self.unet, self.tokenizer, self.basis))
        self.text_encoder.to(self.device)
        self.unet.to(self.device)
        self.ema_text_encoder, self.ema_unet = (
            copy.deepcopy(model).requires_grad_(False).eval() for model in (self.text_encoder, self.unet)
        )
        self.parameters = named(self.text_encoder, self.unet)
        self.averages = named(self.ema_text_encoder, self.ema_unet)
        self.optimizers = Optimizers(self.parameters, settings.rates, self.cores)
        self.levels = NoiseLevels(parts.TRAIN_TIMESTEPS)
        bank = PoolBank(self.dataset, self.basis.to(self.device), progress=log.info)
        self.objective = Objective(bank, self.basis, self.tokenizer, self.device)
        if checkpoints:
            self._resume(checkpoints[-1], state, tensors)
        _truncate_csv(folder / "loss.csv", self.step)
        with quiet_libraries():  # which warn of every conversion
            self.replicas = Replicas(self.text_encoder, self.unet, self.arithmetic, self.cores)
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # from here on each replica has a core of its own
            self.replicas.active = min(self.cores, settings.threads or free_cores(0))

    def _fit_basis(self) -> BlockBasis:
        """To pictures of the run's own; drawn in small batches, and before anything else of the generator."""
        log.info("fitting the basis to %d pictures", FIT_IMAGES)
        pictures = torch.cat([self.dataset.draw(min(500, FIT_IMAGES)).images.cpu() for _ in range(-(-FIT_IMAGES // 500))])
        return BlockBasis.fit(pictures, parts.PIXEL_UNSHUFFLE, parts.COMPONENTS)

    def run(self, budget: Budget, *, export: Path | None = None, checkpoint_minutes: float = 10, sheet_minutes: float = 30) -> int:
        """Trains to the end of the budget. Returns the process's exit code.

        Raises:
            ConfigError: the training has diverged. The checkpoints are those from before.
        """
        log.info("%s at step %d, %d images, world %s, on %s", self.folder, self.step, self.images, world.version(), self.device)
        begun = last_checkpoint = last_sheet = time.monotonic()
        first_images, seconds_before = self.images, self.seconds
        meter = _Meter(self)
        with _interruptible() as interrupted:
            while not interrupted() and (progress := _progress(budget, time.monotonic() - begun, first_images, self.images)) < 1:
                loss, fractions, errors = self.train_step(progress if budget.anneal else 0.0)
                if not math.isfinite(loss):  # nor are the weights, and they will not mend
                    raise ConfigError(
                        f"The training has diverged: at step {self.step} its loss is no number any more.",
                        remedy="Run it again with a smaller --lr; it goes on from the last checkpoint.",
                    )
                meter.add(loss, fractions, errors)
                self.seconds = seconds_before + time.monotonic() - begun
                meter.log_if_due()
                if self.cores > 1 and not self.settings.threads and self.step % THREAD_STEPS == 0:
                    self.replicas.active = min(self.cores, free_cores(self.replicas.active))
                if time.monotonic() - last_checkpoint > 60 * checkpoint_minutes:
                    self.save(export)
                    last_checkpoint = time.monotonic()
                if sheet_minutes and time.monotonic() - last_sheet > 60 * sheet_minutes:
                    self.draw_sheet()
                    last_sheet = time.monotonic()
            self.save(export)
        log.info("stopped at step %d, %d images", self.step, self.images)
        return EXIT_INTERRUPTED if interrupted() else 0

    def train_step(self, annealed: float = 0.0) -> tuple[float, Tensor, Tensor]:
        """One optimiser step.

        Args:
            annealed: share of the final annealing that is over.

        Returns:
            (loss, t / T [B], mean square error of x0 in -1..1 [B], what the basis leaves out not counted).
        """
        pools = max(1, self.settings.batch // IMAGES_A_POOL)
        t = self.levels.draw(self.rng, pools * IMAGES_A_POOL).view(pools, IMAGES_A_POOL)
        batch = self.objective.draw(t, self.settings.references, self.generator)
        usual = self.levels.usual_at(t).to(self.device)
        loss = self.replicas.backward(lambda replica, rows: self.objective.errors(batch, replica, rows) / usual[rows], pools)
        errors = loss * usual
        self.levels.record(t.flatten(), errors.flatten())
        self.step += 1
        self.images += errors.numel()
        fallen = ANNEAL_TO + (1 - ANNEAL_TO) * 0.5 * (1 + math.cos(math.pi * min(annealed, 1.0)))
        self.optimizers.step(fallen * min(1.0, self.step / WARMUP_STEPS), self.replicas.map)
        self.replicas.refresh()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.averages.values()), list(self.parameters.values()), 1 - min(EMA, (1 + self.step) / (10 + self.step))
            )
        return loss.mean().item(), t.flatten() / parts.TRAIN_TIMESTEPS, errors.flatten().cpu()

    def save(self, export: Path | None = None) -> None:
        """Writes a checkpoint and, if asked, the pipeline folder of the averaged weights."""
        tensors = {f"weights/{name}": value for name, value in self.parameters.items()}
        tensors |= {f"average/{name}": value for name, value in self.averages.items()}
        tensors |= self.optimizers.state_dict()
        tensors |= {"generator": self.generator.get_state(), "usual_errors": self.levels.usual}
        tensors |= self.basis.state_dict()
        state = {
            "format": CHECKPOINT_FORMAT,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "rng": self.rng.bit_generator.state,
            "vocabulary": self.tokenizer.get_vocab(),
            "world": world.version(),
        }
        with atomic_path(self.folder / f"checkpoint-{self.step:08d}.safetensors") as temporary:
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
                temporary,
                metadata={"state": json.dumps(state)},
            )
        for old in self._checkpoints()[:-2]:
            remove_quietly(old)
        draw_curve(self.folder / "loss.csv", self.folder / "loss.png")
        if export:
            training = {"images": self.images, "steps": self.step, "hours": round(self.seconds / 3600, 2), "world": world.version()}
            parts.save_pipeline(export, self.ema_text_encoder, self.pixel_unet(), self.tokenizer, training)
        log.info("checkpoint at step %d, %d images", self.step, self.images)

    def pixel_unet(self) -> Any:
        """The averaged denoiser, as a pipeline has it."""
        return parts.pixel_denoiser(copy.deepcopy(self.ema_unet).cpu(), self.basis)

    def prior(self) -> DiffusersPrior:
        """The averaged weights, as they are now."""
        unet = self.pixel_unet().to(self.device, self.arithmetic)
        components = Components(
            family=StableDiffusion(latent=False),
            denoiser=unet,
            vae=None,
            texts=(TextReader(lambda device: (self.tokenizer, copy.deepcopy(self.ema_text_encoder).to(device)), self.device),),
            alphas_cumprod=parts.build_scheduler().alphas_cumprod,
            prediction_type="sample",
            fingerprint="",
            pixel_unshuffle=parts.PIXEL_UNSHUFFLE,
            recommended=dict(parts.RECOMMENDED),
        )
        return DiffusersPrior("training", components, self.device)

    def draw_sheet(self) -> None:
        """Every object in its four views, two objects a row."""
        prior, generator = self.prior(), torch.Generator().manual_seed(SHEET_SEED)
        texts = sheet_prompts()
        shape = (3, parts.RESOLUTION, parts.RESOLUTION)
        rows = [
            ddim(prior, [f"{text}, {view}" for text in pair for view in vocabulary.VIEW_WORDS], shape, SHEET_SCALE, SHEET_STEPS, generator)
            for pair in texts
        ]
        save_sheet(self.folder / f"samples-{self.images:09d}.png", rows, [" | ".join(pair) for pair in texts])

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.safetensors"))

    def _resume(self, path: Path, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Takes up a checkpoint; rows of the token embedding follow their token if the world's words have changed since."""
        ids = self.tokenizer.get_vocab()
        if state["vocabulary"] != ids:
            initial = self.parameters[f"text_encoder/{parts.EMBEDDING}"].detach().cpu()
            for kind in ("weights", "average", "first", "second"):  # Adam's: the embedding is none of Muon's matrices
                name = f"{kind}/text_encoder/{parts.EMBEDDING}"
                if name in tensors:
                    fresh = initial if kind in ("weights", "average") else torch.zeros_like(initial)
                    tensors[name] = parts.remap_rows(tensors[name], state["vocabulary"], ids, fresh)
            log.info("the world's words have changed; known ones keep what they learned")
        if state["world"] != world.version():
            log.info("the world has changed from %s to %s; its views are rendered anew", state["world"], world.version())
        try:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(tensors[f"weights/{name}"])  # the working copy is made from these afterwards
                    self.averages[name].copy_(tensors[f"average/{name}"])
        except (KeyError, RuntimeError) as error:
            raise ConfigError(f"The checkpoint '{path}' is of another model.", remedy="Use another --run folder.") from error
        self.optimizers.load_state_dict(tensors, state["step"])
        self.levels.usual = tensors["usual_errors"]
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(tensors["generator"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(state, tensors) of a checkpoint. Raises `ConfigError`."""
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            version = state["format"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise ConfigError(f"The checkpoint '{path}' cannot be read.", remedy="Remove it; the one before it will be used.") from error
    if version != CHECKPOINT_FORMAT:
        age, remedy = ("a newer", "Update CoGrad3D, or use") if version > CHECKPOINT_FORMAT else ("an older", "Use")
        raise ConfigError(f"The checkpoint '{path}' is from {age} version.", remedy=f"{remedy} another --run folder.")
    return state, tensors


class _Meter:
    """Means of the loss over `LOG_STEPS` steps, to `loss.csv` and the log."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._reset()

    def _reset(self) -> None:
        self.losses: list[float] = []
        self.fractions: list[Tensor] = []
        self.errors: list[Tensor] = []
        self.since = time.monotonic()

    def add(self, loss: float, fractions: Tensor, errors: Tensor) -> None:
        self.losses.append(loss)
        self.fractions.append(fractions)
        self.errors.append(errors)

    def log_if_due(self) -> None:
        if len(self.losses) < LOG_STEPS:
            return
        trainer, third = self.trainer, (torch.cat(self.fractions) * 3).long().clamp_max(2)
        errors = torch.cat(self.errors)
        by_third = [errors[third == k].mean().item() for k in range(3)]
        speed = len(errors) / (time.monotonic() - self.since)
        values = (trainer.step, trainer.images, trainer.seconds / 3600, float(np.mean(self.losses)), *by_third, speed)
        path = trainer.folder / "loss.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerow([value if isinstance(value, int) else f"{value:.5g}" for value in values])
        log.info("step %d  images %d  loss %.4f  mse %.4f %.4f %.4f  %.0f images/s", *values[:2], values[3], *by_third, speed)
        self._reset()


def sheet_prompts() -> list[tuple[str, str]]:
    """Pairs of prompts for the sample sheet: each object in one colour; every third is a pair that training never shows."""
    colours = list(vocabulary.COLOURS)
    texts = []
    for index, name in enumerate(vocabulary.OBJECTS):
        held = [colour for colour in colours if (name, colour) in vocabulary.HELD_OUT]
        seen = [colour for colour in colours if colour not in held]
        colour = held[0] if index % 3 == 0 and held else seen[(7 * index) % len(seen)]
        texts.append(vocabulary.Description(name, colour).text)
    return list(zip(texts[::2], texts[1::2], strict=True))


def free_cores(own: int) -> int:
    """Cores that others leave free, at least one, judged by the load of the last minute.

    Threads that meet at a barrier after every operation are as slow as the one that waits longest for a core: on busy
    cores one thread is several times faster than two.

    Args:
        own: threads that this process has been keeping busy.
    """
    everywhere = os.cpu_count() or 1  # the load is that of the whole machine, also where this process may use a part of it
    others = max(0.0, os.getloadavg()[0] - own) if hasattr(os, "getloadavg") else 0.0
    return max(1, min(machine.cores(), everywhere - round(others)))


def _arithmetic(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has units for it; its range needs no gradient scaler."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return choose_dtype("auto", device) if device.type == "cpu" else torch.float32


def _progress(budget: Budget, seconds: float, first_images: int, images: int) -> float:
    """Share of the budget that is spent, 0 for an endless one."""
    spent = [0.0]
    if budget.minutes is not None:
        spent.append(seconds / max(60 * budget.minutes, 1e-9))
    if budget.images is not None:
        spent.append((images - first_images) / (budget.images - first_images) if images < budget.images else 1.0)
    return max(spent)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM has come; they no longer end the process by themselves."""
    came: list[int] = []
    previous = {number: signal.signal(number, lambda received, frame: came.append(received)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Screen(logging.StreamHandler[TextIO]):
    """Standard output, for as long as somebody reads it (`... | head`): the training goes on without."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            give_up(self.stream)
        else:
            super().handleError(record)


def _log_to(path: Path) -> None:
    """Messages of this package go to the run's log file and to standard output."""
    package = logging.getLogger("backend.embedded.learned")
    package.setLevel(logging.INFO)
    for handler in list(package.handlers):
        package.removeHandler(handler)
        handler.close()
    for handler in (logging.FileHandler(path, encoding="utf-8"), _Screen(sys.stdout)):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        package.addHandler(handler)


def _truncate_csv(path: Path, step: int) -> None:
    """Drops the rows of steps after a checkpoint, which will come again, and what a killed process or a full disk left half written."""
    if path.exists():
        rows = (row.split(",") for row in path.read_text(encoding="utf-8", errors="replace").splitlines())
        kept = [row for row in rows if len(row) == len(COLUMNS) and row[0].isdecimal() and int(row[0]) <= step]
        atomic_write_text(path, "\n".join(map(",".join, [COLUMNS, *kept])) + "\n")
