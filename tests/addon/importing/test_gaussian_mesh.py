"""Gaussians as octahedra: which are shown, where their surface looks, and the few colours that stand for all."""

from __future__ import annotations

import numpy as np
from cograd3d.cograd3d_addon.importing.gaussian_mesh import CORNERS, PALETTE, gaussian_mesh, nearest_colours, outward, triangles


def on_a_sphere(count: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def groups(means: np.ndarray, opacity: float = 4.0) -> dict[str, np.ndarray]:
    """What `read_splats` gives, with round Gaussians of standard deviation 0.01."""
    count = len(means)
    return {
        "means": means,
        "scales": np.full((count, 3), np.log(0.01), np.float32),
        "quats": np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        "opacities": np.full(count, opacity, np.float32),
        "sh0": np.zeros((count, 1, 3), np.float32),
    }


def test_a_hollow_asset_looks_outwards_only():
    points = on_a_sphere(3000)
    normals = outward(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, rtol=1e-5)
    assert (normals * points).sum(axis=1).min() > 0.3


def test_normals_of_hardly_anything():
    assert outward(np.zeros((0, 3), np.float32)).shape == (0, 3)
    for few in (np.zeros((1, 3), np.float32), np.ones((4, 3), np.float32)):
        np.testing.assert_allclose(np.linalg.norm(outward(few), axis=1), 1.0, rtol=1e-5)


def test_the_limit_keeps_those_that_hide_most():
    many = groups(on_a_sphere(100))
    many["scales"][:10] = np.log(0.1)
    mesh = gaussian_mesh(many, 10)
    assert len(mesh) == 10 and len(mesh.vertices) == 10 * CORNERS and len(triangles(10)) == 80
    middles = mesh.vertices.reshape(-1, CORNERS, 3).mean(axis=1)
    np.testing.assert_allclose(middles, many["means"][:10], atol=1e-5)


def test_faint_ones_are_left_out():
    assert len(gaussian_mesh(groups(on_a_sphere(50), opacity=-4.0), 100)) == 0


def test_every_colour_finds_its_palette_entry():
    colours = np.random.default_rng(1).random((500, 3)).astype(np.float32)
    palette = colours[:PALETTE]
    expected = ((colours[:, None] - palette[None]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_colours(colours, palette), expected)
