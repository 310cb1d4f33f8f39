"""The gallery's report: tables, plots, the page, and the page on which people rank.

::

    <folder>/index.html         everything, in one file
    <folder>/tables.md          tables and plots, for documents
    <folder>/plots/<name>.svg   what tables.md shows
    <folder>/table.csv          every mean with its interval
    <folder>/differences.csv    every difference from the reference, with its interval
    <folder>/ranking.html       unnamed results, to be ordered by people; ranking-key.json says what they are
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ... import __version__
from ...errors import InputError
from ...files import atomic_write_text, output_error
from . import page, plots, tables
from .page import Key
from .plots import Plot
from .ranking import KEY_FILE, read_answers, write_ranking
from .records import JUDGEMENTS, Record, judges_of, of_one_judge
from .statistics import MEASURES, Estimate, differences, mean_ranks, summary
from .tables import Table
from .traces import Trace, read_trace

TRACES_EACH = 4
"""Traces of a variant that are read: they are large, and curves over more runs look the same."""
FEW_PROMPTS = 6
"""With fewer, the intervals' real coverage is told (see `statistics`)."""


def write_report(
    folder: Path,
    records: Sequence[Record],
    *,
    variants: Sequence[str],
    reference: str,
    title: str,
    command: str,
    machine: str,
    strips: Mapping[Key, Path],
    truths: Mapping[str, Path],
    traces: Mapping[Key, Path],
    answers: Sequence[Path] = (),
) -> None:
    """Writes everything; what is not there is left out, and the report says so.

    Args:
        folder: made if missing.
        records: of one comparison, which may have been run with several budgets; tables are about the largest.
        variants: what is compared, in the tables' order.
        reference: what differences are taken from; may itself have no runs.
        title, command, machine: for the head; how the report was made, and on what.
        strips, traces: turntables and traces by (variant, prompt, seed).
        truths: turntables of the true objects by prompt.
        answers: files that ranking pages of this folder saved.

    Raises:
        InputError: no records, or of more than one comparison; unusable answers.
        OutputError: the report cannot be written.
    """
    headline = of_one_judge(_headline(records))
    present = [variant for variant in variants if any(record.variant == variant for record in headline)]
    shown = {(record.variant, record.prompt, record.seed) for record in headline}
    strips = {key: path for key, path in strips.items() if key in shown}
    traces = {key: path for key, path in traces.items() if key in shown}
    try:
        (folder / "plots").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder / "plots") from error

    means = summary(headline, present)
    if answers:
        for variant, rank in read_answers(answers, folder / KEY_FILE).items():
            means.setdefault(variant, {})["user_rank"] = rank
    compared = differences(headline, present, reference)
    every_table, legend = _tables(headline, present, reference, means, compared)
    read = _read_traces(traces, present, reference)
    every_plot = _plots(records, read, present, reference, means)
    methods = [variant for variant in present if variant in {each.name for each in tables.GROUPS["all"]}]
    ranked = write_ranking(folder, methods if len(methods) > 1 else present, strips)
    notes = _notes(records, headline, variants, means, strips, truths, traces, read, every_plot, ranked)

    introduction = _introduction(headline, present)
    atomic_write_text(folder / "table.csv", tables.summary_csv(means))
    atomic_write_text(folder / "differences.csv", tables.differences_csv(compared, reference))
    for plot in every_plot:
        atomic_write_text(folder / "plots" / f"{plot.name}.svg", plot.svg)
    atomic_write_text(folder / "tables.md", _markdown(title, introduction, command, machine, every_table, legend, every_plot, notes))
    content = page.Content(title, introduction, command, machine, every_table, legend, every_plot, headline, present, strips, truths, notes)
    atomic_write_text(folder / "index.html", page.render(content))


def _headline(records: Sequence[Record]) -> list[Record]:
    """The records of the largest budget, after a look at whether they can be compared."""
    if not records:
        raise InputError("There are no records to report.", remedy="Run `evaluate gallery` first.")
    terms = {(record.prior, record.reliability, record.quality) for record in records}
    if len(terms) > 1:
        told = "; ".join(f"{prior}, reliability {reliability:g}, {quality}" for prior, reliability, quality in sorted(terms))
        raise InputError(f"These records are of more than one comparison: {told}.", remedy="Report each by itself.")
    budget = max(record.budget for record in records)
    return [record for record in records if record.budget == budget]


def _introduction(records: Sequence[Record], variants: Sequence[str]) -> str:
    first, prompts = records[0], len({record.prompt for record in records})
    reliability = f", which obeys view words in {first.reliability:.0%} of its calls" if first.reliability < 1 else ""
    narrow = (
        " Over so few prompts they are too narrow: with four they cover 88 %, with three 75 %, with two half."
        if prompts < FEW_PROMPTS
        else ""
    )
    return (
        f"{len(records)} runs of {len(variants)} variants on {prompts} prompts; the prior {first.prior}{reliability}, quality "
        f"{first.quality}, {first.budget:,} predictions a run. Figures are means over prompts, each of them the mean over its seeds. "
        f"Brackets are 95 % intervals by bootstrap over prompts.{narrow}"
    )


# --- Parts


def _tables(
    records: Sequence[Record],
    variants: Sequence[str],
    reference: str,
    means: Mapping[str, Mapping[str, Estimate]],
    compared: Mapping[str, Mapping[str, Estimate]],
) -> tuple[list[Table], list[tuple[str, str]]]:
    made: list[Table] = []
    described: dict[str, Mapping[str, Estimate]] = {}
    for title, text, members in tables.groups(variants, reference):
        ranks = mean_ranks(records, members, MEASURES["psnr"]) if len(members) > 1 else {}
        own = {variant: {**means[variant], **({"rank": ranks[variant]} if variant in ranks else {})} for variant in members}
        described |= own
        made.append(tables.score_table(title, f"{text}. The best of each column is marked.", members, own))
        if any(variant in compared for variant in members) and reference in members:
            every = [each for variant in members if variant in compared for each in compared[variant].values()]
            note = (
                f"Each variant minus {reference}, over the up to {max(each.runs for each in every)} runs of one prompt and seed that both "
                f"have. ▲ better and ▼ worse than {reference}, where the 95 % interval leaves zero out; with so many comparisons "
                f"{_by_chance(max(each.prompts for each in every))} would by chance alone."
            )
            made.append(tables.difference_table(f"{title}, differences from {reference}", note, members, compared))
    return made, tables.legend(described)


def _by_chance(prompts: int) -> str:
    """The share of the differences that are none and yet clear of zero: what the intervals over so many prompts do not cover."""
    if prompts < FEW_PROMPTS:
        return "one in eight over four prompts, one in four over three and every other one over two"
    return "one in twenty"


def _read_traces(traces: Mapping[Key, Path], variants: Sequence[str], reference: str) -> dict[str, list[Trace]]:
    """A few of each variant's, spread over prompts and seeds; the reference first."""
    found = {}
    for variant in sorted(variants, key=lambda name: name != reference):
        own = sorted(key for key in traces if key[0] == variant)
        chosen = own[:: max(1, -(-len(own) // TRACES_EACH))]
        read = [trace for key in chosen if (trace := read_trace(traces[key])) is not None]
        if read:
            found[variant] = read
    return found


def _plots(
    records: Sequence[Record],
    traces: Mapping[str, Sequence[Trace]],
    variants: Sequence[str],
    reference: str,
    means: Mapping[str, Mapping[str, Estimate]],
) -> list[Plot]:
    made = (
        plots.bars(variants, means, reference),
        plots.quality(records, variants, reference),
        plots.convergence(traces, reference),
        plots.visits(traces),
        plots.timesteps(traces),
        plots.fusion(traces, reference),
    )
    return [plot for plot in made if plot is not None]


def _notes(
    records: Sequence[Record],
    headline: Sequence[Record],
    variants: Sequence[str],
    means: Mapping[str, Mapping[str, Estimate]],
    strips: Mapping[Key, Path],
    truths: Mapping[str, Path],
    traces: Mapping[Key, Path],
    read: Mapping[str, Sequence[Trace]],
    made: Sequence[Plot],
    ranked: bool,
) -> list[str]:
    """What the report lacks, a sentence each."""
    notes, prompts = [], list(dict.fromkeys(record.prompt for record in headline))
    if len({record.budget for record in records}) > 1:
        notes.append(f"Tables and gallery show the largest budget alone, {headline[0].budget:,} predictions.")
    absent = [variant for variant in variants if not any(record.variant == variant for record in headline)]
    if absent:
        notes.append(f"Without a run: {', '.join(absent)}.")
    of_this_budget = [record for record in records if record.budget == headline[0].budget]
    for field, (score, *_) in JUDGEMENTS.items():
        if len(set(judges_of(of_this_budget, field))) > 1:
            title = MEASURES[score].title
            notes.append(f"{title}: scores of different models cannot be compared. Those of the one that judged most runs are shown alone.")
    pairs = {(record.prompt, record.seed) for record in headline}
    partial = [variant for variant in variants if 0 < sum(record.variant == variant for record in headline) < len(pairs)]
    if partial:
        notes.append(f"Without some of the {len(pairs)} runs that others have: {', '.join(partial)}.")
    unmeasured = [measure.title for name, measure in MEASURES.items() if not any(row.get(name, Estimate()).known for row in means.values())]
    if unmeasured:
        notes.append(f"Not measured: {', '.join(unmeasured)}.")
    some = {
        name: sum(row[name].missing for row in means.values() if name in row) for name in MEASURES if MEASURES[name].title not in unmeasured
    }
    for name, missing in some.items():
        if missing:
            notes.append(f"{MEASURES[name].title}: {missing} of {len(headline)} runs have no value and are left out.")
    unlike = max((row["user_rank"].missing for row in means.values() if "user_rank" in row), default=0)
    if unlike:
        notes.append(f"User rank: up to {unlike} orders of a variant are left out, in which not all that are compared stood side by side.")
    if not any(row.get("angle_std", Estimate()).known for row in means.values()):
        notes.append("The alignment's std takes two runs of a prompt with scores at each angle: left out.")
    unseen = len(headline) - sum(path.is_file() for path in strips.values())
    if unseen:
        notes.append(f"Turntables: {unseen} of {len(headline)} runs have none.")
    untrue = [prompt for prompt in prompts if prompt not in truths or not truths[prompt].is_file()]
    if untrue:
        notes.append(f"No picture of the true object: {', '.join(untrue)}.")
    if not ranked:
        notes.append("No page to rank by: it takes a prompt with turntables of two variants.")
    if not read:
        notes.append(f"Traces: none of the {len(headline)} runs has one that can be read; plots of what happened in the runs are left out.")
    else:
        missing_plots = [name for name in ("convergence", "visits", "timesteps", "fusion") if name not in {plot.name for plot in made}]
        if missing_plots:
            notes.append(f"Plots that the traces do not allow: {', '.join(missing_plots)}.")
        if len(traces) > sum(map(len, read.values())):
            notes.append(f"Plots of what happened in the runs rest on at most {TRACES_EACH} runs of each variant.")
    return notes


def _markdown(
    title: str,
    introduction: str,
    command: str,
    machine: str,
    every_table: Sequence[Table],
    legend: Sequence[tuple[str, str]],
    every_plot: Sequence[Plot],
    notes: Sequence[str],
) -> str:
    lines = [f"# {tables.escaped(title)}", "", f"    {command}", "", f"Version {__version__}, on {tables.escaped(machine)}.", ""]
    lines += [tables.escaped(introduction), "", *map(tables.markdown, every_table)]
    if legend:
        lines += ["Columns:", "", *(f"- {tables.escaped(name)}: {tables.escaped(meaning)}" for name, meaning in legend), ""]
    for plot in every_plot:
        lines += [f"## {tables.escaped(plot.title)}", "", f"![{tables.escaped(plot.title)}](plots/{plot.name}.svg)", ""]
        lines += [tables.escaped(plot.caption), ""]
    if notes:
        lines += ["## What is left out", "", *(f"- {tables.escaped(note)}" for note in notes), ""]
    return "\n".join(lines)
