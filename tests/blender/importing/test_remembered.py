"""What an imported object remembers of how it was made."""

from __future__ import annotations

import json
import shutil

import bpy
import numpy as np
import pytest

from tests.blender.importing.contents import image_of, import_again


def test_how_it_was_made(thing, job):
    data, version = thing["cograd3d"], json.loads((job.path / "made_by.json").read_text())["cograd3d"]
    assert data["prompt"] == "a golden teapot" and data["negative_prompt"] == ""
    assert data["seed"] == "1" and data["quality"] == "draft" and data["method"] == "cograd3d"
    assert data["version"] == version and data["prior"] == "builtin:exact" and len(data["prior_fingerprint"]) >= 16
    assert data["job"] == job.id and data["created"].startswith("20")
    versions = json.loads(data["versions"])
    assert versions["blender"] == bpy.app.version_string and versions["torch"] and versions["cograd3d"] == version


@pytest.mark.parametrize("seed", [2**31, 2**63 - 1])
def test_a_seed_that_blender_has_no_number_for(seed, job, another_job, session):
    config = job.folder.config
    config["run"]["seed"] = seed
    (job.path / "config.json").write_text(json.dumps(config))
    thing = import_again(job)
    assert thing["cograd3d"]["seed"] == str(seed)
    other = another_job("2026-01-02-other-0a1b2d")
    assert bpy.ops.cograd3d.import_onto(job=other.id) == {"FINISHED"}
    assert thing["cograd3d"]["seed"] == str(seed) and thing["cograd3d"]["job"] == other.id


def test_also_in_a_saved_file_without_its_job(thing, job, tmp_path):
    name, data = thing.name, thing["cograd3d"].to_dict()
    expected = np.empty(len(image_of(thing).pixels), dtype=np.float32)
    image_of(thing).pixels.foreach_get(expected)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    shutil.rmtree(job.path)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
    thing = bpy.data.objects[name]
    assert thing["cograd3d"].to_dict() == data
    found = np.empty(len(image_of(thing).pixels), dtype=np.float32)
    image_of(thing).pixels.foreach_get(found)
    np.testing.assert_array_equal(found, expected)
