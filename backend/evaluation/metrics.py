"""Image measures in plain numpy. Images are float in 0..1, channels last; coverage is float in 0..1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of [..., H, W, 3] images; capped at 99 for equal ones."""
    error = float(np.mean((image.astype(np.float64) - reference) ** 2))
    return 99.0 if error < 10**-9.9 else -10 * np.log10(error)


def silhouette_iou(coverage: np.ndarray, reference: np.ndarray) -> float:
    """Intersection over union of the pixels that are at least half covered, [H, W]; 1 where both are empty."""
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
