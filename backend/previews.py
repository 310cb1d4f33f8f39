"""Pictures of a run for people: the asset from four sides, and what the view regions see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from .cameras import orbit_camera
from .files import atomic_path, output_error
from .gaussians.model import GaussianModel
from .gaussians.rendering import render_cameras
from .job import JobFolder
from .method.view_grid import ViewGrid

PREVIEW_AZIMUTHS, PREVIEW_ELEVATION, PREVIEW_PIXELS = (0, 90, 180, 270), 15, 128

VIEW_PIXELS = 256
"""Edge of a region's picture."""

_BATCH = 6
"""Pictures rendered at once; bounds the memory, whatever the size of the grid."""


def write_preview(folder: JobFolder, splats: GaussianModel, distance: float, fov: float, implementation: str) -> None:
    """`preview.png`, the asset from four sides of that distance, and `preview.ply`, its Gaussians. Raises `OutputError`.

    Args:
        implementation: that of the rasteriser which draws it.
    """
    cameras = [orbit_camera(azimuth, PREVIEW_ELEVATION, distance, fov, PREVIEW_PIXELS) for azimuth in PREVIEW_AZIMUTHS]
    rgb, _, _ = render_cameras(splats, cameras, implementation=implementation)
    _save(torch.cat(list(rgb), dim=1), folder.preview_image_path)
    splats.save_ply(folder.preview_splats_path, durable=False)


def write_views(
    folder: JobFolder,
    splats: GaussianModel,
    grid: ViewGrid,
    fov: float,
    regions: Sequence[int],
    implementation: str,
    check: Callable[[], None] = lambda: None,
) -> None:
    """What the middle cameras of some regions see, on white: `views/region-000.png` and so on.

    Args:
        implementation: that of the rasteriser which draws them.
        check: called now and then; may raise to stop the work.

    Raises:
        OutputError: they cannot be written.
    """
    try:
        folder.views_path.mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(error, folder.views_path) from error
    for first in range(0, len(regions), _BATCH):
        check()
        batch = regions[first : first + _BATCH]
        cameras = [orbit_camera(a, e, d, fov, VIEW_PIXELS) for a, e, d in grid.centers[list(batch)]]
        rgb, _, _ = render_cameras(splats, cameras, implementation=implementation)
        for region, image in zip(batch, rgb, strict=True):
            _save(image, folder.view_path(region))


def _save(image: torch.Tensor, path: Path) -> None:
    """Write colours [H, W, 3] as a picture."""
    with atomic_path(path, durable=False) as temporary:
        Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy()).save(temporary)
