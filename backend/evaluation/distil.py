"""Runs a method on a prompt without a job folder and measures its Gaussians: the work behind `evaluate methods`."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..cameras import orbit_camera
from ..config import DensificationConfig, FusionConfig, GenerationConfig, OptimizerConfig
from ..embedded import vocabulary, world
from ..embedded.renderer import FOV
from ..embedded.vocabulary import Description
from ..errors import PromptError
from ..gaussians.initialize import initialize
from ..gaussians.model import GaussianModel
from ..guidance.prior import Conditioning, DiffusionPrior
from ..meshing.views import pixel_blur, with_pixel_blur
from ..method.optimizer import Distillation
from ..pipeline import settle
from .measure import gaussian_renderer
from .truth import BACKGROUND, TruthScore, score

DRY_STEPS = 100
"""Iterations by which the rows that one takes are estimated: schedules change them over a run."""

VIEWS = {"front": (0.0, 15.0), "side": (90.0, 15.0), "back": (180.0, 15.0), "overhead": (0.0, 65.0)}
"""Azimuth and elevation of a contact sheet's columns, degrees."""
TILE, LABEL_WIDTH, HEADER_HEIGHT = 160, 190, 26
INK, PAPER = (30, 30, 30), (255, 255, 255)


@dataclass(frozen=True)
class Outcome:
    """What a method made of a prompt.

    Attributes:
        model: the Gaussians, as wide as they were seen.
        iterations: how many.
        rows: predictions asked of the prior, one a view and prompt.
        seconds: of the optimisation alone.
        score: against the true object; None where the prompt names none.
    """

    model: GaussianModel
    iterations: int
    rows: int
    seconds: float
    score: TruthScore | None


class CountedPrior(DiffusionPrior):
    """Another prior, with the rows counted that it is asked to predict; it answers itself, or, if `blank`, with zeros at no cost."""

    def __init__(self, prior: DiffusionPrior, *, blank: bool = False) -> None:
        self.prior, self.blank, self.rows = prior, blank, 0
        self.name, self.fingerprint, self.recommended = prior.name, prior.fingerprint, prior.recommended
        self.alphas_cumprod, self.device, self.views_per_prediction = prior.alphas_cumprod, prior.device, prior.views_per_prediction

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(tuple(prompts)) if self.blank else self.prior.encode_prompts(prompts)

    def place_cameras(self, conditioning: Conditioning, viewmats: Tensor) -> Conditioning:
        return conditioning if self.blank else self.prior.place_cameras(conditioning, viewmats)

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1 if self.blank else self.prior.encode_images(images)

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        self.rows += len(z_t)
        return torch.zeros_like(z_t) if self.blank else self.prior.predict_noise(z_t, t, conditioning)

    def decode(self, z: Tensor) -> Tensor:
        return z * 0.5 + 0.5 if self.blank else self.prior.decode(z)

    @property
    def progress(self) -> float:
        return self.prior.progress

    @progress.setter
    def progress(self, progress: float) -> None:
        self.prior.progress = progress


def rows_per_iteration(config: GenerationConfig, prior: DiffusionPrior) -> float:
    """Predictions that an iteration asks of the prior, mean over a run: counted in a short one with a prior that answers nothing."""
    counted = CountedPrior(prior, blank=True)
    config = settle(config, prior)
    config = replace(
        config,
        optimizer=OptimizerConfig(
            iterations=DRY_STEPS,
            views=config.optimizer.views,
            views_per_region=config.optimizer.views_per_region,
            resolution_steps=((0.0, 8),),
        ),
        densification=DensificationConfig(enabled=False),
        gradient_fusion=FusionConfig(enabled=False),
        gaussians=replace(config.gaussians, initial="blob", count=8),
    )
    run = Distillation(config, counted, initialize(config.gaussians, torch.Generator().manual_seed(0), prior.device), "anything")
    for _ in range(DRY_STEPS):
        run.step()
    return counted.rows / DRY_STEPS


def distil(config: GenerationConfig, prior: DiffusionPrior, prompt: str) -> Outcome:
    """The whole optimisation, and how near it came to the true object. What the prior has drawn at random is forgotten afterwards, so
    that another method's figures are the same with or without this one before it."""
    counted, before = CountedPrior(prior), copy.deepcopy(prior.state_dict())
    config = settle(config, prior)
    distance = float(np.mean(config.grid.distance_edges))
    fov = config.grid.fov or prior.recommended.fov
    blur = pixel_blur(fov, distance, config.optimizer.resolution_steps[0][1])
    model = initialize(config.gaussians, torch.Generator().manual_seed(config.run.seed), prior.device, pixel_blur=blur)
    run = Distillation(config, counted, model, prompt)
    started = time.monotonic()
    for _ in range(config.optimizer.iterations):
        run.step()
    seconds = time.monotonic() - started
    prior.load_state_dict(before)
    seen = with_pixel_blur(model, fov, distance, run.resolution).to("cpu")
    description = described(prompt)
    found = None if description is None else score(gaussian_renderer(seen), description)
    return Outcome(seen, config.optimizer.iterations, counted.rows, seconds, found)


def described(prompt: str) -> Description | None:
    """What the prompt means in the built-in world, if it is of that world."""
    try:
        return vocabulary.parse(prompt)
    except PromptError:
        return None


def contact_sheet(prompt: str, rows: Sequence[tuple[str, GaussianModel]]) -> Image.Image:
    """A row a result, from `VIEWS`, beneath the true object where there is one; labels [lines apart by newlines] at the left."""
    azimuths, elevations = (np.array(angles) for angles in zip(*VIEWS.values(), strict=True))
    distances = np.full(len(azimuths), world.DISTANCE)
    cameras = [orbit_camera(a, e, d, FOV, TILE) for a, e, d in zip(azimuths, elevations, distances, strict=True)]
    pictures = [(label, gaussian_renderer(model)(cameras, BACKGROUND)[0]) for label, model in rows]
    description = described(prompt)
    if description is not None:
        truth, _ = world.true_views(description, azimuths, elevations, distances, TILE, (BACKGROUND,) * 3)
        pictures.insert(0, (f"{prompt}\nthe true object", truth.transpose(0, 2, 3, 1)))
    sheet = Image.new("RGB", (LABEL_WIDTH + TILE * len(VIEWS), HEADER_HEIGHT + TILE * len(pictures)), PAPER)
    draw = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(13), ImageFont.load_default(16)
    for column, name in enumerate(VIEWS):
        draw.text((LABEL_WIDTH + TILE * (column + 0.5), HEADER_HEIGHT / 2), name, INK, small, anchor="mm")
    for row, (label, images) in enumerate(pictures):
        top = HEADER_HEIGHT + TILE * row
        for column, image in enumerate(images):
            tile = Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8))
            sheet.paste(tile, (LABEL_WIDTH + TILE * column, top))
        title, *details = label.split("\n")
        draw.text((8, top + 14), title, INK, large)
        draw.text((8, top + 40), "\n".join(details), INK, small, spacing=5)
    return sheet
