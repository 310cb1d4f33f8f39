"""What a finished run is worth: everything a `Record` holds that is read off its result.

The mesh is measured, not the Gaussians it was made of: it is what the user gets. Agreement with the true object, image-text scores and
the turntable all look at the file as it was written, read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from scipy.ndimage import gaussian_filter

from ...cameras import orbit_camera
from ...embedded import world
from ...embedded.learned.judges import fingerprint
from ...embedded.renderer import FOV
from ...embedded.vocabulary import Description
from ...job import JobFolder
from ...meshing.turntable import read_asset
from ...meshing.zbuffer import rasterize_mesh
from ..measure import mesh_renderer, save_image
from ..metrics import chamfer, janus_rate, nearest_azimuths
from ..truth import AZIMUTHS, BACKGROUND, RESOLUTION, RING_ELEVATION, Renderer, score, true_views
from .alignment import Alignment, cached_alignment, scores
from .public_scores import Scorer, load_scorer
from .records import UNKNOWN

ANGLES = np.arange(12) * 30.0
"""Azimuths from which image-text scores and turntables look."""
PUBLIC_RESOLUTION, PUBLIC_BACKGROUND = 512, 1.0
"""What models of photographs are shown: they take white for a studio, and scale pictures themselves."""

SURFACE_POINTS, PROBES = 200_000, 10_000
"""Samples of a surface, and how many of them are asked how far the other surface is: where it is far, answers take their time.
Two samplings of the same surface are 0.003 to 0.004 apart, half the square root of the area per point."""
OUTLOOKS, OUTLOOK_RESOLUTION, SLACK = 64, 256, 0.015
"""Directions from which a surface is looked at to find what is outside, the pixels of each look, and the depth that a pixel's own
extent may make: about 1.5 times its width."""

DISCERNIBLE_NOISE, DISCERNIBLE_BLUR, DISCERNIBLE_JANUS = 0.05, 4.0, 0.05
"""Standard deviations of noise and, in pixels, of blur under which the true object's own Janus rate may not exceed the last."""


@dataclass(frozen=True)
class PublicJudge:
    """One of the paper's own scores.

    Attributes:
        model: what it was loaded from, as it was named.
        score: gives it.
    """

    model: str
    score: Scorer


@dataclass(frozen=True)
class Judges:
    """The models that score pictures against a prompt.

    Attributes:
        alignment: the built-in world's own.
        public: the paper's, by their fields of `Record`; those that were given.
    """

    alignment: Alignment
    public: Mapping[str, PublicJudge]


def judges(
    public: Mapping[str, str] | None = None,
    *,
    allow_download: bool = False,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
) -> Judges:
    """The built-in model, trained now if it is not in the cache, and public ones.

    Args:
        public: which of `public_scores.SCORES`, and what each is loaded from.
        allow_download: whether the hub may be asked for them.
        device: where the public ones work.

    Raises:
        SetupError, InputError, UsageError: as `public_scores.load_scorer`.
    """
    loaded = {
        name: PublicJudge(model, load_scorer(name, model, allow_download=allow_download, device=device))
        for name, model in (public or {}).items()
    }
    return Judges(cached_alignment(progress=progress), loaded)


def measure_run(job: JobFolder, description: Description, *, judges: Judges) -> dict[str, Any]:
    """The measures of a finished job by the names of `Record`'s fields; what `judges` cannot say is left out.

    Args:
        job: its mesh is what is measured.
        description: what the prompt means.
        judges: who scores pictures.

    Raises:
        InputError: the job has no mesh.
    """
    render = mesh_renderer(job.asset_path)
    found = score(render, description)
    figures: dict[str, Any] = {
        "psnr": found.psnr_turned,
        "ssim": found.ssim_turned,
        "iou": found.iou_turned,
        "psnr_fixed": found.psnr,
        "iou_fixed": found.iou,
        "chamfer": chamfer(mesh_points(job.asset_path), true_points(description), PROBES),
        "janus": found.janus if discernible(description) else UNKNOWN,
        "azimuth_error": found.azimuth_error,
        "wrong_views": found.wrong_views,
        "view_change": found.view_change,
    }
    pictures = torch.from_numpy(_turntable(render)).permute(0, 3, 1, 2)
    by_angle = scores(judges.alignment, pictures, description.text)
    figures |= {
        "judge": fingerprint(judges.alignment),
        "alignment": float(by_angle.mean()),
        "alignment_std": float(by_angle.std()),
        "alignment_angles": tuple(by_angle.tolist()),
    }
    if judges.public:
        photographs = _turntable(render, PUBLIC_RESOLUTION, PUBLIC_BACKGROUND)
        for name, judge in judges.public.items():
            given = judge.score(photographs, job.spec.prompt)
            figures |= {name: float(given.mean()), f"{name}_model": judge.model}
            if name.startswith("clip"):
                figures[f"{name}_angles"] = tuple(given.tolist())
    return figures


def turntable_strip(job: JobFolder, path: Path) -> None:
    """Writes the mesh from `ANGLES`, side by side, as PNG."""
    save_image(np.concatenate(list(_turntable(mesh_renderer(job.asset_path))), axis=1), path)


def truth_strip(description: Description, path: Path) -> None:
    """The same of the true object."""
    images, _ = true_views(description, ANGLES, np.full(len(ANGLES), RING_ELEVATION))
    save_image(np.concatenate(list(images), axis=1), path)


def _turntable(render: Renderer, resolution: int = RESOLUTION, background: float = BACKGROUND) -> np.ndarray:
    """[V, H, W, 3] float32 in 0..1 from `ANGLES`."""
    images, _ = render([orbit_camera(azimuth, RING_ELEVATION, world.DISTANCE, FOV, resolution) for azimuth in ANGLES], background)
    return images.clip(0, 1).astype(np.float32)


@cache
def discernible(description: Description) -> bool:
    """Whether front and back of the true object differ enough for a machine to tell: measured on its own views, blurred and noisy.

    Where they do not, a Janus rate says nothing.
    """
    views, _ = true_views(description, AZIMUTHS, np.full(len(AZIMUTHS), RING_ELEVATION))
    noise = np.random.default_rng(0).normal(0, DISCERNIBLE_NOISE, views.shape)
    marred = gaussian_filter(views, (0, DISCERNIBLE_BLUR, DISCERNIBLE_BLUR, 0)) + noise
    return janus_rate(AZIMUTHS, nearest_azimuths(marred, views, AZIMUTHS)) <= DISCERNIBLE_JANUS


# --- Surfaces


def mesh_points(path: Path, seed: int = 1) -> np.ndarray:
    """`surface_points` of an asset."""
    mesh = read_asset(path)
    return surface_points(mesh.vertices, mesh.faces, seed=seed)


@cache
def true_points(description: Description, seed: int = 0) -> np.ndarray:
    """`surface_points` of the true object."""
    mesh = world.true_mesh(description)
    return surface_points(mesh.vertices, mesh.faces, seed=seed)


def surface_points(vertices: np.ndarray, faces: np.ndarray, count: int = SURFACE_POINTS, seed: int = 0) -> np.ndarray:
    """[N, 3] points spread evenly over what of a surface is outside; of `count` on all of it, those that some direction sees.

    The world's objects are parts stuck into each other, and a mesh of theirs has the outside only.
    """
    points, _ = trimesh.sample.sample_surface(trimesh.Trimesh(vertices, faces, process=False), count, seed=seed)
    distance = max(world.DISTANCE, 1.02 * float(np.linalg.norm(vertices, axis=1).max()) / np.sin(np.radians(FOV) / 2))
    seen = np.zeros(count, dtype=bool)
    golden_angle = 180.0 * (3.0 - np.sqrt(5.0))
    for index in range(OUTLOOKS):
        elevation = np.degrees(np.arcsin(1 - (2 * index + 1) / OUTLOOKS))
        camera = orbit_camera(golden_angle * index, float(elevation), distance, FOV, OUTLOOK_RESOLUTION)
        _, _, depth = rasterize_mesh(vertices, faces, camera.viewmat, camera.K, camera.width, camera.height)
        left = np.flatnonzero(~seen)
        x, y, z = (points[left] @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]).T
        column = (camera.K[0, 0] * x / z + camera.K[0, 2]).astype(int)
        row = (camera.K[1, 1] * y / z + camera.K[1, 2]).astype(int)
        seen[left] = z <= depth[row, column] + SLACK * distance / world.DISTANCE
    return points[seen]
