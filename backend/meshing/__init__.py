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
    from .views import Render

__all__ = ["TexturedMesh", "load", "textured_mesh"]


def textured_mesh(
    source: Render,
    surface: SurfaceConfig,
    texture: TextureConfig,
    progress: Callable[[float, str], None] = lambda share, phase: None,
    rng: np.random.Generator | None = None,
    lowest: float | None = None,
) -> TexturedMesh:
    """The Gaussians as a closed mesh with a texture.

    Args:
        source: what renders them (see `views.Render`: rgb on white, alpha, expected depth), `views.gaussian_render` as a rule.
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
    from .views import LOWEST_ELEVATION

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
        return source(cameras)

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
