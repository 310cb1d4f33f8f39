"""The paper's user study as one page: results of one prompt side by side, unnamed and mixed, to be ordered by people.

`ranking.html` names nothing but opaque ids, each made of a secret and of what it stands for; `ranking-key.json`, which stays behind, says
what they are. The page is the paper's: every participant orders the results of ten prompts. Answers come back as CSV files
(`participant,group,item,rank`), and `read_answers` makes mean ranks of them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template

from ...errors import InputError
from ...files import atomic_write_json, atomic_write_text
from .page import Key, Strip, frame_size, load_strip, shown_seeds, template, turning, turntable
from .records import UNKNOWN
from .statistics import Estimate, crossed_estimate

PAGE_FILE, KEY_FILE = "ranking.html", "ranking-key.json"
GROUPS_EACH = 10
"""Prompts that a participant orders (paper, "User Study")."""
HEADER = ("participant", "group", "item", "rank")
_ID_LENGTH = 16


@dataclass(frozen=True)
class _Group:
    """A prompt and what was to be ordered for it: {item: variant}."""

    prompt: str
    items: dict[str, str]

    @property
    def variants(self) -> frozenset[str]:
        """What stood side by side."""
        return frozenset(self.items.values())


@dataclass(frozen=True)
class _Key:
    """What the page does not tell: the secret of its ids, and its groups by their ids."""

    salt: str
    groups: dict[str, _Group]


def write_ranking(folder: Path, variants: Sequence[str], strips: Mapping[Key, Path]) -> bool:
    """Writes the page and its key into the folder; returns whether there was anything to order: a prompt with two pictures.

    A key that is there is kept and added to, so that answers to an earlier page can still be read.

    Raises:
        InputError: the key that is there cannot be read.
    """
    groups = {prompt: _pictures(prompt, seed, variants, strips) for prompt, seed in shown_seeds(strips, variants).items()}
    groups = {prompt: pictures for prompt, pictures in groups.items() if len(pictures) > 1}
    if not groups:
        return False
    path = folder / KEY_FILE
    key = _read_key(path) if path.exists() else _Key(secrets.token_hex(16), {})
    size = frame_size(sum(map(len, groups.values())))
    sections = {}
    for prompt, pictures in groups.items():
        items = {
            _opaque(key.salt, variant, prompt, hashlib.sha256(picture.read_bytes()).hexdigest()): variant
            for variant, picture in pictures.items()
        }
        shown = {item: strip for item, variant in items.items() if (strip := load_strip(pictures[variant], size)) is not None}
        if len(shown) > 1:
            group = _opaque(key.salt, *sorted(shown))
            key.groups[group] = _Group(prompt, {item: items[item] for item in shown})
            sections[group] = _section(group, prompt, shown)
    if not sections:
        return False
    page = Template(template("ranking.html")).substitute(
        style=template("page.css"),
        turntable_style=template("turntable.css"),
        turntable_script=template("turntable.js"),
        groups="\n".join(sections[group] for group in sorted(sections)),
        each=GROUPS_EACH,
        page=_opaque(key.salt, *sorted(sections)),
    )
    atomic_write_json(path, asdict(key))
    atomic_write_text(folder / PAGE_FILE, page)
    return True


def _pictures(prompt: str, seed: int, variants: Sequence[str], strips: Mapping[Key, Path]) -> dict[str, Path]:
    found = {variant: strips[variant, prompt, seed] for variant in variants if (variant, prompt, seed) in strips}
    return {variant: path for variant, path in found.items() if path.is_file()}


def _opaque(*parts: str) -> str:
    """An id that tells nothing without the secret among the parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_ID_LENGTH]


def _section(group: str, prompt: str, items: Mapping[str, Strip]) -> str:
    """A prompt's row, in the order of its ids, which is none."""
    places = (
        '<div class="places"><button type="button" class="up" aria-label="Better">◀</button><span class="place"></span>'
        '<button type="button" class="down" aria-label="Worse">▶</button></div>'
    )
    cards = "".join(
        f'<li class="item" data-item="{item}" tabindex="0" draggable="true">{turntable(items[item], "An object, turning")}{places}</li>'
        for item in sorted(items)
    )
    frames = max(strip.frames for strip in items.values())
    return (
        f'<section class="group" data-turntables data-group="{group}"><h2>{escape(prompt)}</h2>{turning(frames, prompt)}'
        f'<ol class="items">{cards}</ol><button type="button" class="confirm">This is my order</button></section>'
    )


def _read_key(path: Path) -> _Key:
    try:
        told = json.loads(path.read_bytes())
        groups = {str(name): _Group(str(group["prompt"]), dict(group["items"])) for name, group in told["groups"].items()}
        return _Key(str(told["salt"]), groups)
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is not there, and answers say nothing without it.", remedy="Put the key that was written with the page there."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no key of a ranking page: {error}.", remedy="Move it away, or put the right one there.") from error


def read_answers(answers: Path | Sequence[Path], key: Path) -> dict[str, Estimate]:
    """Each variant's mean rank, 1 being the best: mean over prompts of the means over participants, with an interval over both.

    The last of three is better than the last of nine, so only orders of the same variants count: of the most that stood side by side, or of
    those that were ordered most often. The others count as missing.

    Args:
        answers: CSV files that the page saved.
        key: `ranking-key.json` of that page.

    Raises:
        InputError: a file is no answer to this page, is not whole, or repeats another one's answers.
    """
    groups = _read_key(key).groups
    orders: dict[tuple[int, str], dict[str, int]] = {}
    for path in [answers] if isinstance(answers, Path) else answers:
        for place, order in _orders(path, groups).items():
            if place in orders:
                before = f"participant {place[0]} ordered group {place[1]} before"
                raise _refusal(path, before, "Name every file of answers once, and of a participant who saved twice the later one alone.")
            orders[place] = order
    together = [groups[group].variants for _, group in orders]
    compared = max(together, key=lambda variants: (len(variants), together.count(variants)), default=frozenset())
    ranks: dict[str, dict[tuple[str, int], list[int]]] = {}
    for (participant, group), order in orders.items():
        for item, rank in order.items():
            every = ranks.setdefault(groups[group].items[item], {}).setdefault((groups[group].prompt, participant), [])
            every += [rank] if groups[group].variants == compared else []
    return {
        variant: crossed_estimate({pair: sum(every) / len(every) if every else UNKNOWN for pair, every in table.items()})
        for variant, table in ranks.items()
    }


def _orders(path: Path, groups: Mapping[str, _Group]) -> dict[tuple[int, str], dict[str, int]]:
    """{(participant, group): {item: rank}} of one file, checked."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise _refusal(path, str(error)) from error
    if not rows or tuple(rows[0]) != HEADER:
        raise _refusal(path, f"its first line is not {','.join(HEADER)}")
    found: dict[tuple[int, str], dict[str, int]] = {}
    for index, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(HEADER):
            raise _refusal(path, f"line {index} has {len(row)} columns instead of {len(HEADER)}")
        participant, group, item, rank = row
        if not (participant.isascii() and participant.isdecimal() and rank.isascii() and rank.isdecimal()):
            raise _refusal(path, f"line {index} has something else where numbers should be")
        if group not in groups or item not in groups[group].items:
            raise _refusal(path, f"line {index} names what the key does not know", "Name the key of the page that was answered.")
        order = found.setdefault((int(participant), group), {})
        if item in order:
            raise _refusal(path, f"line {index} ranks an item twice")
        order[item] = int(rank)
    for (participant_number, group), order in found.items():
        if sorted(order.values()) != list(range(1, len(groups[group].items) + 1)):
            raise _refusal(path, f"participant {participant_number}'s ranks of group {group} are not 1 to {len(groups[group].items)}")
    return found


def _refusal(path: Path, what: str, remedy: str = "Save the answers again from the page.") -> InputError:
    return InputError(f"{path} holds no answers that can be used: {what}.", remedy=remedy)
