"""The operators on view regions: what they do to the selection, the viewport, the scene and the running job, and why they are grey."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from mathutils import Vector

from tests.blender.layouts import draw
from tests.blender.refusals import why_grey

NO_VIEWS = "There are no views to show"
NO_SELECTION = "Select a view first"
ops = bpy.ops.cograd3d


@pytest.fixture
def grid(addon_module):
    """What is shown, and what of it is selected."""
    sources = addon_module("viewport.sources")

    class Grid:
        view = property(lambda self: sources.shown(bpy.context))
        selection = property(lambda self: sources.selected(self.view))
        active = property(lambda self: self.selection.active)
        selected = property(lambda self: sorted(self.selection.regions))

    return Grid()


@pytest.fixture
def running(addon, addon_module, fake_worker, pump):
    """A job that goes on and on, with four views, looked at."""
    fake_worker("long")
    addon_module("setup").supervisor.refresh()
    session, request = addon_module("session"), addon_module("..backend.request")
    job = session.manager().submit(*request.make_request("a red cat", quality="draft", overrides={"grid.fov": 40.0}))
    session.select_job(job.id)
    pump(lambda: job.regions is not None and job.fov is not None, what="a running job")
    yield job
    if job.status.is_live:
        session.manager().cancel(job)
        pump(lambda: job.status.is_over, what="the job's end")


# --- Why buttons are grey


@pytest.mark.parametrize(
    "name",
    ["select", "select_all", "step", "menu", "look_through", "focus", "camera", "weight", "refine"],
)
def test_without_a_grid_they_say_so(viewport, name):
    assert NO_VIEWS in why_grey(getattr(ops, f"region_{name}"))


@pytest.mark.parametrize("name", ["look_through", "camera", "weight", "refine"])
def test_without_a_selection_they_say_so(viewport, asset, name):
    assert NO_SELECTION in why_grey(getattr(ops, f"region_{name}"))


def test_a_locked_view_is_left_alone(viewport, asset):
    ops.region_select(region=1)
    viewport.space.lock_cursor = True
    assert "unlock it" in why_grey(ops.region_look_through)


@pytest.mark.parametrize("name", ["look_through", "focus"])
def test_outside_a_viewport_they_say_so(asset, name):
    area = next(area for area in bpy.context.window_manager.windows[0].screen.areas if area.type != "VIEW_3D")
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=area):
        assert "Works in a 3D viewport" in why_grey(getattr(ops, f"region_{name}"))


def test_back_needs_a_look(viewport, asset):
    assert "does not look through a view" in why_grey(ops.region_look_back)


def test_a_camera_is_made_in_object_mode(viewport, asset):
    ops.region_select(region=1)
    bpy.ops.object.mode_set(mode="EDIT")
    assert "object mode" in why_grey(ops.region_camera)
    bpy.ops.object.mode_set(mode="OBJECT")


def test_what_is_finished_is_refined_and_what_runs_is_weighed(viewport, asset):
    ops.region_select(region=1)
    assert "use Refine" in why_grey(ops.region_weight)
    assert "no longer on this computer" in why_grey(ops.region_refine)


def test_what_runs_is_not_refined(viewport, running):
    ops.region_select(region=1)
    assert "use Boost" in why_grey(ops.region_refine)


# --- Selecting


def test_click_and_shift_click(viewport, asset, grid):
    ops.region_select(region=3)
    assert (grid.selected, grid.active) == ([3], 3)
    ops.region_select(region=7, extend=True)
    assert (grid.selected, grid.active) == ([3, 7], 7)
    ops.region_select(region=7, extend=True)
    assert grid.selected == [3]
    with pytest.raises(RuntimeError, match="no view 36"):
        ops.region_select(region=36)
    assert grid.selected == [3]


def test_select_many(viewport, asset, grid):
    ops.region_select_all(action="ALL")
    assert grid.selected == list(range(36))
    ops.region_select_all(action="NONE")
    assert (grid.selected, grid.active) == ([], -1)
    ops.region_select_all(action="LAGGING")
    assert len(grid.selected) == 9
    assert grid.active == 30, "the back from above has the largest error"


@pytest.mark.parametrize(("measure", "worst"), [("loss", 30), ("visits", 35), ("timestep", 3), ("indicator", 30), ("probability", 30)])
def test_step_to_the_worst(viewport, asset, grid, measure, worst):
    bpy.context.window_manager.cograd3d.measure = measure
    ops.region_step(to="WORST")
    assert grid.selected == [worst]


def test_step_on_and_back(viewport, asset, grid, addon_module):
    order = grid.view.worst_first(addon_module("viewport.measures").measure(bpy.context.window_manager.cograd3d.measure)).tolist()
    for step, place in (("WORST", 0), ("NEXT", 1), ("NEXT", 2), ("PREVIOUS", 1), ("PREVIOUS", 0), ("PREVIOUS", 35)):
        ops.region_step(to=step)
        assert grid.selected == [order[place]]


def test_the_menu_offers_what_can_be_done_with_what_is_finished(viewport, asset, addon_module):
    drawn = draw(addon_module("operators.regions_select").COGRAD3D_MT_region)
    assert "region_refine" in drawn.operators and "region_weight" not in drawn.operators
    assert drawn.values("region_select_all", "action") == ["ALL", "NONE", "LAGGING"]


def test_the_menu_offers_what_can_be_done_with_what_runs(viewport, running, addon_module):
    drawn = draw(addon_module("operators.regions_select").COGRAD3D_MT_region)
    assert "region_refine" not in drawn.operators
    assert drawn.values("region_weight", "action") == ["BOOST", "CALM", "FREEZE", "RESET"]


# --- Looking


def camera_of(view):
    """Where the viewport's camera is: without a window nothing brings `view_matrix` up to date."""
    camera = np.array(view.view_rotation.to_matrix().to_4x4())
    camera[:3, 3] = np.array(view.view_location) + view.view_distance * camera[:3, 2]
    return camera


def test_look_through_and_back(viewport, asset, grid):
    camera = bpy.data.objects.new("Mine", bpy.data.cameras.new("Mine"))
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    viewport.view.view_perspective = "ORTHO"
    viewport.space.lens = 37.0
    viewport.view.view_location, viewport.view.view_distance = (3, 2, 1), 7.0
    before, place = camera_of(viewport.view), camera.matrix_world.copy()

    ops.region_select(region=13)
    ops.region_look_through()
    assert viewport.view.view_perspective == "PERSP"
    np.testing.assert_allclose(camera_of(viewport.view), grid.view.cameras[13], atol=1e-5)

    ops.region_step(to="WORST")  # the view goes along
    np.testing.assert_allclose(camera_of(viewport.view), grid.view.cameras[30], atol=1e-5)

    ops.region_look_back()
    assert (viewport.view.view_perspective, viewport.space.lens) == ("ORTHO", 37.0)
    np.testing.assert_allclose(camera_of(viewport.view), before, atol=1e-5)
    assert bpy.context.scene.camera == camera and camera.matrix_world == place
    assert not ops.region_look_back.poll()


def test_looking_from_a_locked_camera_view_leaves_the_camera_alone(viewport, asset):
    camera = bpy.data.objects.new("Mine", bpy.data.cameras.new("Mine"))
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    place = camera.matrix_world.copy()
    viewport.view.view_perspective, viewport.space.lock_camera = "CAMERA", True
    ops.region_select(region=5)
    ops.region_look_through()
    assert viewport.view.view_perspective == "PERSP" and camera.matrix_world == place
    ops.region_look_back()
    assert viewport.view.view_perspective == "CAMERA" and camera.matrix_world == place


def test_frame_all_views(viewport, asset, grid):
    ops.region_focus()
    np.testing.assert_allclose(viewport.view.view_location, grid.view.centre, atol=1e-6)
    assert viewport.view.view_distance > 3.3 * 2 / 3


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (512, 512)])
def test_a_camera_that_sees_what_the_view_sees(viewport, asset, grid, width, height):
    """A point at the picture's edge, half its field of view away from the middle, is at the edge of the camera's frame's short side."""
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = width, height
    ops.region_select(region=13)
    ops.region_camera()
    camera = bpy.context.active_object
    assert camera.type == "CAMERA" and camera.select_get() and scene.camera is None
    assert camera.name == "Front right 30°, slightly above"
    bpy.context.view_layer.update()
    np.testing.assert_allclose(np.array(camera.matrix_world), grid.view.cameras[13], atol=1e-5)
    projection = camera.calc_matrix_camera(bpy.context.evaluated_depsgraph_get(), x=width, y=height)
    edge = math.tan(math.radians(grid.view.fov / 2))
    x, y, _, w = projection @ Vector((edge, edge, -1, 1))
    assert max(abs(x / w), abs(y / w)) == pytest.approx(1.0, abs=1e-5)
    assert x / w * width == pytest.approx(y / w * height, abs=1e-2), "the picture is square"


def test_a_camera_is_made_while_a_linked_collection_is_active(viewport, asset, grid, tmp_path):
    """Nothing can be put there; the scene's own takes it, as it takes Blender's cameras."""
    theirs = bpy.data.collections.new("Theirs")
    bpy.data.libraries.write(str(tmp_path / "library.blend"), {theirs})
    bpy.data.collections.remove(theirs)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, wanted):
        wanted.collections = ["Theirs"]
    bpy.context.scene.collection.children.link(wanted.collections[0])
    bpy.context.view_layer.active_layer_collection = bpy.context.view_layer.layer_collection.children["Theirs"]
    assert bpy.context.collection.library
    ops.region_select(region=13)
    ops.region_camera()
    assert bpy.context.active_object.users_collection == (bpy.context.scene.collection,)


def test_the_grid_stays_while_its_camera_is_active(viewport, asset, grid):
    ops.region_select(region=1)
    ops.region_camera()
    assert bpy.context.active_object.type == "CAMERA" and grid.selected == [1]
    bpy.data.objects.remove(asset)
    assert grid.view is None


@pytest.mark.parametrize("foreign", [1, "text", [1.0, 2.0], {}])
def test_a_property_of_the_same_name_does_no_harm(addon, grid, foreign):
    bpy.ops.mesh.primitive_cube_add()
    bpy.context.active_object["cograd3d"] = foreign
    assert grid.view is None


def test_a_camera_to_render_with(viewport, asset):
    ops.region_select(region=0)
    ops.region_camera(make_active=True, square=True)
    render = bpy.context.scene.render
    assert bpy.context.scene.camera == bpy.context.active_object and render.resolution_x == render.resolution_y


# --- Steering


@pytest.mark.parametrize(("action", "factor"), [("BOOST", 4.0), ("CALM", 0.25), ("FREEZE", 0.0)])
def test_weights_reach_the_running_job(viewport, running, grid, pump, action, factor):
    ops.region_select(region=2)
    ops.region_select(region=3, extend=True)
    ops.region_weight(action=action)
    assert grid.view.weights.tolist() == [1, 1, factor, factor], "shown at once"
    pump(lambda: running.regions and running.regions.weight == (1.0, 1.0, factor, factor), what="the worker's word")
    ops.region_weight(action="RESET")
    pump(lambda: running.regions and running.regions.weight == (1.0,) * 4, what="the worker's word")
    pump(lambda: grid.view.weights.tolist() == [1] * 4, what="what is shown")


def test_the_selected_view_is_painted_while_the_job_runs(viewport, running, pump):
    ops.region_select(region=1)
    pump(lambda: 1 in running.views, what="a picture of the view")


def test_a_job_that_has_ended_cannot_be_weighed(viewport, running, grid, pump, addon_module):
    ops.region_select(region=2)
    addon_module("session").manager().cancel(running)
    pump(lambda: running.status.is_over, what="the job's end")
    assert "use Refine" in why_grey(ops.region_weight)
    assert "no result" in why_grey(ops.region_refine)


@pytest.fixture
def finished(addon, addon_module, finished_job, monkeypatch):
    """A finished job, looked at, on a computer that could refine it."""
    session = addon_module("session")
    session.manager().scan()
    job = session.manager().get(finished_job.name)
    session.select_job(job.id)
    return job


def test_refine_orders_a_run_that_begins_with_the_result(viewport, finished, fake_worker, addon_module, grid, pump):
    fake_worker("quick")
    addon_module("setup").supervisor.refresh()
    session = addon_module("session")
    placement = {"origin": [1.0, 2.0, 3.0], "yaw": 0.5, "height": 2.0, "target": ""}
    (finished.path / addon_module("placement").PLACEMENT_FILE).write_text(json.dumps(placement))
    ops.region_select(region=4)
    ops.region_select(region=5, extend=True)
    ops.region_refine(factor=6.0, iterations=25)
    job = session.selected_job()
    assert job is not finished and job.spec.refines == str(finished.path)
    assert job.spec.initial == str(finished.folder.splats_path)
    config = job.folder.config
    assert config["region_sampling"]["weights"] == [[4, 6.0], [5, 6.0]] and config["optimizer"]["iterations"] == 25
    order = json.loads((job.path / addon_module("placement").PLACEMENT_FILE).read_text())
    assert order["origin"] == [1.0, 2.0, 3.0]
    pump(lambda: job.status.is_over, what="the refinement's end")


def test_refine_is_for_the_object_that_is_selected(viewport, finished, fake_worker, addon_module, pump):
    fake_worker("quick")
    addon_module("setup").supervisor.refresh()
    session = addon_module("session")
    bpy.ops.cograd3d.import_result(job=finished.id)
    bpy.ops.object.duplicate()
    twin = bpy.context.active_object
    ops.region_select(region=4)
    ops.region_refine()
    job = session.selected_job()
    assert addon_module("placement").read_home(job.path).improves == twin.name
    pump(lambda: job.status.is_over, what="the refinement's end")


# --- What the file alone knows


def test_the_grid_comes_back_from_the_file(viewport, finished, grid, addon, addon_module, tmp_path, pump):
    """The job's folder is gone and the file opened again: the same numbers, names and cameras."""
    session = addon_module("session")
    bpy.ops.cograd3d.import_result(job=finished.id)
    thing = bpy.context.active_object
    thing.location.x += 2.0
    bpy.context.view_layer.update()
    measures = addon_module("viewport.measures").MEASURES
    before = grid.view
    assert before.job is finished
    assert before.picture(3).read_bytes().startswith(b"\x89PNG"), "the pictures that the run left at its end"
    values = {measure.id: before.values(measure) for measure in measures}
    cameras, names, curve = before.cameras, before.names, before.history.series("loss", 3)

    file = str(tmp_path / "scene.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    shutil.rmtree(finished.path)
    session.manager().scan()
    assert session.manager().get(finished.id) is None
    bpy.ops.wm.open_mainfile(filepath=file)
    thing = next(thing for thing in bpy.data.objects if "cograd3d" in thing)
    bpy.context.view_layer.objects.active = thing
    thing.select_set(True)
    after = grid.view
    assert (
        after is not None and after.job is None and after.picture(3) is None and after.names == names and after.title == "a golden teapot"
    )
    np.testing.assert_allclose(after.cameras, cameras, atol=1e-5)
    for measure in measures:
        np.testing.assert_allclose(after.values(measure), values[measure.id], rtol=1e-6)
    assert np.isfinite(after.values(measures[0])).any()
    np.testing.assert_allclose(after.history.series("loss", 3)[1][-1], curve[1][-1], rtol=1e-3)


def test_every_operator_and_its_properties_are_described(addon):
    names = [name for name in dir(ops) if name.startswith("region_")]
    assert len(names) >= 10
    for name in names:
        kind = getattr(ops, name).get_rna_type()
        assert kind.description and kind.name
        assert all(prop.description for prop in kind.properties if prop.identifier != "rna_type")


@pytest.mark.parametrize(
    ("module", "operator", "name"), [("steer", "weight", "action"), ("select", "select_all", "action"), ("select", "step", "to")]
)
def test_every_button_of_an_operator_has_its_own_tooltip(addon_module, module, operator, name):
    cls = getattr(addon_module(f"operators.regions_{module}"), f"COGRAD3D_OT_region_{operator}")
    items = getattr(ops, f"region_{operator}").get_rna_type().properties[name].enum_items
    told = {cls.description(bpy.context, SimpleNamespace(**{name: item.identifier})) for item in items}
    assert len(told) == len(items) >= 3 and all(told)
