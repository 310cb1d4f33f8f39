"""Meshes of other programs: what their formats say is what is read."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from backend.errors import InputError
from backend.meshing.foreign import Piece, Unreadable, read_contents, repeated
from backend.meshing.glb_header import refuse_compressed

from .glb_files import CORNERS, FACES, write_glb

TETRAHEDRON = {"POSITION": CORNERS, "indices": FACES}
HALF = 0.735
"""How half of the light is shown in sRGB."""

UV = np.array([[0.25, 0.25], [0.25, 0.25], [0.25, 0.25], [0.25, 0.25]], "<f4")
TEXTURED = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]


def png(*colours: tuple[int, int, int]) -> bytes:
    """A picture of two by two pixels, row by row from the top; one colour: all of it."""
    pixels = np.array(colours * (4 // len(colours)), np.uint8).reshape(2, 2, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def only(path: Path) -> Piece:
    (piece,) = read_contents(path).pieces
    return piece


def colour(piece: Piece, face: int = 0) -> list[float] | None:
    """In the middle of a face."""
    colors = piece.colors_at(np.array([face]), np.full((1, 3), 1 / 3))
    return None if colors is None else colors[0].tolist()


class TestColours:
    @pytest.mark.parametrize("columns", [3, 4])
    @pytest.mark.parametrize(
        "values",
        [
            lambda n: np.full((4, n), 0.5, "<f4"),
            lambda n: (np.full((4, n), 128, "u1"), True),
            lambda n: (np.full((4, n), 32768, "<u2"), True),
        ],
        ids=["float", "8 bits", "16 bits, as Blender writes them"],
    )
    def test_of_vertices_are_linear_in_any_type(self, tmp_path, values, columns):
        path = write_glb(tmp_path / "a.glb", TETRAHEDRON | {"COLOR_0": values(columns)})
        assert colour(only(path)) == pytest.approx([HALF] * 3, abs=0.003)

    def test_of_dark_vertices_are_not_rounded_to_8_bits(self, tmp_path):
        """Linear 0.002 lies between the first two of 256 steps."""
        path = write_glb(tmp_path / "a.glb", TETRAHEDRON | {"COLOR_0": np.full((4, 3), 0.002, "<f4")})
        assert colour(only(path)) == pytest.approx([12.92 * 0.002] * 3, rel=1e-3)

    def test_of_vertices_multiply_the_material(self, tmp_path):
        material = {"pbrMetallicRoughness": {"baseColorFactor": [1.0, 0.5, 0.0, 1.0]}}
        primitive = TETRAHEDRON | {"COLOR_0": np.full((4, 3), 0.5, "<f4"), "material": 0}
        path = write_glb(tmp_path / "a.glb", primitive, materials=[material])
        assert colour(only(path)) == pytest.approx([HALF, 0.538, 0.0], abs=0.003)

    def test_of_vertices_multiply_the_texture(self, tmp_path):
        primitive = TETRAHEDRON | {"COLOR_0": np.full((4, 3), 0.5, "<f4"), "TEXCOORD_0": UV, "material": 0}
        path = write_glb(tmp_path / "a.glb", primitive, materials=TEXTURED, images=[png((0, 255, 0))])
        assert colour(only(path)) == pytest.approx([0.0, HALF, 0.0], abs=0.003)

    def test_a_material_without_a_colour_is_white(self, tmp_path):
        path = write_glb(tmp_path / "a.glb", TETRAHEDRON | {"material": 0}, materials=[{"name": "plain"}])
        assert colour(only(path)) == pytest.approx([1.0] * 3)

    def test_no_material_is_no_colour(self, tmp_path):
        assert colour(only(write_glb(tmp_path / "a.glb", TETRAHEDRON))) is None

    def test_corners_that_share_a_place_keep_their_own(self, tmp_path):
        """Two faces with an edge in common, one red, one blue."""
        red, blue = (255, 0, 0), (0, 0, 255)
        rows = [(0, 0, 0, *red), (1, 0, 0, *red), (0, 1, 0, *red), (0, 0, 0, *blue), (1, 0, 0, *blue), (0, 0, 1, *blue)]
        header = ["ply", "format ascii 1.0", "element vertex 6", *(f"property float {axis}" for axis in "xyz")]
        header += [*(f"property uchar {name}" for name in ("red", "green", "blue")), "element face 2"]
        header += ["property list uchar int vertex_indices", "end_header"]
        (tmp_path / "a.ply").write_text("\n".join([*header, *(" ".join(map(str, row)) for row in rows), "3 0 1 2", "3 3 4 5", ""]))
        piece = only(tmp_path / "a.ply")
        assert colour(piece, 0) == pytest.approx([1, 0, 0]) and colour(piece, 1) == pytest.approx([0, 0, 1])

    def test_of_points_are_linear_too(self, tmp_path):
        points = {"POSITION": CORNERS, "COLOR_0": np.full((4, 3), 0.5, "<f4"), "mode": 0}
        ((_, colors),) = read_contents(write_glb(tmp_path / "a.glb", points)).clouds
        assert colors == pytest.approx(np.full((4, 3), HALF), abs=0.003)


class TestTextures:
    QUARTERS = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    """Upper left, upper right; lower left, lower right."""

    def write(self, path: Path, information: dict, **coordinates) -> Path:
        material = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0} | information}}
        return write_glb(path, TETRAHEDRON | coordinates | {"material": 0}, materials=[material], images=[png(*self.QUARTERS)])

    @pytest.mark.parametrize(("information", "red"), [({}, 200 / 255), ({"diffuseFactor": [0.5, 0.5, 0.5, 1.0]}, 0.581)])
    def test_of_specular_and_glossy_materials_are_as_bright(self, tmp_path, information, red):
        """Which trimesh makes metallic ones of, and calls grey where nothing but a texture says their colour."""
        plain = {"diffuseTexture": {"index": 0}, "specularFactor": [0, 0, 0]} | information
        path = write_glb(
            tmp_path / "a.glb",
            TETRAHEDRON | {"TEXCOORD_0": UV, "material": 0},
            materials=[{"extensions": {"KHR_materials_pbrSpecularGlossiness": plain}}],
            images=[png((200, 0, 0))],
        )
        assert colour(only(path)) == pytest.approx([red, 0, 0], abs=0.02)

    @pytest.mark.parametrize(
        "statement",
        [
            "t.png",
            "./in here/t.png",
            r".\in here\t.png",
            r"in here\t.png",
            "-s 1 1 1 t.png",
            "-clamp on -o 0.5 0 -mm 0 1 in here/t.png",
            "-1.png",
        ],
    )
    def test_of_an_mtl_as_programs_write_them(self, tmp_path, statement):
        (tmp_path / "in here").mkdir()
        for name in ("t.png", "in here/t.png", "-1.png"):
            (tmp_path / name).write_bytes(png((200, 0, 0)))
        (tmp_path / "a.mtl").write_text(f"newmtl m\nKd 0 0 1\nmap_Kd {statement}\n")
        corners = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS.tolist())
        path = tmp_path / "a.obj"
        path.write_text(f"mtllib a.mtl\n{corners}vt 0.5 0.5\nusemtl m\nf 1/1 3/1 2/1\nf 1/1 2/1 4/1\n")
        assert colour(only(path)) == pytest.approx([200 / 255, 0, 0], abs=0.01)

    def test_coordinates_in_integers(self, tmp_path):
        quarter = (np.tile(np.array([[49151, 16384]], "<u2"), (4, 1)), True)
        assert colour(only(self.write(tmp_path / "a.glb", {}, TEXCOORD_0=quarter))) == pytest.approx([0, 1, 0], abs=0.01)

    def test_the_second_coordinates(self, tmp_path):
        path = self.write(tmp_path / "a.glb", {"texCoord": 1}, TEXCOORD_0=UV, TEXCOORD_1=np.tile(np.array([[0.75, 0.25]], "<f4"), (4, 1)))
        assert colour(only(path)) == pytest.approx([0, 1, 0])

    @pytest.mark.parametrize(
        ("transform", "wanted"),
        [
            ({"offset": [0.5, 0.0]}, [0, 1, 0]),
            ({"scale": [1.0, 3.0]}, [0, 0, 1]),
            ({"rotation": np.pi / 2, "offset": [0.5, 0.5]}, [0, 1, 0]),
            ({"scale": [3.0, 1.0], "offset": [0.0, 0.5]}, [1, 1, 1]),
        ],
    )
    def test_coordinates_are_transformed(self, tmp_path, transform, wanted):
        path = self.write(tmp_path / "a.glb", {"extensions": {"KHR_texture_transform": transform}}, TEXCOORD_0=UV)
        assert colour(only(path)) == pytest.approx(wanted, abs=1e-5)

    def test_they_repeat_outside_of_their_edges(self, tmp_path):
        path = self.write(tmp_path / "a.glb", {}, TEXCOORD_0=np.tile(np.array([[-4.25, 7.25]], "<f4"), (4, 1)))
        assert colour(only(path)) == pytest.approx([0, 1, 0], abs=1e-5)
        assert repeated(np.array([[0.0, 1.0], [1.25, -0.25]])).tolist() == [[0.0, 1.0], [0.25, 0.75]]


class TestShapes:
    def test_positions_in_integers_are_what_they_stand_for(self, tmp_path):
        """Two pieces side by side, one of them in sixteen bits, each vertex padded to eight bytes."""
        padded = np.zeros((4, 4), "<i2")
        padded[:, :3] = 32767 * CORNERS

        def describe(document):
            document["accessors"][1] |= {"type": "VEC3"}
            document["bufferViews"][1]["byteStride"] = 8

        primitives = {"POSITION": (padded, True), "indices": FACES}, {"POSITION": CORNERS, "indices": FACES}
        path = write_glb(tmp_path / "a.glb", *primitives, extensions=["KHR_mesh_quantization"], edit=describe)
        first, second = read_contents(path).pieces
        assert first.vertices == pytest.approx(second.vertices, abs=1e-6)

    @pytest.mark.parametrize("has_base", [True, False])
    def test_sparse_values_are_put_in_their_places(self, tmp_path, has_base):
        """Three corners elsewhere than in the base, which is the tetrahedron, or all zeros."""
        moved = np.array([[5, 5, 5], [7, 7, 7], [0, 0, 9]], "<f4")

        def make_sparse(document):
            sparse = {"count": 3, "indices": {"bufferView": 2, "componentType": 5123}, "values": {"bufferView": 3}}
            document["accessors"] = document["accessors"][:2]
            document["accessors"][1]["sparse"] = sparse
            document["meshes"][0]["primitives"][0]["attributes"] = {"POSITION": 1}
            if not has_base:
                del document["accessors"][1]["bufferView"]

        primitive = TETRAHEDRON | {"_PLACES": np.array([0, 1, 3], "<u2"), "_VALUES": moved}
        piece = only(write_glb(tmp_path / "a.glb", primitive, edit=make_sparse))
        wanted = CORNERS.copy() if has_base else np.zeros((4, 3))
        wanted[[0, 1, 3]] = moved
        assert piece.vertices == pytest.approx(wanted)

    def test_fans_and_strips_are_triangles(self, tmp_path):
        square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4")
        fan = only(write_glb(tmp_path / "fan.glb", {"POSITION": square, "mode": 6}))
        order = np.array([0, 1, 3, 2], "<u2")
        strip = only(write_glb(tmp_path / "strip.glb", {"POSITION": square, "indices": order, "mode": 5}))
        assert fan.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
        assert fan.areas.tolist() == strip.areas.tolist() == [0.5, 0.5]

    def test_a_mirrored_node_and_the_scene_that_is_meant(self, tmp_path):
        nodes = {"mesh": 0, "scale": [-2.0, 1.0, 1.0]}, {"mesh": 0, "translation": [100.0, 0.0, 0.0]}
        scenes = {"scenes": [{"nodes": [1]}, {"nodes": [0]}], "scene": 1}
        piece = only(write_glb(tmp_path / "a.glb", TETRAHEDRON, nodes=nodes, edit=lambda document: document.update(scenes)))
        assert piece.vertices == pytest.approx(CORNERS * [-2, 1, 1])
        assert trimesh.Trimesh(piece.vertices, piece.faces).volume == pytest.approx(2 / 6), "it faces outwards"

    def test_a_file_without_scenes_shows_all_its_roots(self, tmp_path):
        nodes = {"children": [1], "translation": [3.0, 0.0, 0.0]}, {"mesh": 0}
        path = write_glb(tmp_path / "a.glb", TETRAHEDRON, nodes=nodes, edit=lambda d: (d.pop("scenes"), d.pop("scene")))
        assert only(path).vertices == pytest.approx(CORNERS + np.array([3, 0, 0]))

    def test_tiny_ones_keep_their_faces(self, tmp_path):
        (tmp_path / "a.obj").write_text("v 0 0 0\nv 3e-9 0 0\nv 0 3e-9 0\nf 1 2 3\n")
        assert only(tmp_path / "a.obj").areas == pytest.approx([4.5e-18])

    def test_a_texture_is_not_copied_for_every_place_that_its_mesh_stands_in(self, tmp_path):
        primitive = TETRAHEDRON | {"TEXCOORD_0": UV, "material": 0}
        nodes = [{"mesh": 0, "translation": [float(k), 0.0, 0.0]} for k in range(3)]
        pieces = read_contents(write_glb(tmp_path / "a.glb", primitive, nodes=nodes, materials=TEXTURED, images=[png((1, 2, 3))])).pieces
        assert len(pieces) == 3 and all(piece.texture is pieces[0].texture for piece in pieces)


class TestRefusals:
    @pytest.mark.parametrize(("extension", "name"), [("KHR_draco_mesh_compression", "Draco"), ("EXT_meshopt_compression", "meshopt")])
    def test_compressed_files_by_the_name_of_their_compression(self, tmp_path, extension, name):
        with pytest.raises(InputError, match=rf"a\.glb is compressed by {extension} \({name}\)") as caught:
            read_contents(write_glb(tmp_path / "a.glb", TETRAHEDRON, extensions=[extension]))
        assert "without compression" in caught.value.remedy

    def test_a_compressed_file_is_known_by_its_first_bytes(self, tmp_path):
        """Cut off right after its description, and with a binary part that could not be read."""
        path = write_glb(tmp_path / "a.glb", TETRAHEDRON, extensions=["KHR_draco_mesh_compression"])
        data = path.read_bytes()
        path.write_bytes(data[: 20 + int.from_bytes(data[12:16], "little")])
        with pytest.raises(InputError, match=r"a\.glb is compressed by KHR_draco_mesh_compression \(Draco\)"):
            refuse_compressed(path)

    @pytest.mark.parametrize("content", [b"", b"glTF", b"glTF" + bytes(40), b"solid x", None], ids=repr)
    def test_what_is_not_known_to_be_compressed_is_let_through(self, tmp_path, content):
        path = write_glb(tmp_path / "a.glb", TETRAHEDRON, extensions=["KHR_mesh_quantization"])
        if content is not None:
            path.write_bytes(content)
        refuse_compressed(path)
        refuse_compressed(tmp_path / "missing.glb")

    @pytest.mark.parametrize("required", [7, "KHR_draco_mesh_compression", {}, [[]]])
    def test_a_damaged_list_of_extensions_is_let_through(self, tmp_path, required):
        refuse_compressed(write_glb(tmp_path / "a.glb", TETRAHEDRON, edit=lambda document: document.update(extensionsRequired=required)))

    def test_a_header_that_promises_more_than_there_is(self, tmp_path):
        data = bytearray(write_glb(tmp_path / "a.glb", TETRAHEDRON).read_bytes())
        data[12:16] = b"\xff" * 4
        (tmp_path / "a.glb").write_bytes(data)
        refuse_compressed(tmp_path / "a.glb")

    def test_that_look_needs_nothing_but_the_standard_library(self):
        code = "import sys, backend.meshing.glb_header; sys.exit(any(m in sys.modules for m in ('numpy', 'numba', 'trimesh')))"
        assert subprocess.run([sys.executable, "-S", "-c", code], cwd=Path(__file__).parents[3]).returncode == 0

    @pytest.mark.parametrize(
        ("damage", "what"),
        [
            (lambda d: d["accessors"][1].update(count=1000, normalized=True), "beyond its data"),
            (lambda d: d["accessors"][1].update(sparse={"count": 9, "indices": {}, "values": {}}), "damaged"),
            (lambda d: d["meshes"][0]["primitives"][0].update(attributes={"POSITION": 77}), "damaged"),
            (lambda d: d.update(meshes=[7]), "damaged"),
        ],
    )
    def test_damaged_files(self, tmp_path, damage, what):
        with pytest.raises(Unreadable, match=what):
            read_contents(write_glb(tmp_path / "a.glb", TETRAHEDRON, edit=damage))

    def test_a_cut_off_file_and_a_damaged_picture(self, tmp_path):
        whole = write_glb(tmp_path / "a.glb", TETRAHEDRON).read_bytes()
        (tmp_path / "cut.glb").write_bytes(whole[:-9])
        with pytest.raises(Unreadable, match="ends before its data do"):
            read_contents(tmp_path / "cut.glb")
        noise = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(noise, format="PNG")
        path = write_glb(
            tmp_path / "b.glb", TETRAHEDRON | {"TEXCOORD_0": UV, "material": 0}, materials=TEXTURED, images=[noise.getvalue()[:2000]]
        )
        with pytest.raises(Unreadable, match="truncated"):
            read_contents(path)

    def test_faces_without_area_are_not_called_missing(self, tmp_path):
        (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
        with pytest.raises(Unreadable, match="its faces have no area"):
            read_contents(tmp_path / "a.obj")
