"""The plot of a region's history."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cograd3d.cograd3d_addon.ui import plot

LOOK = plot.Look(text=(1, 1, 1), line=(1, 0, 0), other=(0, 0, 1))
NOTHING = (np.zeros(0), np.zeros(0))


def test_a_line_has_its_width_and_smooth_edges():
    sheet = plot.Sheet(20, 20)
    sheet.line(np.array([(2.0, 10.5), (18.0, 10.5)]), (1, 0, 0), 2.0)
    column = sheet.pixels[:, 10, 3]
    assert column.sum() == pytest.approx(2.0, abs=0.01) and column[10] == 1
    assert sheet.pixels[10, 10, :3].tolist() == [1, 0, 0]


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_a_rising_curve_rises(scale):
    pixels = plot.plot(
        (np.arange(50), np.linspace(0, 2, 50)), NOTHING, round(140 * scale), plot.Look((1, 1, 1), (1, 0, 0), (0, 0, 1), scale)
    )
    assert pixels.shape == (round(140 * scale), round(140 * scale), 4) and pixels.dtype == np.float32
    assert (pixels >= 0).all() and (pixels <= 1).all()
    red = (pixels[..., 3] > 0.5) & (pixels[..., 0] > 0.9) & (pixels[..., 1] < 0.1)
    rows, columns = np.nonzero(red)
    middle = [rows[columns == column].mean() for column in range(columns.min() + 5, columns.max() - 5, 5)]
    assert (np.diff(middle) > 0).all()


def test_a_bent_line_is_its_pieces_together():
    """However many pieces are drawn at once, each pixel has the coverage of the nearest one."""
    points = 40 + 30 * np.random.default_rng(0).uniform(-1, 1, (30, 2))
    whole, coverage = plot.Sheet(80, 80), np.zeros((80, 80))
    whole.line(points, (1, 0, 0), 1.8)
    for pair in itertools.pairwise(points):
        piece = plot.Sheet(80, 80)
        piece.line(np.array(pair), (1, 0, 0), 1.8)
        coverage = np.maximum(coverage, piece.pixels[..., 3])
    np.testing.assert_allclose(whole.pixels[..., 3], coverage, atol=1e-4)


def test_a_long_history_costs_no_more_than_a_short_one(monkeypatch):
    drawn = []
    line = plot.Sheet.line
    monkeypatch.setattr(
        plot.Sheet, "line", lambda sheet, points, *rest, **named: drawn.append(points) or line(sheet, points, *rest, **named)
    )
    steps, values = np.arange(256), np.linspace(1.0, 2.0, 256)
    plot.plot((steps, values), (steps, values), 180, LOOK)
    curves = [points for points in drawn if len(points) > 20]
    assert [len(points) for points in curves] == [64] * 2
    ends = [points[[0, -1], 0] for points in curves]
    assert all(right - left > 130 for left, right in ends), "the first and the last step are there"


def test_flat_and_empty_histories():
    assert not plot.plot(NOTHING, NOTHING, 100, LOOK).any()
    assert plot.plot((np.array([5]), np.array([1.0])), NOTHING, 100, LOOK).any()
    assert np.isfinite(plot.plot((np.arange(9), np.zeros(9)), (np.arange(9), np.zeros(9)), 100, LOOK)).all()


@pytest.mark.parametrize(
    ("value", "span", "text"),
    [(0.5, 1.0, "0.5"), (12.0, 30.0, "12"), (0.031, 0.01, "0.031"), (1500, 400, "1.5k"), (25_000, 25_000, "25k"), (-0.001, 1.0, "0.0"),
     (-0.25, 0.1, "-0.25"), (400, 400, "400")],
)  # fmt: skip
def test_short_numbers(value, span, text):
    assert plot.short_number(value, span) == text


def test_figures_take_the_room_they_claim():
    sheet = plot.Sheet(120, 20)
    text = "0123456789.-+k"
    sheet.text(text, 4, 4, 9.0, (1, 1, 1))
    columns = np.nonzero(sheet.pixels[..., 3].max(axis=0) > 0.1)[0]
    assert columns.min() >= 2 and columns.max() <= 4 + plot.text_width(text, 9.0) + 2


def test_while_a_job_runs_a_plot_stays_for_a_while():
    pace = plot.Pace()
    told = [(50.0, "a", 1), (50.3, "a", 2), (51.9, "a", 3), (52.1, "a", 4), (52.2, "b", 4), (52.3, "b", 5), (54.3, "b", 6)]
    assert [pace.moment_of(subject, moment, now) for now, subject, moment in told] == [1, 1, 1, 4, 4, 4, 6]
