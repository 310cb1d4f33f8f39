"""Measures against hand-worked numbers, and the truth's score of the truth itself."""

from __future__ import annotations

import numpy as np
import pytest

from backend.embedded import vocabulary, world
from backend.evaluation.metrics import angle_between, janus_rate, nearest_azimuths, psnr, silhouette_iou
from backend.evaluation.truth import AZIMUTHS, score


def test_psnr_of_a_constant_error() -> None:
    assert psnr(np.full((4, 4, 3), 0.6), np.full((4, 4, 3), 0.5)) == pytest.approx(20.0)
    assert psnr(np.ones((2, 2, 3)), np.ones((2, 2, 3))) == 99.0


def test_silhouette_iou_counts_pixels() -> None:
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[:2], b[1:3] = 1, 1
    assert silhouette_iou(a, b) == pytest.approx(4 / 12)
    assert silhouette_iou(np.zeros((2, 2)), np.zeros((2, 2))) == 1


@pytest.mark.parametrize(("a", "b", "expected"), [(350, 10, 20), (0, 180, 180), (-90, 270, 0), (725, 0, 5)])
def test_angles_wrap(a: float, b: float, expected: float) -> None:
    assert angle_between(a, b) == pytest.approx(expected)


def test_janus_rate_is_the_share_of_rear_views_that_look_frontal() -> None:
    azimuths = np.array([0.0, 100, 180, 260])
    assert janus_rate(azimuths, azimuths) == 0
    assert janus_rate(azimuths, np.array([0.0, 100, 20, 260])) == pytest.approx(1 / 3)
    assert janus_rate(azimuths, np.array([0.0, 0, 0, 0])) == 1


def test_nearest_azimuth_is_that_of_the_least_squares_view() -> None:
    references = np.random.default_rng(0).random((5, 6, 6, 3))
    azimuths = np.arange(5) * 72.0
    assert np.array_equal(nearest_azimuths(references[::-1] * 0.9, references, azimuths), azimuths[::-1])


def truth_renderer(description: vocabulary.Description, turned: float):
    """The true object itself, turned about its axis."""

    def render(cameras, background):
        positions = np.array([camera.position for camera in cameras])
        azimuth = np.degrees(np.arctan2(positions[:, 0], -positions[:, 1])) + turned
        distance = np.linalg.norm(positions, axis=1)
        elevation = np.degrees(np.arcsin(positions[:, 2] / distance))
        images, coverage = world.true_views(description, azimuth, elevation, distance, cameras[0].width, (background,) * 3)
        return images.transpose(0, 2, 3, 1), coverage

    return render


def test_the_true_object_scores_perfectly_and_its_reverse_is_a_wrong_front() -> None:
    description = vocabulary.parse("a blue car")
    perfect = score(truth_renderer(description, 0), description)
    assert perfect.psnr > 60
    assert (perfect.iou, perfect.janus, perfect.azimuth_error, perfect.turn) == (1.0, 0.0, 0.0, 0.0)
    turned = score(truth_renderer(description, -3), description)  # the object turned by +3 degrees shows what stands 3 degrees before
    assert turned.psnr < 40 < 60 < turned.psnr_turned
    assert (turned.turn, turned.iou_turned) == (3.0, 1.0)
    reversed_ = score(truth_renderer(description, 180), description)
    assert reversed_.azimuth_error == pytest.approx(180)
    assert reversed_.janus > 0.4
    assert len(AZIMUTHS) == 24
