"""How good every view region of a job is: its Gaussians against the true object of the built-in world, region by region.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..control import Control
from ..job import JobFolder
from ..protocol import JobSpec
from .work_folders import job_in

if TYPE_CHECKING:
    import numpy as np

    from ..config import GenerationConfig
    from ..method.view_grid import ViewGrid

RESOLUTION = 128
PARTS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
"""Degrees about the best whole one: half a degree is worth as much as a refinement."""


def region_grid(config: GenerationConfig) -> ViewGrid:
    """The view regions of a run in the built-in world."""
    from ..embedded import world
    from ..method.view_grid import ViewGrid

    return ViewGrid.from_config(config.grid, (world.DISTANCE, world.DISTANCE))


def region_psnr(job: JobFolder) -> np.ndarray:
    """[N] PSNR in dB of a finished job's Gaussians against the true object, from each region's middle camera.

    No word pins the frame of a result, so each is compared in the turn that fits it best (`truth.best_turn`).
    """
    import numpy as np

    from ..cameras import orbit_camera
    from ..embedded import vocabulary, world
    from ..embedded.renderer import FOV
    from ..gaussians.model import GaussianModel
    from .measure import gaussian_renderer
    from .metrics import psnr
    from .truth import BACKGROUND, best_turn

    azimuths, elevations, _ = region_grid(settings.from_dict(job.config)).centers.T
    distances = np.full(len(azimuths), world.DISTANCE)
    cameras = [orbit_camera(a, e, world.DISTANCE, FOV, RESOLUTION) for a, e in zip(azimuths, elevations, strict=True)]
    images = gaussian_renderer(GaussianModel.load_ply(job.splats_path))(cameras, BACKGROUND)[0].clip(0, 1)
    description = vocabulary.parse(job.spec.prompt)

    def turned(turn: float) -> np.ndarray:
        truth, _ = world.true_views(description, azimuths - turn, elevations, distances, RESOLUTION, (BACKGROUND,) * 3)
        return np.array([psnr(image, true) for image, true in zip(images, truth.transpose(0, 2, 3, 1), strict=True)])

    degree = best_turn(lambda turn: float(turned(turn).mean()))
    return max((turned(degree + part) for part in PARTS), key=lambda values: values.mean())


def finished_job(root: Path, spec: JobSpec, config: GenerationConfig) -> JobFolder:
    """The one job below `root`, made and run to its end where that was not done yet."""
    from ..pipeline import run_job

    job = job_in(root) or JobFolder.create(root, spec, config)
    if not job.asset_path.exists():
        with job.lock():
            run_job(job, settings.from_dict(job.config), job.spec, lambda event: None, Control())
    return job
