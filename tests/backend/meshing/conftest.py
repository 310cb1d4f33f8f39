"""Scenes with known shape and colour, seen through the z-buffer, in place of Gaussians."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import trimesh
from trimesh.transformations import rotation_matrix, translation_matrix

from backend.cameras import Camera, orbit_camera
from backend.meshing.views import Render
from backend.meshing.zbuffer import box_downsample, rasterize_mesh, supersampled


def _bar(start: Sequence[float], end: Sequence[float], radius: float) -> trimesh.Trimesh:
    return trimesh.creation.cylinder(radius, segment=[start, end], sections=24)


def _ball(center: Sequence[float], radius: float) -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(4, radius)
    ball.apply_translation(center)
    return ball


def _torus() -> list[trimesh.Trimesh]:
    torus = trimesh.creation.torus(0.5, 0.18, major_sections=96, minor_sections=48)
    torus.apply_transform(rotation_matrix(0.6, [1.0, 0.3, 0.0]))
    return [torus]


def _table() -> list[trimesh.Trimesh]:
    top = trimesh.creation.box([0.8, 0.8, 0.08], translation_matrix([0, 0, 0.3]))
    return [top, *(_bar([x, y, 0.3], [x, y, -0.5], 0.035) for x in (-0.3, 0.3) for y in (-0.3, 0.3))]


def _bowl() -> list[trimesh.Trimesh]:
    wall = trimesh.creation.annulus(0.36, 0.44, 0.5, sections=64)
    return [wall, trimesh.creation.cylinder(0.4, 0.06, sections=64, transform=translation_matrix([0, 0, -0.22]))]


def _brick() -> list[trimesh.Trimesh]:
    return [trimesh.creation.box([0.9, 0.5, 0.5], rotation_matrix(0.4, [0.0, 0.0, 1.0]))]


SCENES: dict[str, Callable[[], list[trimesh.Trimesh]]] = {
    "ball": lambda: [_ball([0.1, -0.2, 0.05], 0.5)],
    "torus": _torus,
    "table": _table,
    "bowl": _bowl,
    "brick": _brick,
    "torn": lambda: [_ball([-0.3, 0, 0], 0.3), _ball([0.2, 0, 0], 0.17)],
    "floater": lambda: [_ball([-0.3, 0, 0], 0.3), _ball([0.5, 0.3, 0.5], 0.05)],
}


def colour_at(points: np.ndarray) -> np.ndarray:
    """[..., 3] smooth colours, different everywhere."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 0.5 + 0.4 * np.stack([np.sin(4 * x + 1), np.sin(5 * y + z), np.cos(4 * z)], axis=-1)


@pytest.fixture
def scene() -> Callable[[str], trimesh.Trimesh]:
    return lambda name: trimesh.util.concatenate(SCENES[name]())


@pytest.fixture
def colours() -> Callable[[np.ndarray], np.ndarray]:
    return colour_at


@pytest.fixture
def scene_render(scene) -> Callable[..., Render]:
    """A `Render` of a scene: alpha times `opacity`, depth `penetration` too deep and `noise` noisy."""

    def make(name: str, *, opacity: float = 1.0, penetration: float = 0.0, noise: float = 0.0) -> Render:
        mesh, factor = scene(name), 2
        rng = np.random.default_rng(5)

        def draw(camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            fine = supersampled(camera, factor)
            face_index, barycentric, depth = rasterize_mesh(mesh.vertices, mesh.faces, fine.viewmat, fine.K, fine.width, fine.height)
            hit = face_index >= 0
            colour = np.zeros((*hit.shape, 3))
            colour[hit] = colour_at((mesh.vertices[mesh.faces[face_index[hit]]] * barycentric[hit][..., None]).sum(axis=1))
            alpha = box_downsample(hit.astype(np.float32), factor)
            expected = box_downsample(np.where(hit, depth, 0.0), factor) / np.maximum(alpha, 1e-6)
            expected = np.where(alpha > 0, expected + penetration + noise * rng.standard_normal(alpha.shape), 0.0)
            alpha = opacity * alpha
            return opacity * box_downsample(colour, factor) + (1.0 - alpha[..., None]), alpha, expected

        def render(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            rgb, alpha, depth = (np.stack(images).astype(np.float32) for images in zip(*map(draw, cameras)))
            return rgb, alpha, depth

        return render

    return make


@pytest.fixture
def unseen_cameras() -> list[Camera]:
    """Twelve views that none of the chain's own cameras coincides with."""
    return [orbit_camera(17.0 + 77.0 * k, -10.0 + 6.5 * k, 3.3, 40.0, 160) for k in range(12)]
