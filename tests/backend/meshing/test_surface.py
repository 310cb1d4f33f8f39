"""Shapes of known topology, volume and outline come back from their silhouettes and depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from backend.cameras import orbit_camera
from backend.config import SurfaceConfig
from backend.errors import SurfaceError
from backend.evaluation.metrics import silhouette_iou
from backend.meshing.cleanup import clean_mesh, largest_piece
from backend.meshing.surface import (
    Grid,
    carve_hull,
    depth_confidence,
    extract_surface,
    find_bounds,
    mesh_field,
    silhouette_distance,
    thicken_walls,
)
from backend.meshing.views import LOWEST_ELEVATION, sphere_cameras, stacked
from backend.meshing.zbuffer import box_downsample, rasterize_mesh, supersampled

CONFIG = SurfaceConfig(resolution=80, views=40, image_size=128)


def iou(vertices, faces, render, cameras) -> float:
    scores = []
    for camera, alpha in zip(cameras, render(cameras)[1]):
        fine = supersampled(camera, 2)
        face_index, _, _ = rasterize_mesh(vertices, faces, fine.viewmat, fine.K, fine.width, fine.height)
        scores.append(silhouette_iou(box_downsample((face_index >= 0).astype(np.float32), 2), alpha))
    return float(np.mean(scores))


@pytest.mark.parametrize(("name", "genus", "least_iou"), [("ball", 0, 0.98), ("torus", 1, 0.97), ("table", 0, 0.93), ("bowl", 0, 0.97)])
@pytest.mark.parametrize("depth", [{}, {"penetration": 0.03, "noise": 0.01}], ids=["exact", "blurred"])
def test_shape_comes_back(name, genus, least_iou, depth, scene_render, unseen_cameras):
    render = scene_render(name, **depth)
    vertices, faces = clean_mesh(*extract_surface(render, CONFIG), CONFIG)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert mesh.body_count == 1
    assert mesh.euler_number == 2 - 2 * genus
    assert iou(vertices, faces, render, unseen_cameras) > least_iou


def test_volume_of_a_ball(scene_render):
    vertices, faces = extract_surface(scene_render("ball"), CONFIG)
    assert trimesh.Trimesh(vertices, faces).volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.03)
    assert vertices.mean(axis=0) == pytest.approx([0.1, -0.2, 0.05], abs=0.01)


def test_depth_from_far_below_carves_nothing_out(scene_render):
    """No camera of the optimiser stands there: what the Gaussians show from below may be a hole, and the asset stays closed."""
    render = scene_render("ball")

    def open_below(cameras):
        rgb, alpha, depth = render(cameras)
        is_below = np.array([camera.viewmat[2, 2] > np.sin(np.radians(40)) for camera in cameras])
        return rgb, alpha, depth + np.where(is_below[:, None, None] & (alpha > 0), np.float32(0.6), np.float32(0))

    vertices, faces = extract_surface(open_below, CONFIG)
    assert trimesh.Trimesh(vertices, faces).volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.04)


def test_flat_sides_lie_where_they_are_though_few_views_look_along_them(scene, scene_render):
    vertices, _ = extract_surface(scene_render("brick", penetration=0.03, noise=0.01), CONFIG)
    told_by_depth = vertices[vertices[:, 2] > -0.2]  # the underside by silhouettes alone
    brick = scene("brick").convex_hull
    outside = ((told_by_depth[:, None] - brick.triangles_center) * brick.face_normals).sum(axis=-1).max(axis=1)
    sample = 1.0 / CONFIG.resolution
    assert abs(np.median(outside)) < 0.25 * sample
    assert np.quantile(outside, 0.9) < 0.8 * sample


@pytest.mark.parametrize(("name", "depth"), [("table", {"penetration": 0.1, "noise": 0.06}), ("ball", {"penetration": 0.15, "noise": 0.1})])
def test_the_depth_of_a_fog_does_not_carve_the_outline_away(name, depth, scene_render, unseen_cameras):
    render = scene_render(name, **depth)
    vertices, faces = clean_mesh(*extract_surface(render, CONFIG), CONFIG)
    assert iou(vertices, faces, render, unseen_cameras) > 0.95


def test_depth_hollows_a_bowl_which_silhouettes_cannot(scene_render):
    vertices, faces = extract_surface(scene_render("bowl"), CONFIG)
    above = orbit_camera(0.0, 90.0, 3.3, 40.0, 65)
    _, _, depth = rasterize_mesh(vertices, faces, above.viewmat, above.K, 65, 65)
    assert depth[32, 32] == pytest.approx(3.3 + 0.19, abs=0.05)  # the bottom's upper side is at z = -0.19, the rim at 0.25


def test_a_torn_piece_is_joined_and_a_floater_goes(scene_render):
    for name, reaches in (("torn", True), ("floater", False)):
        vertices, faces = extract_surface(scene_render(name), CONFIG)
        assert trimesh.Trimesh(vertices, faces).body_count == 1
        assert (vertices[:, 0].max() > 0.3) == reaches


@pytest.mark.parametrize("opacity", [0.0, 0.4])
def test_nothing_solid_is_an_error_with_a_remedy(opacity, scene_render):
    with pytest.raises(SurfaceError) as caught:
        extract_surface(scene_render("ball", opacity=opacity), CONFIG)
    assert caught.value.remedy


def test_translucent_but_solid_is_meshed(scene_render):
    vertices, faces = extract_surface(scene_render("ball", opacity=0.8), CONFIG)
    assert trimesh.Trimesh(vertices, faces).is_watertight


def test_bounds_enclose_the_shape_tightly(scene_render):
    center, radius = find_bounds(scene_render("ball"))
    assert center == pytest.approx([0.1, -0.2, 0.05], abs=0.04)
    assert 0.5 < radius < 0.5 * np.sqrt(3) * 1.25  # the box of a ball, seen coarsely


@pytest.mark.parametrize("views", [6, 7, 8, 9])
def test_what_a_few_views_leave_out_of_the_picture_is_not_solid(views, scene_render):
    """The coarser the grid, the more of its corners lie outside of pictures."""
    vertices, faces = extract_surface(scene_render("ball"), replace(CONFIG, views=views, resolution=24))
    mesh = trimesh.Trimesh(vertices, faces)
    assert mesh.is_watertight and 0.9 < mesh.volume / (4 / 3 * np.pi * 0.5**3) < 1.3


def test_nothing_that_some_view_leaves_out_widens_the_bounds():
    """A bar along the diagonal hides the corners of the block that is looked at from the few views that show them."""

    def render(cameras):
        bar = trimesh.creation.cylinder(0.35, segment=[[-0.6, -0.6, -0.4], [0.6, 0.6, 0.4]])
        pictures = [rasterize_mesh(bar.vertices, bar.faces, c.viewmat, c.K, c.width, c.height) for c in cameras]
        alpha = np.stack([(index >= 0).astype(np.float32) for index, _, _ in pictures])
        return np.ones((*alpha.shape, 3), np.float32), alpha, np.stack([np.nan_to_num(depth, posinf=0.0) for _, _, depth in pictures])

    center, radius = find_bounds(render)
    assert center == pytest.approx([0, 0, 0], abs=0.05)
    assert radius < 1.5


def test_progress_ascends_to_one(scene_render):
    shares: list[float] = []
    extract_surface(scene_render("ball"), SurfaceConfig(resolution=32, views=12, image_size=64), shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_silhouette_distance_has_subpixel_precision():
    # A half-plane whose edge lies at u = 10.3: distances of the pixel centres to it are exact.
    u = np.arange(24) + 0.5
    alpha = np.tile(np.clip(10.3 - u + 0.5, 0, 1), (16, 1))
    distance = silhouette_distance(alpha)
    assert distance[8] == pytest.approx(10.3 - u, abs=0.35)
    assert distance[8, 2] > 0 > distance[8, 20]


def test_silhouette_distance_closes_pinholes_but_no_handles():
    alpha = np.ones((100, 100))
    alpha[20, 20] = 0.1
    alpha[50:70, 50:70] = 0.0
    distance = silhouette_distance(alpha)
    assert distance[20, 20] > 0
    assert distance[60, 60] < -5
    assert (silhouette_distance(np.zeros((8, 8))) < 0).all() and (silhouette_distance(np.ones((8, 8))) > 0).all()


def test_one_wrong_view_does_not_carve():
    cameras = sphere_cameras(20, np.zeros(3), 1.0, 32)
    silhouettes = np.full((20, 32, 32), 50.0, np.float32)
    grid = Grid.around(np.full(3, -0.3), np.full(3, 0.3), 16)
    silhouettes[3] = -50.0
    assert (carve_hull(grid, silhouettes, *stacked(cameras)) < 0).all()
    silhouettes[4] = -50.0
    assert (carve_hull(grid, silhouettes, *stacked(cameras)) > 0).all()


def test_marching_cubes_closes_at_the_border_and_faces_outwards():
    grid = Grid(np.zeros(3), 0.5, (4, 4, 4))
    vertices, faces = mesh_field(np.full((4, 4, 4), -1.0, np.float32), grid)
    mesh = trimesh.Trimesh(vertices, faces)
    assert mesh.is_watertight and mesh.volume > 1.5**3
    assert mesh.bounds.mean(axis=0) == pytest.approx([0.75] * 3)


def test_grid_has_the_resolution_along_its_longest_edge():
    grid = Grid.around(np.array([-1.0, 0, 0]), np.array([1.0, 1, 0.5]), 45)
    assert grid.spacing == pytest.approx(2 / 40)
    assert grid.shape == (45, 25, 15)
    assert grid.origin + grid.spacing * (np.array(grid.shape) - 1) / 2 == pytest.approx([0, 0.5, 0.25])


def test_walls_are_thickened_and_what_is_thicker_is_not():
    x = np.broadcast_to(np.arange(60.0, dtype=np.float32)[:, None, None], (60, 20, 20))
    wall, block = np.abs(x - 10) - 1.3, np.abs(x - 40) - 12.3
    distance = 0.1 * np.minimum(wall, block).astype(np.float32)
    nowhere = np.full_like(distance, -1.0)
    field = thicken_walls(nowhere, distance, 0.1)[:, 10, 10]
    assert field[8] < 0 < field[7] and field[12] < 0 < field[13], "a sample more on either side"
    assert field[28] < 0 < field[27] and field[52] < 0 < field[53], "as it was"
    hull = 0.1 * (np.abs(x - 10) - 0.8).astype(np.float32)
    assert (thicken_walls(hull, distance, 0.1) >= hull).all()


def test_confidence_is_low_where_depth_is_blurred():
    K = np.array([[[100.0, 0, 16], [0, 100, 16], [0, 0, 1]]])
    depth = np.tile(2.0 + 0.02 * np.arange(32.0), (1, 32, 1))  # recedes by one unit of depth per unit of width: 45 degrees
    alpha, distance = np.ones((1, 32, 32)), np.full((1, 32, 32), 10.0)
    alpha[0, 0], distance[0, 1] = 0.5, 0.0
    confidence, cosine = depth_confidence(depth, alpha, distance, K)
    assert cosine[0, 5, 0] == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert confidence[0, 5, 0] == pytest.approx(cosine[0, 5, 0])
    assert (confidence[0, :2] == 0).all()


def test_cameras_cover_the_zone_evenly_and_see_the_whole_ball():
    center = np.array([0.1, 0.2, -0.1])
    cameras = sphere_cameras(60, center, 0.7, 64)
    directions = np.array([camera.position - center for camera in cameras])
    elevation = np.degrees(np.arcsin(directions[:, 2] / np.linalg.norm(directions, axis=1)))
    assert elevation.min() < LOWEST_ELEVATION + 10 and elevation.max() > 75
    assert (elevation > LOWEST_ELEVATION).all()
    ball = trimesh.creation.icosphere(4, 0.7)
    ball.apply_translation(center)
    for camera in cameras[::7]:
        face_index, _, _ = rasterize_mesh(ball.vertices, ball.faces, camera.viewmat, camera.K, 64, 64)
        rows, columns = np.nonzero(face_index >= 0)
        assert rows.min() >= 1 and columns.min() >= 1 and rows.max() <= 62 and columns.max() <= 62
        assert np.ptp(rows) > 56


def test_largest_piece_is_by_volume_not_by_faces():
    small, large = trimesh.creation.icosphere(4, 0.1), trimesh.creation.box([1, 1, 1])
    large.apply_translation([2, 0, 0])
    both = trimesh.util.concatenate([small, large])
    assert len(largest_piece(both.vertices, both.faces)[1]) == 12
