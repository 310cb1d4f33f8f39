"""Damaged meshes and point clouds are refused by both readers, before anything computes with them."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.config import GaussiansConfig
from backend.environment import PACKAGE_ROOT
from backend.errors import InputError
from backend.gaussians.initialize import initialize
from backend.gaussians.splat_file import read_header
from backend.mesh_faults import LARGEST_COORDINATE, find_fault
from backend.meshing import export
from backend.meshing.mesh import TexturedMesh
from backend.meshing.turntable import open_subject, read_asset

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 1, 2], [0, 1, 3]], np.uint32)
UV = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
GREY = np.full((4, 4, 3), 128, np.uint8)


def changed(array: np.ndarray, value: float) -> np.ndarray:
    """A copy whose first number is another."""
    array = array.copy()
    array.flat[0] = value
    return array


def write_glb(path: Path, *, vertices: np.ndarray = CORNERS, faces: np.ndarray = FACES, uv: np.ndarray = UV) -> None:
    """A textured mesh, whatever is in it: written whole, then overwritten, since writers compute with what they are given."""
    export.write_glb(TexturedMesh(CORNERS, CORNERS, FACES.astype(np.int32), UV, GREY), path)
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document, binary = json.loads(data[20 : 20 + length]), bytearray(data[28 + length :])
    primitive = document["meshes"][0]["primitives"][0]
    for accessor, array in (
        (primitive["attributes"]["POSITION"], vertices.astype("<f4")),
        (primitive["attributes"]["TEXCOORD_0"], uv.astype("<f4")),
        (primitive["indices"], faces.astype("<u4")),
    ):
        start = document["bufferViews"][document["accessors"][accessor]["bufferView"]]["byteOffset"]
        binary[start : start + array.nbytes] = array.tobytes()
    path.write_bytes(data[: 28 + length] + binary)


def write_damaged(path: Path) -> None:
    """The file that a name stands for."""
    match path.name:
        case "nan_uv.glb":
            write_glb(path, uv=changed(UV, np.nan))
        case "infinite_uv.glb":
            write_glb(path, uv=changed(UV, np.inf))
        case "index.glb":
            write_glb(path, faces=changed(FACES, 100_000_000))
        case "far.glb":
            write_glb(path, vertices=changed(CORNERS, 1e30))
        case "far.obj":
            path.write_text("v 1e200 0 0\nv -1e200 0 0\nv 0 1e200 0\nf 1 2 3\n")
        case "far.xyz":
            path.write_text("1e300 0 0\n-1e300 0 0\n1 1 1\n")
        case "colour.xyz":
            path.write_text("0 0 0 nan 1 1\n0 0 1 1 1 1\n1 0 0 1 1 1\n")
        case "count.ply":
            path.write_text(f"ply\nformat binary_little_endian 1.0\nelement vertex {'9' * 5000}\nproperty float x\nend_header\n")


DAMAGED = ("nan_uv.glb", "infinite_uv.glb", "index.glb", "far.glb", "far.obj", "far.xyz", "colour.xyz", "count.ply")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DAMAGED)
class TestReaders:
    def test_to_look_at(self, tmp_path, name):
        write_damaged(tmp_path / name)
        with pytest.raises(InputError, match=name) as caught:
            open_subject(tmp_path / name)
        assert caught.value.remedy

    def test_to_start_from(self, tmp_path, name):
        write_damaged(tmp_path / name)
        with pytest.raises(InputError, match=name) as caught:
            initialize(GaussiansConfig(initial=str(tmp_path / name), count=50), torch.Generator().manual_seed(0))
        assert caught.value.remedy


def test_the_undamaged_file_is_read(tmp_path):
    write_glb(tmp_path / "whole.glb")
    assert len(read_asset(tmp_path / "whole.glb").faces) == 2
    assert len(initialize(GaussiansConfig(initial=str(tmp_path / "whole.glb"), count=50), torch.Generator().manual_seed(0))) == 50


class TestFindFault:
    @pytest.mark.parametrize(
        ("damage", "what"),
        [
            ({"faces": changed(FACES.astype(np.int64), 4)}, "a vertex that is not there"),
            ({"faces": changed(FACES.astype(np.int64), -1)}, "a vertex that is not there"),
            ({"vertices": changed(CORNERS, np.nan)}, "coordinates that are not finite"),
            ({"vertices": changed(CORNERS, -1e16)}, "coordinates beyond 1e+15"),
            ({"uv": changed(UV, np.inf)}, "texture coordinates that are not finite"),
            ({"uv": UV[:3]}, "3 texture coordinates for 4 vertices"),
            ({"colors": changed(CORNERS, np.nan)}, "colours that are not finite"),
        ],
    )
    def test_names_it(self, damage, what):
        good = {"vertices": CORNERS, "faces": FACES, "uv": UV, "colors": CORNERS}
        assert find_fault(**good) is None
        assert what in (find_fault(**good | damage) or "")

    def test_what_is_large_but_bearable_passes(self):
        assert find_fault(changed(CORNERS.astype(float), LARGEST_COORDINATE), FACES) is None
        assert find_fault(CORNERS, np.zeros((0, 3), int)) is None


@pytest.mark.parametrize("count", ["9" * 19, "-1", "many"])
@pytest.mark.parametrize("before", ["", "element vertex 3\nproperty float x\n"])
def test_a_count_that_is_none_is_no_header(tmp_path, count, before):
    (tmp_path / "a.ply").write_text(f"ply\nformat ascii 1.0\n{before}element vertex {count}\nproperty float y\nend_header\n")
    assert read_header(tmp_path / "a.ply") is None


def test_no_lookup_in_a_texture_leaves_it():
    """In a process of its own, which one outside the texture ends."""
    code = """if True:
        import numpy as np
        from backend.meshing.zbuffer import sample_texture
        texture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        colors = sample_texture(texture, np.array([[np.nan, np.nan], [-np.inf, np.inf]]))
        assert np.allclose(colors, texture[0, 0] / 255), colors
    """
    answer = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE_ROOT, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
