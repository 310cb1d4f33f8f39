"""Where the grid of view regions is drawn, and what a viewport makes of it: a view to look through, a camera, something to click."""

from __future__ import annotations

import math
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from mathutils import Quaternion, Vector

from tests.blender.layouts import draw
from tests.blender.refusals import why_grey

ops = bpy.ops.cograd3d


@pytest.fixture
def sources(addon_module):
    return addon_module("viewport.sources")


@pytest.fixture
def shown(sources):
    """What the panel shows."""
    return lambda: sources.shown(bpy.context)


@pytest.fixture
def drawn(sources, addon_module):
    """Whether this viewport draws the grid; a viewport's context is needed."""
    group = addon_module("viewport.gizmos").COGRAD3D_GGT_regions

    def drawn() -> bool:
        is_drawn = group.poll(bpy.context)
        assert is_drawn == (sources.drawn(bpy.context) is not None)
        return is_drawn

    return drawn


@pytest.fixture
def finished(addon, addon_module, finished_job, session):
    """A finished job of an earlier day, selected as the list of jobs does by itself."""
    session.manager().scan()
    addon_module("ui.jobs").sync()
    job = session.selected_job()
    assert job.id == finished_job.name
    return job


@pytest.fixture
def running(ordered, pump):
    """A job that was ordered from the open scene and goes on and on."""
    bpy.context.scene.cograd3d.advanced.grid.fov = 40.0  # as the real worker settles it
    job = ordered("long")
    pump(lambda: job.regions is not None and job.fov is not None, what="a grid")
    return job


def another_scene() -> bpy.types.Scene:
    """Opened in the window."""
    scene = bpy.data.scenes.new("Another")
    bpy.context.window.scene = scene
    return scene


# --- Which scenes a grid is drawn in


def test_an_old_job_does_not_draw_its_grid_into_every_file(viewport, finished, shown, drawn, addon_module):
    assert shown() is not None and not shown().stands and not drawn()
    assert "Not in this scene" in draw(addon_module("ui.regions").COGRAD3D_PT_views).texts

    ops.import_result(job=finished.id)
    thing = bpy.context.active_object
    thing.select_set(False)
    assert drawn(), "at once, however lately it was looked for"
    assert shown().owner == thing.name and "Not in this scene" not in draw(addon_module("ui.regions").COGRAD3D_PT_views).texts
    thing.hide_set(True)
    assert drawn(), "whoever hides the asset wants to see the grid alone"

    scene = bpy.context.scene
    another_scene()
    assert not drawn()
    bpy.context.window.scene = scene
    assert drawn()
    bpy.data.objects.remove(thing)
    assert shown() is not None and not drawn()


def test_nor_into_a_new_file(viewport, finished, drawn):
    ops.import_result(job=finished.id)
    bpy.context.active_object.select_set(False)
    assert drawn()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    with bpy.context.temp_override(window=window, area=area, region=next(r for r in area.regions if r.type == "WINDOW")):
        assert not drawn()


def test_a_deleted_asset_that_comes_back_has_its_grid_again(viewport, finished, drawn):
    ops.import_result(job=finished.id)
    bpy.context.active_object.select_set(False)
    bpy.ops.ed.undo_push(message="imported")
    bpy.data.objects.remove(bpy.data.objects["a golden teapot"])
    bpy.ops.ed.undo_push(message="deleted")
    assert not drawn()
    bpy.ops.ed.undo()
    assert "a golden teapot" in bpy.data.objects and drawn()


def test_a_running_job_is_drawn_in_the_scene_that_it_was_ordered_from(viewport, running, shown, drawn):
    assert drawn() and shown().live
    home = bpy.context.scene
    another_scene()
    assert shown().live and not drawn()
    home.name = "Renamed"
    assert not drawn()
    bpy.context.window.scene = home
    assert drawn()


def test_a_job_that_was_ordered_from_no_scene_is_drawn_while_it_runs(viewport, drawn, shown, session, fake_worker, addon_module, pump):
    fake_worker("long")
    addon_module("setup").supervisor.refresh()
    job = session.manager().submit(
        *addon_module("..backend.request").make_request("a red cat", quality="draft", overrides={"grid.fov": 40.0})
    )
    session.select_job(job.id)
    pump(lambda: job.regions is not None and job.fov is not None, what="a grid")
    assert drawn()
    session.manager().cancel(job)
    pump(lambda: job.status.is_over, what="the job's end")
    assert shown() is not None and not drawn()


def test_a_camera_of_an_asset_in_another_scene_brings_no_grid(viewport, asset, shown, drawn):
    ops.region_select(region=1)
    ops.region_camera()
    camera = bpy.context.active_object
    assert drawn()
    scene = another_scene()
    scene.collection.objects.link(camera)
    bpy.context.view_layer.objects.active = camera
    camera.select_set(True)
    assert shown() is not None and not drawn()


# --- What can be done with a grid that is not here


@pytest.mark.parametrize("name", ["look_through", "focus", "camera"])
def test_there_is_nothing_to_look_at_where_the_asset_is_not(viewport, finished, name):
    ops.region_select(region=1)
    assert "import the job's result first" in why_grey(getattr(ops, f"region_{name}"))


@pytest.mark.parametrize("name", ["look_through", "focus", "camera"])
def test_nor_where_it_is_made_elsewhere(viewport, running, name):
    ops.region_select(region=1)
    another_scene()
    assert "in another scene" in why_grey(getattr(ops, f"region_{name}"))
    assert ops.region_weight.poll(), "it can be pushed from anywhere"


def test_while_the_mesh_is_made_nothing_is_weighed(viewport, running, shown, addon_module):
    ops.region_select(region=1)
    assert ops.region_weight.poll()
    running.apply(addon_module("..backend.protocol").Phase(name="surface"))
    assert "wait until the mesh is there" in why_grey(ops.region_weight)
    assert "wait until the mesh is there" in why_grey(ops.region_refine)
    buttons = draw(addon_module("ui.regions").COGRAD3D_PT_selected_view).operators
    assert "region_refine" in buttons and "region_weight" not in buttons
    assert shown().current == -1


def test_an_asset_without_size_has_no_grid(viewport, asset, shown):
    ops.region_select(region=1)
    asset.scale = (0, 0, 0)
    bpy.context.view_layer.update()
    assert shown() is None
    assert "There are no views" in why_grey(ops.region_look_through)
    assert all(map(math.isfinite, viewport.view.view_rotation))


# --- Looking through, and back


def turned(view, angle=0.4):
    """Orbit by hand."""
    view.view_rotation = view.view_rotation @ Quaternion((0, 1, 0), angle)


def place_of(viewport):
    view = viewport.view
    return [*view.view_location, *view.view_rotation, view.view_distance, viewport.space.lens]


def test_back_is_where_the_user_went_in_between(viewport, asset):
    viewport.space.lens = 37.0
    ops.region_select(region=13)
    ops.region_look_through()
    assert viewport.space.lens != 37.0
    turned(viewport.view)
    here = [*place_of(viewport)[:-1], 37.0]  # the lens was the visit's
    ops.region_select(region=20)
    ops.region_look_through()
    ops.region_look_back()
    np.testing.assert_allclose(place_of(viewport), here, atol=1e-5)


def test_a_lens_that_the_user_chose_in_between_stays(viewport, asset):
    ops.region_select(region=13)
    ops.region_look_through()
    turned(viewport.view)
    viewport.space.lens = 81.0
    ops.region_look_through()
    ops.region_look_back()
    assert viewport.space.lens == 81.0


def test_from_view_to_view_back_is_where_it_began(viewport, asset):
    begin = place_of(viewport)
    for region in (13, 20, 7):
        ops.region_select(region=region)
        ops.region_look_through()
    ops.region_look_back()
    np.testing.assert_allclose(place_of(viewport), begin, atol=1e-5)


@pytest.mark.parametrize("perspective", ["ORTHO", "PERSP"])
def test_a_view_along_an_axis_is_one_again(viewport, asset, perspective):
    bpy.ops.view3d.view_axis(type="RIGHT")
    viewport.view.view_perspective = perspective
    begin = place_of(viewport)
    ops.region_select(region=13)
    ops.region_look_through()
    assert not viewport.view.is_orthographic_side_view
    ops.region_look_back()
    assert viewport.view.is_orthographic_side_view and viewport.view.view_perspective == perspective
    np.testing.assert_allclose(place_of(viewport), begin, atol=1e-5)


def test_another_file_has_other_viewports(viewport, asset, addon_module):
    ops.region_select(region=13)
    ops.region_look_through()
    looking = addon_module("viewport.looking")
    assert looking.can_return(bpy.context)
    space = viewport.space.as_pointer()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    there = SimpleNamespace(space_data=SimpleNamespace(as_pointer=lambda: space))  # another viewport may have the old one's address
    assert not looking.can_return(there)


# --- Cameras


def test_a_camera_belongs_to_the_asset_whose_grid_it_was_made_from(viewport, finished, asset, shown, session, metadata):
    """An object is active, and a job is chosen in the list after it: the job's grid is shown, and its cameras are not the object's."""
    assert shown().owner == asset.name
    session.select_job("")
    shown()
    session.select_job(finished.id)
    assert shown().source == finished.id
    ops.import_result(job=finished.id)
    teapot = bpy.context.active_object
    bpy.context.view_layer.objects.active = asset
    teapot.select_set(False)
    asset.select_set(True)
    shown()
    session.select_job("")
    shown()
    session.select_job(finished.id)
    assert shown().source == finished.id and shown().owner == teapot.name
    ops.region_select(region=1)
    ops.region_camera()
    assert bpy.context.active_object["cograd3d_view"]["uuid"] == teapot["cograd3d"]["uuid"] != metadata["uuid"]


def test_a_camera_of_a_job_that_has_no_asset_yet_belongs_to_none(viewport, asset, shown, request):
    assert shown().owner == asset.name
    running = request.getfixturevalue("running")
    assert bpy.context.active_object == asset and shown().source == running.id
    ops.region_select(region=1)
    ops.region_camera()
    assert "cograd3d_view" not in bpy.context.active_object


# --- What is in the way of the mouse


@pytest.fixture
def is_seen(addon_module):
    """Whether a ray along +Z hits something that this viewport shows as a solid, below z = 10."""
    gizmos = addon_module("viewport.gizmos")

    def is_seen() -> bool:
        bpy.context.view_layer.update()
        return gizmos._is_seen(bpy.context, Vector((0, 0, -10)), Vector((0, 0, 1)), 20.0)

    return is_seen


def cube(z: float) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0, 0, z))
    return bpy.context.active_object


def test_what_is_drawn_as_wires_is_seen_through(viewport, is_seen):
    assert not is_seen()
    placeholder = cube(0)
    assert is_seen()
    for display in ("WIRE", "BOUNDS"):
        placeholder.display_type = display
        assert not is_seen()
    solid = cube(5)
    assert is_seen(), "a solid behind it is not"
    solid.location.z = 15
    assert not is_seen(), "what is behind the glyph does not matter"


def test_what_local_view_leaves_out_is_not_in_the_way(viewport, is_seen):
    cube(0)
    alone = cube(5)
    alone.location.x = 9
    bpy.context.view_layer.update()
    bpy.ops.object.select_all(action="DESELECT")
    alone.select_set(True)
    bpy.ops.view3d.localview()
    assert not is_seen()
    alone.location.x = 0
    assert is_seen()


def test_an_instance_is_in_the_way_though_its_object_is_not_in_the_scene(viewport, is_seen):
    thing = cube(0)
    group = bpy.data.collections.new("Elsewhere")
    group.objects.link(thing)
    bpy.context.scene.collection.objects.unlink(thing)
    assert not is_seen()
    instance = bpy.data.objects.new("Instance", None)
    instance.instance_type, instance.instance_collection = "COLLECTION", group
    bpy.context.scene.collection.objects.link(instance)
    assert is_seen()


# --- The plot


def test_the_plot_of_a_running_job_is_not_made_at_every_word(viewport, running, addon_module, monkeypatch, pump):
    ops.region_select(region=1)
    regions, made = addon_module("ui.regions"), []
    monkeypatch.setattr(regions, "time", SimpleNamespace(monotonic=lambda: 50.0))
    plot = regions.plot.plot
    monkeypatch.setattr(regions.plot, "plot", lambda *arguments: made.append(1) or plot(*arguments))
    pump(lambda: len(running.history) > 3, what="a history")
    words = running.regions.iteration
    draw(regions.COGRAD3D_PT_selected_view)
    while running.regions.iteration < words + 4:
        pump(lambda before=running.regions.iteration: running.regions.iteration > before, what="another word")
        draw(regions.COGRAD3D_PT_selected_view)
    assert len(made) == 1
