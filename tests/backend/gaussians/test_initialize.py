"""How the Gaussians begin."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from backend.config import GaussiansConfig
from backend.errors import InputError
from backend.gaussians.initialize import FIT_RADIUS, initialize, neighbour_distance, sample_file
from backend.gaussians.model import GaussianModel
from backend.gaussians.rasterize.conventions import SH_C0

from ..meshing.glb_files import CORNERS, FACES, write_glb
from .harmonics import seen_colours


def begin(seed=0, **settings):
    return initialize(GaussiansConfig(**settings), torch.Generator().manual_seed(seed))


def rng():
    return np.random.default_rng(0)


def test_blob_fills_the_ball_evenly():
    model = begin(count=20_000, radius=0.5, max_scale=1.0)
    radius = model.params["means"].detach().norm(dim=1)
    assert radius.max() <= 0.5
    assert (radius < 0.5 / 2 ** (1 / 3)).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.sigmoid(model.params["opacities"]).mean().item() == pytest.approx(0.1)
    colors = seen_colours(model.params["sh0"])
    assert colors.mean().item() == pytest.approx(0.5, abs=0.01) and colors.std().item() == pytest.approx(0.05, abs=0.005)


def test_sphere_lies_on_the_radius():
    model = begin(initial="sphere", count=100, radius=0.7, sh_degree=2)
    torch.testing.assert_close(model.params["means"].norm(dim=1), torch.full((100,), 0.7))
    assert model.params["shN"].shape == (100, 8, 3) and not model.params["shN"].any()


def test_colours_stay_colours_however_noisy():
    colors = begin(count=200, colour_noise=1.0).params["sh0"].detach() * SH_C0 + 0.5
    assert colors.min().item() == pytest.approx(0, abs=1e-6) and colors.max().item() == pytest.approx(1)


def test_the_seed_decides():
    a, b, c = begin(1, count=50), begin(1, count=50), begin(2, count=50)
    assert torch.equal(a.params["means"], b.params["means"]) and not torch.equal(a.params["means"], c.params["means"])


def test_one_gaussian_has_no_neighbours():
    assert begin(count=1, max_scale=0.1).params["scales"].exp().amax().item() == pytest.approx(0.1)


def test_neighbour_distance_by_hand():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    np.testing.assert_allclose(neighbour_distance(points, 9.0), [(1 + 3 + 7) / 3, (1 + 2 + 6) / 3, (2 + 3 + 4) / 3, (4 + 6 + 7) / 3])
    np.testing.assert_allclose(neighbour_distance(points[:2], 9.0), [1, 1])
    np.testing.assert_allclose(neighbour_distance(points[:1], 9.0), [9])


def test_mesh_is_fitted_with_its_proportions(tmp_path):
    """A box of 1 x 2 x 4, far from the origin: centred, its corners at the fit radius."""
    mesh = trimesh.creation.box((1, 2, 4))
    mesh.apply_translation((100, 50, -20))
    mesh.export(tmp_path / "box.stl")
    points, colors = sample_file(tmp_path / "box.stl", 20_000, rng())
    assert points.shape == (20_000, 3) and colors is None
    half = FIT_RADIUS * np.array([1, 2, 4]) / np.sqrt(21)
    np.testing.assert_allclose(np.abs(points).max(axis=0), half, rtol=1e-4)
    assert np.isclose(np.abs(points), half, rtol=1e-4).any(axis=1).all(), "every point lies on a face"
    # Uniform over the area: the two smallest faces have 2 * 2 of 28.
    on_ends = np.isclose(np.abs(points[:, 2]), half[2], rtol=1e-4).mean()
    assert on_ends == pytest.approx(4 / 28, abs=0.01)


def test_points_are_uniform_within_a_triangle(tmp_path):
    """Its middle is where their mean is, and each corner has its quarter of the area; its box is centred, its corners at the fit radius."""
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False).export(tmp_path / "one.ply")
    points, _ = sample_file(tmp_path / "one.ply", 20_000, rng())
    x, y, _ = 0.5 + points.T * np.sqrt(0.5) / FIT_RADIUS
    assert [x.mean(), y.mean()] == pytest.approx([1 / 3, 1 / 3], abs=0.01)
    assert [(x + y < 0.5).mean(), (x > 0.5).mean(), (y > 0.5).mean()] == pytest.approx([1 / 4] * 3, abs=0.015)


def test_corners_of_no_face_do_not_count(tmp_path):
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [90, 0, 0]], [[0, 1, 2]], process=False).export(tmp_path / "stray.ply")
    points, _ = sample_file(tmp_path / "stray.ply", 2000, rng())
    assert np.abs(points[:, :2]).max(axis=0) == pytest.approx([FIT_RADIUS / np.sqrt(2)] * 2, rel=0.02)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_y_up_formats_are_turned(tmp_path, suffix):
    """A spike towards the file's +Y must point to the world's +Z; one towards its +Z (the front) to -Y."""
    vertices = np.array([[-1.0, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 2]])
    trimesh.Trimesh(vertices, [[0, 1, 2], [0, 1, 3]], process=False).export(tmp_path / f"spikes{suffix}")
    points, _ = sample_file(tmp_path / f"spikes{suffix}", 50_000, rng())
    unit = FIT_RADIUS / np.linalg.norm([1, 1.5, 1])  # the corners of the base are farthest from the centre
    assert points[:, 2].max() == pytest.approx(1.5 * unit, rel=0.05) and points[:, 1].min() == pytest.approx(-unit, rel=0.05)
    assert points[points[:, 2].argmax(), 1] == pytest.approx(unit, rel=0.02), "the upper spike stands at the back"


def test_vertex_colours_are_interpolated(tmp_path):
    rgb = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]
    mesh = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], vertex_colors=rgb, process=False)
    mesh.export(tmp_path / "rgb.ply")
    points, colors = sample_file(tmp_path / "rgb.ply", 500, rng())
    np.testing.assert_allclose(colors.sum(axis=1), 1, atol=0.02)
    # Red is the barycentric coordinate of the corner at the origin, so it falls linearly with x + y.
    along = points[:, :2].sum(axis=1)
    assert np.corrcoef(along, colors[:, 0])[0, 1] < -0.999


def test_face_colours(tmp_path):
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual = trimesh.visual.ColorVisuals(mesh, face_colors=np.tile([10, 200, 30, 255], (12, 1)))
    mesh.export(tmp_path / "faces.ply")
    _, colors = sample_file(tmp_path / "faces.ply", 50, rng())
    np.testing.assert_allclose(colors, np.tile(np.array([10, 200, 30]) / 255, (50, 1)), atol=0.01)


def test_texture_is_looked_up(tmp_path):
    """A square whose left half is red and whose right half is blue."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 2] = 255, 255
    vertices, uv = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), [[0, 0], [1, 0], [1, 1], [0, 1]]
    visual = trimesh.visual.TextureVisuals(uv=uv, material=trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels)))
    trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False).export(tmp_path / "square.glb")
    points, colors = sample_file(tmp_path / "square.glb", 400, rng())
    clear = np.abs(points[:, 0]) > 0.15
    np.testing.assert_allclose(colors[clear & (points[:, 0] < 0)], [[1, 0, 0]] * (clear & (points[:, 0] < 0)).sum())
    np.testing.assert_allclose(colors[clear & (points[:, 0] > 0)], [[0, 0, 1]] * (clear & (points[:, 0] > 0)).sum())


def test_linear_material_colour_of_a_glb_is_shown_as_srgb(tmp_path):
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[0.5, 0.0, 1.0, 1.0])
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=material)
    mesh.export(tmp_path / "plain.glb")
    _, colors = sample_file(tmp_path / "plain.glb", 10, rng())
    assert colors[0] == pytest.approx([0.735, 0, 1], abs=0.005)


def test_a_texture_is_tinted_by_its_material(tmp_path):
    """glTF multiplies them, both linear: grey 188 is 0.503 there, half of it 0.251, which is shown as 0.538."""
    material = trimesh.visual.material.PBRMaterial(
        baseColorFactor=[128, 255, 0, 255], baseColorTexture=Image.new("RGB", (4, 4), (188, 188, 188))
    )
    mesh = trimesh.creation.box((1, 1, 1))
    mesh.visual = trimesh.visual.TextureVisuals(uv=np.full((8, 2), 0.5), material=material)
    mesh.export(tmp_path / "tinted.glb")
    _, colors = sample_file(tmp_path / "tinted.glb", 10, rng())
    np.testing.assert_allclose(colors, np.tile([0.538, 188 / 255, 0.0], (10, 1)), atol=0.002)


def test_scene_transforms_are_applied(tmp_path):
    scene = trimesh.Scene()
    for x in (-3.0, 3.0):
        scene.add_geometry(trimesh.creation.icosphere(radius=1), transform=trimesh.transformations.translation_matrix((x, 0, 0)))
    scene.export(tmp_path / "two.glb")
    points, _ = sample_file(tmp_path / "two.glb", 1000, rng())
    assert np.abs(points[:, 0]).min() > 0.9 * FIT_RADIUS * 2 / 4 and np.abs(points[:, 0]).max() <= FIT_RADIUS + 1e-6


def test_points_are_shared_out_by_area_among_the_parts_of_a_scene(tmp_path):
    """Cubes with edges of 1 and 2, whose areas are 6 and 24."""
    scene = trimesh.Scene()
    for edge, x in ((1, -3.0), (2, 3.0)):
        scene.add_geometry(trimesh.creation.box((edge,) * 3), transform=trimesh.transformations.translation_matrix((x, 0, 0)))
    scene.export(tmp_path / "cubes.glb")
    points, _ = sample_file(tmp_path / "cubes.glb", 10_000, rng())
    assert (points[:, 0] < 0).mean() == pytest.approx(0.2, abs=0.02)


def test_points_of_a_cloud_are_chosen_by_chance(tmp_path):
    cloud = np.stack([np.linspace(-1, 1, 1000), np.zeros(1000), np.zeros(1000)], axis=1)
    np.savetxt(tmp_path / "line.xyz", cloud)
    first, second = (sample_file(tmp_path / "line.xyz", 500, np.random.default_rng(seed))[0] for seed in (0, 1))
    assert len(np.unique(first[:, 0])) == 500
    assert abs(first[:, 0].mean()) < 0.1 and first[:, 0].std() == pytest.approx(FIT_RADIUS / 3**0.5, rel=0.1)
    assert not np.array_equal(first, second)


def test_copies_stray_by_a_quarter_of_the_clouds_radius_at_most(tmp_path):
    """Two points are each other's only neighbours, a whole diameter away."""
    (tmp_path / "two.xyz").write_text("0 0 0\n0 0 9\n")
    points, _ = sample_file(tmp_path / "two.xyz", 20_000, rng())
    given, copies = points[:2], points[2:]
    away = np.linalg.norm(copies[:, None] - given, axis=-1).min(axis=1)
    assert np.sqrt((away**2).mean()) == pytest.approx(FIT_RADIUS / 4, rel=0.02)


def test_point_cloud_is_thinned_or_grown(tmp_path):
    cloud = np.random.default_rng(1).uniform(-1, 1, (300, 3))
    np.savetxt(tmp_path / "points.xyz", np.concatenate([cloud, np.tile([255, 128, 0], (300, 1))], axis=1))
    few, colors = sample_file(tmp_path / "points.xyz", 100, rng())
    assert len(np.unique(few, axis=0)) == 100
    np.testing.assert_allclose(colors, np.tile([1, 128 / 255, 0], (100, 1)))
    many, colors = sample_file(tmp_path / "points.xyz", 1000, rng())
    assert len(many) == len(colors) == 1000
    radius = np.linalg.norm(cloud - (cloud.min(0) + cloud.max(0)) / 2, axis=1).max()
    np.testing.assert_allclose(many[:300], (cloud - (cloud.min(0) + cloud.max(0)) / 2) * FIT_RADIUS / radius)


def test_point_cloud_of_a_ply(tmp_path):
    green = np.tile([0, 255, 0, 255], (50, 1))
    trimesh.PointCloud(np.random.default_rng(1).normal(size=(50, 3)), colors=green).export(tmp_path / "cloud.ply")
    model = begin(initial=str(tmp_path / "cloud.ply"), count=80)
    assert len(model) == 80
    assert (model.params["means"].norm(dim=1) <= FIT_RADIUS + 1e-6).float().mean() > 0.9
    torch.testing.assert_close(seen_colours(model.params["sh0"])[:, 0], torch.tensor([[0.0, 1, 0]]).repeat(80, 1))


@pytest.mark.parametrize("count", [2, 3, 4, 8, 30])
def test_a_cloud_of_a_few_points_stays_where_they_are(tmp_path, count):
    """Their neighbours are as far as the cloud is large, which says nothing of how it looks around each of them."""
    cloud = np.random.default_rng(count).normal(size=(count, 3)) * 7 + 50
    np.savetxt(tmp_path / "few.xyz", cloud)
    points, _ = sample_file(tmp_path / "few.xyz", 2000, rng())
    given, copies = points[:count], points[count:]
    away = np.linalg.norm(copies[:, None] - given, axis=-1).min(axis=1)
    assert np.linalg.norm(given, axis=1).max() == pytest.approx(FIT_RADIUS)
    assert 0.05 < np.median(away) < 0.25 and away.max() < 0.6


def test_a_straggler_does_not_scatter_its_copies(tmp_path):
    cloud = np.concatenate([np.random.default_rng(0).normal(size=(500, 3)), [[400.0, 0, 0]]])
    np.savetxt(tmp_path / "cloud.xyz", cloud)
    points, _ = sample_file(tmp_path / "cloud.xyz", 20_000, rng())
    assert np.linalg.norm(points, axis=1).max() < 1.7


@pytest.mark.parametrize(("brightest", "expected"), [("1", [1, 0.5]), ("2", [2 / 255, 0.5 / 255])])
def test_colours_of_points_are_bytes_where_one_exceeds_1(tmp_path, brightest, expected):
    (tmp_path / "dark.xyz").write_text(f"0 0 0 {brightest} 0 0.5\n1 0 0 0 0 0\n")
    assert sample_file(tmp_path / "dark.xyz", 2, rng())[1][0, [0, 2]] == pytest.approx(expected)


def test_normals_of_points_are_no_colours(tmp_path):
    (tmp_path / "normals.xyz").write_text("0 0 0 0 0 -1\n1 0 0 0 0 1\n0 1 0 1 0 0\n")
    assert sample_file(tmp_path / "normals.xyz", 10, rng())[1] is None


def test_earlier_gaussians_are_taken_as_they_are(tmp_path):
    first = begin(count=30, sh_degree=1, max_scale=0.5)
    with torch.no_grad():
        first.params["shN"][:] = torch.randn(30, 3, 3, generator=torch.Generator().manual_seed(0))
    first.save_ply(tmp_path / "splats.ply")
    again = begin(initial=str(tmp_path / "splats.ply"), sh_degree=2, max_scale=0.5)
    assert torch.equal(again.params["means"], first.params["means"]) and again.params["shN"].shape == (30, 8, 3)
    assert torch.equal(again.params["shN"][:, :3], first.params["shN"]) and not again.params["shN"][:, 3:].any()
    assert torch.equal(begin(initial=str(tmp_path / "splats.ply"), sh_degree=1).params["shN"], first.params["shN"])
    assert begin(initial=str(tmp_path / "splats.ply")).sh_degree == 0


def test_gaussians_of_another_frame_are_refused_rather_than_brought_onto_a_shell(tmp_path):
    means = 5 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    wide = GaussianModel.create(means, torch.full((200, 3), 0.1), torch.full((200, 3), 0.5), GaussiansConfig(bound=100.0))
    wide.save_ply(tmp_path / "scene.ply")
    with pytest.raises(InputError, match=r"scene\.ply reach .* beyond 1\.") as caught:
        begin(initial=str(tmp_path / "scene.ply"))
    assert "ball of radius 1" in caught.value.remedy
    assert len(begin(initial=str(tmp_path / "scene.ply"), bound=50.0)) == 200


@pytest.mark.parametrize(("outside", "accepted"), [(5, True), (10, True), (11, False)])
def test_a_few_gaussians_beyond_the_bound_are_brought_onto_it(tmp_path, outside, accepted):
    first = begin(initial="sphere", count=100, max_scale=0.5, bound=10.0)
    with torch.no_grad():
        first.params["means"][:outside] *= 10
    first.save_ply(tmp_path / "splats.ply")
    if accepted:
        assert begin(initial=str(tmp_path / "splats.ply")).params["means"].norm(dim=1).max().item() == pytest.approx(1.0)
    else:
        with pytest.raises(InputError, match="beyond 1"):
            begin(initial=str(tmp_path / "splats.ply"))


def test_gaussians_a_rounding_beyond_the_bound_are_not_outside(tmp_path):
    first = begin(initial="sphere", count=100, radius=1.0, max_scale=0.5, bound=10.0)
    with torch.no_grad():
        first.params["means"] *= 1.0005
    first.save_ply(tmp_path / "splats.ply")
    assert len(begin(initial=str(tmp_path / "splats.ply"))) == 100


def test_earlier_gaussians_lose_what_the_rasteriser_adds_to_their_widths(tmp_path):
    first = begin(count=20, min_scale=0.05, max_scale=0.5)
    first.save_ply(tmp_path / "splats.ply")
    again = initialize(GaussiansConfig(initial=str(tmp_path / "splats.ply"), max_scale=0.5), torch.Generator(), pixel_blur=0.03**2)
    torch.testing.assert_close(again.params["scales"].exp().square() + 0.03**2, first.params["scales"].exp().square())


@pytest.mark.parametrize(("extension", "name"), [("KHR_draco_mesh_compression", "Draco"), ("EXT_meshopt_compression", "meshopt")])
def test_a_compressed_mesh_is_called_so(tmp_path, extension, name):
    write_glb(tmp_path / "mesh.glb", {"POSITION": CORNERS, "indices": FACES}, extensions=[extension])
    with pytest.raises(InputError, match=rf"mesh\.glb is compressed by {extension} \({name}\), which is not read") as caught:
        begin(initial=str(tmp_path / "mesh.glb"))
    assert caught.value.remedy == "Export it again without compression."


def test_colours_of_vertices_and_of_their_material(tmp_path):
    """As Blender writes them, 16 bits: half of the light, all of it, none; the material takes half of the rest."""
    colors = (np.tile(np.array([[32768, 65535, 0, 65535]], "<u2"), (4, 1)), True)
    material = {"pbrMetallicRoughness": {"baseColorFactor": [1.0, 0.5, 1.0, 1.0]}}
    primitive = {"POSITION": CORNERS, "indices": FACES, "COLOR_0": colors}
    plain = write_glb(tmp_path / "plain.glb", primitive)
    np.testing.assert_allclose(sample_file(plain, 10, rng())[1], np.tile([0.735, 1, 0], (10, 1)), atol=0.002)
    both = write_glb(tmp_path / "both.glb", primitive | {"material": 0}, materials=[material])
    np.testing.assert_allclose(sample_file(both, 10, rng())[1], np.tile([0.735, 0.737, 0], (10, 1)), atol=0.002)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mesh.obj", b"not a mesh"),
        ("mesh.glb", b"\x00" * 40),
        ("mesh.stl", b""),
        ("cloud.ply", b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nend_header\n"),
        ("points.xyz", b"1 2\n3 4\n"),
        ("points.xyz", b"one two three\n"),
        ("points.xyz", b""),
        ("points.xyz", b"1 2 3\n1 2 3\n"),
        ("points.xyz", b"1 2 nan\n1 2 3\n"),
        ("mesh.fbx", b"FBX"),
        ("mesh", b""),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_files_are_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as error:
        begin(initial=str(tmp_path / name), count=10)
    assert error.value.remedy


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        begin(initial=str(tmp_path / "gone.obj"))


def test_grown_points_lie_around_the_others(tmp_path):
    """A sphere of 250 points and 750 around them: as many as asked for, none farther from a given one than that is from its neighbours."""
    model = begin(initial="sphere", count=1000, radius=0.6, grow=3.0, colour_noise=0.0, max_scale=1.0)
    means = model.params["means"].detach()
    given, grown = means[:250], means[250:]
    torch.testing.assert_close(given.norm(dim=1), torch.full((250,), 0.6))
    assert len(grown) == 750
    nearest, _ = torch.cdist(grown, given).min(1)
    assert (nearest <= torch.from_numpy(neighbour_distance(given.numpy(), 0.0)).max() + 1e-6).all()
    assert 0.01 < (grown.norm(dim=1) - 0.6).abs().mean() < 0.1, "around the surface, not on it"


def test_grown_points_are_brighter_by_up_to_a_fifth():
    """GaussianDreamer's colour perturbation: U(0, 0.2) a channel."""
    colors = seen_colours(begin(initial="sphere", count=3000, grow=2.0, colour_noise=0.0).params["sh0"].detach()[:, 0])
    torch.testing.assert_close(colors[:1000], torch.full((1000, 3), 0.5))
    more = colors[1000:] - 0.5
    assert more.min() >= -1e-6 and more.max() <= 0.2 + 1e-6
    assert more.mean().item() == pytest.approx(0.1, abs=0.005) and more.std().item() == pytest.approx(0.2 / 12**0.5, abs=0.003)
    assert (torch.corrcoef(more.T) - torch.eye(3)).abs().max() < 0.1, "each channel by itself"


def test_a_file_grows_too_and_what_does_not_grow_is_as_ever(tmp_path):
    trimesh.creation.icosphere(radius=2.0).export(tmp_path / "ball.stl")
    model = begin(initial=str(tmp_path / "ball.stl"), count=400, grow=1.0)
    radius = model.params["means"].detach().norm(dim=1)
    assert (radius[:200] - FIT_RADIUS).abs().max() < 0.05 and len(radius) == 400 and radius[200:].std() > radius[:200].std()
    a, b = begin(3, initial="blob", count=300, grow=0.0), begin(3, initial="blob", count=300)
    assert all(torch.equal(a.params[name], b.params[name]) for name in a.params)


def test_one_point_grows_where_it_is():
    assert not begin(initial="sphere", count=4, grow=3.0, radius=0.5).params["means"].detach().diff(dim=0).any()
