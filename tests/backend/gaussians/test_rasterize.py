"""The rasterisers against a dense float64 reference, hand-worked pixels, and everything that can be wrong with a Gaussian."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.cameras import orbit_camera
from backend.errors import ConfigError, SetupError
from backend.gaussians.rasterize import choose_implementation, rasterization
from backend.gaussians.rasterize.conventions import SH_C0
from backend.gaussians.rasterize.gsplat_backend import import_quietly
from backend.gaussians.rasterize.spherical_harmonics import spherical_harmonics

ROOT = Path(__file__).resolve().parents[3]
IMPLEMENTATIONS = ("numba", "torch")
GROUPS = ("means", "quats", "scales", "opacities", "colors")


def cameras(*azimuths, width=40, height=32, dtype=torch.float32):
    """viewmats and Ks of cameras around the origin."""
    views = [orbit_camera(azimuth, 20, 3, 45, width, height) for azimuth in azimuths]
    return (torch.tensor(np.stack([getattr(view, name) for view in views]), dtype=dtype) for name in ("viewmat", "K"))


def scene(count, degree, seed=0, scale=0.08):
    """Random Gaussians in a ball: means, quats, scales, opacities, colours or harmonics."""
    generator = torch.Generator().manual_seed(seed)
    means = 0.4 * torch.randn(count, 3, generator=generator)
    quats = torch.randn(count, 4, generator=generator)
    scales = scale * torch.exp(0.5 * torch.randn(count, 3, generator=generator))
    opacities = 0.05 + 0.9 * torch.rand(count, generator=generator)
    if degree is None:
        return means, quats, scales, opacities, torch.rand(count, 3, generator=generator)
    return means, quats, scales, opacities, 0.5 * torch.randn(count, (degree + 1) ** 2, 3, generator=generator)


def dense(means, quats, scales, opacities, colors, viewmat, K, width, height, degree, background, antialiased=False, eps2d=0.3):
    """One camera's (rgb + expected depth [H, W, 4], alpha [H, W, 1]), every Gaussian at every pixel, by autograd.

    Written from the 3DGS paper (eqs. 3, 5, 6) with full matrices, nothing shared with the implementations.
    """
    w, x, y, z = (quats / quats.norm(dim=1, keepdim=True)).unbind(1)
    R = torch.stack(
        [
            torch.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z], -1),
        ],
        dim=1,
    )
    covariance = R @ torch.diag_embed(scales**2) @ R.transpose(1, 2)
    W, t = viewmat[:3, :3], viewmat[:3, 3]
    points = means @ W.T + t
    X, Y, Z = points.unbind(1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    u = (X / Z).clamp(-(cx / fx) - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx)
    v = (Y / Z).clamp(-(cy / fy) - 0.15 * height / fy, (height - cy) / fy + 0.15 * height / fy)
    zero = torch.zeros_like(Z)
    J = torch.stack([torch.stack([fx / Z, zero, -fx * u / Z], -1), torch.stack([zero, fy / Z, -fy * v / Z], -1)], dim=1)
    S = J @ W @ covariance @ W.T @ J.transpose(1, 2)
    blurred = S + eps2d * torch.eye(2, dtype=S.dtype)
    if antialiased:
        opacities = opacities * (torch.linalg.det(S) / torch.linalg.det(blurred)).sqrt()
    if degree is not None:
        directions = means + W.T @ t
        basis = import_quietly("gsplat.cuda._torch_impl")._spherical_harmonics
        colors = (basis(degree, directions, colors) + 0.5).clamp_min(0)
    order = torch.argsort(Z)
    order = order[Z[order] > 0.01]
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixel = torch.stack([columns, rows], -1).reshape(1, -1, 2).to(S.dtype)
    d = torch.stack([fx * X / Z + cx, fy * Y / Z + cy], -1)[order, None] - pixel
    sigma = 0.5 * torch.einsum("npi,nij,npj->np", d, torch.linalg.inv(blurred)[order], d)
    alpha = (opacities[order, None] * torch.exp(-sigma)).clamp_max(0.999)
    alpha = alpha * (alpha.detach() >= 1 / 255)
    alpha = alpha * (torch.cumprod(1 - alpha.detach(), 0) > 1e-4)
    left = torch.cumprod(1 - alpha, 0)
    weight = alpha * torch.cat([torch.ones_like(left[:1]), left[:-1]])
    total = 1 - left[-1:].T
    rgb = weight.T @ colors[order] + (1 - total) * background
    depth = (weight.T @ Z[order, None]) / total.clamp_min(1e-10)
    return torch.cat([rgb, depth], -1).reshape(height, width, 4), total.reshape(height, width, 1)


def relative(a, b):
    return float((a.detach().double() - b.detach()).norm() / b.detach().norm())


def draw(gaussians, viewmats, Ks, width=40, height=32, **options):
    return rasterization(*gaussians, viewmats, Ks, width, height, **options)


@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_images_and_gradients_equal_dense_autograd(implementation, degree, antialiased):
    gaussians = scene(60, degree)
    background = torch.tensor([[0.2, 0.5, 0.9], [1.0, 0.1, 0.4]])
    generator = torch.Generator().manual_seed(1)
    weight, weight_alpha = torch.randn(2, 32, 40, 4, generator=generator), torch.randn(2, 32, 40, 1, generator=generator)

    exact = [x.double().requires_grad_() for x in gaussians]
    exact_background = background.double().requires_grad_()
    views = [
        dense(*exact, viewmat, K, 40, 32, degree, exact_background[c], antialiased)
        for c, (viewmat, K) in enumerate(zip(*cameras(10, 130, dtype=torch.float64), strict=True))
    ]
    wanted, wanted_alpha = (torch.stack(images) for images in zip(*views, strict=True))
    ((wanted * weight).sum() + (wanted_alpha * weight_alpha).sum()).backward()

    inputs = [x.clone().requires_grad_() for x in gaussians]
    background = background.requires_grad_()
    mode = "antialiased" if antialiased else "classic"
    renders, alphas, meta = draw(
        inputs, *cameras(10, 130), sh_degree=degree, backgrounds=background, rasterize_mode=mode, implementation=implementation
    )
    ((renders * weight).sum() + (alphas * weight_alpha).sum()).backward()

    assert relative(renders.detach(), wanted) < 1e-5
    assert relative(alphas.detach(), wanted_alpha) < 1e-5
    for name, mine, exact_input in zip(GROUPS, inputs, exact, strict=True):
        assert relative(mine.grad, exact_input.grad) < 1e-4, name
    assert relative(background.grad, exact_background.grad) < 1e-4
    assert meta["implementation"] == implementation
    assert meta["means2d"].grad.shape == (2, 60, 2)


def test_torch_in_double_precision_is_exact():
    gaussians = [x.double() for x in scene(40, 2)]
    background = torch.rand(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    results = []
    for function in ("dense", "torch"):
        inputs = [x.clone().requires_grad_() for x in gaussians]
        viewmats, Ks = cameras(40, dtype=torch.float64)
        if function == "dense":
            renders, _ = dense(*inputs, viewmats[0], Ks[0], 40, 32, 2, background[0])
        else:  # "auto" has to find that numba knows no double precision
            renders, _, meta = draw(inputs, viewmats, Ks, sh_degree=2, backgrounds=background)
            assert meta["implementation"] == "torch" and renders.dtype == torch.float64
        renders.square().sum().backward()
        results.append([renders.detach().squeeze(0), *(x.grad for x in inputs)])
    for wanted, mine in zip(*results, strict=True):
        assert relative(mine, wanted) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
def test_half_precision_is_drawn_as_what_it_holds(implementation, dtype):
    inputs = [x.to(dtype).requires_grad_() for x in scene(40, 1)]
    renders, _, _ = draw(inputs, *cameras(40), sh_degree=1, implementation=implementation)
    wanted, _, _ = draw([x.detach().float() for x in inputs], *cameras(40), sh_degree=1, implementation="torch")
    assert renders.dtype == torch.float32 and relative(renders.detach(), wanted.double()) < 1e-5
    renders.sum().backward()
    assert all(x.grad.dtype == dtype and torch.isfinite(x.grad).all() for x in inputs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_screen_space_gradient_is_that_of_a_shifted_image(implementation):
    """Moving the principal point moves all means2d at once, so their gradients sum to the loss's derivative by it."""
    gaussians = [x.requires_grad_() for x in scene(30, None)]
    viewmats, Ks = cameras(0)
    weight = torch.randn(1, 32, 40, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(shift):
        exact = [x.detach().double() for x in gaussians]
        moved = Ks.double().clone()
        moved[0, 0, 2] += shift
        return float((draw(exact, viewmats.double(), moved, implementation="torch")[0][..., :3] * weight).sum())

    renders, _, meta = draw(gaussians, viewmats, Ks, implementation=implementation)
    torch.autograd.grad((renders[..., :3] * weight).sum(), gaussians[0])
    numeric = (loss(1e-4) - loss(-1e-4)) / 2e-4
    assert float(meta["means2d"].grad[0, :, 0].sum()) == pytest.approx(numeric, rel=2e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_gaussian_by_hand(implementation):
    """Focal length 10, distance 5, sigma 0.5: a variance of (10 / 5 * 0.5)^2 + 0.3 = 1.3 pixels^2 around (8 + 2, 4)."""
    gaussian = (torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[2.0, 0, 0, 0]]), torch.full((1, 3), 0.5), torch.tensor([0.8]))
    K = torch.tensor([[[10.0, 0, 8], [0, 10, 4], [0, 0, 1]]])
    orange, white = torch.tensor([[1.0, 0.5, 0.0]]), torch.ones(1, 3)
    renders, alphas, meta = rasterization(*gaussian, orange, torch.eye(4)[None], K, 16, 8, backgrounds=white, implementation=implementation)
    # The ray is tilted by u = 0.2: the variance in x is 4 * 0.25 * (1 + 0.04) + 0.3.
    alpha = 0.8 * math.exp(-0.5 * (0.5**2 / 1.34 + 0.5**2 / 1.3))
    assert alphas[0, 4, 10, 0] == pytest.approx(alpha, rel=1e-5)
    assert alphas[0, 4, 9, 0] == pytest.approx(alpha, rel=1e-5)
    assert renders[0, 4, 10].tolist() == pytest.approx([1, 1 - alpha / 2, 1 - alpha, 5.0], rel=1e-5)
    assert alphas[0, 4, 0, 0] == 0 and renders[0, 4, 0].tolist() == [1, 1, 1, 0]
    assert meta["means2d"][0, 0].tolist() == pytest.approx([10, 4])
    extent = math.sqrt(2 * math.log(255 * 0.8))
    assert meta["radii"][0, 0].tolist() == [math.ceil(extent * math.sqrt(1.34)), math.ceil(extent * math.sqrt(1.3))]
    assert (meta["width"], meta["height"], meta["n_cameras"]) == (16, 8, 1)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_nearer_gaussian_covers_the_farther(implementation):
    """Two wide splats of opacity 0.5, given back to front: 0.5 red + 0.25 green + 0.25 white, depth (0.5 * 2 + 0.25 * 4) / 0.75."""
    means = torch.tensor([[0.0, 0, 4], [0, 0, 2]])
    K = torch.tensor([[[10.0, 0, 4.5], [0, 10, 4.5], [0, 0, 1]]])
    renders, alphas, _ = rasterization(
        means, torch.tensor([[1.0, 0, 0, 0]] * 2), torch.full((2, 3), 1.0), torch.full((2,), 0.5), torch.tensor([[0.0, 1, 0], [1, 0, 0]]),
        torch.eye(4)[None], K, 9, 9, backgrounds=torch.ones(1, 3), implementation=implementation,
    )  # fmt: skip
    assert renders[0, 4, 4].tolist() == pytest.approx([0.75, 0.5, 0.25, 2 / 0.75], rel=1e-5)
    assert alphas[0, 4, 4, 0] == pytest.approx(0.75, rel=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_pixel_is_finished_before_its_transmittance_falls_to_the_limit(implementation):
    """Layers of alpha 0.8: 0.2^5 = 3.2e-4 stays, a sixth would leave 6.4e-5 and is not drawn, nor anything behind it."""
    count = 100
    means = torch.stack([torch.zeros(count), torch.zeros(count), 2 + 0.01 * torch.arange(count)], dim=1)
    K = torch.tensor([[[10.0, 0, 4.5], [0, 10, 4.5], [0, 0, 1]]])
    opacities = torch.full((count,), 0.8, requires_grad=True)
    _, alphas, _ = rasterization(
        means, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.full((count, 3), 1.0), opacities, torch.ones(count, 3),
        torch.eye(4)[None], K, 9, 9, implementation=implementation,
    )  # fmt: skip
    assert 1 - alphas[0, 4, 4, 0].item() == pytest.approx(0.2**5, rel=1e-3)
    alphas[0, 4, 4, 0].backward()
    assert opacities.grad[:5].tolist() == pytest.approx([0.2**4] * 5, rel=1e-3)
    assert torch.all(opacities.grad[5:] == 0)


def _append(gaussians, **rows):
    """The scene with one Gaussian more: an ordinary one in front, but for `rows`."""
    ordinary = {
        "means": torch.zeros(3), "quats": torch.tensor([1.0, 0, 0, 0]), "scales": torch.full((3,), 0.2), "opacities": torch.tensor(0.9),
        "colors": torch.ones(gaussians[4].shape[1:]),
    }  # fmt: skip
    ordinary.update({name: torch.as_tensor(value, dtype=torch.float32).expand(ordinary[name].shape) for name, value in rows.items()})
    return [torch.cat([x, ordinary[name][None]]) for name, x in zip(GROUPS, gaussians, strict=True)]


BAD = {
    "nan mean": {"means": [math.nan, 0, 0]},
    "infinite mean": {"means": [math.inf, 0, 0]},
    "nan quat": {"quats": math.nan},
    "zero quat": {"quats": 0.0},
    "infinite scale": {"scales": math.inf},
    "nan opacity": {"opacities": math.nan},
    "nan colour": {"colors": math.nan},
    "infinite colour": {"colors": -math.inf},
    "zero opacity": {"opacities": 0.0},
    "behind the camera": {"means": [0.0, -30.0, 0.0]},
    "off the screen": {"means": [40.0, 0.0, 0.0]},
    "in the camera": {"means": [0.0, -3 * math.cos(math.radians(20)), 3 * math.sin(math.radians(20))]},
}


@pytest.mark.parametrize("degree", [None, 1])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_unusable_gaussian_changes_nothing(implementation, bad, degree):
    good = [x.requires_grad_() for x in scene(25, degree)]
    more = [x.detach().requires_grad_() for x in _append([x.detach() for x in good], **BAD[bad])]
    results = []
    for gaussians in (good, more):
        renders, alphas, meta = draw(gaussians, *cameras(0), sh_degree=degree, implementation=implementation)
        (renders.square().sum() + alphas.sum()).backward()
        results.append((renders, alphas))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert torch.all(meta["radii"][0, -1] == 0)
    assert torch.isfinite(meta["means2d"].grad).all()
    for name, a, b in zip(GROUPS, good, more, strict=True):
        assert torch.all(b.grad[-1] == 0), name
        torch.testing.assert_close(b.grad[:-1], a.grad, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("scale", [30.0, 1e5, 1e15, 1e30])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_giant_gaussian_stays_finite(implementation, scale):
    gaussians = [x.requires_grad_() for x in _append(scene(25, 0), scales=scale, opacities=0.5)]
    renders, alphas, _ = draw(gaussians, *cameras(0, 90), sh_degree=0, implementation=implementation)
    (renders.square().sum() + alphas.sum()).backward()
    assert torch.isfinite(renders).all() and torch.isfinite(alphas).all()
    assert all(torch.isfinite(x.grad).all() for x in gaussians)
    if scale == 30.0:
        assert alphas.min() > 0.49


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_gaussians_at_all(implementation):
    gaussians = [x.requires_grad_() for x in scene(0, 0)]
    background = torch.rand(2, 3)
    renders, alphas, meta = draw(gaussians, *cameras(0, 90), sh_degree=0, backgrounds=background, implementation=implementation)
    assert torch.equal(renders[..., :3], background[:, None, None].expand(2, 32, 40, 3))
    assert torch.all(renders[..., 3] == 0) and torch.all(alphas == 0)
    renders.sum().backward()
    assert meta["radii"].shape == (2, 0, 2) and gaussians[0].grad.shape == (0, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 130), (200, 20), (65, 17)])
def test_implementations_agree_on_any_image_size(size):
    width, height = size
    views = list(cameras(25, width=width, height=height))
    images = [draw(scene(80, 0), *views, width, height, sh_degree=0, implementation=name)[0] for name in IMPLEMENTATIONS]
    assert images[0].shape == (1, height, width, 4)
    assert relative(images[0], images[1].double()) < 1e-4


def test_numba_gives_the_same_bits_on_any_number_of_threads():
    gaussians = [x.requires_grad_() for x in scene(3000, 1, scale=0.03)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            renders, alphas, meta = draw(gaussians, *cameras(0, 120, width=70, height=50), 70, 50, sh_degree=1, implementation="numba")
            gradients = torch.autograd.grad(renders.square().sum() + alphas.sum(), gaussians)
            results.append([renders, alphas, meta["means2d"].grad, *gradients])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
@pytest.mark.parametrize("degree", [None, 0, 2])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_each_batch_is_drawn_as_if_alone(implementation, degree, antialiased):
    """Three batches of two cameras, one of which has nothing in view; one Gaussian is unusable in one batch only."""
    mode = {"rasterize_mode": "antialiased" if antialiased else "classic", "sh_degree": degree, "implementation": implementation}
    batches = [scene(40, degree, seed) for seed in range(3)]
    batches[1][1][7] = 0  # no rotation
    batches[2][0][:] += 100
    poses = [tuple(cameras(azimuth, azimuth + 50)) for azimuth in (0, 120, 240)]
    backgrounds = torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(2))
    weight = torch.randn(3, 2, 32, 40, 5, generator=torch.Generator().manual_seed(3))

    def drawn(gaussians, viewmats, Ks, background, weight):
        inputs = [x.clone().requires_grad_() for x in (*gaussians, background)]
        renders, alphas, meta = draw(inputs[:5], viewmats, Ks, backgrounds=inputs[5], **mode)
        (torch.cat([renders, alphas], -1) * weight).sum().backward()
        seen = [meta[name].detach() for name in ("means2d", "conics", "depths", "opacities", "radii")]
        return [renders.detach(), alphas.detach(), *(x.grad for x in inputs), meta["means2d"].grad, *seen], meta

    stacked = [torch.stack(group) for group in zip(*batches, strict=True)]
    together, meta = drawn(stacked, *(torch.stack(group) for group in zip(*poses, strict=True)), backgrounds, weight)
    assert meta["n_cameras"] == 2
    alone = [drawn(*each)[0] for each in zip(batches, *zip(*poses, strict=True), backgrounds, weight, strict=True)]
    assert alone[0][0].std() > 0.05
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.stack(parts), rtol=1e-4, atol=1e-5)
        if implementation == "numba":
            assert torch.equal(whole, torch.stack(parts))


def test_gsplats_own_pieces_take_the_same_batches():
    """Shapes of batches are gsplat's."""
    gaussians, (viewmats, Ks) = scene(30, None), cameras(0, 40, 90, 200)
    project = import_quietly("gsplat.cuda._torch_impl")._fully_fused_projection
    copies = [x.expand(2, *x.shape) for x in gaussians]
    viewmats, Ks = viewmats.view(2, 2, 4, 4), Ks.view(2, 2, 3, 3)
    covariances = import_quietly("gsplat.cuda._torch_impl")._quat_scale_to_covar_preci(*copies[1:3], compute_preci=False)[0]
    radii, means2d, depths, conics, _ = project(copies[0], covariances, viewmats, Ks, 40, 32)
    for implementation in IMPLEMENTATIONS:
        _, _, meta = draw(copies, viewmats, Ks, implementation=implementation)
        visible = (meta["radii"] > 0).all(-1)
        assert visible.any() and meta["radii"].shape == radii.shape
        for name, theirs in {"means2d": means2d, "depths": depths, "conics": conics}.items():
            torch.testing.assert_close(meta[name][visible].detach(), theirs[visible], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_render_modes(implementation):
    gaussians, views = scene(30, None), list(cameras(0))
    both, alphas, _ = draw(gaussians, *views, implementation=implementation)
    for mode, wanted in {
        "RGB": both[..., :3],
        "ED": both[..., 3:],
        "D": both[..., 3:] * alphas,
        "RGB+D": torch.cat([both[..., :3], both[..., 3:] * alphas], -1),
    }.items():
        torch.testing.assert_close(draw(gaussians, *views, render_mode=mode, implementation=implementation)[0], wanted)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_planes_cut_what_is_too_near_or_too_far(implementation):
    gaussians, views = scene(30, None), list(cameras(0))
    for planes in ({"near_plane": 50.0}, {"far_plane": 0.5}):
        assert torch.all(draw(gaussians, *views, implementation=implementation, **planes)[1] == 0)


def test_our_images_are_those_of_gsplats_own_pieces():
    from backend.bench.gsplat_reference import rasterize
    from backend.gaussians.rasterize.conventions import EPS2D, FAR_PLANE, NEAR_PLANE, View

    gaussians, (viewmats, Ks) = scene(200, 3), cameras(70)
    background = torch.tensor([[0.1, 0.2, 0.3]])
    theirs, their_alphas = rasterize(*gaussians, background, View(viewmats, Ks, 40, 32, NEAR_PLANE, FAR_PLANE, EPS2D, 3, False, True))
    for implementation in IMPLEMENTATIONS:
        ours, alphas, _ = draw(gaussians, viewmats, Ks, sh_degree=3, backgrounds=background, implementation=implementation)
        assert relative(ours, theirs.double()) < 1e-4
        assert relative(alphas, their_alphas.double()) < 1e-4


def test_harmonics_are_orthonormal():
    """Gauss-Legendre in cos(theta) and a regular grid in phi integrate products of degree 6 exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    phi = 2 * np.pi * np.arange(16) / 16
    z, phi = (x.reshape(-1) for x in np.meshgrid(nodes, phi, indexing="ij"))
    radius = np.sqrt(1 - z * z)
    directions = torch.tensor(np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=1))
    weights = torch.tensor(np.repeat(weights, 16) * 2 * np.pi / 16)
    identity = torch.eye(16, dtype=torch.float64)[:, :, None].repeat(1, 1, 3)
    basis = torch.stack([spherical_harmonics(3, directions, c.expand(len(directions), 16, 3))[:, 0] for c in identity], dim=1)
    torch.testing.assert_close(basis.T @ (weights[:, None] * basis), torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-6)
    assert basis[0, 0] == pytest.approx(SH_C0)


def test_choice_of_implementation():
    assert choose_implementation("cpu").name == "numba"
    assert choose_implementation("cpu", "torch").name == "torch"
    assert choose_implementation("mps").name == "torch"
    with pytest.raises(ConfigError, match="CUDA"):
        choose_implementation("cpu", "gsplat")
    with pytest.raises(ConfigError, match="CPU"):
        choose_implementation("cuda", "numba")
    with pytest.raises(ConfigError, match="opengl"):
        choose_implementation("cpu", "opengl")


def test_gsplat_that_is_not_built_is_refused_and_passed_over(monkeypatch):
    from backend.gaussians.rasterize import gsplat_backend

    monkeypatch.setattr(gsplat_backend, "is_built", lambda: False)
    with pytest.raises(SetupError) as refusal:
        choose_implementation("cuda", "gsplat")
    assert "torch" in refusal.value.remedy
    choice = choose_implementation("cuda")
    assert choice.name == "torch" and "not built" in choice.reason


def test_numba_that_is_not_installed_is_passed_over(monkeypatch):
    import backend.gaussians.rasterize as rasterize

    monkeypatch.setattr(rasterize, "find_spec", lambda name: None)
    assert choose_implementation("cpu").name == "torch"
    with pytest.raises(SetupError, match="numba"):
        choose_implementation("cpu", "numba")


def test_gsplat_is_imported_without_compiling_or_printing(tmp_path):
    """A CUDA compiler stands ready and would leave a mark if anyone called it."""
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.write_text(f"#!/bin/sh\ntouch {tmp_path / 'called'}\nexit 1\n")
    compiler.chmod(0o755)
    environment = os.environ | {
        "CUDA_HOME": str(tmp_path),
        "PATH": f"{compiler.parent}{os.pathsep}{os.environ['PATH']}",
        "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions"),
    }
    script = (
        "import sys\n"
        "from backend.gaussians.densify import import_quietly\n"
        "assert 'gsplat' not in sys.modules\n"
        "assert callable(import_quietly('gsplat.strategy.ops').split)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert not (tmp_path / "called").exists() and not (tmp_path / "extensions").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quats": torch.zeros(5, 3)}, "quats"),
        ({"colors": torch.zeros(5, 3, 3)}, "colors"),
        ({"sh_degree": 4, "colors": torch.zeros(5, 25, 3)}, "sh_degree"),
        ({"render_mode": "depth"}, "render_mode"),
        ({"rasterize_mode": "fast"}, "rasterize_mode"),
        ({"backgrounds": torch.zeros(3)}, "backgrounds"),
        ({"means": torch.zeros(3)}, "means"),
        ({"means": torch.zeros(2, 5, 3)}, "quats"),
        ({"viewmats": torch.eye(4)}, "viewmats"),
        ({"viewmats": torch.eye(4).expand(2, 1, 4, 4)}, "viewmats"),
        ({"sh_degree": 1, "colors": torch.zeros(2, 5, 4, 3)}, "colors"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    viewmats, Ks = cameras(0)
    arguments = dict(zip(GROUPS, scene(5, None), strict=True)) | {"viewmats": viewmats, "Ks": Ks, "width": 8, "height": 8} | change
    with pytest.raises(ValueError, match=message):
        rasterization(**arguments)
