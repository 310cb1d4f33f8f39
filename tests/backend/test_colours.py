"""The one transfer curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import backend
from backend.colours import linear_to_srgb, srgb_to_linear


def test_values_worked_by_hand():
    assert srgb_to_linear(np.array([0.0, 0.04, 0.5, 1.0])) == pytest.approx([0.0, 0.04 / 12.92, 0.21404, 1.0], abs=1e-5)
    assert linear_to_srgb(np.array([0.0, 0.002, 0.5, 1.0])) == pytest.approx([0.0, 0.02584, 0.73536, 1.0], abs=1e-5)


def test_they_are_inverse_in_eight_bits():
    shades = np.arange(256) / 255
    assert linear_to_srgb(srgb_to_linear(shades)) == pytest.approx(shades, abs=1e-6)


def test_it_is_written_down_once():
    root = Path(backend.__file__).parents[1]
    sources = [path for part in ("backend", "cograd3d_addon") for path in (root / part).rglob("*.py")]
    assert [path for path in sources if "0.0031308" in path.read_text(encoding="utf-8")] == [root / "backend" / "colours.py"]
