"""The settings that the user changed, kept as one JSON text, and what is in effect with them. No bpy.

The text is all that is stored: in the scene, in presets, in the file. A setting that has the value its presets give it is not in it, so
that another quality moves everything that nobody touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ...backend import settings
from ...backend.errors import ConfigError
from .controls import Control, Kind, has_pairs

DIGITS = 7
"""Decimal digits that survive Blender's single-precision numbers: 0.85 comes back as 0.8500000238."""


@lru_cache(maxsize=64)
def _parsed(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def read(text: str) -> dict[str, Any]:
    """{dotted name: value} of the stored text; empty if it is none of ours."""
    return dict(_parsed(text))


def write(values: Mapping[str, Any]) -> str:
    """The text to store, empty if nothing is changed. Infinity becomes "inf", as the backend's JSON has it."""
    plain = {path: "inf" if value == math.inf else value for path, value in sorted(values.items())}
    return json.dumps(plain, ensure_ascii=False) if plain else ""


@lru_cache(maxsize=32)
def presets_values(quality: str, method: str) -> Mapping[str, Any]:
    """{dotted name: value} of every setting as the two presets give it."""
    config = settings.resolve(quality, method)
    return {path: getattr(getattr(config, s.section), s.name) for path, s in settings.catalogue().items()}


def effective(text: str, control: Control, quality: str, method: str) -> Any:
    """The value that is in effect: the user's, else the presets'."""
    values = _parsed(text)
    if control.path in values:
        value = values[control.path]
        return math.inf if value == "inf" and control.kind is Kind.NUMBER else value
    return presets_values(quality, method)[control.path]


def change(text: str, control: Control, value: Any, quality: str, method: str) -> str:
    """The stored text after the user set a control; a value that the presets give anyway is forgotten."""
    values = read(text)
    value = rounded(value)
    if same(value, presets_values(quality, method)[control.path]):
        values.pop(control.path, None)
    else:
        values[control.path] = value
    return write(values)


def reset(text: str, path: str) -> str:
    """The stored text without one change."""
    return write({name: value for name, value in _parsed(text).items() if name != path})


def count(text: str, section: str = "") -> int:
    """How many settings are changed, of a section or in all."""
    return sum(1 for path in _parsed(text) if not section or path.startswith(f"{section}."))


def is_changed(text: str, path: str) -> bool:
    """Whether the user changed this setting."""
    return path in _parsed(text)


def rounded(value: Any) -> Any:
    """A number without what single precision added to it."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}")
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two values of a setting are the same to somebody who reads them."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or math.isclose(one, other, rel_tol=10.0**-DIGITS)
    return one == other


# Lists of numbers, and schedules, as text


def list_text(value: Any) -> str:
    """A list as the field shows it, `-10, 10, 30, 60`; what was typed if it is no list."""
    return value if isinstance(value, str) else ", ".join(_item_text(item) for item in value)


def schedule_text(value: Any) -> str:
    """A schedule as the field shows it: its number, or its points, `[0, 2], [1, 8]`; what was typed if it is neither."""
    return _item_text(value) if isinstance(value, int | float) else list_text(value)


def _item_text(item: Any) -> str:
    if isinstance(item, list | tuple):
        return f"[{', '.join(_item_text(part) for part in item)}]"
    return f"{item:g}" if isinstance(item, float) else str(item)


def parse_list(control: Control, text: str) -> Any:
    """The list that was typed, brackets or none; the text itself if it is no list, for `problems` to speak of."""
    for candidate in (text.strip(), f"[{text.strip().strip(',')}]"):
        value = settings.parse_value(control.path, candidate)
        if isinstance(value, list) and not (has_pairs(control) and value and not any(isinstance(item, list) for item in value)):
            return value
    return text


def parse_schedule(control: Control, text: str) -> Any:
    """The number or the points that were typed; the text itself if it is neither, for `problems` to speak of."""
    value = settings.parse_value(control.path, text.strip())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return parse_list(control, text)


# What is wrong


@lru_cache(maxsize=64)
def problems(text: str, quality: str, method: str) -> Mapping[str, tuple[str, str]]:
    """{dotted name: (message, remedy)} of every change that cannot be; key "" for changes that only together contradict each other."""
    values = _parsed(text)
    together = _problem(values, quality, method)
    if together is None:
        return {}
    alone = {path: _problem({path: value}, quality, method) for path, value in values.items()}
    return {path: problem for path, problem in alone.items() if problem} or {"": together}


def _problem(values: Mapping[str, Any], quality: str, method: str) -> tuple[str, str] | None:
    try:
        settings.resolve(quality, method, overrides=values)
    except ConfigError as error:
        return error.message, error.remedy
    return None
