"""Generates one prompt and measures the result against its true object: the work behind `evaluate results`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from ..cameras import Camera, orbit_camera
from ..config import GenerationConfig
from ..control import Control
from ..embedded import vocabulary, world
from ..embedded.renderer import FOV
from ..embedded.vocabulary import Description
from ..files import atomic_path, remove_quietly
from ..gaussians.model import GaussianModel
from ..gaussians.rendering import render_cameras
from ..job import JobFolder
from ..meshing.turntable import read_asset
from ..meshing.zbuffer import box_downsample, render_textured, supersampled
from ..pipeline import run_job
from ..protocol import JobSpec
from .metrics import psnr, silhouette_iou
from .truth import BACKGROUND, Renderer, score
from .work_folders import job_in

SHEET_AZIMUTHS = np.array([0.0, 60.0, 120.0, 180.0, 240.0, 300.0])
SHEET_ELEVATION, SHEET_RESOLUTION = 15.0, 128
PORTRAIT_AZIMUTH, PORTRAIT_ELEVATION, PORTRAIT_RESOLUTION = 30.0, 18.0, 224
AGREEMENT_AZIMUTHS, AGREEMENT_ELEVATIONS = 15.0 + 30.0 * np.arange(12), np.tile([0.0, 25.0, 50.0], 4)
AGREEMENT_RESOLUTION = 256
SUPERSAMPLE = 2


@dataclass(frozen=True)
class Row:
    """One prompt's figures: Gaussians and mesh against the truth, and mesh against Gaussians."""

    prompt: str
    held_out: bool
    seconds: float
    gaussians_psnr: float
    gaussians_iou: float
    mesh_psnr: float
    mesh_iou: float
    turn: float
    turned_psnr: float
    turned_iou: float
    janus: float
    azimuth_error: float
    agreement_psnr: float
    agreement_iou: float
    gaussians: int
    faces: int
    watertight: bool


def measure(prompt: str, config: GenerationConfig, quality: str, folder: Path) -> Row:
    """Runs the prompt as a job in `folder` and measures it; writes `sheet.png` and `portrait.png` there.

    A job that an earlier process left there is removed: its time, which is reported, would be that of its last part.

    Raises:
        JobError: another process is at work on it.
    """
    description = vocabulary.parse(prompt)
    if (left := job_in(folder)) is not None:
        with left.lock():
            pass
        remove_quietly(left.path)
    job = JobFolder.create(folder, JobSpec(prompt=prompt, quality=quality), config)
    started = time.monotonic()
    with job.lock():
        result = run_job(job, config, job.spec, lambda event: None, Control())
    seconds = time.monotonic() - started

    gaussians = gaussian_renderer(GaussianModel.load_ply(job.splats_path))
    mesh = mesh_renderer(job.asset_path)
    gaussians_score, mesh_score = score(gaussians, description), score(mesh, description)
    cameras = _ring(AGREEMENT_AZIMUTHS, AGREEMENT_ELEVATIONS, AGREEMENT_RESOLUTION)
    (a, a_coverage), (b, b_coverage) = mesh(cameras, 1.0), gaussians(cameras, 1.0)
    save_image(_sheet(description, gaussians, mesh), folder / "sheet.png")
    portrait = orbit_camera(PORTRAIT_AZIMUTH, PORTRAIT_ELEVATION, 0.9 * world.DISTANCE, FOV, PORTRAIT_RESOLUTION)
    save_image(mesh([portrait], 1.0)[0][0], folder / "portrait.png")
    return Row(
        prompt=prompt,
        held_out=description.is_held_out,
        seconds=seconds,
        gaussians_psnr=gaussians_score.psnr,
        gaussians_iou=gaussians_score.iou,
        mesh_psnr=mesh_score.psnr,
        mesh_iou=mesh_score.iou,
        turn=mesh_score.turn,
        turned_psnr=mesh_score.psnr_turned,
        turned_iou=mesh_score.iou_turned,
        janus=mesh_score.janus,
        azimuth_error=mesh_score.azimuth_error,
        agreement_psnr=float(np.mean([psnr(x, y) for x, y in zip(a, b, strict=True)])),
        agreement_iou=float(np.mean([silhouette_iou(x, y) for x, y in zip(a_coverage, b_coverage, strict=True)])),
        gaussians=result.gaussians,
        faces=result.faces,
        watertight=_is_closed(job.asset_path),
    )


def write_overview(portraits: list[Path], columns: int, path: Path) -> None:
    """All portraits in rows, on white."""
    tiles = [np.asarray(Image.open(portrait)) for portrait in portraits]
    columns = min(columns, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    save_image(np.concatenate(rows) / 255, path)


def _ring(azimuths: np.ndarray, elevations: np.ndarray, resolution: int) -> list[Camera]:
    return [orbit_camera(a, e, world.DISTANCE, FOV, resolution) for a, e in zip(azimuths, elevations, strict=True)]


def gaussian_renderer(model: GaussianModel) -> Renderer:
    """At twice the size and averaged, as the truth and the mesh are, so that a pixel's size does not widen the splats."""

    def render(cameras: list[Camera], background: float) -> tuple[np.ndarray, np.ndarray]:
        rgb, alpha, _ = render_cameras(model, [supersampled(camera, SUPERSAMPLE) for camera in cameras], background)
        images, coverage = rgb.numpy(), alpha[..., 0].numpy()
        pairs = [(box_downsample(a, SUPERSAMPLE), box_downsample(b, SUPERSAMPLE)) for a, b in zip(images, coverage, strict=True)]
        return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])

    return render


def mesh_renderer(path: Path) -> Renderer:
    """Of the asset as it was written, read back."""
    mesh = read_asset(path)

    def render(cameras: list[Camera], background: float) -> tuple[np.ndarray, np.ndarray]:
        images, coverage = zip(*(render_textured(mesh, camera, (background,) * 3, SUPERSAMPLE) for camera in cameras), strict=True)
        return np.stack(images), np.stack(coverage)

    return render


def _is_closed(path: Path) -> bool:
    """Whether the written surface, its texture seams sewn up, has no hole."""
    shape = trimesh.load_mesh(path)
    shape.merge_vertices(merge_tex=True, merge_norm=True)
    return bool(shape.is_watertight)


def _sheet(description: Description, gaussians: Renderer, mesh: Renderer) -> np.ndarray:
    """Three rows of views: the true object, the Gaussians, the mesh."""
    count = len(SHEET_AZIMUTHS)
    elevations, distances = np.full(count, SHEET_ELEVATION), np.full(count, world.DISTANCE)
    truth, _ = world.true_views(description, SHEET_AZIMUTHS, elevations, distances, SHEET_RESOLUTION, (BACKGROUND,) * 3)
    cameras = _ring(SHEET_AZIMUTHS, elevations, SHEET_RESOLUTION)
    rows = [truth.transpose(0, 2, 3, 1), gaussians(cameras, BACKGROUND)[0], mesh(cameras, BACKGROUND)[0]]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def save_image(image: np.ndarray, path: Path) -> None:
    """Writes an image [H, W, 3] in 0..1 as PNG."""
    with atomic_path(path) as temporary:
        Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)).save(temporary, format="PNG", optimize=True)
