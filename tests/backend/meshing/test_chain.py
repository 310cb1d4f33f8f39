"""The whole chain, from renders and from Gaussians, against views that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from backend import meshing
from backend.config import GaussiansConfig, SurfaceConfig, TextureConfig
from backend.evaluation.metrics import psnr, silhouette_iou
from backend.gaussians.model import GaussianModel
from backend.meshing.turntable import turntable
from backend.meshing.views import gaussian_render, with_pixel_blur
from backend.meshing.zbuffer import render_textured

SURFACE = SurfaceConfig(resolution=80, views=40, image_size=160, faces=4000)
TEXTURE = TextureConfig(size=256, views=24, image_size=160, refine=4)


def agreement(mesh, render, cameras) -> tuple[float, float]:
    """Mean PSNR and silhouette IoU of the mesh against what was meshed."""
    pairs = [render_textured(mesh, camera) for camera in cameras]
    rgb, alpha, _ = render(cameras)
    scores = [(psnr(a, np.clip(b, 0, 1)), silhouette_iou(c, d)) for (a, c), b, d in zip(pairs, rgb, alpha)]
    return tuple(np.mean(scores, axis=0))


@pytest.fixture
def gaussians(scene, colours) -> GaussianModel:
    """A table covered with small, nearly opaque Gaussians."""
    points, _ = trimesh.sample.sample_surface(scene("table"), 5000, seed=0)
    points = np.asarray(points)
    means, colors = torch.tensor(points, dtype=torch.float32), torch.tensor(colours(points), dtype=torch.float32)
    return GaussianModel.create(means, torch.full((len(points), 3), 0.02), colors, GaussiansConfig(opacity=0.9))


@pytest.mark.parametrize("name", ["torus", "bowl"])
def test_mesh_agrees_with_the_renders(name, scene_render, unseen_cameras):
    render = scene_render(name)
    told: list[tuple[float, str]] = []
    mesh = meshing.textured_mesh(render, SURFACE, TEXTURE, lambda share, phase: told.append((share, phase)), np.random.default_rng(0))
    quality, overlap = agreement(mesh, render, unseen_cameras)
    assert quality > 28 and overlap > 0.97
    assert len(mesh.faces) <= SURFACE.faces
    merged = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    assert merged.is_watertight and merged.volume > 0
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0] == (0.0, "surface") and told[-1] == (1.0, "texture")


def test_mesh_agrees_with_gaussians(gaussians, unseen_cameras):
    render = gaussian_render(gaussians)
    mesh = meshing.textured_mesh(render, SURFACE, TEXTURE)
    quality, overlap = agreement(mesh, render, unseen_cameras)
    assert quality > 26 and overlap > 0.95
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).body_count == 1  # no leg is lost


def test_progress_may_stop_the_work(scene_render):
    class Stop(Exception):
        pass

    def stop(share: float, phase: str) -> None:
        if phase == "texture":
            raise Stop

    with pytest.raises(Stop):
        meshing.textured_mesh(scene_render("ball"), SURFACE, TEXTURE, stop)


def test_pixel_blur_shows_at_any_size_what_was_seen_while_optimising(gaussians):
    """The same Gaussian is 0.3 square pixels wider at 32 pixels than its true width; blurred, it is so at 512 as well."""
    one = GaussianModel.create(torch.zeros(1, 3), torch.full((1, 3), 0.01), torch.zeros(1, 3), GaussiansConfig(opacity=0.9))
    wide = with_pixel_blur(one, 40.0, 3.3, 32)
    pixel = 2 * 3.3 * np.tan(np.radians(20)) / 32
    assert wide.params["scales"].exp().detach().numpy() == pytest.approx(np.sqrt(0.01**2 + 0.3 * pixel**2), rel=1e-5)
    assert one.params["scales"].exp().detach().numpy() == pytest.approx(0.01)


def test_turntable_of_splats(gaussians, tmp_path):
    gaussians.save_ply(tmp_path / "splats.ply")
    (sheet,) = turntable(tmp_path / "splats.ply", tmp_path / "a.png", views=2, size=48)
    with Image.open(sheet) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (48, 96, 3) and (pixels[0] == 255).all() and pixels.min() < 150
