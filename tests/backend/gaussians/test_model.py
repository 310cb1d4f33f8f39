"""The model's parameters, colours and file."""

import math
import os
import struct

import numpy as np
import pytest
import torch

from backend.cameras import orbit_camera
from backend.config import GaussiansConfig
from backend.errors import InputError
from backend.gaussians.model import GaussianModel, rgb_to_sh
from backend.gaussians.rendering import render, render_cameras, stack_cameras
from backend.gaussians.splat_file import is_splat_file, property_names

from .harmonics import seen_colours


def make(count=7, degree=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3), "shN": ((degree + 1) ** 2 - 1, 3)}
    names = list(shapes) if degree else list(shapes)[:-1]
    return GaussianModel({name: torch.randn(count, *shapes[name], generator=generator) for name in names})


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_round_trip_keeps_every_bit(tmp_path, degree):
    model = make(degree=degree)
    model.save_ply(tmp_path / "splats.ply")
    loaded = GaussianModel.load_ply(tmp_path / "splats.ply")
    assert loaded.sh_degree == degree and len(loaded) == 7
    assert list(loaded.params) == list(model.params)
    assert all(torch.equal(loaded.params[name], model.params[name]) for name in model.params)


def test_ply_has_the_standard_layout(tmp_path):
    """Byte by byte for one Gaussian of degree 1: f_rest is all of red, then green, then blue."""
    rest = torch.tensor([[[1.0, 4, 7], [2, 5, 8], [3, 6, 9]]])
    model = GaussianModel(
        {
            "means": torch.tensor([[10.0, 11, 12]]), "scales": torch.tensor([[-1.0, -2, -3]]), "opacities": torch.tensor([0.25]),
            "quats": torch.tensor([[0.5, 0.6, 0.7, 0.8]]), "sh0": torch.tensor([[[20.0, 21, 22]]]), "shN": rest,
        }
    )  # fmt: skip
    model.save_ply(tmp_path / "one.ply")
    header, _, body = (tmp_path / "one.ply").read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 1"]
    rest_names = " ".join(f"f_rest_{i}" for i in range(9))
    wanted = f"x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 {rest_names} opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert lines[3:] == [f"property float {name}" for name in wanted.split()]
    values = struct.unpack("<26f", body)
    assert values == pytest.approx([10, 11, 12, 0, 0, 0, 20, 21, 22, *range(1, 10), 0.25, -1, -2, -3, 0.5, 0.6, 0.7, 0.8])


def test_ply_of_other_writers_is_read(tmp_path):
    """Properties in another order and type, an extra one, another element behind."""
    names = [
        *(f"rot_{i}" for i in range(4)),
        "extra",
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"f_dc_{i}" for i in range(3)),
        *"xyz",
    ]
    header = ["ply", "format binary_big_endian 1.0", "comment by another program", "element vertex 2"]
    header += [*(f"property double {name}" for name in names), "element face 1", "property list uchar int vertex_indices", "end_header", ""]
    table = np.arange(30, dtype=">f8").reshape(2, 15)
    (tmp_path / "other.ply").write_bytes("\n".join(header).encode() + table.tobytes() + bytes([3]) + b"\0" * 12)
    model = GaussianModel.load_ply(tmp_path / "other.ply")
    assert model.params["quats"].tolist() == [[0, 1, 2, 3], [15, 16, 17, 18]]
    assert model.params["means"].tolist() == [[12, 13, 14], [27, 28, 29]]
    assert model.params["opacities"].tolist() == [5, 20]


def test_a_comment_does_not_end_the_header(tmp_path):
    make().save_ply(tmp_path / "splats.ply")
    head, rest = (tmp_path / "splats.ply").read_bytes().split(b"element", 1)
    (tmp_path / "splats.ply").write_bytes(head + b"comment end_header comes later\nelement" + rest)
    assert is_splat_file(tmp_path / "splats.ply") and len(GaussianModel.load_ply(tmp_path / "splats.ply")) == 7


def test_compressed_gaussians_are_called_so(tmp_path):
    """PlayCanvas's layout: ranges by chunks, then four packed integers each."""
    chunk = "".join(f"property float {bound}_{axis}\n" for bound in ("min", "max") for axis in "xyz")
    packed = "".join(f"property uint packed_{name}\n" for name in ("position", "rotation", "scale", "color"))
    header = f"ply\nformat binary_little_endian 1.0\nelement chunk 1\n{chunk}element vertex 2\n{packed}end_header\n"
    (tmp_path / "a.ply").write_bytes(header.encode() + bytes(24 + 32))
    assert is_splat_file(tmp_path / "a.ply")
    with pytest.raises(InputError, match=r"a\.ply holds compressed Gaussians") as error:
        GaussianModel.load_ply(tmp_path / "a.ply")
    assert "uncompressed" in error.value.remedy


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_single_precision_are_refused(tmp_path):
    names = [name for name in property_names(0) if name not in ("nx", "ny", "nz")]
    properties = [f"property double {name}" for name in names]
    header = ["ply", "format binary_little_endian 1.0", "element vertex 1", *properties, "end_header", ""]
    (tmp_path / "wide.ply").write_bytes("\n".join(header).encode() + struct.pack("<14d", 1e300, *[0.1] * 13))
    with pytest.raises(InputError, match="not finite"):
        GaussianModel.load_ply(tmp_path / "wide.ply")


def _edited(raw: bytes, edit: str) -> bytes:
    head, end, body = raw.partition(b"end_header\n")
    match edit:
        case "cut":
            return raw[:-1]
        case "header":
            return raw[: len(head) - 20]
        case "text":
            return head.replace(b"binary_little_endian", b"ascii") + end + body
        case "nan":
            return head + end + struct.pack("<f", math.nan) + body[4:]
        case "property":
            return head.replace(b"property float opacity\n", b"") + end + body
        case "twice":
            return head.replace(b"property float scale_1\n", b"property float scale_0\n") + end + body
        case "one more":
            return head + b"property float x\n" + end + body + bytes(4 * 7)
        case "after":
            return head.replace(b"element vertex", b"element camera 1\nproperty float fov\nelement vertex") + end + bytes(4) + body
        case "degree":
            return head.replace(b"property float opacity\n", b"property float f_rest_0\nproperty float opacity\n") + end + body
        case "none":
            return head.replace(b"element vertex 7", b"element vertex 0") + end
        case "huge":
            return head.replace(b"element vertex 7", b"element vertex 999999999999") + end + body
        case "noise":
            return bytes(range(256)) * 3
        case _:
            return b""


@pytest.mark.parametrize(
    "edit", ["cut", "header", "text", "nan", "property", "twice", "one more", "after", "degree", "none", "huge", "noise", "empty"]
)
def test_damaged_ply_is_refused_by_name(tmp_path, edit):
    path = tmp_path / "splats.ply"
    make().save_ply(path)
    path.write_bytes(_edited(path.read_bytes(), edit))
    with pytest.raises(InputError, match=r"splats\.ply") as error:
        GaussianModel.load_ply(path)
    assert error.value.remedy


def test_missing_ply_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no\.ply"):
        GaussianModel.load_ply(tmp_path / "no.ply")


def test_colours_and_coefficients():
    assert rgb_to_sh(torch.tensor(1.0)).item() == pytest.approx(0.5 / 0.28209479, rel=1e-6)
    rgb = torch.rand(5, 3)
    torch.testing.assert_close(seen_colours(rgb_to_sh(rgb)), rgb)


def test_create_render_and_clamp():
    """One opaque, orange Gaussian in the middle is seen orange, and its depth is the camera's distance."""
    config = GaussiansConfig(opacity=0.99, min_scale=0.01, max_scale=0.2, sh_degree=2)
    colour = torch.tensor([[1.0, 0.5, 0.0]])
    model = GaussianModel.create(torch.zeros(1, 3), torch.full((1, 3), 5.0), colour, config)
    torch.testing.assert_close(model.params["scales"].exp(), torch.full((1, 3), 0.2))
    camera = orbit_camera(30, 10, 3.0, 40, 33)
    viewmats, Ks = torch.tensor(camera.viewmat[None], dtype=torch.float32), torch.tensor(camera.K[None], dtype=torch.float32)
    output = render(model.params, viewmats, Ks, 33, 33, torch.zeros(1, 3))
    assert output.rgb.shape == (1, 33, 33, 3) and output.alpha.shape == output.depth.shape == (1, 33, 33, 1)
    assert output.rgb[0, 16, 16].tolist() == pytest.approx([0.99, 0.495, 0.0], abs=1e-3)
    assert output.depth[0, 16, 16, 0].item() == pytest.approx(3.0, rel=1e-5)
    with torch.no_grad():
        model.params["scales"][:] = torch.tensor([[-20.0, 0.0, 20.0]])
    model.clamp_()
    assert model.params["scales"].exp()[0].tolist() == pytest.approx([0.01, 0.2, 0.2])


def test_copies_keep_their_gradients_apart():
    model = make(50, degree=1)
    cameras = [orbit_camera(azimuth, 10, 3.0, 40, 33) for azimuth in (0, 120)]
    viewmats, Ks = stack_cameras(cameras, model.device)
    copies = model.copies(2)
    for name, copy in copies.items():
        assert copy.is_leaf and copy.shape == (2, *model.params[name].shape)
        assert copy.data_ptr() == model.params[name].data_ptr(), "no memory of its own"
    together = render(copies, viewmats[:, None], Ks[:, None], 33, 33)
    together.rgb.square().sum().backward()
    for k in range(2):
        alone = render(model.params, viewmats[k : k + 1], Ks[k : k + 1], 33, 33)
        assert torch.equal(together.rgb[k], alone.rgb) and alone.rgb.std() > 0.01
        gradients = torch.autograd.grad(alone.rgb.square().sum(), list(model.params.values()))
        for copy, gradient in zip(copies.values(), gradients, strict=True):
            assert torch.equal(copy.grad[k], gradient)


def test_centres_beyond_the_ball_come_back_onto_it_and_others_stay():
    model = make(3)
    model.bound = 0.5
    with torch.no_grad():
        model.params["means"][:] = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, -4.0, 0.0]])
    model.clamp_()
    torch.testing.assert_close(model.params["means"].detach(), torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.3, -0.4, 0.0]]))


def test_colours_follow_the_direction_they_are_seen_from():
    """Degree 1 with coefficients along y: seen along +y the red is less by sqrt(3 / 4 pi) of them, along -y it is more."""
    config = GaussiansConfig(opacity=0.99, sh_degree=1)
    model = GaussianModel.create(torch.zeros(1, 3), torch.full((1, 3), 0.2), torch.full((1, 3), 0.5), config)
    with torch.no_grad():
        model.params["shN"][0, 0, 0] = 0.4
    cameras = [orbit_camera(azimuth, 0, 3.0, 40, 33) for azimuth in (0, 180, 90)]
    rgb, alpha, _ = render_cameras(model, cameras, 0.0)
    seen = (rgb / alpha)[:, 16, 16]
    step = 0.4 * math.sqrt(3 / (4 * math.pi))
    assert seen[:, 0].tolist() == pytest.approx([0.5 - step, 0.5 + step, 0.5], abs=1e-5)
    assert seen[:, 1:].flatten().tolist() == pytest.approx([0.5] * 6, abs=1e-5)


def test_cameras_wider_than_high_are_drawn_over_the_colour_asked_for():
    model = GaussianModel.create(torch.zeros(1, 3), torch.full((1, 3), 0.1), torch.full((1, 3), 0.5), GaussiansConfig(opacity=0.99))
    cameras = [orbit_camera(azimuth, 0, 3.0, 40, 41, 25) for azimuth in (0, 90)]
    for background, corner in (((), [1, 1, 1]), ((0.25,), [0.25] * 3), (((0.1, 0.2, 0.3),), [0.1, 0.2, 0.3])):
        rgb, alpha, depth = render_cameras(model, cameras, *background)
        assert rgb.shape == (2, 25, 41, 3) and alpha.shape == depth.shape == (2, 25, 41, 1)
        assert rgb[:, 0, 0].flatten().tolist() == pytest.approx(2 * corner) and not alpha[:, 0, 0].any()
        assert alpha[:, 12, 20].flatten().tolist() == pytest.approx([0.99] * 2, rel=1e-5)
        assert depth[:, 12, 20].flatten().tolist() == pytest.approx([3.0] * 2, rel=1e-5)


def test_points_that_coincide_have_widths_that_can_be_optimised():
    model = GaussianModel.create(torch.zeros(2, 3), torch.zeros(2, 3), torch.full((2, 3), 0.5), GaussiansConfig(min_scale=0.0))
    assert model.params["scales"].isfinite().all()


def test_a_copy_keeps_to_the_same_bounds():
    model = GaussianModel(make(3).state_dict(), (0.01, 0.2), 0.5)
    copy = model.to("cpu")
    assert (copy.scale_range, copy.bound) == ((0.01, 0.2), 0.5)
    assert copy.params["means"].data_ptr() != model.params["means"].data_ptr()


def test_a_file_that_need_not_last_is_not_flushed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("flushed"))
    make().save_ply(tmp_path / "preview.ply", durable=False)
    assert len(GaussianModel.load_ply(tmp_path / "preview.ply")) == len(make())


def test_state_round_trip_changes_the_count():
    small, large = make(3, 1, seed=1), make(9, 1, seed=2)
    small.load_state_dict(large.state_dict())
    assert len(small) == 9 and all(torch.equal(small.params[name], large.params[name]) for name in large.params)
    assert small.params["means"].data_ptr() != large.params["means"].data_ptr()
    with pytest.raises(ValueError, match="groups"):
        small.load_state_dict(make(3, 0).state_dict())


def test_wrong_shapes_are_named():
    state = make().state_dict()
    with pytest.raises(ValueError, match="quats"):
        GaussianModel({**state, "quats": state["quats"][:, :3]})
    with pytest.raises(ValueError, match="harmonics"):
        GaussianModel({**state, "shN": torch.zeros(7, 4, 3)})
