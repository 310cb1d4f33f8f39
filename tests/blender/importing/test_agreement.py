"""The imported asset, rendered through a region's camera, is what the worker saw there: orientation, scale, place, UV and colours."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest

from tests.blender.importing.rendering import light_evenly, psnr, read_picture, render

AGREEMENT = 22.0
"""dB. Measured with the teapot of these tests: 27.5 to 31.6 in its 36 regions."""

CLEARLY_WORSE = 2.0
"""dB that a wrong import has to lose. Measured in the one of `REGIONS` that loses least: mirrored 2.8, a tenth too large 10, turned 8.6."""

SIZE = 256
"""Pixels of the worker's pictures."""

REGIONS = (3, 15, 27)
"""From three heights, nowhere near a plane of symmetry of the teapot."""


@pytest.fixture
def even_light(addon):
    light_evenly(bpy.context.scene)


@pytest.fixture
def compare(job, select, tmp_path, even_light):
    """`compare(thing, region)`: PSNR of a render through a camera made for that region, held against the worker's picture. A region's
    camera stays where it was made.
    """
    cameras = {}

    def compare(thing: bpy.types.Object, region: int) -> float:
        scene = bpy.context.scene
        if region not in cameras:
            select(thing)
            bpy.ops.cograd3d.region_select(region=region)
            bpy.ops.cograd3d.region_camera(make_active=True, square=True)
            cameras[region] = scene.camera
        scene.camera = cameras[region]
        picture = render(scene, tmp_path / "render.png", SIZE)
        seen = read_picture(job.folder.view_path(region))
        assert seen.shape == (SIZE, SIZE, 3)
        return psnr(picture, seen)

    return compare


def assert_agreement(compare, thing: bpy.types.Object) -> None:
    found = {region: round(compare(thing, region), 1) for region in REGIONS}
    assert min(found.values()) >= AGREEMENT, found


class TestAgreement:
    def test_at_the_origin(self, compare, thing):
        assert_agreement(compare, thing)

    def test_at_the_moved_cursor_with_another_height(self, compare, job):
        bpy.context.scene.cursor.location = (3.0, -2.0, 0.5)
        bpy.context.scene.cograd3d.height = 2.5
        bpy.ops.cograd3d.import_result(job=job.id)
        thing = bpy.context.active_object
        assert thing.location[:] == (3.0, -2.0, 0.5)
        assert_agreement(compare, thing)

    def test_in_a_turned_placeholder(self, compare, job):
        box = bpy.data.objects.new("Box", bpy.data.meshes.new("Box"))
        box.data.from_pydata([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], [], [])
        box.location, box.rotation_euler.z, box.scale = (-4.0, 1.0, 2.0), math.radians(50), (0.5, 0.6, 0.2)
        box.hide_render = True
        bpy.context.scene.collection.objects.link(box)
        bpy.context.view_layer.update()
        bpy.context.scene.cograd3d.fit_object = box
        bpy.ops.cograd3d.import_result(job=job.id)
        thing = bpy.context.active_object
        assert thing.rotation_euler.z == pytest.approx(math.radians(50), abs=1e-5)
        assert_agreement(compare, thing)

    def test_after_the_user_moved_it(self, compare, thing):
        thing.location, thing.rotation_euler, thing.scale = (1.0, 2.0, 3.0), (0.4, 0.0, 2.0), (3.0, 3.0, 3.0)
        bpy.context.view_layer.update()
        assert_agreement(compare, thing)


class TestTheComparisonSees:
    """What the agreement would be worth nothing without."""

    @pytest.fixture
    def loss(self, compare, thing):
        """How many dB a change of the object costs, in the region where it costs least."""
        before = {region: compare(thing, region) for region in REGIONS}

        def loss() -> float:
            bpy.context.view_layer.update()
            return min(before[region] - compare(thing, region) for region in REGIONS)

        return loss

    def test_an_asset_mirrored_turned_or_too_large(self, loss, thing):
        thing.scale = (-1.0, 1.0, 1.0)
        assert loss() > CLEARLY_WORSE, "mirrored"
        thing.scale = (1.1, 1.1, 1.1)
        assert loss() > CLEARLY_WORSE, "too large"
        thing.scale, thing.rotation_euler.z = (1.0, 1.0, 1.0), math.radians(20)
        assert loss() > CLEARLY_WORSE, "turned"

    def test_a_texture_in_the_wrong_place(self, loss, thing):
        uv = np.empty(2 * len(thing.data.loops), dtype=np.float32)
        layer = thing.data.uv_layers[0].uv
        layer.foreach_get("vector", uv)
        uv.reshape(-1, 2)[:, 1] = 1.0 - uv.reshape(-1, 2)[:, 1]
        layer.foreach_set("vector", uv)
        assert loss() > CLEARLY_WORSE
