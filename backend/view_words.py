"""The words for where a camera stands. Standard library only."""

from __future__ import annotations

VIEW_DIRECTIONS = ("front", "side", "back", "overhead")


def view_direction(azimuth: float, elevation: float) -> str:
    """One of `VIEW_DIRECTIONS` for a camera at these angles (degrees, `cameras.py`'s convention); the overhead cone has precedence."""
    if elevation > 55:
        return "overhead"
    off_front = abs((azimuth + 180) % 360 - 180)
    return "front" if off_front < 45 else "back" if off_front > 135 else "side"
