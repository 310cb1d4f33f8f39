"""The plots: traces as they are read, and SVG that shows what they say."""

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.evaluation.gallery import plots, svg
from backend.evaluation.gallery.statistics import MEASURES, Estimate, summary
from backend.evaluation.gallery.svg import Drawing, Scale
from backend.evaluation.gallery.traces import BINS, Trace, read_trace

from .synthetic import GROUPS, LEVELS, records, write_trace

SVG = "{http://www.w3.org/2000/svg}"


def texts(plot):
    """Every text of a plot that is well-formed and stays within its frame."""
    root = ElementTree.fromstring(plot.svg)
    assert root.tag == f"{SVG}svg" and "nan" not in plot.svg and "inf" not in plot.svg
    for element in root.iter(f"{SVG}text"):
        assert 0 <= float(element.get("x")) <= float(root.get("width")) and 0 <= float(element.get("y")) <= float(root.get("height"))
    return [element.text for element in root.iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    return {
        "cograd3d": [read_trace(write_trace(folder / str(number), number)) for number in range(2)],
        "w/o <A>": [read_trace(write_trace(folder / "a", 5, fusing=False, uniform=True))],
    }


class TestScale:
    @pytest.mark.parametrize(("low", "high", "most", "ticks"), [(0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-7, 12, 4, [-5, 0, 5, 10])])
    def test_round_ticks(self, low, high, most, ticks):
        assert Scale(low, high, 0, 1).ticks(most) == pytest.approx(ticks)

    def test_labels_have_the_decimals_they_need(self):
        assert [Scale(0, high, 0, 1).label(high, 4) for high in (0.04, 4, 4000)] == ["0.04", "4", "4,000"]

    def test_places(self):
        scale = Scale(10, 20, 100, 0)
        assert [scale(value) for value in (10, 15, 20)] == [100, 50, 0] and Scale(3, 3, 0, 10)(3) == 0


class TestDrawing:
    def test_text_is_escaped(self):
        drawing = Drawing(10, 10, '"<&')
        drawing.text(1, 1, "<b>&")
        root = ElementTree.fromstring(drawing.svg())
        assert root.get("aria-label") == '"<&' and root.find(f"{SVG}text").text == "<b>&"

    def test_curves_have_gaps_where_nothing_is_known(self):
        drawing = Drawing(10, 10, "")
        drawing.curve([(0, 1), (1, math.nan), (2, 3), (3, 4)], "red")
        assert 'd="M0 1M2 3L3 4"' in drawing.parts[0]

    def test_colours_between(self):
        assert svg.shade(("#000000", "#ffffff"), 0.5) in ("#7f7f7f", "#808080") and svg.shade(("#000000", "#ffffff"), 7) == "#ffffff"
        assert svg.shade(svg.DIVERGING, math.nan) == svg.BLANK

    def test_labels_are_moved_apart_about_where_they_were(self):
        assert plots._apart([0, 100], 15, 0, 100) == [0, 100]
        assert plots._apart([50, 50, 50], 10, 0, 100) == [40, 50, 60]
        assert plots._apart([0, 1, 14, 90], 15, -20, 100) == pytest.approx([-10, 5, 20, 90])

    def test_labels_stay_where_there_is_room(self):
        assert plots._apart([0, 1, 14, 90], 15, 0, 100) == pytest.approx([0, 15, 30, 90])
        assert plots._apart([99, 99], 15, 0, 100) == [85, 100]

    @given(st.lists(st.floats(-50, 150), min_size=1, max_size=11).map(sorted))
    def test_labels_never_leave_nor_meet(self, places):
        moved = plots._apart(places, 10, 0, 100)
        assert min(moved) >= -1e-9 and max(moved) <= 100 + 1e-9 and all(np.diff(moved) >= 10 - 1e-9)


class TestTraces:
    def test_are_read(self, tmp_path):
        trace = read_trace(write_trace(tmp_path, iterations=50))
        assert len(trace.t) == 50 and trace.regions == 36 and trace.grid.azimuth_bins == 12 and trace.visits.sum() == 50
        assert set(trace.added) == set(GROUPS) and trace.progress[[0, -1]] == pytest.approx([0.01, 0.99])
        fused = trace.neighbours > 0
        assert fused.any() and trace.added["means"][fused] == pytest.approx(0.6) and trace.added["means"][~fused] == pytest.approx(0)
        assert np.isnan(trace.cosine["means"][~fused]).all() and np.isfinite(trace.cosine["means"][fused]).all()

    def test_null_is_no_number(self, tmp_path):
        path = write_trace(tmp_path, iterations=20)
        lines = [json.loads(line) | {"loss_normalised": None} for line in path.read_text("utf-8").splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        trace = read_trace(path)
        assert np.isnan(trace.loss).all() and np.isnan(plots.region_losses(trace)).all()
        assert plots.convergence({"cograd3d": [trace]}, "cograd3d") is None, "there is nothing to show"

    @pytest.mark.parametrize("text", ["", "not JSON\n", '{"iteration": 0}\n', '{"norm_main": 3}\n'])
    def test_what_is_none_is_none(self, tmp_path, text):
        (tmp_path / "trace.jsonl").write_text(text, "utf-8")
        assert read_trace(tmp_path / "trace.jsonl") is None and read_trace(tmp_path / "none.jsonl") is None

    def test_without_settings_the_grid_is_not_known(self, tmp_path):
        path = write_trace(tmp_path)
        (tmp_path / "config.json").unlink()
        trace = read_trace(path)
        assert trace.grid is None and plots.visits({"cograd3d": [trace]}) is None
        assert "36 regions" in texts(plots.convergence({"cograd3d": [trace]}, "cograd3d"))

    def test_a_regions_loss_is_its_own(self):
        region = np.tile([0, 1], 50)
        loss = np.where(region == 0, 2.0, 1.0)
        rest = {name: np.zeros(100) for name in ("t", "t_global", "neighbours")}
        trace = Trace(region=region, loss=loss, cosine={}, added={}, fused={}, regions=3, **rest)
        matrix = plots.region_losses(trace, bins=10)
        assert (matrix[0] == 2).all() and (matrix[1] == 1).all() and np.isnan(matrix[2]).all()

    def test_bins_are_means_and_empty_ones_are_unknown(self):
        found = plots.binned(np.array([0.1, 0.2, 0.9]), np.array([1.0, 3.0, math.nan]), bins=2)
        assert found[0] == 2 and math.isnan(found[1])


class TestPlots:
    def test_convergence(self, traces):
        plot = plots.convergence(traces, "cograd3d")
        assert {"−10° to 10°", "30° to 60°", "w/o <A>", "normalised loss", "progress (%)"} <= set(texts(plot))
        assert plot.svg.count("<rect") > 36 * BINS and "2 of cograd3d" in plot.caption
        assert plots.convergence(traces, "another") is None

    def test_long_names_are_not_cut_off(self, traces):
        names = ("cograd3d: consensus of neighbours", "cograd3d: one region a step")
        plot = plots.convergence(dict(zip(names, traces.values(), strict=True)), names[0])
        places = {element.text: float(element.get("x")) for element in ElementTree.fromstring(plot.svg).iter(f"{SVG}text")}
        assert places[names[0]] + 7 * len(names[0]) < places[names[1]] < plots.WIDTH - 7 * len(names[1])

    def test_visits(self, traces):
        plot = plots.visits(traces)
        assert {"cograd3d", "w/o <A>", "elevation", "60°"} <= set(texts(plot))
        assert plot.svg.count("<rect") == 1 + 2 * (36 + 3) + 40, "the cell behind lies on both sides of the map, once a band"

    def test_timesteps(self, traces):
        plot = plots.timesteps(traces)
        assert {"visit to a region", "timestep t", "t as drawn"} <= set(texts(plot)) and plot.svg.count("h0") == 2 * 300 + 1

    def test_long_runs_are_thinned(self, tmp_path):
        trace = read_trace(write_trace(tmp_path, iterations=40))
        long = replace(trace, t=np.zeros(10_000), t_global=np.zeros(10_000))
        assert plots.timesteps({"a": [long]}).svg.count("h0") <= plots.MOST_DOTS + 1

    def test_fusion(self, traces):
        plot = plots.fusion(traces, "cograd3d")
        assert {*GROUPS, "Neighbours fused"} <= set(texts(plot)) and "2 runs" in plot.caption
        assert plots.fusion({"cograd3d": traces["w/o <A>"]}, "cograd3d") is None

    def test_bars(self):
        variants = list(LEVELS)
        plot = plots.bars(variants, summary(records(), variants), "cograd3d")
        seen = texts(plot)
        assert {*variants, "PSNR\u00a0(dB)\u00a0↑", "JR\u00a0↓"} <= set(seen) and "CLIP-S L/14\u00a0↑" not in seen
        assert plot.svg.count(f'fill="{svg.BLUE}"') == 2, (
            "the reference has bars of its own colour where bars begin at zero: JR, wrong views"
        )
        assert plots.bars(variants, summary([], variants), "cograd3d") is None

    @pytest.mark.parametrize("spread", [(22.1, 29.0), (14.8, 15.4), (0.97, 1.03), (19.0, 22.5)])
    def test_a_scale_has_two_ticks(self, spread):
        estimates = {name: {"psnr": Estimate(value, value, value, 2, 2)} for name, value in zip("ab", spread, strict=True)}
        drawn = plots.bars("ab", {name: dict.fromkeys(MEASURES, Estimate()) | row for name, row in estimates.items()}, "a")
        root = ElementTree.fromstring(drawn.svg)
        assert sum(element.get("font-size") == "10.5" for element in root.iter(f"{SVG}text")) > 1

    def test_bars_of_nothing_but_zeros_begin_there(self):
        made = records({"a": (20.0, 0.1, 100.0)}, janus=0.0)
        drawn = plots.bars(["a"], {"a": {name: Estimate() for name in MEASURES} | {"janus": summary(made, ["a"])["a"]["janus"]}}, "a")
        assert "−1" not in texts(drawn) and texts(drawn).count("0") == 1

    def test_bars_of_one_value_below_zero(self):
        made = records({"a": (20.0, 0.1, 100.0)}, ("a red cat",), seeds=1, psnr=-3.0)
        assert "a" in texts(plots.bars(["a"], summary(made, ["a"]), "a"))

    def test_quality_against_time_with_one_budget(self):
        plot = plots.quality(records(), list(LEVELS), "cograd3d")
        assert {*LEVELS, "time of the optimisation (s)", "PSNR (dB)"} <= set(texts(plot))

    def test_quality_of_many_alike(self):
        many = {f"variant {number}": (27.0 + 0.01 * number, 0.1, 100.0) for number in range(40)}
        assert set(many) <= set(texts(plots.quality(records({**many, "worst": (12.0, 0.1, 100.0)}), [*many, "worst"], "worst")))

    def test_quality_against_predictions_with_several(self):
        made = records() + records(budget=800, predictions=790)
        made += records({"once": (20.0, 0.1, 100.0)})
        plot = plots.quality(made, [*LEVELS, "once"], "cograd3d")
        assert {*LEVELS, "predictions of the prior"} <= set(texts(plot)) and "once" not in texts(plot)
        assert plot.svg.count("h0") == 2 * len(LEVELS)

    def test_a_curve_is_of_the_pairs_that_its_variant_has_at_every_budget(self):
        """Prompts differ more than budgets: a mean of those that were done is another curve."""
        few, more = records(prompts=("a red cat", "a blue car")), records(prompts=("a red cat", "a blue car"), budget=800, predictions=790)
        at_first = [each for each in few if not (each.variant == "w/o B" and each.prompt == "a blue car")]
        at_both = [each for each in at_first + more if not (each.variant == "w/o B" and each.prompt == "a blue car")]
        whole, partly, same = (plots.quality(made, list(LEVELS), "cograd3d") for made in (few + more, at_first + more, at_both))
        assert partly.svg == same.svg and set(texts(partly)) ^ set(texts(whole)) == {"w/o B", "w/o B (2 of 4)"}
        assert "pairs of prompt and seed" in partly.caption and "pairs of prompt and seed" not in whole.caption
        changed = {line for line in whole.svg.splitlines() if line not in partly.svg.splitlines()}
        colours = {colour for line in changed for colour in svg.PALETTE if colour in line}
        assert len(colours) == 1  # no other curve has moved

    def test_a_curve_says_of_how_many_pairs_it_is_where_no_other_has_all_either(self):
        both = records(seeds=1, prompts=("a red cat", "a blue car")) + records(
            seeds=1, prompts=("a red cat", "a blue car"), budget=800, predictions=790
        )
        without = [each for each in both if (each.variant in ("cograd3d", "w/o A")) == (each.prompt == "a red cat")]
        named = {f"{variant} (1 of 2)" for variant in LEVELS}
        assert named <= set(texts(plots.quality(without, list(LEVELS), "cograd3d")))

    def test_no_curve_without_a_pair_at_two_budgets(self):
        few, more = records(prompts=("a red cat",)), records(prompts=("a blue car",), budget=800, predictions=790)
        assert plots.quality(few + more, list(LEVELS), "cograd3d") is None

    def test_without_a_truth_alignment_takes_its_place(self):
        made = [replace(each, psnr=math.nan) for each in records()]
        assert plots.quality(made, list(LEVELS), "cograd3d").title.startswith("Alignment")
        assert plots.quality([replace(each, alignment=math.nan) for each in made], list(LEVELS), "cograd3d") is None
