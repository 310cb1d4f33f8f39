"""`settings`: every setting with its value and meaning, as a file that `--settings` takes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import groupby
from typing import Any

from .. import settings
from ..errors import UsageError
from ..settings import Setting

_WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "What is printed is TOML: save it, change it, and give it to generate --settings FILE. A single setting is changed by\n"
        '--set, as in generate "a red cat" --set gradient_fusion.cap=1.0. docs/method.md has the reasons for the method\'s defaults.'
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: a section, or section.name")
    parser.add_argument("--quality", default="normal", choices=list(settings.presets("quality")), help="whose values (%(default)s)")
    parser.add_argument("--method", default="cograd3d", choices=list(settings.presets("method")), help="whose values (%(default)s)")
    parser.add_argument("--json", action="store_true", help="as a JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    chosen = _chosen(args.names)
    config = settings.to_dict(settings.resolve(args.quality, args.method))
    if args.json:
        print(json.dumps({setting.path: _as_json(setting, config[setting.section][setting.name]) for setting in chosen}))
    else:
        print("\n".join(_as_toml(chosen, config)))
    return 0


def _chosen(names: Iterable[str]) -> list[Setting]:
    """The settings that are named, or are in a section that is; all of them if nothing is.

    Raises:
        UsageError: there is no such section or setting.
    """
    every = settings.catalogue()
    meant = {setting.name: setting.path for setting in every.values()} | {path: path for path in every}
    meant |= {setting.section: setting.section for setting in every.values()}
    for name in names:
        if name not in every and meant.get(name) != name:
            near = get_close_matches(name, meant, n=1)
            remedy = f"{meant[near[0]]} is near." if near else "`settings` without a name lists them all."
            raise UsageError(f"There is no setting or section '{name}'.", remedy=remedy)
    wanted = set(names)
    return [setting for setting in every.values() if not wanted or wanted & {setting.section, setting.path}]


def _as_toml(chosen: Iterable[Setting], config: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Lines of TOML: each setting below a comment that says what it is, and commented out where the image model or the rule decides it."""
    for section, members in groupby(chosen, key=lambda setting: setting.section):
        yield f"[{section}]"
        for setting in members:
            yield from textwrap.wrap(f"{setting.help}{_range(setting)}", _WIDTH, initial_indent="# ", subsequent_indent="#   ")
            value = config[section][setting.name]
            yield f"# {setting.name} =" if value is None else f"{setting.name} = {_toml(value)}"
        yield ""


def _range(setting: Setting) -> str:
    """What it may be, behind its meaning."""
    if setting.choices:
        return f" ({', '.join(setting.choices)})"
    if setting.low is not None and setting.high is not None:
        return f" ({setting.low:g} to {setting.high:g})"
    if setting.low is not None:
        return f" (at least {setting.low:g})"
    return "" if setting.high is None else f" (at most {setting.high:g})"


def _toml(value: Any) -> str:
    """A value of `settings.to_dict`. TOML has JSON's notation for it, but for numbers that JSON does not have."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _as_json(setting: Setting, value: Any) -> dict[str, Any]:
    described = dataclasses.asdict(setting)
    return {"value": value} | {name: described[name] for name in ("help", "low", "high", "choices")}
