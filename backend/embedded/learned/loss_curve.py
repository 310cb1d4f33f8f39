"""The loss curve of a training run as a picture."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...files import atomic_path

SERIES = {"mse_low_t": "#3b6fb6", "mse_mid_t": "#2f9e62", "mse_high_t": "#c0504d"}
"""Columns of `loss.csv` that are drawn, and their colours. The loss itself is relative to the usual errors and stays at one."""

_MARGIN_LEFT, _MARGIN_TOP, _MARGIN_RIGHT, _MARGIN_BOTTOM = 64, 14, 16, 36


def draw_curve(source: Path, destination: Path, size: tuple[int, int] = (900, 420)) -> None:
    """Draws the columns of a loss table over the images seen, smoothed, the vertical axis logarithmic. Fewer than two rows: nothing."""
    if not source.exists():
        return
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if len(rows) < 2:
        return
    images = np.array([float(row["images"]) for row in rows])
    curves = {name: np.log10(smooth(np.array([float(row[name]) for row in rows])) + 1e-12) for name in SERIES}
    finite = np.concatenate([curve[np.isfinite(curve)] for curve in curves.values()])
    if not len(finite):
        return
    low, high = finite.min() - 0.05, finite.max() + 0.05
    right, bottom = size[0] - _MARGIN_RIGHT, size[1] - _MARGIN_BOTTOM
    x = _MARGIN_LEFT + (images - images[0]) / (images[-1] - images[0]) * (right - _MARGIN_LEFT)

    def to_y(value: np.ndarray) -> np.ndarray:
        return bottom - (value - low) / (high - low) * (bottom - _MARGIN_TOP)

    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            tick = exponent + math.log10(digit)
            if low <= tick <= high:
                y = float(to_y(np.array(tick)))
                pen.line([(_MARGIN_LEFT, y), (right, y)], fill="#dddddd")
                pen.text((8, y - 6), f"{10**tick:.3g}", fill="#444444")
    for share in (0, 0.25, 0.5, 0.75, 1):
        label = f"{(images[0] + share * (images[-1] - images[0])) / 1000:,.0f}k"
        position = _MARGIN_LEFT + share * (right - _MARGIN_LEFT)
        pen.text((position - (0 if share == 0 else 28), bottom + 6), label, fill="#444444")
    pen.text((_MARGIN_LEFT + 200, bottom + 20), "images seen", fill="#444444")
    for index, (name, colour) in enumerate(SERIES.items()):
        pen.line(list(zip(x.tolist(), to_y(curves[name]).tolist(), strict=True)), fill=colour, width=2)
        pen.text((right - 110, _MARGIN_TOP + 4 + 14 * index), name, fill=colour)
    with atomic_path(destination, durable=False) as temporary:
        sheet.save(temporary)


def smooth(values: np.ndarray, factor: float = 0.9) -> np.ndarray:
    """Exponential moving average, without bias towards the first value."""
    result = np.empty(len(values))
    total = weight = 0.0
    for index, value in enumerate(values):
        total, weight = factor * total + (1 - factor) * value, factor * weight + (1 - factor)
        result[index] = total / weight
    return result
