"""What is read off a finished job, held against the true object and copies of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from backend.embedded import vocabulary, world
from backend.embedded.learned.judges import fingerprint
from backend.evaluation.gallery import measures
from backend.evaluation.gallery.alignment import Alignment
from backend.evaluation.gallery.measures import (
    PROBES,
    Judges,
    PublicJudge,
    discernible,
    measure_run,
    mesh_points,
    surface_points,
    true_points,
    truth_strip,
    turntable_strip,
)
from backend.evaluation.gallery.records import Record
from backend.evaluation.metrics import chamfer
from backend.job import JobFolder
from backend.meshing.export import write_asset
from backend.meshing.turntable import read_asset
from backend.protocol import JobSpec

CAT = vocabulary.parse("a red cat")
FINISHED = Path(__file__).parents[3] / "data" / "cat"


@pytest.fixture(scope="module")
def untrained() -> Judges:
    torch.manual_seed(0)
    return Judges(Alignment().eval(), {})


@pytest.fixture(scope="module")
def figures(untrained: Judges) -> dict:
    """Of a real run, a small draft of a red cat."""
    return measure_run(JobFolder.open(FINISHED), CAT, judges=untrained)


def sphere(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces."""
    ball = trimesh.creation.icosphere(5, radius=radius)
    return np.asarray(ball.vertices), np.asarray(ball.faces)


class TestRun:
    def test_a_good_result(self, figures: dict) -> None:
        assert figures["psnr"] >= figures["psnr_fixed"] > 25
        assert figures["iou"] > 0.95 and figures["iou_fixed"] > 0.95 and 0.9 < figures["ssim"] < 1
        assert (figures["janus"], figures["azimuth_error"], figures["wrong_views"]) == (0, 0, 0)
        assert figures["view_change"] == pytest.approx(1, abs=0.1)
        assert 0.003 < figures["chamfer"] < 0.03

    def test_fields_of_a_record(self, untrained: Judges, figures: dict) -> None:
        names = Record.__dataclass_fields__.keys()
        assert figures.keys() <= names
        assert figures["judge"] == fingerprint(untrained.alignment)
        angles = figures["alignment_angles"]
        assert len(angles) == 12 and all(isinstance(value, float) for value in angles)
        assert figures["alignment"] == pytest.approx(np.mean(angles)) and figures["alignment_std"] == pytest.approx(np.std(angles))

    def test_a_result_that_faces_backwards(self, untrained: Judges, figures: dict, tmp_path: Path) -> None:
        job = JobFolder.create(tmp_path, JobSpec(prompt="a red cat"), {})
        mesh = read_asset(FINISHED / "asset.glb")
        turn = np.diag([-1, -1, 1]).astype(np.float32)
        write_asset(replace(mesh, vertices=mesh.vertices @ turn, normals=mesh.normals @ turn), job.asset_path)
        reversed_ = measure_run(job, CAT, judges=untrained)
        assert reversed_["azimuth_error"] > 150 and reversed_["wrong_views"] == 1 and reversed_["janus"] > 0.4
        assert reversed_["view_change"] == pytest.approx(figures["view_change"], abs=0.01)
        assert reversed_["psnr"] < figures["psnr"] - 5 and reversed_["ssim"] < figures["ssim"]
        assert reversed_["chamfer"] > 2 * figures["chamfer"]
        front, back = figures["alignment_angles"], reversed_["alignment_angles"]
        assert np.allclose(np.roll(front, 6), back, atol=0.5), "the same views, half a turn later"

    def test_public_scores_and_a_janus_rate_that_says_nothing(self, untrained: Judges, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[tuple[tuple[int, ...], str, float]] = []

        def scorer(images: np.ndarray, prompt: str) -> np.ndarray:
            shown.append((images.shape, prompt, float(images[0, 0, 0, 0])))
            return np.arange(12.0)

        monkeypatch.setattr(measures, "PUBLIC_RESOLUTION", 32)
        monkeypatch.setattr(measures, "discernible", lambda description: False)
        public = {"clip_b32": PublicJudge("/models/clip", scorer), "vqa_score": PublicJudge("clip-flant5-xl", scorer)}
        figures = measure_run(JobFolder.open(FINISHED), CAT, judges=replace(untrained, public=public))
        assert shown == [((12, 32, 32, 3), JobFolder.open(FINISHED).spec.prompt, 1.0)] * 2
        assert figures["clip_b32"] == figures["vqa_score"] == 5.5
        assert figures["clip_b32_angles"] == tuple(range(12))
        assert (figures["clip_b32_model"], figures["vqa_score_model"]) == ("/models/clip", "clip-flant5-xl")
        assert "vqa_score_angles" not in figures and "clip_l14" not in figures
        assert math.isnan(figures["janus"]), "front and back look alike"


class TestStrips:
    def test_twelve_views_of_result_and_truth(self, tmp_path: Path) -> None:
        turntable_strip(JobFolder.open(FINISHED), tmp_path / "result.png")
        truth_strip(CAT, tmp_path / "truth.png")
        result, truth = (np.asarray(Image.open(tmp_path / name), dtype=float) / 255 for name in ("result.png", "truth.png"))
        assert result.shape == truth.shape == (128, 12 * 128, 3)
        assert np.allclose(result[0, 0], 0.8, atol=0.003) and np.allclose(truth[0, 0], 0.8, atol=0.003)
        errors = [np.square(result - np.roll(truth, 128 * step, axis=1)).mean() for step in range(12)]
        assert np.argmin(errors) == 0 and errors[0] < 0.2 * min(errors[1:])


class TestDiscernible:
    @pytest.mark.parametrize("prompt", ["a gray rabbit", "a white snowman", "a golden teapot", "a red mug"])
    def test_the_likeliest_to_fail_can_be_told(self, prompt: str) -> None:
        assert discernible(vocabulary.parse(prompt))

    def test_what_looks_the_same_from_everywhere_cannot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ball = np.full((24, 32, 32, 3), 0.8)
        ball[:, 8:24, 8:24] = 0.3
        monkeypatch.setattr(measures, "true_views", lambda *views: (ball, ball[..., 0]))
        assert not discernible.__wrapped__(CAT)


class TestSurfaces:
    def test_a_sphere_in_a_sphere_is_its_outside(self) -> None:
        outer, inner = trimesh.creation.icosphere(4, radius=0.8), trimesh.creation.icosphere(4, radius=0.5)
        both = trimesh.util.concatenate([outer, inner])
        points = surface_points(np.asarray(both.vertices), np.asarray(both.faces), 20_000)
        radii = np.linalg.norm(points, axis=1)
        assert radii.min() > 0.79
        assert len(points) == pytest.approx(20_000 * 0.64 / (0.64 + 0.25), rel=0.02), "all of the outer one"
        assert np.abs(points.mean(0)).max() < 0.02

    def test_distance_of_spheres(self) -> None:
        clouds = [surface_points(*sphere(radius), 40_000, seed=seed) for radius, seed in ((0.8, 0), (0.7, 1))]
        assert chamfer(clouds[0], clouds[1]) == pytest.approx(0.1, abs=0.003)
        # Moved by s, a surface is |n . s| away where its normal is n; over a sphere that is s / 2.
        moved = chamfer(clouds[0], surface_points(*sphere(0.8), 40_000, seed=2) + np.array([0.1, 0, 0]))
        assert moved == pytest.approx(0.05, abs=0.005)

    def test_the_true_object_against_itself_and_a_moved_copy(self) -> None:
        once, twice = true_points(CAT), true_points(CAT, seed=5)
        assert chamfer(once, twice, PROBES) < 0.005
        shifts = [chamfer(once, twice + np.array([shift, 0, 0]), PROBES) for shift in (0.05, 0.1, 0.2)]
        for shift, distance in zip((0.05, 0.1, 0.2), shifts, strict=True):
            assert 0.3 * shift < distance < 0.6 * shift
        assert np.array_equal(once, true_points.__wrapped__(CAT)), "seeded"

    def test_the_written_mesh_stands_in_the_world_s_frame(self, tmp_path: Path) -> None:
        true = world.true_mesh(CAT)
        mesh = read_asset(FINISHED / "asset.glb")
        uv = np.full((len(true.vertices), 2), 0.5, np.float32)
        write_asset(replace(mesh, vertices=true.vertices, normals=true.normals, faces=true.faces, uv=uv), tmp_path / "asset.glb")
        assert chamfer(mesh_points(tmp_path / "asset.glb"), true_points(CAT), PROBES) < 0.005
