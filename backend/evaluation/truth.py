"""A result against the true object of the built-in world, at views that no camera of the optimiser visited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..cameras import Camera, orbit_camera
from ..embedded import world
from ..embedded.renderer import FOV
from ..embedded.vocabulary import Description
from .metrics import angle_between, janus_rate, nearest_azimuths, psnr, silhouette_iou, ssim, view_change, wrong_views

AZIMUTHS = np.arange(24) * 15.0 + 7.5
ELEVATIONS = np.tile([5.0, 20.0, 40.0], 8)
RING_ELEVATION = 15.0
COARSE_TURNS, FINE_TURNS = np.arange(-45.0, 46.0, 5.0), np.arange(-4.0, 5.0)
"""Degrees: the words "front view" mean any view within 45 degrees of the front, so no word pins the frame more closely."""
COARSE_VIEWS = slice(None, None, 3)
"""The views by which coarse turns are compared, eight of the 24."""
RESOLUTION = 128
BACKGROUND = 0.8

Renderer = Callable[[list[Camera], float], tuple[np.ndarray, np.ndarray]]
"""Cameras and a grey background to colours [C, H, W, 3] and coverage [C, H, W]."""


@dataclass(frozen=True)
class TruthScore:
    """Agreement with the true object, in the frame that the prompt's front fixes: nothing is aligned, but where said.

    Attributes:
        psnr: dB, mean over 24 views at three elevations.
        iou: of the silhouettes, mean over the same views.
        janus: share of the views from behind, on a ring of 24, that resemble a frontal true view most.
        azimuth_error: degrees between a ring view's azimuth and that of the true view it resembles most, mean.
        wrong_views: share of the ring's views that resemble a true view more than 45 degrees away most.
        view_change: how much neighbouring views of the ring differ, relative to the true object's.
        turn: the one about Z, within 45 degrees, by which the result fits the truth best, as far as `best_turn` finds it.
        psnr_turned, iou_turned: as `psnr` and `iou`, with the result turned so.
        ssim_turned: structural similarity, mean over the same views, with the result turned so.
    """

    psnr: float
    iou: float
    janus: float
    azimuth_error: float
    wrong_views: float
    view_change: float
    turn: float
    psnr_turned: float
    iou_turned: float
    ssim_turned: float


def score(render: Renderer, description: Description) -> TruthScore:
    """Compares renders with the true object that the description names (colour and material included)."""
    images, coverage = _rendered(render, AZIMUTHS, ELEVATIONS)
    ring_elevations = np.full(len(AZIMUTHS), RING_ELEVATION)
    ring, _ = _rendered(render, AZIMUTHS, ring_elevations)
    true_ring, _ = true_views(description, AZIMUTHS, ring_elevations)
    resembled = nearest_azimuths(ring, true_ring, AZIMUTHS)

    def turned(turn: float, views: slice = slice(None)) -> tuple[float, float]:
        truth = true_views(description, AZIMUTHS[views] - turn, ELEVATIONS[views])
        return _agreement(images[views], coverage[views], *truth)

    best = best_turn(lambda turn: turned(turn)[0], lambda turn: turned(turn, COARSE_VIEWS)[0])
    best_images, _ = true_views(description, AZIMUTHS - best, ELEVATIONS)
    as_it_stands, at_its_best = turned(0.0), turned(best)
    return TruthScore(
        psnr=as_it_stands[0],
        iou=as_it_stands[1],
        janus=janus_rate(AZIMUTHS, resembled),
        azimuth_error=float(angle_between(resembled, AZIMUTHS).mean()),
        wrong_views=wrong_views(AZIMUTHS, resembled),
        view_change=view_change(ring, true_ring),
        turn=best,
        psnr_turned=at_its_best[0],
        iou_turned=at_its_best[1],
        ssim_turned=float(np.mean([ssim(a, b) for a, b in zip(images, best_images, strict=True)])),
    )


def best_turn(fit: Callable[[float], float], roughly: Callable[[float], float] | None = None) -> float:
    """The turn about Z, in whole degrees within 45, of the best fit near the first look's best.

    A result that fits badly however it is turned may fit a little better elsewhere, even as it stands.

    Args:
        fit: how well the result fits when it is turned so.
        roughly: the same at less cost, for the first look in steps of five degrees.
    """
    around = max(COARSE_TURNS.tolist(), key=roughly or fit)
    return max((around + FINE_TURNS).clip(COARSE_TURNS[0], COARSE_TURNS[-1]).tolist(), key=fit)


def _rendered(render: Renderer, azimuths: np.ndarray, elevations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cameras = [orbit_camera(a, e, world.DISTANCE, FOV, RESOLUTION) for a, e in zip(azimuths, elevations, strict=True)]
    images, coverage = render(cameras, BACKGROUND)
    return images.clip(0, 1), coverage


def true_views(description: Description, azimuths: np.ndarray, elevations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours [V, H, W, 3] and coverage [V, H, W] of the true object, before the measures' grey and at their size."""
    distances = np.full(len(azimuths), world.DISTANCE)
    images, coverage = world.true_views(description, azimuths, elevations, distances, RESOLUTION, (BACKGROUND,) * 3)
    return images.transpose(0, 2, 3, 1), coverage


def _agreement(images: np.ndarray, coverage: np.ndarray, true_images: np.ndarray, true_coverage: np.ndarray) -> tuple[float, float]:
    """(mean PSNR, mean silhouette IoU) over views."""
    return (
        float(np.mean([psnr(a, b) for a, b in zip(images, true_images, strict=True)])),
        float(np.mean([silhouette_iou(a, b) for a, b in zip(coverage, true_coverage, strict=True)])),
    )
