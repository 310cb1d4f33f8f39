"""The gallery's tables: the paper's Table 1 and Table 2 with the measures against the truth beside, as plain data, Markdown and CSV.

A table is made once and written in several forms: cells know what they say, renderers how. Standard library and `statistics` only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .statistics import MEASURES, Estimate, Measure
from .variants import GROUPS

PAPER = (
    "alignment",
    "angle_std",
    "clip_b32",
    "clip_b32_std",
    "clip_l14",
    "clip_l14_std",
    "vqa_score",
    "image_reward",
    "janus",
    "user_rank",
)
"""The paper's columns, in its order; our alignment, which needs no further model, before its CLIP scores."""
TRUTH = ("psnr", "ssim", "iou", "chamfer", "azimuth_error", "wrong_views", "view_change", "seconds", "predictions")
"""What only a known true object, or a counted budget, can tell."""
HEADLINE = ("alignment", "clip_l14", "vqa_score", "image_reward", "psnr", "iou", "janus", "wrong_views")
"""The measures of short tables and plots."""

COLUMNS = MEASURES | {
    "angle_std": Measure(
        "angle_std", "Alignment std", better="lower", meaning="over the seeds of a prompt, mean over angles, as the paper has it"
    ),
    "clip_b32_std": Measure("clip_b32_std", "CLIP-S B/32 std", better="lower", meaning="likewise"),
    "clip_l14_std": Measure("clip_l14_std", "CLIP-S L/14 std", better="lower", meaning="likewise"),
    "user_rank": Measure("user_rank", "User rank", better="lower", digits=2, meaning="mean rank that participants gave, 1 being the best"),
    "rank": Measure(
        "rank", "Rank by PSNR", better="lower", digits=2, meaning="mean over the (prompt, seed) pairs that all of the table have"
    ),
}
"""All that a column can be, by name."""

MOST_DIGITS = 4

Summary = Mapping[str, Mapping[str, Estimate]]
"""Per variant and column its estimate."""


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        text: the figure; empty where there is none.
        detail: its interval, as text; may be empty.
        best: whether it is the best of its column.
        verdict: of a difference clear of zero, "better" or "worse"; else empty.
    """

    text: str = ""
    detail: str = ""
    best: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of variants.

    Attributes:
        title, note: what stands above it, plain text.
        headings: of the columns after the first, which holds the variants' names.
        rows: (name, cells).
    """

    title: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


VERDICTS = {"better": "▲", "worse": "▼", "": ""}


# --- What is compared


def groups(variants: Sequence[str], reference: str) -> list[tuple[str, str, list[str]]]:
    """(title, what it is, variants) of each table: methods, ablations, forms. The reference stands in all of them, and makes one of its
    own only where there is nothing else.
    """
    titles = {
        "all": ("Table 1: methods", "The methods of the paper's Table 1"),
        "ablations": (
            "Table 2: ablations",
            "The full method without its parts (A: adaptive regions, B: hybrid timesteps, C: gradient fusion), as in the paper's Table 2",
        ),
        "forms": ("Table 3: forms", "The full method with what the paper leaves open done otherwise"),
    }
    found, placed = [], {reference}
    for group, (title, text) in titles.items():
        own = [variant.name for variant in GROUPS[group]]
        if group == "forms":  # and whatever else there is
            own += [variant for variant in variants if variant not in placed and variant not in own]
        members = [variant for variant in variants if variant in own and variant not in placed]
        placed.update(members)
        if members:
            found.append((title, text, [variant for variant in variants if variant in members or variant == reference]))
    return found or [(*titles["all"], list(variants))]


def score_table(title: str, note: str, variants: Sequence[str], summary: Summary) -> Table:
    """The means of all columns that have any, with intervals, the best in each marked."""
    names = [name for name in (*PAPER, *TRUTH, "rank") if any(_get(summary, variant, name).known for variant in variants)]
    columns = [_score_cells([_get(summary, variant, name) for variant in variants], COLUMNS[name]) for name in names]
    rows = tuple((variant, tuple(column[index] for column in columns)) for index, variant in enumerate(variants))
    return Table(title, note, tuple(COLUMNS[name].heading for name in names), rows)


def difference_table(title: str, note: str, variants: Sequence[str], differences: Summary) -> Table:
    """What each variant has more than the reference, the differences clear of zero marked."""
    compared = [variant for variant in variants if variant in differences]
    names = [
        name for name in (*PAPER, *TRUTH) if name != "predictions" and any(_get(differences, variant, name).known for variant in compared)
    ]
    columns = [_difference_cells([_get(differences, variant, name) for variant in compared], COLUMNS[name]) for name in names]
    rows = tuple((variant, tuple(column[index] for column in columns)) for index, variant in enumerate(compared))
    headings = tuple(
        COLUMNS[name].heading if COLUMNS[name].better != "one" else f"{COLUMNS[name].title}, distance from 1\u00a0↓" for name in names
    )
    return Table(title, note, headings, rows)


def legend(summary: Summary) -> list[tuple[str, str]]:
    """(title, meaning) of the columns that have a value."""
    known = [name for name in (*PAPER, *TRUTH, "rank") if any(_get(summary, variant, name).known for variant in summary)]
    return [(COLUMNS[name].title, COLUMNS[name].meaning) for name in known if COLUMNS[name].meaning]


def _get(summary: Summary, variant: str, name: str) -> Estimate:
    return summary.get(variant, {}).get(name, Estimate())


def _score_cells(estimates: Sequence[Estimate], measure: Measure) -> list[Cell]:
    digits = decimals(measure, estimates)
    texts = [number(each.value, digits) for each in estimates]
    costs = [measure.cost(each.value) for each in estimates if each.known]
    best = {text for text, each in zip(texts, estimates, strict=True) if each.known and measure.cost(each.value) == min(costs)}
    # A mean near 1 may be that of 0.5 and 1.5: which is best there, the differences tell.
    marked = best if measure.better in ("higher", "lower") and len(costs) > 1 else set()
    return [Cell(text, interval(each, digits), text in marked) for text, each in zip(texts, estimates, strict=True)]


def _difference_cells(estimates: Sequence[Estimate], measure: Measure) -> list[Cell]:
    digits = decimals(measure, estimates)
    cells = []
    for each in estimates:
        lower_is_better = measure.better in ("lower", "one")
        verdict = "" if not (each.clear_of_zero and measure.better) else "better" if (each.value < 0) == lower_is_better else "worse"
        cells.append(Cell(number(each.value, digits, sign=True), interval(each, digits, sign=True), verdict=verdict))
    return cells


# --- Numbers as text


def decimals(measure: Measure, estimates: Iterable[Estimate]) -> int:
    """The measure's own, else as many as give the column's largest value four significant figures."""
    if measure.digits is not None:
        return measure.digits
    largest = max((abs(each.value) for each in estimates if each.known), default=0.0)
    return MOST_DIGITS if largest < 1 else max(0, 3 - math.floor(math.log10(largest)))


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """With a true minus; empty for NaN. A value that rounds to zero has no sign."""
    if math.isnan(value):
        return ""
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return (text.lstrip("+-") if float(text.replace(",", "")) == 0 else text).replace("-", "−")


def interval(each: Estimate, digits: int, *, sign: bool = False) -> str:
    """[low, high]; empty where there is none, or where it is as good as a point."""
    low, high = (number(end, digits, sign=sign) for end in (each.low, each.high))
    return f"[{low}, {high}]" if low != high else ""


# --- Markdown

_ESCAPES = {ord(character): f"&#{ord(character)};" for character in "\\`*_[]<>|#&"} | {ord(character): " " for character in "\r\n\t"}


def escaped(text: str) -> str:
    """Plain text in a Markdown table or paragraph."""
    return text.translate(_ESCAPES)


def markdown(table: Table) -> str:
    """A GitHub table under its title: the best of a column bold, intervals small beneath."""
    lines = [
        f"## {escaped(table.title)}",
        "",
        escaped(table.note),
        "",
        f"| | {' | '.join(escaped(heading) for heading in table.headings)} |",
        f"|---|{'---:|' * len(table.headings)}",
    ]
    lines += [f"| {escaped(name)} | {' | '.join(map(_markdown_cell, cells))} |" for name, cells in table.rows]
    return "\n".join([*lines, ""])


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else " ".join(part for part in (cell.text, VERDICTS[cell.verdict]) if part)
    return f"{text}<br><sub>{cell.detail}</sub>" if cell.detail else text


# --- CSV


def summary_csv(summary: Summary) -> str:
    """A row for each variant and column that has a value."""
    header = ("variant", "measure", "mean", "low", "high", "prompts", "runs", "missing")
    return _csv(header, ((variant, name, *_numbers(each)) for variant, name, each in _known(summary)))


def differences_csv(differences: Summary, reference: str) -> str:
    """A row for each variant and measure: its difference from the reference over the pairs that both have."""
    header = ("variant", "reference", "measure", "difference", "low", "high", "prompts", "pairs", "missing", "clear_of_zero")
    return _csv(
        header,
        ((variant, reference, name, *_numbers(each), "yes" if each.clear_of_zero else "no") for variant, name, each in _known(differences)),
    )


def _known(summary: Summary) -> Iterable[tuple[str, str, Estimate]]:
    return ((variant, name, each) for variant, row in summary.items() for name, each in row.items() if each.known)


def _numbers(each: Estimate) -> tuple[str | int, ...]:
    ends = ("" if math.isnan(end) else f"{end:.6g}" for end in (each.low, each.high))
    return (f"{each.value:.6g}", *ends, each.prompts, each.runs, each.missing)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
