"""The gallery's prompts: fixed lists in `prompts.toml`. Standard library only."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SETS = {
    "gallery": "forty, for reporting",
    "quick": "eight of them",
    "core": "six of them, which are run with more seeds",
    "tuning": "eight others, to choose settings with",
}
"""The lists by name."""

_FILE = Path(__file__).with_name("prompts.toml")


@cache
def prompt_set(name: str) -> tuple[str, ...]:
    """The prompts of a list of `SETS`, in its order."""
    return tuple(tomllib.loads(_FILE.read_text("utf-8"))[name])


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Prompts from names of lists and prompts themselves, on one line and each once, in the order given."""
    every = [prompt for name in names for prompt in (prompt_set(name) if name in SETS else (" ".join(name.split()),))]
    return tuple(dict.fromkeys(every))
