"""From numbers to colours that colour-blind people can order too. No bpy.

Blender's gizmo, theme and drawing colours are display (sRGB) values, and so are all colours here. Ramps are mixed in Oklab, where equal
steps look equal and lightness runs evenly from one end to the other: a ramp whose ends differ in lightness can be read without its hues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...backend.colours import linear_to_srgb, srgb_to_linear
from .measures import Measure

NAMED = {
    "VIRIDIS": ("482173", "433E85", "38598C", "2D708E", "25858E", "1E9B8A", "2BB07F", "51C56A", "85D54A", "C2DF23", "FDE725"),
    "CIVIDIS": ("0A326D", "2C4171", "45506F", "575D6D", "696970", "7A7778", "8E8978", "A69B73", "BFAF6A", "DCC856", "FEE838"),
    "INFERNO": ("390963", "560F6D", "721A6E", "8F2469", "AC305F", "C63F51", "DD513A", "F06A20", "F98C0A", "FAC42A", "FCFFA4"),
}
"""Well-known ramps, from "done" to "needs work", without their darkest end, which would drown in a dark viewport. Their lightness rises
evenly, so that they can be read in every colour blindness.
"""

UNKNOWN = (0.50, 0.50, 0.50)
"""A region nothing is known of yet."""

_STEPS = 256
_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
)
_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
)


def to_oklab(srgb: np.ndarray) -> np.ndarray:
    """[..., 3] display colours to Oklab (lightness 0..1, green-red, blue-yellow)."""
    return np.cbrt(srgb_to_linear(srgb) @ _LMS.T) @ _LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """[..., 3] Oklab to display colours; what lies outside the gamut is cut off."""
    linear = (np.asarray(lab) @ np.linalg.inv(_LAB).T) ** 3 @ np.linalg.inv(_LMS).T
    return np.clip(linear_to_srgb(np.clip(linear, 0.0, 1.0)), 0.0, 1.0)


@dataclass(frozen=True)
class Ramp:
    """Colours from "done" to "needs work": display RGB at even distances, at least two."""

    stops: tuple[tuple[float, float, float], ...]

    @classmethod
    def named(cls, name: str) -> Ramp:
        """One of `NAMED`."""
        return cls(tuple((int(code[:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:], 16) / 255) for code in NAMED[name]))

    @cached_property
    def table(self) -> np.ndarray:
        """[256, 3] the ramp."""
        stops = to_oklab(np.array(self.stops))
        share = np.linspace(0.0, len(stops) - 1.0, _STEPS)
        return from_oklab(np.stack([np.interp(share, np.arange(len(stops)), stops[:, k]) for k in range(3)], axis=1))

    def sample(self, share: np.ndarray) -> np.ndarray:
        """[N, 3] the colours at [N] positions 0..1; NaN gives `UNKNOWN`."""
        share = np.asarray(share, dtype=np.float64)
        known = np.isfinite(share)
        index = np.rint(np.clip(np.where(known, share, 0.0), 0.0, 1.0) * (_STEPS - 1)).astype(int)
        return np.where(known[:, None], self.table[index], UNKNOWN)


MOST_TICKS = 4
"""Numbers below the legend's ramp."""


@dataclass(frozen=True)
class Scale:
    """Which values the ramp spans.

    Attributes:
        low, high: the values at the left and the right end of the legend.
        flipped: whether the low end is the one that needs work.
    """

    low: float
    high: float
    flipped: bool = False

    def share(self, values: np.ndarray) -> np.ndarray:
        """[N] position of each value on the ramp, 0 (done) to 1 (needs work); NaN stays NaN."""
        share = np.clip((np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)
        return 1.0 - share if self.flipped else share

    def ticks(self) -> tuple[float, ...]:
        """Two to four round values within the scale, ascending."""
        step = _round_step((self.high - self.low) / MOST_TICKS)
        while len(ticks := self._multiples(step)) > MOST_TICKS:
            step = _round_step(1.01 * step)  # twice as large at most, so that two remain
        return ticks

    def _multiples(self, step: float) -> tuple[float, ...]:
        """Those of a number within the scale, its ends included."""
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(k * step + 0.0 for k in range(first, last + 1))


def scale_of(values: np.ndarray, measure: Measure) -> Scale:
    """The scale for these values: from their 2nd to their 98th percentile, so that one outlier does not take the contrast from all others;
    around the measure's centre where it has one, and never narrower than its least span.
    """
    known = values[np.isfinite(values)]
    low, high = (float(x) for x in np.percentile(known, (2, 98))) if len(known) else (0.0, 0.0)
    least = measure.least_span or max(0.1 * max(abs(low), abs(high)), 1e-6)
    if measure.centre is not None:
        half = max(high - measure.centre, measure.centre - low, least / 2) if len(known) else least / 2
        low, high = measure.centre - half, measure.centre + half
    elif high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
        if middle >= 0 > low:  # counts and shares do not go below nothing
            low, high = 0.0, least
    return Scale(low, high, flipped=not measure.worst_is_high)


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= step * (1 - 1e-9))


def with_alpha(colours: np.ndarray, alpha: float | np.ndarray) -> np.ndarray:
    """[N, 4] from [N, 3] colours and one or [N] alphas."""
    return np.concatenate([colours, np.broadcast_to(np.reshape(alpha, (-1, 1)), (len(colours), 1))], axis=1)
