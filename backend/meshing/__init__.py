"""Gaussians to a textured mesh: surface, clean-up, UV, texture. `export` writes the result.

The heavy libraries, numpy among them, are imported by the steps that use them, so that the z-buffer alone stays cheap to import, and the
look at a .glb's header needs none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .mesh import TexturedMesh

if TYPE_CHECKING:
    import numpy as np

    from ..cameras import Camera
    from ..config import SurfaceConfig, TextureConfig
    from ..gaussians.model import GaussianModel
    from .views import Render

__all__ = ["TexturedMesh", "load", "textured_mesh", "warm_up"]


def textured_mesh(
    source: Render | GaussianModel,
    surface: SurfaceConfig,
    texture: TextureConfig,
    progress: Callable[[float, str], None] = lambda share, phase: None,
    rng: np.random.Generator | None = None,
    lowest: float | None = None,
) -> TexturedMesh:
    """The Gaussians as a closed mesh with a texture.

    Args:
        source: the Gaussians, or a callable that renders them (see `views.Render`: rgb on white, alpha, expected depth).
        surface: grid, views, face budget, smoothing.
        texture: size, views, refinement.
        progress: told (share done 0..1, phase), the phase being "surface" or "texture", the same again while there is nothing new;
            may raise to stop the work.
        rng: turns the texture's cameras and orders its refinement; None: a generator seeded with 0.
        lowest: elevation in degrees below which the Gaussians were not looked at, see `bake_texture`; None: there is none.

    Raises:
        SurfaceError: the Gaussians are too translucent to contain a surface, or it cannot be unwrapped.
        MemoryError: there is too little memory to unwrap it.
    """
    import numpy as np

    from .bake import bake_texture
    from .cleanup import clean_mesh, vertex_normals
    from .mesh import Unwrapped
    from .surface import extract_surface
    from .unwrap import unwrap
    from .views import LOWEST_ELEVATION, gaussian_render

    draw = source if callable(source) else gaussian_render(source)
    rng = np.random.default_rng(0) if rng is None else rng
    reached = 0.0, "surface"

    def tell(share: float, phase: str) -> None:
        nonlocal reached
        reached = share, phase
        progress(share, phase)

    def tell_again() -> None:
        progress(*reached)

    def render(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tell_again()
        return draw(cameras)

    tell(*reached)
    vertices, faces = extract_surface(render, surface, lambda share: tell(0.4 * share, "surface"))
    vertices, faces = clean_mesh(vertices, faces, surface)
    tell(0.5, "surface")
    normals = vertex_normals(vertices, faces)
    vertex_map, faces, uv = unwrap(vertices, faces, texture.size, tell_again)
    unwrapped = Unwrapped(vertices[vertex_map], normals[vertex_map], faces, uv)
    tell(0.65, "texture")
    lowest = LOWEST_ELEVATION if lowest is None else lowest
    image = bake_texture(unwrapped, render, texture, rng, lambda share: tell(0.65 + 0.35 * share, "texture"), lowest)
    return TexturedMesh(unwrapped.vertices, unwrapped.normals, unwrapped.faces, unwrapped.uv, image)


def load() -> None:
    """Import all steps now."""
    for step in ("surface", "cleanup", "unwrap", "views", "bake"):
        importlib.import_module(f".{step}", __name__)


def warm_up() -> None:
    """Compile the numba kernels, or load them from the cache, by meshing a small grey ball."""
    import numpy as np

    from ..config import SurfaceConfig, TextureConfig
    from .zbuffer import render_textured, sample_texture

    cameras: list[Camera] = []

    def ball(wanted: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cameras.extend(wanted)
        images = [_ball_depth(camera, 0.5) for camera in wanted]
        depth = np.nan_to_num(np.stack(images))
        alpha = np.isfinite(images).astype(np.float32)
        return np.where(alpha[..., None] > 0, np.float32(0.5), np.float32(1.0)) * np.ones(3, np.float32), alpha, depth

    surface = SurfaceConfig(resolution=16, views=6, image_size=32, faces=100)
    mesh = textured_mesh(ball, surface, TextureConfig(size=64, views=6, image_size=32, refine=1))
    render_textured(mesh, cameras[-1])
    sample_texture(mesh.texture, mesh.uv)


def _ball_depth(camera: Camera, radius: float) -> np.ndarray:
    """[H, W] float32: camera z of a ball around the origin, NaN beside it."""
    import numpy as np

    u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    rays = pixels @ np.linalg.inv(camera.K).T @ camera.viewmat[:3, :3]
    # |position + z ray| = radius, for rays whose camera z is 1.
    a, b = (rays**2).sum(axis=-1), rays @ camera.position
    with np.errstate(invalid="ignore"):
        return ((-b - np.sqrt(b**2 - a * (camera.position @ camera.position - radius**2))) / a).astype(np.float32)
