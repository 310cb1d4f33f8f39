"""The tables as data, Markdown and CSV."""

import csv
import io

import pytest

from backend.evaluation.gallery import tables
from backend.evaluation.gallery.statistics import MEASURES, Estimate, Measure, differences, summary
from backend.evaluation.gallery.tables import Cell, Table

from .synthetic import LEVELS, record, records


def whole(value):
    return Estimate(value, value - 0.1, value + 0.1, 4, 8)


def column(table, heading):
    index = [text.partition("\u00a0")[0] for text in table.headings].index(heading)
    return {name: cells[index] for name, cells in table.rows}


class TestGroups:
    def test_each_with_the_reference_and_in_order(self):
        found = tables.groups(list(LEVELS), "cograd3d")
        assert [(title.split(":")[0], members) for title, _, members in found] == [
            ("Table 1", ["dreamfusion", "luciddreamer", "cograd3d"]),
            ("Table 2", ["cograd3d", "w/o A", "w/o B"]),
            ("Table 3", ["cograd3d", "cograd3d: no cap"]),
        ]

    def test_what_nobody_knows_is_shown_too(self):
        assert [members for _, _, members in tables.groups(["mine", "cograd3d"], "cograd3d")] == [["mine", "cograd3d"]]

    def test_the_reference_alone_is_a_table(self):
        assert [members for _, _, members in tables.groups(["cograd3d"], "cograd3d")] == [["cograd3d"]]


class TestScores:
    def test_columns_are_the_papers_then_the_truths_and_none_is_empty(self):
        row = {name: whole(1.0) for name in ("clip_b32", "clip_b32_std", "vqa_score", "janus", "user_rank", "psnr", "seconds", "alignment")}
        table = tables.score_table("", "", ["a"], {"a": row})
        titles = [heading.partition("\u00a0")[0] for heading in table.headings]
        assert titles == ["Alignment", "CLIP-S B/32", "CLIP-S B/32 std", "VQAScore", "JR", "User rank", "PSNR", "Time"]
        assert [heading[-1] for heading in table.headings] == list("↑↑↓↑↓↓↑↓")

    def test_the_best_are_marked_by_what_is_better(self):
        rows = {
            "a": {"psnr": whole(25.0), "janus": whole(0.1), "view_change": whole(1.3), "predictions": whole(9)},
            "b": {"psnr": whole(24.0), "janus": whole(0.2), "view_change": whole(0.9), "predictions": whole(8)},
            "c": {"psnr": whole(25.001), "janus": whole(0.3)},
        }
        table = tables.score_table("", "", list(rows), rows)
        best = {heading: [name for name, cell in column(table, heading).items() if cell.best] for heading in ("PSNR", "JR", "View change")}
        assert best == {"PSNR": ["a", "c"], "JR": ["a"], "View change": []}, "what reads the same is equally good"
        assert not any(cell.best for cell in column(table, "Predictions").values())
        assert column(table, "View change")["c"] == Cell()

    def test_alone_nothing_is_best(self):
        assert not column(tables.score_table("", "", ["a"], {"a": {"psnr": whole(1.0)}}), "PSNR")["a"].best


class TestDifferences:
    def test_marks_those_clear_of_zero(self):
        rows = {
            "a": {"psnr": Estimate(-1.0, -2.0, -0.5, 4, 8), "janus": Estimate(-0.1, -0.2, -0.05, 4, 8)},
            "b": {"psnr": Estimate(0.5, -0.1, 1.0, 4, 8), "janus": Estimate(0.1, 0.05, 0.2, 4, 8)},
        }
        table = tables.difference_table("", "", ["full", "a", "b"], rows)
        assert [name for name, _ in table.rows] == ["a", "b"]
        assert {name: cell.verdict for name, cell in column(table, "PSNR").items()} == {"a": "worse", "b": ""}
        assert {name: cell.verdict for name, cell in column(table, "JR").items()} == {"a": "better", "b": "worse"}
        assert column(table, "PSNR")["a"] == Cell("−1.00", "[−2.00, −0.50]", verdict="worse")

    def test_distance_from_one_says_so(self):
        table = tables.difference_table("", "", ["a"], {"a": {"view_change": Estimate(-0.2, -0.3, -0.1, 4, 8)}})
        assert table.headings == ("View change, distance from 1\u00a0↓",) and table.rows[0][1][0].verdict == "better"


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "digits", "sign", "text"),
        [
            (-1.25, 1, False, "−1.2"),
            (1600, 0, False, "1,600"),
            (-0.001, 2, True, "0.00"),
            (0.5, 1, True, "+0.5"),
            (float("nan"), 2, True, ""),
        ],
    )
    def test_as_text(self, value, digits, sign, text):
        assert tables.number(value, digits, sign=sign) == text

    @pytest.mark.parametrize(("largest", "digits"), [(0.62, 4), (28.3, 2), (1.5, 3), (12345.0, 0), (0.0, 4)])
    def test_four_figures(self, largest, digits):
        assert tables.decimals(Measure("x", "X"), [Estimate(largest), Estimate(largest / 10)]) == digits


class TestMarkdown:
    def test_a_table(self):
        table = Table("T", "n", ("A ↑", "B"), (("one|two", (Cell("1", "[0, 2]", best=True), Cell("−1", verdict="worse"))),))
        assert tables.markdown(table).splitlines() == [
            *("## T", "", "n", ""),
            *("| | A ↑ | B |", "|---|---:|---:|"),
            "| one&#124;two | **1**<br><sub>[0, 2]</sub> | −1 ▼ |",
        ]


class TestCsv:
    def test_reads_back(self):
        made = records()
        means = list(csv.DictReader(io.StringIO(tables.summary_csv(summary(made, list(LEVELS))))))
        psnr = next(row for row in means if (row["variant"], row["measure"]) == ("cograd3d", "psnr"))
        assert float(psnr["low"]) < float(psnr["mean"]) < float(psnr["high"]) and (psnr["prompts"], psnr["runs"]) == ("4", "8")
        assert {row["measure"] for row in means} <= {*MEASURES, "angle_std"} and not any(row["measure"] == "clip_b32" for row in means)

    def test_differences_read_back(self):
        made = records()
        text = tables.differences_csv(differences(made, list(LEVELS), "cograd3d"), "cograd3d")
        rows = {(row["variant"], row["measure"]): row for row in csv.DictReader(io.StringIO(text))}
        assert float(rows["dreamfusion", "psnr"]["difference"]) < -4 and rows["dreamfusion", "psnr"]["clear_of_zero"] == "yes"
        assert not any(variant == "cograd3d" for variant, _ in rows)

    def test_one_prompt_has_empty_ends(self):
        rows = list(csv.DictReader(io.StringIO(tables.summary_csv(summary([record("a", psnr=20.0)], ["a"])))))
        assert next(row for row in rows if row["measure"] == "psnr")["low"] == ""
