"""Measures of images and shapes. Images are float in 0..1, channels last; coverage is float in 0..1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from skimage.metrics import structural_similarity

WRONG = 45.0
"""Degrees by which a view may be mistaken before it counts as wrong: half of what a view word means."""


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of [..., H, W, 3] images; capped at 99 for equal ones."""
    error = float(np.mean((image.astype(np.float64) - reference) ** 2))
    return 99.0 if error < 10**-9.9 else -10 * np.log10(error)


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of two images [H, W, 3], as in Wang et al. 2004: Gaussian windows of sigma 1.5, the mean over channels."""
    return float(
        structural_similarity(
            image.astype(np.float64),
            reference.astype(np.float64),
            channel_axis=-1,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def silhouette_iou(coverage: np.ndarray, reference: np.ndarray) -> float:
    """Intersection over union of the pixels that are more than half covered, [H, W]; 1 where both are empty."""
    a, b = coverage > 0.5, reference > 0.5
    union = np.logical_or(a, b).sum()
    return 1.0 if union == 0 else float(np.logical_and(a, b).sum() / union)


def angle_between(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Absolute difference of two angles, in degrees, 0..180."""
    return np.abs((np.asarray(a) - np.asarray(b) + 180) % 360 - 180)


def nearest_azimuths(images: np.ndarray, references: np.ndarray, azimuths: np.ndarray) -> np.ndarray:
    """For each image [V, H, W, 3] the azimuth of the true view [V, H, W, 3] that it resembles most (least squares)."""
    errors = ((images[:, None] - references[None]) ** 2).mean((2, 3, 4))
    return azimuths[errors.argmin(1)]


def janus_rate(azimuths: np.ndarray, resembled: np.ndarray) -> float:
    """Share of the views from behind (more than 90 degrees off the front) that resemble a frontal true view (at most 45 degrees off)."""
    behind = angle_between(azimuths, 0) > 90
    return float(np.mean(angle_between(resembled[behind], 0) <= 45))


def wrong_views(azimuths: np.ndarray, resembled: np.ndarray) -> float:
    """Share of the views that resemble a true view more than `WRONG` degrees away."""
    return float(np.mean(angle_between(resembled, azimuths) > WRONG))


def view_change(images: np.ndarray, references: np.ndarray) -> float:
    """How much neighbouring views of a ring [V, H, W, 3] differ, relative to a reference's: mean absolute differences.

    1 is right, 0 looks the same from everywhere; NaN where the reference does.
    """
    change, expected = (float(np.mean(np.abs(views - np.roll(views, -1, axis=0)))) for views in (images, references))
    return change / expected if expected > 0 else float("nan")


def chamfer(points: np.ndarray, others: np.ndarray, probes: int | None = None) -> float:
    """Mean distance to the nearest point of the other set, [N, 3] and [M, 3], averaged over both ways.

    Args:
        probes: how many of each set, the first ones, are asked for their nearest of the whole other set; None: all.
    """
    there, _ = cKDTree(others).query(points[:probes])
    back, _ = cKDTree(points).query(others[:probes])
    return 0.5 * (float(np.mean(there)) + float(np.mean(back)))
