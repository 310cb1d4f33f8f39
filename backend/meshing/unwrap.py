"""UV coordinates, by xatlas: the surface is cut into nearly flat charts that are packed without overlap."""

from __future__ import annotations

import numpy as np

PADDING = 4
"""Texels between two charts: enough for bilinear lookups and the first mipmaps not to mix them."""


def unwrap(vertices: np.ndarray, faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Charts and their place in a square texture.

    Args:
        vertices, faces: [V, 3], [F, 3].
        size: texels along an edge of the texture.

    Returns:
        vertex_map: [W] int64, which of the V vertices each new one is (vertices on seams are repeated).
        faces: [F, 3] int32, the same faces in the same order, over the W new vertices.
        uv: [W, 2] float32 in 0..1, v upwards (see `TexturedMesh`).
    """
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(np.ascontiguousarray(vertices, dtype=np.float32), np.ascontiguousarray(faces, dtype=np.uint32))
    charts = xatlas.ChartOptions()
    charts.max_iterations = 1
    charts.max_cost = 4.0
    packing = xatlas.PackOptions()
    packing.resolution = size
    packing.padding = PADDING
    packing.bilinear = True
    packing.rotate_charts_to_axis = True
    atlas.generate(charts, packing)
    vertex_map, new_faces, uv = atlas[0]
    # xatlas counts v downwards from the first row; we count it upwards.
    uv = np.clip(np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1), 0.0, 1.0)
    return vertex_map.astype(np.int64), new_faces.astype(np.int32), uv.astype(np.float32)
