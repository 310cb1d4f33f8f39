"""What leaves Blender comes back the same: every format, written by our operator and read again by Blender's own importer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from tests.blender.importing.contents import MAGENTA, paint
from tests.blender.importing.geometry import corners_in_scene

TOLERANCE = 2e-5
"""Metres, for an asset one metre tall: FBX and USD turn and scale on the way out and back."""

IMPORTERS = {
    "GLB": ("import_scene.gltf",),
    "FBX": ("import_scene.fbx", "wm.fbx_import"),
    "USD": ("wm.usd_import",),
    "OBJ": ("wm.obj_import",),
    "ABC": ("wm.alembic_import",),
    "PLY": ("wm.ply_import",),
    "STL": ("wm.stl_import",),
}
TEXTURED = ("GLB", "FBX", "USD", "OBJ")


@dataclass(frozen=True)
class Content:
    """What an object shows.

    Attributes:
        triangles: [F, 3, 3] corners in the scene.
        uv: [F, 3, 2]; None without UV map.
        texture: [H, W, 3] of its material; None without one.
    """

    triangles: np.ndarray
    uv: np.ndarray | None
    texture: np.ndarray | None


def content_of(things: list[bpy.types.Object]) -> Content:
    (thing,) = (thing for thing in things if thing.type == "MESH")
    mesh = thing.data
    mesh.calc_loop_triangles()
    assert len(mesh.loop_triangles) == len(mesh.polygons), "not all faces are triangles"
    vertices, loops = (np.empty(3 * len(mesh.polygons), dtype=np.int32) for _ in range(2))
    mesh.loop_triangles.foreach_get("vertices", vertices)
    mesh.loop_triangles.foreach_get("loops", loops)
    uv = None
    if mesh.uv_layers:
        uv = np.empty(2 * len(mesh.loops), dtype=np.float32)
        mesh.uv_layers.active.uv.foreach_get("vector", uv)
        uv = uv.reshape(-1, 2)[loops].reshape(-1, 3, 2)
    return Content(corners_in_scene(thing)[vertices].reshape(-1, 3, 3), uv, texture_of(thing))


def texture_image(thing: bpy.types.Object) -> bpy.types.Image | None:
    """The image that a Principled BSDF takes its base colour from."""
    for material in filter(None, thing.data.materials):
        shader = next((node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED"), None)
        for link in shader.inputs["Base Color"].links if shader is not None else ():
            return link.from_node.image
    return None


def texture_of(thing: bpy.types.Object) -> np.ndarray | None:
    image = texture_image(thing)
    if image is None:
        return None
    assert image.is_float or image.colorspace_settings.name == "sRGB"
    return pixels_of(image)


def pixels_of(image: bpy.types.Image) -> np.ndarray:
    width, height = image.size
    pixels = np.empty(width * height * 4, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    return pixels.reshape(height, width, 4)[..., :3]


def turned_alike(found: Content, expected: Content) -> np.ndarray:
    """[F, 3] which corner of each found triangle is which of the expected one; formats may begin a triangle with any of them."""
    turns = np.array([np.roll(np.arange(3), -turn) for turn in range(3)])
    errors = np.stack([np.abs(found.triangles[:, turn] - expected.triangles).max(axis=(1, 2)) for turn in turns], axis=1)
    return turns[errors.argmin(axis=1)]


def find_operator(name: str):
    """One of Blender's operators; None if this Blender was built without it."""
    module, _, operator = name.partition(".")
    operator = getattr(getattr(bpy.ops, module), operator)
    try:
        operator.get_rna_type()
    except KeyError:
        return None
    return operator


def read_again(format: str, path: Path) -> Content:
    """The only object of a file, in an empty scene."""
    operator = next(filter(None, map(find_operator, IMPORTERS[format])), None)
    if operator is None:
        pytest.skip(f"this Blender cannot import {format}")
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert operator(filepath=str(path)) == {"FINISHED"}
    bpy.context.view_layer.update()
    return content_of(list(bpy.context.scene.objects))


@pytest.fixture
def export(addon_module, tmp_path):
    """`export("GLB")` writes the active object with our operator; returns the file."""
    exporters = addon_module("importing.exporting").EXPORTERS

    def export(format: str) -> Path:
        if exporters[format].find() is None:
            pytest.skip(f"this Blender cannot export {format}")
        folder = tmp_path / "exported"
        folder.mkdir(exist_ok=True)
        path = folder / f"asset{exporters[format].suffix}"
        assert bpy.ops.cograd3d.export_result(format=format, filepath=str(path.with_suffix(""))) == {"FINISHED"}
        return path

    return export


@pytest.fixture
def placed(thing):
    """The imported object, moved and turned, and not alone in the scene."""
    thing.location, thing.rotation_euler.z = (1.5, -2.0, 0.25), 0.7
    other = bpy.data.objects.new("Another", thing.data)
    bpy.context.scene.collection.objects.link(other)
    other.select_set(True)
    bpy.context.view_layer.update()
    return thing


@pytest.mark.parametrize("format", IMPORTERS)
def test_comes_back_the_same(format, export, placed, job):
    expected = content_of([placed])
    path = export(format)
    shutil.rmtree(job.path)  # what is read again is what was written, not the texture in the job folder
    found = read_again(format, path)
    assert len(found.triangles) == len(expected.triangles)
    order = turned_alike(found, expected)
    rows = np.arange(len(order))[:, None]
    np.testing.assert_allclose(found.triangles[rows, order], expected.triangles, atol=TOLERANCE)
    if format == "STL":
        assert found.uv is None
    else:
        np.testing.assert_allclose(found.uv[rows, order], expected.uv, atol=1e-5)
    if format in TEXTURED:
        assert found.texture.shape == expected.texture.shape
        np.testing.assert_allclose(found.texture, expected.texture, atol=1.5 / 255)
    else:
        assert found.texture is None


@pytest.mark.parametrize("format", IMPORTERS)
def test_modifiers_count_and_what_is_kept_from_renders_or_clicks_is_written_too(format, export, placed):
    placed.modifiers.new("Fewer", "DECIMATE").ratio = 0.2
    evaluated = placed.evaluated_get(bpy.context.evaluated_depsgraph_get())
    faces = len(evaluated.data.polygons)
    assert 0 < faces < 0.5 * len(placed.data.polygons)
    placed.hide_render = placed.hide_select = True
    found = read_again(format, export(format))
    assert len(found.triangles) == faces


@pytest.mark.parametrize("format", ["OBJ", "USD"])
def test_texture_whose_file_is_gone_is_written_again(format, export, placed, job):
    """As in a .blend file that came from another computer: the packed picture is all there is."""
    expected = content_of([placed]).texture
    shutil.rmtree(job.path)
    path = export(format)
    np.testing.assert_allclose(read_again(format, path).texture, expected, atol=1.5 / 255)


class TestPackedPicturesWhoseFolderIsGone:
    """They are written into `textures` beside the .blend file, which is the user's folder, too."""

    @pytest.fixture
    def packed(self, thing, tmp_path):
        """`packed("a/tex.png", 0.25)`: a grey picture of the object's, packed; the folder of its file is gone."""

        def packed(name: str, grey: float) -> bpy.types.Image:
            path = tmp_path / "elsewhere" / name
            path.parent.mkdir(parents=True)
            new = bpy.data.images.new("new", 8, 8)
            new.pixels.foreach_set(np.full(len(new.pixels), grey, dtype=np.float32))
            new.filepath_raw, new.file_format = str(path), "PNG"
            new.save()
            bpy.data.images.remove(new)
            image = bpy.data.images.load(str(path))
            image.pack()
            shutil.rmtree(path.parent)
            node = thing.data.materials[0].node_tree.nodes.new("ShaderNodeTexImage")
            node.image = image
            return image

        return packed

    @pytest.fixture
    def textures(self, thing, tmp_path):
        """That folder, of a saved file."""
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "mine" / "file.blend"))
        folder = tmp_path / "mine" / "textures"
        folder.mkdir(parents=True)
        return folder

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        (tmp_path / "mine").mkdir()

    @staticmethod
    def is_restored(image: bpy.types.Image) -> bool:
        return Path(bpy.path.abspath(image.filepath)).read_bytes() == image.packed_file.data

    def test_leave_the_users_file_of_that_name_alone(self, packed, textures, export):
        image = packed("wood.png", 0.5)
        (textures / "wood.png").write_bytes(b"my own picture")
        export("GLB")
        assert (textures / "wood.png").read_bytes() == b"my own picture"
        assert self.is_restored(image) and len(list(textures.iterdir())) == 2

    def test_of_one_name_stay_two_files(self, packed, textures, export):
        images = packed("a/tex.png", 0.25), packed("b/tex.png", 0.75)
        export("GLB")
        assert all(map(self.is_restored, images))
        assert len(list(textures.iterdir())) == 2 and (textures / "tex.png").is_file()

    def test_are_not_written_where_they_are_already(self, packed, textures, export):
        image = packed("tex.png", 0.25)
        (textures / "tex.png").write_bytes(image.packed_file.data)
        export("GLB")
        assert self.is_restored(image) and [path.name for path in textures.iterdir()] == ["tex.png"]

    @pytest.mark.parametrize("taken", ["a folder", "a file that was written there and changed since"])
    def test_find_another_name_whatever_has_theirs(self, taken, packed, textures, export):
        image = packed("tex.png", 0.25)
        gone = image.filepath
        if taken == "a folder":
            (textures / "tex.png").mkdir()
        else:
            (textures / "tex.png").write_bytes(b"my own picture")
            export("GLB")
            written = Path(bpy.path.abspath(image.filepath))
            assert written.stem.startswith("tex-") and len(written.stem) == len("tex-") + 8
            written.write_bytes(b"painted over")
            image.filepath_raw = gone
        export("GLB")
        assert self.is_restored(image)
        if taken != "a folder":
            assert written.read_bytes() == b"painted over"


@pytest.mark.parametrize("format", IMPORTERS)
def test_where_no_folder_can_be_made_for_a_texture_whose_file_is_gone(format, export, placed, job, tmp_path):
    """As on a share that can only be read: the exporters find the file in Blender's temporary folder, those that want one."""
    expected, image = content_of([placed]).texture, texture_image(placed)
    (tmp_path / "textures").touch()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    shutil.rmtree(job.path)
    gone = image.filepath
    path = export(format)
    if format not in TEXTURED:
        assert image.filepath == gone
    else:
        assert Path(image.filepath).is_relative_to(bpy.app.tempdir)
        np.testing.assert_allclose(read_again(format, path).texture, expected, atol=1.5 / 255)


@pytest.mark.parametrize("format", TEXTURED)
class TestPaintedAndNotSaved:
    """Every format shows what the user sees."""

    @pytest.fixture
    def loose(self, thing, tmp_path):
        """`loose("wood.png")`: a black picture of the user's as the object's texture, with that file, which may be "", and not packed."""

        def loose(name: str) -> bpy.types.Image:
            image = bpy.data.images.new("My Wood", 8, 8)
            if name:
                image.filepath_raw, image.file_format = str(tmp_path / name), "PNG"
                image.save()
            next(node for node in thing.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE").image = image
            return image

        return loose

    @staticmethod
    def assert_painted(format: str, path: Path) -> None:
        texture = read_again(format, path).texture
        assert texture is not None and texture.size
        np.testing.assert_allclose(texture, np.broadcast_to(MAGENTA, texture.shape), atol=1.5 / 255)

    def test_packed(self, format, export, thing):
        """Packing it anew would make undo, which knows the old bytes, take back what was painted."""
        image = texture_image(thing)
        paint(image)
        packed = image.packed_file.data
        path = export(format)
        assert image.is_dirty and image.packed_file.data == packed and texture_image(thing) == image
        self.assert_painted(format, path)

    def test_with_a_file(self, format, export, loose, tmp_path):
        """That file, and whether the image is saved, are the user's business."""
        image = loose("wood.png")
        paint(image)
        before, saved = image.filepath, (tmp_path / "wood.png").read_bytes()
        path = export(format)
        assert (image.is_dirty, image.filepath, image.packed_file) == (True, before, None)
        assert (tmp_path / "wood.png").read_bytes() == saved
        self.assert_painted(format, path)

    @pytest.mark.parametrize("name", ["wood.png", "textures/wood.png"])
    def test_with_a_file_beside_what_is_written(self, name, format, export, loose, tmp_path):
        (tmp_path / "exported" / "textures").mkdir(parents=True)
        paint(loose(f"exported/{name}"))
        saved = (tmp_path / "exported" / name).read_bytes()
        path = export(format)
        assert (tmp_path / "exported" / name).read_bytes() == saved
        self.assert_painted(format, path)

    def test_without_a_file(self, format, export, loose):
        image = loose("")
        paint(image)
        path = export(format)
        assert (image.is_dirty, image.filepath, image.source) == (True, "", "GENERATED")
        self.assert_painted(format, path)

    def test_in_floating_point(self, format, export, thing):
        """Written as EXR, which holds more than a PNG."""
        image = bpy.data.images.new("My Wood", 8, 8, float_buffer=True)
        paint(image)
        next(node for node in thing.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE").image = image
        self.assert_painted(format, export(format))

    def test_where_no_copy_can_be_written(self, format, export, loose, addon_module, monkeypatch, tmp_path):
        image = loose("wood.png")
        paint(image)
        (tmp_path / "full").touch()
        elsewhere = SimpleNamespace(app=SimpleNamespace(tempdir=str(tmp_path / "full")), data=bpy.data, path=bpy.path)
        monkeypatch.setattr(addon_module("importing.painted"), "bpy", elsewhere)
        before = len(bpy.data.images)
        with pytest.raises(RuntimeError, match="My Wood as it was painted could not be written"):
            export(format)
        assert len(bpy.data.images) == before and image.is_dirty

    def test_nothing_is_left_of_it(self, format, export, loose):
        paint(loose("wood.png"))
        before, held = len(bpy.data.images), set(Path(bpy.app.tempdir).iterdir())
        export(format)
        assert len(bpy.data.images) == before and set(Path(bpy.app.tempdir).iterdir()) == held


def test_two_assets_beside_one_another_keep_their_textures(export, thing, another_job, select):
    first = content_of([thing]).texture
    other = another_job("2026-01-01-another-teapot-0a1b2d")
    bpy.ops.cograd3d.import_result(job=other.id)
    image = texture_image(bpy.context.active_object)
    image.pixels.foreach_set(np.full(len(image.pixels), 0.5, dtype=np.float32))
    image.pack()
    folder = export("OBJ").parent
    (folder / "asset.obj").rename(folder / "other.obj")
    (folder / "asset.mtl").rename(folder / "other.mtl")
    select(thing)
    path = export("OBJ")
    assert len(list(folder.glob("*.png"))) == 2
    np.testing.assert_allclose(read_again("OBJ", path).texture, first, atol=1.5 / 255)


class TestTheOperator:
    def test_gives_the_file_its_suffix(self, export, placed):
        assert export("PLY").is_file()

    def test_leaves_the_selection_as_it_was(self, export, placed):
        before = {other.name for other in bpy.context.view_layer.objects.selected}
        assert len(before) == 2
        export("PLY")
        assert {other.name for other in bpy.context.view_layer.objects.selected} == before
        assert bpy.context.view_layer.objects.active == placed

    def test_an_exporter_that_is_switched_off(self, thing, addon_module, monkeypatch, tmp_path):
        exporter = addon_module("importing.exporting").EXPORTERS["OBJ"]
        monkeypatch.setattr(type(exporter), "find", lambda self: None)
        with pytest.raises(RuntimeError, match=r"Wavefront .* is switched off"):
            bpy.ops.cograd3d.export_result(format="OBJ", filepath=str(tmp_path / "asset"))
        assert not list(tmp_path.glob("asset*"))

    def test_a_folder_that_is_none(self, thing, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(RuntimeError, match="no folder"):
            bpy.ops.cograd3d.export_result(format="OBJ", filepath=str(tmp_path / "file" / "asset.obj"))

    @pytest.mark.parametrize("format", IMPORTERS)
    def test_a_name_that_is_taken_by_a_folder(self, format, thing, tmp_path, addon_module):
        exporter = addon_module("importing.exporting").EXPORTERS[format]
        if exporter.find() is None:
            pytest.skip(f"this Blender cannot export {format}")
        path = tmp_path / f"asset{exporter.suffix}"
        path.mkdir()
        with pytest.raises(RuntimeError, match="could not be written") as caught:
            bpy.ops.cograd3d.export_result(format=format, filepath=str(path))
        assert "Traceback" not in str(caught.value)

    def test_a_hidden_object(self, thing, tmp_path):
        thing.hide_set(True)
        bpy.context.view_layer.objects.active = thing
        with pytest.raises(RuntimeError, match="is hidden"):
            bpy.ops.cograd3d.export_result(format="OBJ", filepath=str(tmp_path / "asset"))

    @pytest.mark.parametrize("format", IMPORTERS)
    def test_an_object_in_a_collection_that_cannot_be_clicked(self, format, export, thing):
        (collection,) = thing.users_collection
        collection.hide_select = True
        count = len(thing.data.polygons)
        path = export(format)
        assert collection.hide_select
        assert len(read_again(format, path).triangles) == count

    def test_a_folder_alone_is_no_file(self, thing, tmp_path):
        with pytest.raises(RuntimeError, match="No file was chosen"):
            bpy.ops.cograd3d.export_result(format="GLB", filepath=f"{tmp_path}/")
        assert not list(tmp_path.glob(".*"))

    def test_without_a_file(self, thing):
        with pytest.raises(RuntimeError, match="No file was chosen"):
            bpy.ops.cograd3d.export_result(format="OBJ")

    def test_every_format_explains_itself(self, addon_module):
        for exporter in addon_module("importing.exporting").EXPORTERS.values():
            assert len(exporter.explanation) > 20


def test_a_picture_of_the_users_beside_an_obj_stays(export, thing):
    first = content_of([thing]).texture
    taken = export("PLY").parent / bpy.path.basename(texture_image(thing).filepath)
    taken.write_bytes(b"a picture of the user's")
    path = export("OBJ")
    assert taken.read_bytes() == b"a picture of the user's"
    np.testing.assert_allclose(read_again("OBJ", path).texture, first, atol=1.5 / 255)
