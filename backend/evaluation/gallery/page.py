"""The gallery's page: one `index.html` that holds everything, opened from disk or served.

Pictures are data within the page, made small enough that a gallery of hundreds of runs stays a page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

from ... import __version__
from .plots import Plot
from .records import Record
from .statistics import MEASURES, Estimate
from .tables import HEADLINE, VERDICTS, Cell, Table, decimals, number

Key = tuple[str, str, int]
"""(variant, prompt, seed)."""

FRAME_SIZES = ((150, 128), (500, 96), (1200, 72))
"""(strips, pixels): with at most so many strips in a page, a frame's edge is so long."""
SMALLEST_FRAME = 56
QUALITY = 82
"""Of WebP: nothing to be seen at this size."""


@dataclass(frozen=True)
class Strip:
    """A turntable as one picture: square frames side by side, the first from the front.

    Attributes:
        uri: the picture as a data URI.
        frames: how many.
    """

    uri: str
    frames: int


@dataclass(frozen=True)
class Content:
    """What the page says.

    Attributes:
        title, introduction, command, machine: plain text of its head.
        tables: with their titles as headings.
        legend: (title, meaning) of columns.
        plots: in their order.
        records: of the runs shown.
        variants: in their order.
        strips, truths: pictures on disk, of runs and of true objects by prompt.
        notes: what is left out, and why.
    """

    title: str
    introduction: str
    command: str
    machine: str
    tables: Sequence[Table]
    legend: Sequence[tuple[str, str]]
    plots: Sequence[Plot]
    records: Sequence[Record]
    variants: Sequence[str]
    strips: Mapping[Key, Path]
    truths: Mapping[str, Path]
    notes: Sequence[str] = field(default=())


def template(name: str) -> str:
    """The text of a file of this folder, `<name>.txt`."""
    return Path(__file__).with_name(f"{name}.txt").read_text("utf-8")


# --- Pictures


def frame_size(count: int) -> int:
    """Pixels along a frame's edge in a page of so many strips."""
    return next((size for most, size in FRAME_SIZES if count <= most), SMALLEST_FRAME)


def load_strip(path: Path, size: int) -> Strip | None:
    """A strip with frames of at most this size; None if there is no readable one. Nothing but pixels goes into it."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # a SyntaxError is Pillow's word for damaged chunks
        return None
    frames, rest = divmod(picture.width, picture.height)
    if rest:
        return None
    if size < picture.height:
        picture = picture.resize((frames * size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=QUALITY, method=4)
    return Strip(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}", frames)


def shown_seeds(strips: Iterable[Key], variants: Sequence[str]) -> dict[str, int]:
    """The seed of each prompt that is shown: of those that most variants have a picture for, the lowest."""
    counts: dict[str, dict[int, int]] = {}
    for variant, prompt, seed in strips:
        if variant in variants:
            by_seed = counts.setdefault(prompt, {})
            by_seed[seed] = by_seed.get(seed, 0) + 1
    return {prompt: min(by_seed, key=lambda seed: (-by_seed[seed], seed)) for prompt, by_seed in counts.items()}


def turntable(strip: Strip, description: str) -> str:
    """The element that turns."""
    image = f'<img src="{strip.uri}" alt="{escape(description)}" decoding="async" draggable="false">'
    return f'<div class="turntable" style="--frames:{strip.frames}">{image}</div>'


def turning(frames: int, what: str) -> str:
    """Button and slider of a group of turntables."""
    slider = f'<input type="range" min="0" max="{frames - 1}" step="1" value="0" aria-label="View of {escape(what)}">'
    return f'<div class="turning"><button type="button" class="turn">Pause</button>{slider}</div>'


# --- The page


def render(content: Content) -> str:
    """The whole page."""
    gallery = _gallery(content)
    sections = [("tables", "Tables", bool(content.tables)), ("plots", "Plots", bool(content.plots)), ("gallery", "Gallery", bool(gallery))]
    sections.append(("notes", "What is left out", bool(content.notes)))
    return Template(template("index.html")).substitute(
        title=escape(content.title),
        introduction=escape(content.introduction),
        command=escape(content.command),
        machine=escape(content.machine),
        version=escape(__version__),
        style=template("page.css"),
        turntable_style=template("turntable.css"),
        turntable_script=template("turntable.js"),
        contents="".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, there in sections if there),
        tables=_tables(content),
        plots=_plots(content.plots),
        gallery=gallery,
        notes=_notes(content.notes),
    )


def _tables(content: Content) -> str:
    if not content.tables:
        return ""
    meanings = "".join(f"<dt>{escape(title)}</dt><dd>{escape(meaning)}</dd>" for title, meaning in content.legend)
    legend = f'<h3>Columns</h3>\n<dl class="legend">{meanings}</dl>' if meanings else ""
    return "\n".join(['<section id="tables"><h2>Tables</h2>', *map(table_html, content.tables), legend, "</section>"])


def table_html(table: Table) -> str:
    """A table under its title, which scrolls sideways where it must."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in table.headings)
    rows = "\n".join(f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_cell, cells))}</tr>' for name, cells in table.rows)
    body = f'<table><thead><tr><th scope="col">Variant</th>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">{body}</div>'
    return f'<h3>{escape(table.title)}</h3>\n<p class="soft">{escape(table.note)}</p>\n{scroll}'


def _cell(cell: Cell) -> str:
    text = f"<strong>{escape(cell.text)}</strong>" if cell.best else escape(cell.text)
    if cell.verdict:
        text = f'<span class="{cell.verdict}">{text} <span role="img" aria-label="{cell.verdict}">{VERDICTS[cell.verdict]}</span></span>'
    return f"<td>{text}{f'<small>{escape(cell.detail)}</small>' if cell.detail else ''}</td>"


def _plots(plots: Sequence[Plot]) -> str:
    if not plots:
        return ""
    figures = [
        f"<h3>{escape(plot.title)}</h3>\n<figure>{plot.svg}<figcaption>{escape(plot.caption)}</figcaption></figure>" for plot in plots
    ]
    return "\n".join(['<section id="plots"><h2>Plots</h2>', *figures, "</section>"])


def _gallery(content: Content) -> str:
    seeds = shown_seeds(content.strips, content.variants)
    keys = [(variant, prompt, seed) for prompt, seed in seeds.items() for variant in content.variants]
    size = frame_size(sum(key in content.strips for key in keys) + len(seeds))
    by_key = {(record.variant, record.prompt, record.seed): record for record in content.records}
    rows = [_prompt(prompt, seed, size, by_key, content) for prompt, seed in seeds.items()]
    if not any(rows):
        return ""
    tools = (
        '<div class="tools"><label>Show prompts with <input type="search" id="filter" placeholder="words"></label>'
        '<span id="shown" class="soft" role="status"></span><button type="button" id="turn-all">Pause all</button></div>'
    )
    lead = '<p class="soft">The true object first. One seed of each prompt; its figures are those of the run that is shown.</p>'
    return "\n".join(['<section id="gallery"><h2>Gallery</h2>', lead, tools, *filter(None, rows), "</section>"])


def _prompt(prompt: str, seed: int, size: int, records: Mapping[Key, Record], content: Content) -> str:
    """A prompt's row of turntables; empty if none can be read."""
    items, frames = [], 0
    truth = load_strip(content.truths[prompt], size) if prompt in content.truths else None
    if truth is not None:
        items.append(f'<li class="truth">{turntable(truth, f"{prompt}: the true object")}<h4>True object</h4></li>')
        frames = truth.frames
    found = 0
    for variant in content.variants:
        key = variant, prompt, seed
        strip = load_strip(content.strips[key], size) if key in content.strips else None
        if strip is None:
            continue
        frames, found = max(frames, strip.frames), found + 1
        figures = _figures(records[key]) if key in records else ""
        items.append(f"<li>{turntable(strip, f'{prompt}: {variant}')}<h4>{escape(variant)}</h4>{figures}</li>")
    if not found:
        return ""
    heading = f'<h3>{escape(prompt)} <span class="soft">seed {seed}</span></h3>'
    row = f'<ul class="row">{"".join(items)}</ul>'
    return (
        f'<article class="prompt" data-turntables data-prompt="{escape(prompt.lower())}">{heading}{turning(frames, prompt)}{row}</article>'
    )


def _figures(record: Record) -> str:
    """A run's headline measures."""
    pairs = []
    for name in HEADLINE:
        each, measure = Estimate(float(getattr(record, name))), MEASURES[name]
        if each.known:
            unit = f" {measure.unit}" if measure.unit else ""
            pairs.append(f"<dt>{escape(measure.title)}</dt><dd>{number(each.value, decimals(measure, [each]))}{unit}</dd>")
    return f"<dl>{''.join(pairs)}</dl>" if pairs else ""


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f'<section id="notes"><h2>What is left out</h2><ul>{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul></section>'
