"""The terms that make a surface of Gaussians: hand-worked values, and what has to be zero."""

import math

import numpy as np
import pytest
import torch

from backend.cameras import orbit_camera
from backend.config import OptimizerConfig
from backend.gaussians.model import GaussianModel
from backend.gaussians.rendering import render, render_features
from backend.method import surface_terms as module
from backend.method.surface_terms import depth_moments, depth_normals, distortion, facing_normals, flatness, normal_error, surface_terms

SIZE = 33  # odd: the middle pixel's centre lies on the optical axis


def camera(azimuth=0.0, elevation=0.0, distance=3.0, size=SIZE, dtype=torch.float64):
    view = orbit_camera(azimuth, elevation, distance, 40.0, size)
    return torch.tensor(view.viewmat, dtype=dtype)[None], torch.tensor(view.K, dtype=dtype)[None]


def gaussians(means, scales, opacities, quats=None, dtype=torch.float64):
    means = torch.as_tensor(means, dtype=dtype)
    quats = torch.tensor([[1.0, 0, 0, 0]], dtype=dtype).repeat(len(means), 1) if quats is None else torch.as_tensor(quats, dtype=dtype)
    opacities = torch.as_tensor(opacities, dtype=dtype)
    return GaussianModel(
        {
            "means": means,
            "scales": torch.as_tensor(scales, dtype=dtype).expand(len(means), 3).log(),
            "quats": quats,
            "opacities": torch.log(opacities / (1 - opacities)),
            "sh0": means.new_zeros(len(means), 1, 3),
        }
    )


def value(model, viewmats, Ks, size=SIZE, **weights):
    rendered = render(model.params, viewmats, Ks, size, size)
    return surface_terms(model.params, *rendered[1:3], viewmats, Ks, OptimizerConfig(**weights))


def turned(degrees):
    """Quaternion of a turn about X."""
    half = math.radians(degrees) / 2
    return [math.cos(half), math.sin(half), 0.0, 0.0]


# Flatness


def test_flatness_is_the_smallest_over_the_middle_width():
    scales = torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.03, 0.6], [0.5, 0.2, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(flatness(scales.log()), torch.tensor([1.0, 0.1, 0.5], dtype=torch.float64))


def test_flatness_does_not_feel_the_size():
    scales = torch.randn(20, 3)
    torch.testing.assert_close(flatness(scales), flatness(scales + 0.7))


def test_flatness_thins_the_shortest_axis():
    scales = torch.tensor([[-2.0, -3.0, -1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(flatness(scales).sum(), [scales])
    torch.testing.assert_close(gradient, math.exp(-1) * torch.tensor([[-1.0, 1.0, 0.0]]))


# Depth distortion


def test_distortion_of_two_gaussians_on_a_ray():
    """Opacities 0.6 and 0.5, one 0.4 behind the other: w = 0.6 and 0.4 * 0.5 in the middle pixel, so w1 w2 (0.4)^2."""
    viewmats, Ks = camera()
    model = gaussians([[0, -0.2, 0], [0, 0.2, 0]], 0.3, [0.6, 0.5])
    points = model.params["means"] @ viewmats[0, :3, :3].T + viewmats[0, :3, 3]
    torch.testing.assert_close(points[:, 2].detach(), torch.tensor([2.8, 3.2], dtype=torch.float64))
    alpha = render(model.params, viewmats, Ks, SIZE, SIZE).alpha[0, ..., 0]
    moments = render_features(model.params, depth_moments(points[:, 2], viewmats[0, 2, 3]), viewmats, Ks, SIZE, SIZE)[0]
    middle = SIZE // 2
    assert alpha[middle, middle].item() == pytest.approx(0.8)
    assert distortion(alpha, moments)[middle, middle].item() == pytest.approx(0.6 * 0.2 * 0.4**2)


def test_distortion_equals_the_sum_over_pairs():
    w = torch.rand(5, dtype=torch.float64) / 5
    depths = 3 + torch.randn(5, dtype=torch.float64)
    pairs = sum(w[i] * w[j] * (depths[i] - depths[j]) ** 2 for i in range(5) for j in range(i))
    for origin in (0.0, 3.0):
        moments = (w[:, None] * depth_moments(depths, torch.tensor(origin, dtype=torch.float64))).sum(0)
        torch.testing.assert_close(distortion(w.sum(), moments), pairs)


def test_distortion_of_one_depth_is_zero_and_rounding_does_not_show():
    viewmats, Ks = camera(dtype=torch.float32)
    model = gaussians([[-0.3, 0, 0], [0.3, 0, 0.1], [0, 0, 0.2]], 0.2, [0.9, 0.7, 0.8], dtype=torch.float32)
    assert abs(value(model, viewmats, Ks, depth_distortion=1.0).item()) < 1e-6


def test_distortion_draws_two_layers_together():
    viewmats, Ks = camera()
    model = gaussians([[0, -0.2, 0], [0, 0.2, 0]], 0.3, [0.6, 0.5])
    (gradient,) = torch.autograd.grad(value(model, viewmats, Ks, depth_distortion=1.0), [model.params["means"]])
    assert gradient[0, 1] < 0 < gradient[1, 1], "descent moves the near one away from the camera at -Y, the far one towards it"


# Normal consistency


def test_a_plane_of_disks_facing_the_camera_has_no_error():
    viewmats, Ks = camera()
    x, z = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))
    means = np.stack([x.ravel(), np.zeros(x.size), z.ravel()], 1)
    model = gaussians(means, [0.1, 0.001, 0.1], np.full(len(means), 0.9))
    assert value(model, viewmats, Ks, normal_consistency=1.0).item() == pytest.approx(0, abs=1e-9)


def test_disks_seen_from_the_edge_have_the_whole_coverage_as_error():
    """The same plane, each disk turned by 90 degrees: <n, n'> = 0, and what is left is the coverage of the pixels that have a normal."""
    viewmats, Ks = camera()
    x, z = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41))
    means = np.stack([x.ravel(), np.zeros(x.size), z.ravel()], 1)
    model = gaussians(means, [0.1, 0.1, 0.01], np.full(len(means), 0.9))
    alpha = render(model.params, viewmats, Ks, SIZE, SIZE).alpha[0, ..., 0]
    assert value(model, viewmats, Ks, normal_consistency=1.0).item() == pytest.approx(alpha[1:-1, 1:-1].sum().item(), rel=1e-6)


@pytest.mark.parametrize("axis_turn", [0.0, 30.0, 60.0])
def test_a_tilted_plane_wants_its_disks_tilted_alike(axis_turn):
    """A plane turned by 30 degrees about X: disks that are turned by a differ from it by a - 30, whose cosine is what is missing."""
    viewmats, Ks = camera(size=65)
    x, v = np.meshgrid(np.linspace(-0.9, 0.9, 91), np.linspace(-0.9, 0.9, 91))
    tilt = math.radians(30)
    means = np.stack([x.ravel(), -v.ravel() * math.sin(tilt), v.ravel() * math.cos(tilt)], 1)
    model = gaussians(means, [0.02, 0.0005, 0.02], np.full(len(means), 0.95), quats=[turned(axis_turn)] * len(means))
    rendered = render(model.params, viewmats, Ks, 65, 65)
    inner = rendered.alpha[0, 20:45, 20:45, 0]
    assert inner.min() > 0.9
    points = model.params["means"] @ viewmats[0, :3, :3].T + viewmats[0, :3, 3]
    normals = render_features(
        model.params, facing_normals(model.params["quats"], model.params["scales"], points, viewmats[0]), viewmats, Ks, 65, 65
    )
    error = normal_error(rendered.alpha[0, ..., 0], rendered.depth[0, ..., 0], normals[0], Ks[0])[19:44, 19:44]
    assert (error / inner).mean().item() == pytest.approx(1 - math.cos(math.radians(axis_turn - 30)), abs=0.02)


def test_normals_face_the_camera_wherever_it_stands():
    model = gaussians([[0.1, 0.2, 0.3], [-0.3, 0.1, 0.0]], [0.2, 0.01, 0.3], [0.5, 0.5], quats=[turned(20), turned(200)])
    for azimuth in range(0, 360, 45):
        viewmats, _ = camera(azimuth, 20)
        points = model.params["means"] @ viewmats[0, :3, :3].T + viewmats[0, :3, 3]
        normals = facing_normals(model.params["quats"], model.params["scales"], points, viewmats[0])
        torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, dtype=torch.float64))
        assert ((normals * points).sum(1) <= 0).all()


def test_depth_normals_of_a_plane_are_the_planes():
    """z = 3 + 0.5 X: normal (0.5, 0, -1) / |.|, exactly, in perspective."""
    _, Ks = camera()
    K = Ks[0]
    x = (torch.arange(SIZE, dtype=torch.float64) + 0.5 - K[0, 2]) / K[0, 0]
    depth = (3 / (1 - 0.5 * x)).expand(SIZE, SIZE)
    expected = torch.tensor([0.5, 0, -1], dtype=torch.float64) / math.sqrt(1.25)
    torch.testing.assert_close(depth_normals(depth, K), expected.expand(SIZE - 2, SIZE - 2, 3))


def test_depth_normals_of_a_plane_in_a_picture_that_is_no_square():
    """z = 3 + 0.5 X - 0.25 Y from 35 x 21 pixels whose axis lies off the middle and whose edges differ."""
    K = torch.tensor([[40.0, 0, 14], [0, 50, 9], [0, 0, 1]], dtype=torch.float64)
    x, y = (torch.arange(35, dtype=torch.float64) + 0.5 - 14) / 40, (torch.arange(21, dtype=torch.float64) + 0.5 - 9) / 50
    depth = 3 / (1 - 0.5 * x + 0.25 * y[:, None])
    expected = torch.tensor([0.5, -0.25, -1], dtype=torch.float64) / math.sqrt(1 + 0.5**2 + 0.25**2)
    torch.testing.assert_close(depth_normals(depth, K), expected.expand(19, 33, 3))


def test_edges_and_emptiness_have_no_normal():
    alpha = torch.full((9, 9), 0.9, dtype=torch.float64)
    alpha[4, 4] = 0.2
    depth, normals, K = torch.full((9, 9), 3.0, dtype=torch.float64), torch.zeros(9, 9, 3, dtype=torch.float64), camera(size=9)[1][0]
    error = normal_error(alpha, depth, normals, K)
    assert not error[2:5, 2:5].any(), "the thin pixel and its neighbours"
    assert error.sum().item() == pytest.approx(0.9 * (49 - 9))
    assert not normal_error(torch.zeros_like(alpha), torch.zeros_like(depth), normals, K).any()


# All together


def test_without_weights_nothing_is_drawn(monkeypatch):
    viewmats, Ks = camera()
    model = gaussians([[0, 0, 0]], 0.2, [0.5])
    rendered = render(model.params, viewmats, Ks, SIZE, SIZE)
    monkeypatch.setattr(module, "render_features", lambda *arguments, **options: pytest.fail("no render is needed"))
    assert surface_terms(model.params, *rendered[1:3], viewmats, Ks, OptimizerConfig()).item() == 0
    assert surface_terms(model.params, *rendered[1:3], viewmats, Ks, OptimizerConfig(flatness=0.5)).item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["flatness", "depth_distortion", "normal_consistency"])
def test_each_term_has_its_weight(name):
    viewmats, Ks = camera()
    model = gaussians([[0, -0.2, 0], [0, 0.2, 0.1]], [0.3, 0.2, 0.1], [0.6, 0.5], quats=[turned(20), turned(70)])
    once = value(model, viewmats, Ks, **{name: 1.0}).item()
    assert once > 0.001
    assert value(model, viewmats, Ks, **{name: 0.3}).item() == pytest.approx(0.3 * once)


WEIGHTS = {"depth_distortion": 1.0, "normal_consistency": 1.0}


def test_terms_do_not_feel_a_turn_of_camera_and_asset_together():
    scales, opacities = [[0.3, 0.05, 0.2], [0.2, 0.3, 0.04]], [0.6, 0.9]
    means, turns = [[0.1, -0.2, 0.05], [-0.1, 0.2, 0.1]], [[0.9, 0.3, 0.1, -0.2], [0.8, -0.2, 0.4, 0.1]]
    expected = value(gaussians(means, scales, opacities, turns), *camera(0, 25), **WEIGHTS).item()
    assert expected > 0.01
    for azimuth in (40.0, 130.0, 290.0):
        a, half = math.radians(azimuth), math.radians(azimuth) / 2
        c, s = math.cos(half), math.sin(half)
        turned_means = [[math.cos(a) * x - math.sin(a) * y, math.sin(a) * x + math.cos(a) * y, z] for x, y, z in means]
        turned_turns = [[c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w] for w, x, y, z in turns]
        model = gaussians(turned_means, scales, opacities, turned_turns)
        assert value(model, *camera(azimuth, 25), **WEIGHTS).item() == pytest.approx(expected)


def test_a_wider_picture_of_the_same_scene_has_the_same_terms():
    model = gaussians([[0, -0.2, 0], [0.1, 0.2, 0.1]], 0.08, [0.6, 0.9], [turned(20), turned(70)])
    totals = []
    for width in (21, 33):
        view = orbit_camera(10, 20, 3.0, 40.0, width, 21)
        viewmats, Ks = torch.tensor(view.viewmat)[None], torch.tensor(view.K)[None]
        rendered = render(model.params, viewmats, Ks, width, 21)
        totals.append(surface_terms(model.params, *rendered[1:3], viewmats, Ks, OptimizerConfig(**WEIGHTS)).item())
    assert totals[0] == pytest.approx(totals[1]) and totals[0] > 0.001


@pytest.mark.parametrize("implementation", ["numba", "torch"])
def test_terms_are_finite_with_gradients_on_any_cloud_and_are_means_over_the_views(implementation):
    generator = torch.Generator().manual_seed(0)
    means = 0.4 * torch.randn(200, 3, generator=generator)
    quats, scales = torch.randn(200, 4, generator=generator), 0.08 * torch.exp(0.5 * torch.randn(200, 3, generator=generator))
    model = gaussians(means, scales, torch.full((200,), 0.8), quats, dtype=torch.float32)
    cameras = [camera(azimuth, dtype=torch.float32) for azimuth in (0, 100)]
    viewmats, Ks = (torch.cat(parts) for parts in zip(*cameras, strict=True))
    settings = OptimizerConfig(depth_distortion=1.0, normal_consistency=1.0)

    def of(viewmats, Ks):
        rendered = render(model.params, viewmats, Ks, SIZE, SIZE, implementation=implementation)
        return surface_terms(model.params, *rendered[1:3], viewmats, Ks, settings, implementation)

    total = of(viewmats, Ks)
    assert total.item() == pytest.approx(np.mean([of(*one).item() for one in cameras]), rel=1e-4)
    groups = [model.params[name] for name in ("means", "scales", "quats", "opacities")]
    for gradient in torch.autograd.grad(total, groups):
        assert torch.isfinite(gradient).all() and gradient.any()


def test_gradients_against_differences():
    viewmats, Ks = camera(20, 10, size=16)
    generator = torch.Generator().manual_seed(1)
    means = 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    model = gaussians(means, [[0.3, 0.2, 0.1]] * 3, [0.9, 0.8, 0.7], torch.randn(3, 4, generator=generator, dtype=torch.float64))
    weights = {"flatness": 0.3, "depth_distortion": 2.0, "normal_consistency": 0.5}
    gradients = torch.autograd.grad(value(model, viewmats, Ks, 16, **weights), [model.params[n] for n in ("means", "scales", "quats")])
    for name, gradient in zip(("means", "scales", "quats"), gradients, strict=True):
        parameter = model.params[name]
        for index in ((0, 0), (1, 1), (2, 2)):
            step = 1e-6
            with torch.no_grad():
                parameter[index] += step
                up = value(model, viewmats, Ks, 16, **weights).item()
                parameter[index] -= 2 * step
                down = value(model, viewmats, Ks, 16, **weights).item()
                parameter[index] += step
            assert gradient[index].item() == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-4), (name, index)
