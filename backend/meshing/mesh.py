"""The textured mesh that the chain hands from step to step: plain arrays, no behaviour of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class TexturedMesh:
    """A triangle mesh with one base-colour texture.

    Vertices on UV seams are repeated: they share position and normal but not `uv`.

    Attributes:
        vertices: [V, 3] float32, in the world of `cameras.py` (Z up, front -Y).
        normals: [V, 3] float32, unit length, smooth, pointing outwards.
        faces: [F, 3] int32, counter-clockwise seen from outside.
        uv: [V, 2] float32 in 0..1; u to the right, v upwards (as in Blender and OBJ), so the texture's first row is v = 1.
        texture: [S, S, 3] uint8, sRGB.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: np.ndarray


@dataclass(frozen=True)
class Unwrapped:
    """A mesh with UV coordinates, not yet with a texture; fields as in `TexturedMesh`."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
