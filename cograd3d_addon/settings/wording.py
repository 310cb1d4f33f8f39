"""Numbers, ages and long texts as the panel shows them. No bpy."""

from __future__ import annotations

import datetime
import math

from ...backend.protocol import PHASES, Progress


def duration(seconds: float) -> str:
    """`8 s`, `3:05 min`, `2:10 h`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def memory(size: float) -> str:
    """`850 MB`, `1.9 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def speed(iterations_per_second: float) -> str:
    """`4.2 steps/s`, or for slow ones `3.1 s/step`."""
    if iterations_per_second >= 1:
        return f"{iterations_per_second:.1f} steps/s"
    return f"{1 / iterations_per_second:.1f} s/step"


def loss(value: float) -> str:
    """Four significant digits, no exponent for usual values."""
    return f"{value:.4g}"


def age(created: str, now: datetime.datetime | None = None) -> str:
    """How long ago a moment was, `created` being ISO 8601 in UTC: `just now`, `5 min`, `3 h`, `2 d`, else the date; empty if unknown."""
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    minutes = ((now or datetime.datetime.now(datetime.UTC)) - moment).total_seconds() / 60
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes:.0f} min"
    if minutes < 24 * 60:
        return f"{minutes / 60:.0f} h"
    return f"{minutes / 1440:.0f} d" if minutes < 14 * 1440 else f"{moment:%Y-%m-%d}"


def progress_fraction(progress: Progress | None) -> float:
    """0..1 of the current phase; 0 while unknown."""
    if progress is None or progress.total <= 0:
        return 0.0
    return min(1.0, max(0.0, progress.iteration / progress.total))


def progress_text(progress: Progress | None, phase: str) -> str:
    """What stands in the bar: `Shaping  120 of 400`; the phase alone while nothing is counted."""
    label = PHASES.get(phase, phase)
    if progress is None or progress.total <= 0 or progress.phase != phase:
        return label
    return f"{label}  {progress.iteration} of {progress.total}"


def progress_details(progress: Progress) -> tuple[tuple[str, str], ...]:
    """(label, value) of what is known: time left, speed, loss, memory, Gaussians."""
    rows = []
    if progress.seconds_left >= 0:
        rows.append(("Time left", duration(progress.seconds_left)))
    if progress.iterations_per_second > 0:
        rows.append(("Speed", speed(progress.iterations_per_second)))
    if math.isfinite(progress.loss):
        rows.append(("Loss", loss(progress.loss)))
    if progress.memory > 0:
        rows.append(("Memory", memory(progress.memory)))
    if progress.gaussians > 0:
        rows.append(("Gaussians", f"{progress.gaussians:,}"))
    return tuple(rows)


def shortened(text: str, length: int) -> str:
    """A text of at most `length` characters, an ellipsis in place of the rest."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"
