"""The transfer curve of sRGB (IEC 61966-2-1): display colours, which files and screens hold, and linear ones, which light adds up in."""

from __future__ import annotations

import numpy as np


def srgb_to_linear(colours: np.ndarray) -> np.ndarray:
    """Display values in 0..1, in an array of any shape, as shares of the light."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colours: np.ndarray) -> np.ndarray:
    """The inverse of `srgb_to_linear`."""
    return np.where(colours <= 0.0031308, 12.92 * colours, 1.055 * np.maximum(colours, 0.0031308) ** (1 / 2.4) - 0.055)
