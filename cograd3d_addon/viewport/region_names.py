"""What an artist calls a view region: "front, slightly above". No bpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

_SIDES = ("front", "front right", "right", "back right", "back", "back left", "left", "front left")
"""Where the camera stands, every 45 degrees of azimuth; `right` is +X, as in Blender's views."""

_HEIGHTS = ((-60.0, "from below"), (-25.0, "low"), (-7.0, "slightly below"), (7.0, "level"), (32.0, "slightly above"), (65.0, "high"))
"""Upper end of the elevations (degrees) that each word stands for; above the last it is `from above`."""


def side(azimuth: float) -> str:
    """The side a camera at this azimuth (degrees) stands on, one of eight."""
    return _SIDES[round((azimuth % 360.0) / 45.0) % 8]


def height(elevation: float) -> str:
    """How high a camera at this elevation (degrees) stands."""
    return next((word for end, word in _HEIGHTS if elevation <= end), "from above")


def region_names(azimuth: Sequence[float], elevation: Sequence[float], distance: Sequence[float]) -> tuple[str, ...]:
    """[N] names, no two alike as long as no two regions are.

    Words come first; degrees (off the front, or up) are added only where a grid has several regions on one side or at one height, and the
    distance only where it has several shells.
    """
    sides = _told_apart(azimuth, side, _degrees_off_front)
    heights = _told_apart(elevation, height, lambda e: f"{e:.4g}°")
    shells = {value: f", {value:.2g} away" for value in set(distance)} if len(set(distance)) > 1 else {}
    return tuple(f"{sides[a]}, {heights[e]}{shells.get(d, '')}" for a, e, d in zip(azimuth, elevation, distance))


def _degrees_off_front(azimuth: float) -> str:
    """How far a camera stands from the front, and on which hand where the name of its side does not say it."""
    hand = "" if side(azimuth) not in ("front", "back") else " left" if azimuth % 360.0 > 180.0 else " right"
    return f"{min(azimuth % 360.0, -azimuth % 360.0):.4g}°{hand if azimuth % 180.0 else ''}"


def _told_apart(values: Sequence[float], word: Callable[[float], str], degrees: Callable[[float], str]) -> dict[float, str]:
    """{value: word}, with the degrees behind those words that several values share."""
    words = {value: word(value) for value in sorted(set(values))}
    shared = Counter(words.values())
    return {value: text if shared[text] == 1 else f"{text} {degrees(value)}" for value, text in words.items()}


def capitalised(name: str) -> str:
    """A name at the beginning of a line."""
    return name[:1].upper() + name[1:]
