"""Measures against hand-worked numbers, and the truth's score of the truth itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backend.embedded import vocabulary, world
from backend.evaluation.metrics import (
    angle_between,
    chamfer,
    janus_rate,
    nearest_azimuths,
    psnr,
    silhouette_iou,
    ssim,
    view_change,
    wrong_views,
)
from backend.evaluation.truth import AZIMUTHS, best_turn, score


def test_psnr_of_a_constant_error() -> None:
    assert psnr(np.full((4, 4, 3), 0.6), np.full((4, 4, 3), 0.5)) == pytest.approx(20.0)
    assert psnr(np.ones((2, 2, 3)), np.ones((2, 2, 3))) == 99.0


def test_ssim_of_constant_images_is_its_luminance_term() -> None:
    a, b = np.full((16, 16, 3), 0.5), np.full((16, 16, 3), 0.25)
    c1 = 0.01**2
    assert ssim(a, b) == pytest.approx((2 * 0.5 * 0.25 + c1) / (0.5**2 + 0.25**2 + c1))
    assert ssim(a, a) == 1


def test_ssim_is_that_of_its_paper() -> None:
    """Written down again: windows of 11 pixels, averaged over those that lie within the picture, and over channels."""
    rng = np.random.default_rng(2)
    a = rng.random((24, 20, 3))
    b = (a + rng.normal(0, 0.1, a.shape)).clip(0, 1)
    window = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    values = []
    for row, column, channel in itertools.product(range(24 - 10), range(20 - 10), range(3)):
        x, y = (image[row : row + 11, column : column + 11, channel] for image in (a, b))
        mean_x, mean_y = (window * x).sum(), (window * y).sum()
        var_x, var_y = (window * x * x).sum() - mean_x**2, (window * y * y).sum() - mean_y**2
        both = (window * x * y).sum() - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        values.append(luminance * (2 * both + 9e-4) / (var_x + var_y + 9e-4))
    assert ssim(a, b) == pytest.approx(np.mean(values))


def test_ssim_forgives_an_offset_and_no_lost_structure() -> None:
    picture = np.random.default_rng(0).random((32, 32, 3)) * 0.8
    noisy = np.random.default_rng(1).random((32, 32, 3)) * 0.8
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(noisy, picture) < 0.2 < 0.9 < ssim(picture + 0.1, picture)
    assert ssim(picture, noisy) == pytest.approx(ssim(noisy, picture))


def test_silhouette_iou_counts_pixels() -> None:
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[:2], b[1:3] = 1, 1
    assert silhouette_iou(a, b) == pytest.approx(4 / 12)
    assert silhouette_iou(np.zeros((2, 2)), np.zeros((2, 2))) == 1
    half = np.full((2, 2), 0.5)
    assert silhouette_iou(half, np.ones((2, 2))) == 0, "half a pixel is no pixel"


@pytest.mark.parametrize(("a", "b", "expected"), [(350, 10, 20), (0, 180, 180), (-90, 270, 0), (725, 0, 5)])
def test_angles_wrap(a: float, b: float, expected: float) -> None:
    assert angle_between(a, b) == pytest.approx(expected)


def test_janus_rate_is_the_share_of_rear_views_that_look_frontal() -> None:
    azimuths = np.array([0.0, 100, 180, 260])
    assert janus_rate(azimuths, azimuths) == 0
    assert janus_rate(azimuths, np.array([0.0, 100, 20, 260])) == pytest.approx(1 / 3)
    assert janus_rate(azimuths, np.array([0.0, 0, 0, 0])) == 1
    assert janus_rate(np.array([90.0, 91]), np.array([0.0, 45])) == 1, "90 degrees are not behind, 45 are frontal"
    assert janus_rate(np.array([90.0, 91]), np.array([0.0, 46])) == 0


def test_wrong_views_are_those_mistaken_by_more_than_45_degrees() -> None:
    azimuths = np.array([0.0, 90, 180, 270])
    assert wrong_views(azimuths, azimuths) == 0
    assert wrong_views(azimuths, np.array([315.0, 90, 134, 90])) == 0.5


def test_view_change_is_relative_to_the_reference() -> None:
    reference = np.array([0.0, 0.2, 0.6])[:, None, None, None] * np.ones((3, 4, 4, 3))
    assert view_change(reference, reference) == 1
    assert view_change(0.5 * reference + 0.3, reference) == pytest.approx(0.5)
    assert view_change(np.full_like(reference, 0.4), reference) == 0
    around = np.array([0.0, 0.0, 0.3])[:, None, None, None] * np.ones((3, 4, 4, 3))  # changes of 0, 0.3 and, from last to first, 0.3
    assert view_change(around, reference) == pytest.approx(0.6 / 1.2)
    assert np.isnan(view_change(reference, np.ones_like(reference)))


def test_chamfer_averages_both_ways() -> None:
    a = np.array([[0.0, 0, 0]])
    b = np.array([[3.0, 0, 0], [0, 4, 0], [0, 0, 12]])
    assert chamfer(a, b) == pytest.approx(0.5 * (3 + (3 + 4 + 12) / 3))
    assert chamfer(b, a) == chamfer(a, b)
    assert chamfer(b, b[::-1]) == 0
    assert chamfer(a, b, probes=1) == 3, "of the first ones only"
    assert chamfer(np.concatenate([a, b]), b, probes=1) == 1.5, "which look for theirs among all"


@pytest.mark.parametrize(("fits_at", "turn"), [(60, 45), (-90, -45), (17, 17), (-44, -44), (0, 0)])
def test_the_turn_is_the_best_within_45_degrees(fits_at: float, turn: float) -> None:
    assert best_turn(lambda degrees: -abs(degrees - fits_at)) == turn


def test_nearest_azimuth_is_that_of_the_least_squares_view() -> None:
    references = np.random.default_rng(0).random((5, 6, 6, 3))
    azimuths = np.arange(5) * 72.0
    assert np.array_equal(nearest_azimuths(references[::-1] * 0.9, references, azimuths), azimuths[::-1])
    assert np.array_equal(nearest_azimuths(references[[1, 1, 3]] * 0.9, references, azimuths), [72, 72, 216])


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
    assert (perfect.wrong_views, perfect.view_change) == (0.0, pytest.approx(1))
    assert perfect.ssim_turned > 0.999
    turned = score(truth_renderer(description, -3), description)  # the object turned by +3 degrees shows what stands 3 degrees before
    assert turned.psnr < 40 < 60 < turned.psnr_turned
    assert (turned.turn, turned.iou_turned) == (3.0, 1.0)
    assert turned.ssim_turned > 0.999
    far = score(truth_renderer(description, 32), description)
    assert (far.turn, far.iou_turned, far.wrong_views, far.azimuth_error) == (-32.0, 1.0, 0.0, 30.0), "the frame stays the prompt's"
    reversed_ = score(truth_renderer(description, 180), description)
    assert reversed_.azimuth_error == pytest.approx(180)
    assert reversed_.janus > 0.4
    assert (reversed_.wrong_views, reversed_.view_change) == (1.0, pytest.approx(1))
    assert len(AZIMUTHS) == 24


def test_an_object_that_is_its_front_on_every_side_has_all_of_the_janus_problem() -> None:
    description = vocabulary.parse("a blue car")

    def render(cameras, background):
        count = len(cameras)
        images, coverage = world.true_views(
            description, np.zeros(count), np.full(count, 15.0), np.full(count, 3.3), cameras[0].width, (background,) * 3
        )
        return images.transpose(0, 2, 3, 1), coverage

    found = score(render, description)
    assert found.janus == 1
    assert found.view_change == 0
    assert found.wrong_views == pytest.approx(17 / 24)  # all but the seven at most 45 degrees from the one that resembles the front
