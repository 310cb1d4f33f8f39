"""What is written is read back the same by another library, in Blender's frame."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from backend.cameras import orbit_camera
from backend.config import GaussiansConfig
from backend.errors import InputError, OutputError
from backend.gaussians.model import GaussianModel
from backend.meshing import TexturedMesh
from backend.meshing.cleanup import vertex_normals
from backend.meshing.export import WRITERS, to_y_up, write_asset
from backend.meshing.foreign import in_our_frame
from backend.meshing.turntable import contact_sheet, open_subject, read_asset, turntable
from backend.meshing.unwrap import unwrap
from backend.meshing.zbuffer import render_textured, sample_texture

from .glb_files import CORNERS, FACES, write_glb


@pytest.fixture(scope="module")
def asset() -> TexturedMesh:
    """A ball with a nose towards the front (-Y), and a texture in which every texel differs."""
    ball = trimesh.creation.icosphere(3, 0.4)
    ball.vertices[ball.vertices[:, 1] < -0.38] *= 1.5
    vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)
    vertex_map, new_faces, uv = unwrap(vertices, faces, 64)
    rows, columns = np.mgrid[0:64, 0:64]
    texture = np.stack([4 * rows, 4 * columns, 255 - 2 * rows - 2 * columns], axis=-1).astype(np.uint8)
    return TexturedMesh(vertices[vertex_map], vertex_normals(vertices, faces)[vertex_map], new_faces, uv, texture)


def test_frames_are_inverse_and_the_front_becomes_plus_z():
    assert to_y_up(np.array([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]])).tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    points = np.random.default_rng(0).standard_normal((9, 3))
    assert in_our_frame(to_y_up(points), ".glb") == pytest.approx(points)
    assert in_our_frame(points, ".ply") is points


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_reloaded_asset_renders_the_same(asset, suffix, tmp_path):
    write_asset(asset, tmp_path / f"my asset{suffix}")
    again = read_asset(tmp_path / f"my asset{suffix}")
    assert len(again.faces) == len(asset.faces)
    for camera in (orbit_camera(20, 30, 3.3, 40, 96), orbit_camera(200, -40, 3.3, 40, 96)):
        before, after = render_textured(asset, camera)[0], render_textured(again, camera)[0]
        assert np.abs(before - after).max() < 0.02
    assert np.array_equal(again.texture, asset.texture)
    assert np.einsum("ij,ij->i", again.normals, again.vertices).min() > 0


def test_glb_as_another_library_sees_it(asset, tmp_path):
    write_asset(asset, tmp_path / "cat.glb")
    scene = trimesh.load(tmp_path / "cat.glb", process=False)
    assert list(scene.graph.nodes_geometry) == ["cat"]
    (mesh,) = scene.geometry.values()
    assert mesh.vertices == pytest.approx(to_y_up(asset.vertices))
    assert mesh.vertex_normals == pytest.approx(to_y_up(asset.normals), abs=1e-5)
    assert mesh.visual.uv == pytest.approx(asset.uv, abs=1e-6)
    assert np.array_equal(mesh.faces, asset.faces)
    material = mesh.visual.material
    assert (material.name, material.metallicFactor, material.roughnessFactor) == ("cat", 0.0, 0.8)
    assert np.array_equal(np.asarray(material.baseColorTexture), asset.texture)
    # The nose points to glTF's front, +Z.
    assert mesh.bounds[1, 2] > 0.5


def test_glb_is_laid_out_as_the_specification_says(asset, tmp_path):
    write_asset(asset, tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, length, json_length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    binary_length, kind = struct.unpack_from("<I4s", data, 20 + json_length)
    assert (kind, 28 + json_length + binary_length) == (b"BIN\0", len(data))
    assert json_length % 4 == 0 and binary_length % 4 == 0
    document = json.loads(data[20 : 20 + json_length])
    assert document["buffers"] == [{"byteLength": binary_length}]
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])
    position = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    assert position["min"] == pytest.approx(to_y_up(asset.vertices).min(axis=0))


def test_obj_is_closed_and_finds_its_companions(asset, tmp_path):
    write_asset(asset, tmp_path / "my cat.obj")
    assert {path.name for path in tmp_path.iterdir()} == {"my cat.obj", "my_cat.mtl", "my_cat.png"}
    lines = (tmp_path / "my cat.obj").read_text().splitlines()
    points = sum(line.startswith("v ") for line in lines)
    assert points == len(np.unique(asset.vertices, axis=0)) < len(asset.vertices)
    faces = np.array([[int(c.split("/")[0]) for c in line.split()[1:]] for line in lines if line.startswith("f ")]) - 1
    assert trimesh.Trimesh(np.zeros((points, 3)), faces, process=False).is_watertight
    assert np.array_equal(np.asarray(Image.open(tmp_path / "my_cat.png")), asset.texture)
    assert "map_Kd my_cat.png" in (tmp_path / "my_cat.mtl").read_text()


def test_ply_is_closed_in_our_frame_and_coloured(asset, tmp_path):
    write_asset(asset, tmp_path / "a.ply")
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    assert mesh.is_watertight and mesh.volume > 0
    assert mesh.bounds[0, 1] < -0.5  # the nose points to -Y
    points, first = np.unique(asset.vertices, axis=0, return_index=True)
    assert mesh.vertices == pytest.approx(points)
    alone = np.bincount(np.unique(asset.vertices, axis=0, return_inverse=True)[1].reshape(-1)) == 1
    expected = np.round(255 * sample_texture(asset.texture, asset.uv[first]))
    assert np.array_equal(mesh.visual.vertex_colors[alone, :3], expected[alone])


@pytest.mark.parametrize("name", ["a.fbx", "a", "a.glb.zip"])
def test_unknown_suffixes_are_refused_by_name(asset, name, tmp_path):
    with pytest.raises(OutputError) as caught:
        write_asset(asset, tmp_path / name)
    assert all(suffix in caught.value.remedy for suffix in WRITERS)
    assert not list(tmp_path.iterdir())


def test_suffix_case_does_not_matter_and_failures_leave_nothing(asset, tmp_path):
    write_asset(asset, tmp_path / "A.GLB")
    assert (tmp_path / "A.GLB").is_file()
    with pytest.raises(OutputError):
        write_asset(asset, tmp_path / "missing" / "a.glb")
    assert [path.name for path in tmp_path.iterdir()] == ["A.GLB"]


@pytest.mark.parametrize("content", [b"", b"glTF", b"not a mesh" * 50, b"glTF\x02\0\0\0\xff\0\0\0" + b"\xff" * 300])
@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_garbage_is_an_input_error(content, suffix, tmp_path):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_asset(tmp_path / f"a{suffix}")
    assert caught.value.remedy


def test_missing_truncated_and_foreign_files_are_input_errors(asset, tmp_path):
    write_asset(asset, tmp_path / "a.glb")
    (tmp_path / "half.glb").write_bytes((tmp_path / "a.glb").read_bytes()[:3000])
    (tmp_path / "a.txt").write_text("hello")
    for name in ("half.glb", "none.glb", "a.txt"):
        with pytest.raises(InputError):
            read_asset(tmp_path / name)


def test_a_mesh_without_texture_is_read_with_a_plain_colour(tmp_path):
    trimesh.creation.box([1, 1, 1]).export(tmp_path / "box.glb")
    mesh = read_asset(tmp_path / "box.glb")
    assert len(mesh.faces) == 12 and len(np.unique(mesh.texture.reshape(-1, 3), axis=0)) == 1


def test_an_asset_is_what_one_texture_colours(tmp_path):
    """Base colours are linear in glTF: half of the light is 188 in sRGB. What no single texture holds is refused, not painted grey."""
    material = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1.0, 0.0, 1.0]}}
    plain = read_asset(write_glb(tmp_path / "a.glb", {"POSITION": CORNERS, "indices": FACES, "material": 0}, materials=[material]))
    assert plain.texture[0, 0].tolist() == [188, 255, 0]
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 128, 255)).save(picture, format="PNG")
    material["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
    primitive = {"POSITION": CORNERS, "indices": FACES, "TEXCOORD_0": np.zeros((4, 2), "<f4"), "material": 0}
    tinted = read_asset(write_glb(tmp_path / "b.glb", primitive, materials=[material], images=[picture.getvalue()]))
    assert tinted.texture[0, 0].tolist() == [188, 128, 0]
    for primitives in ([primitive] * 2, [primitive | {"COLOR_0": np.ones((4, 3), "<f4")}]):
        with pytest.raises(InputError, match="more than one texture holds"):
            read_asset(write_glb(tmp_path / "c.glb", *primitives, materials=[material], images=[picture.getvalue()]))


def test_turntable_of_another_programs_mesh(tmp_path):
    """Large and far away: a red square in front of the camera's left half, by its material, a blue one on the right, by its vertices."""
    left = np.array([[-1, -1, 0], [0, -1, 0], [0, 1, 0], [-1, 1, 0]], "<f4") * 50
    quad = np.array([0, 1, 2, 0, 2, 3], "<u2")
    blue = (np.tile(np.array([[0, 0, 65535, 65535]], "<u2"), (4, 1)), True)
    right = {"POSITION": left + np.float32([50, 0, 0]), "indices": quad, "COLOR_0": blue}
    red = {"pbrMetallicRoughness": {"baseColorFactor": [1.0, 0.0, 0.0, 1.0]}}
    nodes = [{"mesh": 0, "translation": [900.0, -70.0, 30.0]}]
    path = write_glb(tmp_path / "a.glb", {"POSITION": left, "indices": quad, "material": 0}, right, nodes=nodes, materials=[red])
    draw, distance = open_subject(path)
    image = draw(orbit_camera(0.0, 0.0, distance, 40.0, 64))
    assert image[32, 22] == pytest.approx([1, 0, 0]) and image[32, 42] == pytest.approx([0, 0, 1])
    coloured = (image < 1).any(axis=2)
    rows, columns = np.nonzero(coloured)
    assert rows.min() + rows.max() == columns.min() + columns.max() == 63 and np.ptp(rows) > 25, "in the middle, and whole"


def test_turntable_of_our_own_ply(asset, tmp_path):
    for suffix in (".ply", ".glb"):
        write_asset(asset, tmp_path / f"a{suffix}")
    images = []
    for suffix in (".ply", ".glb"):
        draw, distance = open_subject(tmp_path / f"a{suffix}")
        images.append(draw(orbit_camera(30.0, 15.0, distance, 40.0, 64)))
    assert np.abs(images[0] - images[1]).mean() < 0.02


def test_turntable_of_splats_of_another_program(tmp_path):
    """Far away, in meters, and one straggler farther still: the rest fills the picture."""
    generator = torch.Generator().manual_seed(0)
    means = 20 * torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=-1) + torch.tensor([300.0, 0.0, 0.0])
    means[0, 0] = -4000.0
    config = GaussiansConfig(opacity=0.9, max_scale=100.0, bound=1e6)
    GaussianModel.create(means, torch.full((400, 3), 2.0), torch.zeros(400, 3), config).save_ply(tmp_path / "splats.ply")
    draw, distance = open_subject(tmp_path / "splats.ply")
    dark = draw(orbit_camera(0.0, 0.0, distance, 40.0, 64)).mean(axis=2) < 0.3
    assert dark[24:40, 24:40].mean() > 0.9 and 0.2 < dark.mean() < 0.7 and not dark[:2].any() and not dark[:, :2].any()


def test_turntable_of_one_gaussian(tmp_path):
    one = GaussianModel.create(torch.zeros(1, 3), torch.full((1, 3), 0.1), torch.zeros(1, 3), GaussiansConfig(opacity=0.9))
    one.save_ply(tmp_path / "one.ply")
    draw, distance = open_subject(tmp_path / "one.ply")
    assert draw(orbit_camera(0.0, 0.0, distance, 40.0, 33))[16, 16].max() < 0.2


def test_turntable_of_a_mesh(asset, tmp_path):
    write_asset(asset, tmp_path / "cat.glb")
    sheet, animation = turntable(tmp_path / "cat.glb", tmp_path / "pictures", views=6, size=32)
    assert (sheet.name, animation.name) == ("cat-views.png", "cat-turntable.webp")
    with Image.open(sheet) as image:
        assert image.size == (4 * 32, 2 * 32)
        pixels = np.asarray(image)
    assert (pixels[32:, 64:] == 255).all()  # the two places left over
    assert (pixels[:32, :32] != 255).any()
    front = render_textured(asset, orbit_camera(0.0, 15.0, 3.3, 40.0, 32))[0]
    assert np.abs(pixels[:32, :32] / 255 - front).max() < 0.02
    with Image.open(animation) as image:
        assert image.n_frames == 36 and image.size == (32, 32)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp"])
def test_turntable_to_one_file(asset, name, tmp_path):
    write_asset(asset, tmp_path / "cat.obj")
    assert turntable(tmp_path / "cat.obj", tmp_path / name, size=16) == [tmp_path / name]
    with Image.open(tmp_path / name) as image:
        assert image.width == (64 if name == "a.png" else 16)


def test_turntable_into_a_folder_that_is_called_like_a_picture(asset, tmp_path):
    write_asset(asset, tmp_path / "cat.glb")
    (tmp_path / "shots.png").mkdir()
    outputs = turntable(tmp_path / "cat.glb", tmp_path / "shots.png", views=1, size=16)
    assert outputs == [tmp_path / "shots.png" / "cat-views.png", tmp_path / "shots.png" / "cat-turntable.webp"]


@pytest.mark.parametrize("extension", ["KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu"])
def test_a_compressed_glb_is_refused_rather_than_shown_empty(asset, extension, tmp_path):
    write_asset(asset, tmp_path / "cat.glb")
    data = (tmp_path / "cat.glb").read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + length]) | {"extensionsUsed": [extension], "extensionsRequired": [extension]}
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    header = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    (tmp_path / "cat.glb").write_bytes(header + text + rest)
    with pytest.raises(InputError, match=f"cat.glb is compressed by {extension}"):
        read_asset(tmp_path / "cat.glb")


def test_turntable_refuses_other_outputs_and_inputs(asset, tmp_path):
    write_asset(asset, tmp_path / "cat.glb")
    with pytest.raises(OutputError):
        turntable(tmp_path / "cat.glb", tmp_path / "a.mp4")
    (tmp_path / "bad.ply").write_bytes(b"ply\nnonsense")
    for name in ("bad.ply", "none.ply", "none.glb"):
        with pytest.raises(InputError):
            turntable(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_contact_sheet_of_few_pictures_is_one_row():
    pictures = [np.full((2, 3, 3), k, np.uint8) for k in range(3)]
    assert contact_sheet(pictures).shape == (2, 9, 3)
    assert contact_sheet(pictures, columns=2).shape == (4, 6, 3)
