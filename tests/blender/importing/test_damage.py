"""Whatever is wrong with a job folder: a clear message, and a file that is as before."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import pytest

from tests.blender.importing.contents import counts, image_of, import_again


@pytest.fixture
def refused(job):
    def refused(match: str) -> None:
        before = counts()
        with pytest.raises(RuntimeError, match=match) as caught:
            bpy.ops.cograd3d.import_result(job=job.id)
        assert "Traceback" not in str(caught.value)
        assert counts() == before

    return refused


def test_the_asset_is_gone(job, refused):
    job.folder.asset_path.unlink()
    refused("cannot be read")


@pytest.mark.parametrize("share", [0.0, 0.00002, 0.001, 0.5, 0.999])
def test_the_asset_is_cut_off(share, job, refused):
    data = job.folder.asset_path.read_bytes()
    job.folder.asset_path.write_bytes(data[: int(share * len(data))])
    refused("damaged or not a result")


def test_the_asset_is_something_else(job, refused):
    job.folder.asset_path.write_bytes(b"glTF" + bytes(range(256)) * 100)
    refused("damaged or not a result")


def test_the_texture_is_no_picture(job, refused):
    data = job.folder.asset_path.read_bytes()
    start = data.index(b"\x89PNG")
    job.folder.asset_path.write_bytes(data[:start] + bytes(len(data) - start))
    refused("texture of the result is damaged")


def test_the_texture_cannot_be_written_into_the_folder(job):
    """A full or write-protected disk: the picture is in the .blend file all the same, and its file in Blender's temporary folder."""
    (job.path / f"{job.id}.png").mkdir()
    image = image_of(import_again(job))
    assert image.packed_file is not None and Path(image.filepath).parent == Path(bpy.app.tempdir)
    assert Path(image.filepath).read_bytes() == image.packed_file.data


def test_the_texture_can_be_written_nowhere(job, refused, addon_module, monkeypatch):
    error = addon_module("..backend.errors").OutputError("It could not be written.")

    def refuse(*_):
        raise error

    monkeypatch.setattr(addon_module("importing.datablocks"), "atomic_write_bytes", refuse)
    refused("could not be written")


@pytest.mark.parametrize("name", ["spec.json", "config.json", "state.json"])
@pytest.mark.parametrize("content", [None, "[", "[]"])
def test_what_was_asked_for_cannot_be_read(name, content, job, refused):
    if content is None:
        (job.path / name).unlink()
    else:
        (job.path / name).write_text(content)
    refused(".")


def test_what_is_only_told_may_be_missing(job):
    for name in ("regions.json", "made_by.json", "trace.jsonl", "events.jsonl"):
        (job.path / name).unlink(missing_ok=True)
    shutil.rmtree(job.path / "views")
    assert import_again(job)["cograd3d"]["prompt"] == "a golden teapot"


@pytest.mark.parametrize("module, name", [("results", "make_material"), ("results", "collection_of"), ("metadata", "describe")])
def test_something_that_nobody_thought_of(module, name, job, addon_module, monkeypatch):
    before = counts()
    module = addon_module(f"importing.{module}")
    made = getattr(module, name)

    def fail(*arguments, **options):
        made(*arguments, **options)
        raise ValueError("never heard of")

    monkeypatch.setattr(module, name, fail)
    with pytest.raises(RuntimeError, match="never heard of"):
        bpy.ops.cograd3d.import_result(job=job.id)
    assert counts() == before


@pytest.mark.parametrize("onto", [False, True])
def test_metadata_that_blender_does_not_take(onto, thing, job, addon_module, monkeypatch):
    metadata = addon_module("importing.metadata")
    describe = metadata.describe
    monkeypatch.setattr(metadata, "describe", lambda *arguments, **options: describe(*arguments, **options) | {"number": 2**40})
    mesh, material, image, data, before = thing.data, thing.data.materials[0], image_of(thing), thing["cograd3d"].to_dict(), counts()
    with pytest.raises(RuntimeError, match="OverflowError"):
        getattr(bpy.ops.cograd3d, "import_onto" if onto else "import_result")(job=job.id)
    assert counts() == before
    assert (thing.data, thing.data.materials[0], image_of(thing)) == (mesh, material, image) and thing["cograd3d"].to_dict() == data


def test_the_whole_folder_is_gone(job, refused):
    shutil.rmtree(job.path)
    refused(".")


def test_there_is_no_such_job(job):
    with pytest.raises(RuntimeError, match="There is no such job"):
        bpy.ops.cograd3d.import_result(job="nonsense")


def test_what_was_to_be_replaced_stays(thing, another_job):
    other = another_job("2026-01-02-other-0a1b2d")
    other.folder.asset_path.unlink()
    mesh, data, before = thing.data, thing["cograd3d"].to_dict(), counts()
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.cograd3d.import_onto(job=other.id)
    assert thing.data == mesh and thing["cograd3d"].to_dict() == data and counts() == before
