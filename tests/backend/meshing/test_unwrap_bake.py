"""UV charts do not overlap, and the baked texture shows the colours that were rendered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import trimesh

from backend.cameras import orbit_camera
from backend.config import TextureConfig
from backend.errors import SurfaceError
from backend.evaluation.metrics import psnr
from backend.meshing import TexturedMesh, fitting, looks
from backend.meshing.bake import Projection, bake_texture, dilate, faces_without_texel, texel_map
from backend.meshing.cleanup import vertex_normals
from backend.meshing.fitting import EquationStore, make_plan, refine
from backend.meshing.looks import Looks, View, look
from backend.meshing.mesh import Unwrapped
from backend.meshing.unwrap import unwrap
from backend.meshing.views import sphere_cameras
from backend.meshing.xatlas_process import charts
from backend.meshing.zbuffer import rasterize_mesh, render_textured

CONFIG = TextureConfig(size=256, views=24, image_size=128, refine=8)


def unwrapped(mesh: trimesh.Trimesh, size: int = 256) -> Unwrapped:
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    vertex_map, new_faces, uv = unwrap(vertices, faces, size)
    return Unwrapped(vertices[vertex_map], vertex_normals(vertices, faces)[vertex_map], new_faces, uv)


@pytest.fixture
def torus(scene) -> Unwrapped:
    return unwrapped(scene("torus"))


def project(positions: np.ndarray, normals: np.ndarray, views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
    projection = Projection(positions, normals)
    for view in views:
        projection.add(view)
    return projection.result()


def test_unwrap_keeps_faces_and_spreads_them_without_overlap(scene):
    mesh = scene("torus")
    vertex_map, faces, uv = unwrap(mesh.vertices, mesh.faces, 256)
    assert np.array_equal(vertex_map[faces], mesh.faces)
    assert uv.min() >= 0 and uv.max() <= 1
    corners = uv[faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    # The charts' total area is the area that they cover: nothing lies on anything else.
    in_texture = np.concatenate([uv * 2048, np.ones((len(uv), 1))], axis=1)
    face_index, _, _ = rasterize_mesh(in_texture, faces, np.eye(4), np.eye(3), 2048, 2048)
    assert (face_index >= 0).mean() == pytest.approx(areas.sum(), rel=0.01)
    assert areas.sum() > 0.4


def test_unwrap_is_deterministic(scene):
    mesh = scene("bowl")
    first, second = unwrap(mesh.vertices, mesh.faces, 256), unwrap(mesh.vertices, mesh.faces, 256)
    assert all(np.array_equal(a, b) for a, b in zip(first, second))


def test_the_process_of_its_own_changes_nothing(scene):
    mesh = scene("bowl")
    vertex_map, faces, uv = unwrap(mesh.vertices, mesh.faces, 256)
    here = charts(np.float32(mesh.vertices), np.uint32(mesh.faces), 256)
    assert np.array_equal(vertex_map, here["vertex_map"]) and np.array_equal(faces, here["faces"])
    assert np.array_equal(uv, np.clip(np.stack([here["uv"][:, 0], 1.0 - here["uv"][:, 1]], axis=1), 0.0, 1.0))
    assert (vertex_map.dtype, faces.dtype, uv.dtype) == (np.int64, np.int32, np.float32)


def children(pid: int) -> list[int]:
    """The processes that this one started and that still work."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


def large() -> trimesh.Trimesh:
    """Half a minute's work."""
    return trimesh.creation.torus(0.5, 0.18, major_sections=240, minor_sections=120)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@linux
def test_unwrapping_can_be_stopped_and_lets_other_threads_run():
    class Stop(Exception):
        pass

    mesh = large()
    began, before, gaps, over = time.monotonic(), set(children(os.getpid())), [], threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not over.wait(0.05):
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    def watch() -> None:
        if time.monotonic() - began > 2.0:
            assert set(children(os.getpid())) - before
            raise Stop

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    with pytest.raises(Stop):
        unwrap(mesh.vertices, mesh.faces, 1024, watch)
    over.set()
    assert time.monotonic() - began < 4.0
    assert max(gaps) < 1.0
    assert not set(children(os.getpid())) - before


@linux
def test_unwrapping_ends_with_the_process_that_wants_it(tmp_path):
    code = "import sys, numpy; from backend.meshing.unwrap import unwrap; unwrap(*numpy.load(sys.argv[1]).values(), 1024)"
    mesh, file = large(), tmp_path / "mesh.npz"
    np.savez(file, vertices=mesh.vertices, faces=mesh.faces)
    parent = subprocess.Popen([sys.executable, "-c", code, str(file)], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 30.0
    while not (found := children(parent.pid)):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)  # it has its request, and is inside xatlas
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 3.0
    while any(Path(f"/proc/{pid}").exists() for pid in found):
        assert time.monotonic() < deadline, "xatlas works on for nobody"
        time.sleep(0.05)


@pytest.mark.parametrize(("ending", "error"), [("os._exit(71)", MemoryError), ("raise ValueError('no charts')", SurfaceError)])
def test_a_process_that_fails_is_an_error(scene, monkeypatch, ending, error):
    from backend.meshing import unwrap as module

    monkeypatch.setattr(module, "_PROGRAM", f"import os; {ending}")
    with pytest.raises(error, match="no charts" if error is SurfaceError else None):
        module.unwrap(scene("ball").vertices, scene("ball").faces, 64)


@pytest.mark.slow
def test_a_surface_that_crashes_xatlas_is_unwrapped_all_the_same():
    mesh = trimesh.creation.icosphere(6)
    vertex_map, faces, uv = unwrap(mesh.vertices, mesh.faces, 512)
    np.testing.assert_array_equal(vertex_map[faces], mesh.faces)
    assert uv.shape == (len(vertex_map), 2) and np.ptp(uv, axis=0).min() > 0.5


def test_texel_map_puts_v_upwards():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    face_index, barycentric = texel_map(Unwrapped(vertices, vertices, np.array([[0, 1, 2]], np.int32), uv), 4)
    assert np.array_equal(face_index == 0, np.tril(np.ones((4, 4), bool)))
    assert barycentric[3, 0] == pytest.approx([0.75, 0.125, 0.125])


def specks(side: int, size: int, spacing: int) -> Unwrapped:
    """A large triangle's chart at the upper left, and `side`^2 charts of a third of a texel, between the texels' centres."""
    corner = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 1, 2) * spacing + size // 2
    texels = np.concatenate([[[[0, 0], [size // 2 - 4, 0], [0, size // 2 - 4]]], corner + np.array([[0.1, 0.1], [0.4, 0.1], [0.1, 0.4]])])
    uv = np.float32(texels.reshape(-1, 2) / size)
    uv[:, 1] = 1.0 - uv[:, 1]
    vertices = np.concatenate([uv, np.zeros((len(uv), 1))], axis=1).astype(np.float32)
    return Unwrapped(vertices, np.tile(np.float32([0, 0, 1]), (len(uv), 1)), np.arange(len(uv), dtype=np.int32).reshape(-1, 3), uv)


def test_charts_smaller_than_a_texel_have_one_all_the_same():
    """Else they would show the colour of the nearest chart that has."""
    mesh = specks(side=10, size=64, spacing=3)
    face_index, barycentric = texel_map(mesh, 64)
    assert set(range(101)) <= set(face_index.ravel().tolist())
    at = 32 + 3 * np.arange(10)
    assert np.array_equal(face_index[np.ix_(at, at)].ravel(), np.arange(1, 101))
    assert barycentric[face_index >= 0].sum(axis=1) == pytest.approx(1.0)


def test_charts_smaller_than_a_texel_leave_the_others_their_texels():
    mesh = specks(side=10, size=64, spacing=3)
    alone = Unwrapped(mesh.vertices[:3], mesh.normals[:3], mesh.faces[:1], mesh.uv[:3])
    first, both = texel_map(alone, 64), texel_map(mesh, 64)
    assert np.array_equal(first[0] == 0, both[0] == 0)
    assert np.array_equal(first[1][first[0] == 0], both[1][first[0] == 0])


def test_only_charts_without_any_texel_are_called_so(torus):
    face_index, _ = texel_map(torus, 256)
    assert (face_index >= 0).any() and len(faces_without_texel(torus.faces, face_index)) == 0
    empty = np.full((4, 4), -1, np.int32)
    assert np.array_equal(faces_without_texel(torus.faces, empty), np.arange(len(torus.faces)))


@pytest.mark.parametrize("name", ["torus", "table"])
def test_baked_mesh_looks_like_the_renders(name, scene, scene_render, unseen_cameras):
    mesh = unwrapped(scene(name).subdivide())
    render = scene_render(name)
    texture = bake_texture(mesh, render, CONFIG, np.random.default_rng(0))
    assert texture.shape == (256, 256, 3) and texture.dtype == np.uint8
    textured = TexturedMesh(mesh.vertices, mesh.normals, mesh.faces, mesh.uv, texture)
    truth = render(unseen_cameras)[0]
    assert np.mean([psnr(render_textured(textured, camera)[0], image) for camera, image in zip(unseen_cameras, truth)]) > 34


def test_translucency_does_not_whiten_the_texture(torus, scene_render):
    solid = bake_texture(torus, scene_render("torus"), CONFIG, np.random.default_rng(0)).astype(float)
    pale = bake_texture(torus, scene_render("torus", opacity=0.8), CONFIG, np.random.default_rng(0))
    assert np.abs(solid - pale).mean() < 1.5


def test_the_generator_alone_decides(torus, scene_render):
    first, second, other = (bake_texture(torus, scene_render("torus"), CONFIG, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_points_are_coloured_by_the_views_that_see_them(torus, scene_render, colours):
    cameras = sphere_cameras(24, np.zeros(3), 0.75, 128)
    rgb, alpha, _ = scene_render("torus")(cameras)
    views = [look(torus, camera, image, cover) for camera, image, cover in zip(cameras, rgb, alpha)]
    color, seen = project(torus.vertices, torus.normals, views)
    assert seen.mean() > 0.9
    assert np.abs(color - colours(torus.vertices))[seen].mean() < 0.02
    for offset in (-0.1, 0.1):  # below the surface points are hidden; above it they are not what the views show
        color, seen = project(torus.vertices + offset * torus.normals, torus.normals, views)
        assert (color[~seen] == 0).all() and seen.mean() < 0.02


def test_views_count_by_how_squarely_they_see_a_surface():
    """A square floor, red from above and blue from 60 degrees off that: the cosine's fourth power, 1 against 1/16."""
    floor = trimesh.Trimesh([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    mesh = unwrapped(floor)
    cameras = orbit_camera(0.0, 89.99, 3.0, 40.0, 128), orbit_camera(0.0, 30.0, 3.0, 40.0, 128)
    red, blue = (np.zeros((128, 128, 3), np.float32) + np.float32(colour) for colour in ([1, 0, 0], [0, 0, 1]))
    views = [look(mesh, camera, rgb, np.ones((128, 128), np.float32)) for camera, rgb in zip(cameras, (red, blue))]
    positions = np.float32([[0.01, 0.02, 0.0], [0.0, 0.495, 0.0], *floor.vertices])
    up = np.zeros_like(positions) + np.float32([0, 0, 1])
    color, _ = project(positions, up, views)
    assert color[0] == pytest.approx([16 / 17, 0, 1 / 17], abs=0.003)
    # Next to an outline a view hardly counts: there the one from above, of which the point is at the edge, is outvoted by one as square
    # that goes on behind it.
    larger = unwrapped(floor.copy().apply_scale(2.0))
    behind = look(larger, cameras[0], blue, np.ones((128, 128), np.float32))
    color, _ = project(positions, up, [views[0], behind])
    assert color[0] == pytest.approx([0.5, 0, 0.5], abs=0.01) and color[1, 2] > 0.95


def test_hidden_points_take_no_colour_from_what_hides_them(scene):
    """A red ball inside a larger blue one: no view sees it."""
    small, large = trimesh.creation.icosphere(3, 0.2), trimesh.creation.icosphere(3, 0.6)
    mesh = unwrapped(trimesh.util.concatenate([small, large]))
    cameras = sphere_cameras(12, np.zeros(3), 0.7, 64)
    blue = np.zeros((64, 64, 3), np.float32) + np.float32([0, 0, 1])
    views = [look(mesh, camera, blue, np.ones((64, 64), np.float32)) for camera in cameras]
    _, seen = project(mesh.vertices, mesh.normals, views)
    is_large = np.linalg.norm(mesh.vertices, axis=1) > 0.4
    assert not seen[~is_large].any() and seen[is_large].mean() > 0.9


def test_dilation_fills_everything_with_the_nearest_texel():
    texture = np.zeros((8, 8, 3), np.float32)
    texture[2, 1], texture[2, 6] = [1, 0, 0], [0, 1, 0]
    filled = dilate(texture, texture.any(axis=-1))
    assert (filled[:, :4] == [1, 0, 0]).all() and (filled[:, 4:] == [0, 1, 0]).all()
    assert dilate(texture, np.zeros((8, 8), bool)) is texture


def test_refinement_recovers_a_texture_from_its_renders(torus, scene_render):
    cameras = sphere_cameras(24, np.zeros(3), 0.75, 128)
    rgb, _, _ = scene_render("torus")(cameras)
    views = Looks(torus, scene_render("torus"), cameras)
    blank = np.full((256, 256, 3), 0.5, np.float32)

    def error(steps: int) -> float:
        plan = make_plan(steps, len(cameras), np.random.default_rng(0))
        texture = refine(blank, EquationStore(views, 256, plan), plan)
        textured = TexturedMesh(torus.vertices, torus.normals, torus.faces, torus.uv, np.round(255 * texture).astype(np.uint8))
        return float(np.mean([np.abs(render_textured(textured, c)[0] - i).mean() for c, i in zip(cameras[::5], rgb[::5])]))

    errors = [error(steps) for steps in (0, 4, 24)]
    assert errors[0] > 3 * errors[1] > 3 * errors[2]


def test_memory_does_not_grow_with_the_number_of_views(torus, monkeypatch):
    """Not even where nothing is kept beyond its use; a hundred views would have filled a gigabyte."""
    monkeypatch.setattr(fitting, "KEPT_BYTES", 1 << 20)

    def grey(cameras):
        return tuple(np.full((len(cameras), 256, 256, *rest), 0.5, np.float32) for rest in ((3,), (), ()))

    def peak(views: int) -> int:
        tracemalloc.start()
        bake_texture(torus, grey, TextureConfig(size=64, views=views, image_size=256, refine=4), np.random.default_rng(0))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(8)  # what is made once in a process
    assert peak(40) < 1.1 * peak(8)


@pytest.mark.parametrize(("kept_bytes", "pixels"), [(0, 1), (300_000, 3 * 128 * 128)])
def test_what_is_kept_and_made_together_changes_nothing(torus, scene_render, monkeypatch, kept_bytes, pixels):
    def bake() -> np.ndarray:
        return bake_texture(torus, scene_render("torus"), CONFIG, np.random.default_rng(0))

    before = bake()
    monkeypatch.setattr(fitting, "KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(looks, "PIXELS_AT_ONCE", pixels)
    assert np.array_equal(bake(), before)


class TestEquationsOfViews:
    """Twelve views, of which each step of a plan uses a few."""

    @pytest.fixture
    def seen(self, torus, scene_render) -> Looks:
        return Looks(torus, scene_render("torus"), sphere_cameras(12, np.zeros(3), 0.75, 64))

    @pytest.fixture
    def made(self, monkeypatch) -> list[int]:
        """Grows by one with each view whose equations are made."""
        calls: list[int] = []
        original = fitting.equations_of
        monkeypatch.setattr(fitting, "equations_of", lambda *args: (calls.append(1), original(*args))[1])
        return calls

    PLAN = ((0, 1, 2), (3, 1, 0), (2, 3, 5))

    def test_are_made_once_where_they_fit(self, seen, made):
        store = EquationStore(seen, 64, self.PLAN)
        taken = [[equations.place for equations in store.take(step)] for step in self.PLAN]
        assert len(made) == 5
        assert taken[0][0] is taken[1][2] and taken[0][2] is taken[2][0] and taken[1][0] is taken[2][1]
        assert store._free == fitting.KEPT_BYTES, "what is used no more is let go"

    def test_are_made_again_where_they_do_not_fit(self, seen, made, monkeypatch):
        monkeypatch.setattr(fitting, "KEPT_BYTES", 0)
        store = EquationStore(seen, 64, self.PLAN)
        taken = [[equations.place for equations in store.take(step)] for step in self.PLAN]
        assert len(made) == 9
        assert np.array_equal(taken[0][0], taken[1][2])

    def test_that_are_at_hand_are_kept_if_wanted(self, seen, made):
        store = EquationStore(seen, 64, self.PLAN)
        for i, _ in seen.map(store.offer, range(12)):
            assert i < 12
        assert len(made) == 5, "view 4, and those from 6 on, are in no step"
        for step in self.PLAN:
            list(store.take(step))
        assert len(made) == 5

    def test_come_in_the_order_of_the_step(self, seen):
        store = EquationStore(seen, 64, self.PLAN)
        alone = {i: equations.place for i, equations in seen.map(lambda _, view: fitting.equations_of(view, seen.mesh, 64), range(12))}
        for step in self.PLAN:
            assert all(np.array_equal(e.place, alone[i]) for i, e in zip(step, store.take(step), strict=True))


@pytest.mark.parametrize("views", [9, 15, 20, 24, 30, 50])
def test_a_plan_looks_at_all_views_before_any_a_second_time(views):
    plan = make_plan(40, views, np.random.default_rng(views))
    assert all(len(set(step)) == len(step) == 8 for step in plan)
    uses = np.zeros(views, int)
    for step in plan:
        uses[step] += 1
        assert np.ptp(uses) <= 1


def test_a_plan_of_few_views_or_no_steps():
    assert [sorted(step) for step in make_plan(3, 5, np.random.default_rng(0))] == [list(range(5))] * 3
    assert make_plan(0, 24, np.random.default_rng(0)) == []
