"""From presets, files and command-line options to one checked `GenerationConfig`, and back to plain data.

Layers, each overriding the one before: the defaults of `config.py`, a quality preset (`presets/quality/*.toml`), a method
preset (`presets/*.toml`), the user's file, `--set section.name=value`, `--without component`. Every value is checked
where it enters, so that an error names its origin. Standard library only.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from .config import DEFAULT_PRIOR, GenerationConfig, Schedule
from .errors import ConfigError
from .settings_agreement import check

PRESETS = Path(__file__).parent / "presets"

COMPONENTS = {"region-sampling": "region_sampling", "timestep-sampling": "timestep_sampling", "gradient-fusion": "gradient_fusion"}
"""What `without` switches off: the paper's A, B and C, in this order, and the section that holds each."""

LARGEST_WHOLE = 2**63 - 1
"""Of a whole number that has no bound of its own: what arrays and files can hold."""

NOT_SETTINGS = ("description", "source", "approximates", "published_iterations", "made_by")
"""Top-level keys that accompany settings: what a preset says of itself (`MethodInformation`), and what a run notes in its `config.json`."""


def resolve(
    quality: str | None = "normal",
    method: str | None = "cograd3d",
    toml_file: Path | str | None = None,
    sets: Iterable[str] = (),
    without: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    origins: Mapping[str, str] | None = None,
) -> GenerationConfig:
    """The settings of a run.

    Args:
        quality: name of a quality preset; None for the defaults of `config.py`.
        method: name of a method preset; None for the defaults of `config.py`, which are the paper's method.
        toml_file: the user's file, TOML with a table a section, or a run's `config.json`.
        sets: `section.name=value` each, the value in TOML syntax; strings need no quotes.
        without: components to switch off, by their names in COMPONENTS or the paper's letters A, B, C.
        overrides: values by dotted name, applied after `sets`.
        origins: by the name of an override, what an error calls the place it came from.

    Raises:
        ConfigError: an unknown preset, section, setting or component (with the nearest known name), a value of the wrong
            type or out of its range, settings that contradict each other, or a file that cannot be read.
    """
    config = GenerationConfig()
    if quality is not None:
        _apply(config, _preset("quality", quality), f"the quality preset {quality}")
    if method is not None:
        _apply(config, _preset("method", method), f"the method preset {method}")
    if toml_file is not None:
        _apply(config, _read_file(Path(os.path.expanduser(toml_file))), str(toml_file))
    for assignment in sets:
        section, name, value = parse_assignment(assignment)
        _apply(config, {section: {name: value}}, f"--set {assignment}")
    _apply_paths(config, overrides or {}, origins or {})
    for component in without:
        getattr(config, _component(component)).enabled = False
    if config.prior.name == "builtin":  # a run is to keep the model that it had, whatever the default will be
        config.prior.name = DEFAULT_PRIOR
    check(config)
    return config


def presets(kind: str) -> dict[str, str]:
    """{name: description} of the presets of a kind, "quality" or "method"."""
    return {path.stem: _read_toml(path).get("description", "") for path in sorted(_folder(kind).glob("*.toml"), key=lambda path: path.stem)}


@dataclass(frozen=True)
class MethodInformation:
    """What a method preset says of itself.

    Attributes:
        name: what `--method` takes.
        description: one line for a menu.
        source: authors, year, title.
        approximates: what differs from the source, in a sentence or two; empty where nothing does.
        published_iterations: the length of the source's own runs, from which shares of a run were taken; None where it says none.
    """

    name: str
    description: str
    source: str
    approximates: str
    published_iterations: int | None


def method_information(name: str) -> MethodInformation:
    """What the method preset of this name says of itself. Raises `ConfigError` for one that does not exist."""
    preset = _preset("method", name)
    return MethodInformation(
        name, preset["description"], preset["source"], preset.get("approximates", ""), preset.get("published_iterations")
    )


def to_dict(config: GenerationConfig) -> dict[str, dict[str, Any]]:
    """Every setting as plain data for JSON: tuples become lists, an infinite number the string "inf" (JSON has no such number)."""
    return {section: {name: plain(value) for name, value in values.items()} for section, values in asdict(config).items()}


def from_dict(data: Mapping[str, Any]) -> GenerationConfig:
    """The inverse of `to_dict`, with every check of `resolve`. Settings that are not there keep their defaults."""
    config = GenerationConfig()
    _apply(config, data, "")
    check(config)
    return config


def changed(config: GenerationConfig, values: Mapping[str, Any]) -> GenerationConfig:
    """The same settings but for those with these values, by dotted name. Raises `ConfigError` as `resolve` does."""
    config = from_dict(to_dict(config))
    _apply_paths(config, values, {})
    check(config)
    return config


# What settings there are


@dataclass(frozen=True)
class Setting:
    """One setting as `config.py` declares it.

    Attributes:
        section, name: where it lives; `path` is both, joined by a dot.
        type: its type, resolved.
        default: its default.
        help: one line.
        low, high: inclusive range, None where open.
        choices: the permitted strings, empty where free.
        infinite: whether infinity is permitted.
    """

    section: str
    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    infinite: bool

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"


@cache
def catalogue() -> dict[str, Setting]:
    """All settings by path, in the order of `config.py`."""
    return {setting.path: setting for setting in _declared()}


def _declared() -> Iterator[Setting]:
    for section, kind in typing.get_type_hints(GenerationConfig).items():
        hints = typing.get_type_hints(kind)
        for field in fields(kind):
            yield Setting(section, field.name, hints[field.name], _default(field), **field.metadata)


def _default(field: Field[Any]) -> Any:
    assert field.default is not MISSING, f"{field.name} needs a plain default"
    return field.default


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """(section, name, value) of `section.name=value`.

    The value is TOML (`3`, `0.5`, `inf`, `true`, `[-10, 10, 30]`, `"text"`); what is not TOML is a string as it stands. A
    setting that is a string takes any unquoted text literally, so that a model called 2024 needs no quotes.
    """
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not (path and equals and value):
        raise ConfigError(f"--set {text!r} is not of the form section.name=value.", remedy="For example: --set gradient_fusion.cap=1.0")
    if "." not in path:
        raise _unknown_setting(path, f"--set {text}")
    section, _, name = path.partition(".")
    return section, name, parse_value(path, value)


def parse_value(path: str, text: str) -> Any:
    """The value that `text` means for the setting `path`, in the notation of `parse_assignment`."""
    known = catalogue().get(path)
    if known is not None and known.type is str and not text.startswith(("'", '"')):
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # TOML's own error is a ValueError; so is that of a number of thousands of digits
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


# Layers


def _apply(config: GenerationConfig, layer: Mapping[str, Any], origin: str) -> None:
    """Overrides `config` in place by {section: {name: value}}, checking each name and value."""
    for section, values in layer.items():
        if section in NOT_SETTINGS:
            continue
        known = section in GenerationConfig.sections()
        if not isinstance(values, Mapping):
            if not known:
                raise _unknown_setting(section, origin)
            example = next(path for path in catalogue() if path.startswith(f"{section}."))
            raise ConfigError(f"{_in(origin)}{section} is a section, not a setting.", remedy=f"Name a setting of it, such as {example}.")
        if not known and not values:
            raise _unknown("section", section, GenerationConfig.sections(), origin)
        for name, value in values.items():
            setting = catalogue().get(f"{section}.{name}")
            if setting is None:
                raise _unknown_setting(f"{section}.{name}", origin)
            setattr(getattr(config, section), name, _checked(setting, value, origin))


def _apply_paths(config: GenerationConfig, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Set values by dotted name; `origins` says what an error calls the place that one came from."""
    for path, value in values.items():
        origin = origins.get(path, "")
        section, _, name = path.partition(".")
        if not name:
            raise _unknown_setting(path, origin)
        _apply(config, {section: {name: value}}, origin)


def _folder(kind: str) -> Path:
    return PRESETS / "quality" if kind == "quality" else PRESETS


def _preset(kind: str, name: str) -> dict[str, Any]:
    known = presets(kind)
    if name not in known:
        raise _unknown(f"{kind} preset", name, known, "")
    return _read_toml(_folder(kind) / f"{name}.toml")


def _read_toml(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = _parsed(tomllib.loads, path, "TOML")
    return values


def _parsed(parse: Callable[[str], Any], path: Path, notation: str) -> Any:
    """What a file says in a notation. Raises `ConfigError`."""
    text = _text(path)
    try:
        return parse(text)
    except RecursionError as error:
        raise ConfigError(f"The settings file {path} is nested too deeply.", remedy="A setting is a table and a name.") from error
    except ValueError as error:
        raise ConfigError(f"The settings file {path} is not valid {notation}: {error}.", remedy="Correct the line it names.") from error


def _read_file(path: Path) -> dict[str, Any]:
    """The user's file; its ending says whether it is JSON, as a run's `config.json`, or TOML."""
    if path.suffix.lower() != ".json":
        return _read_toml(path)
    values = _parsed(json.loads, path, "JSON")
    if not isinstance(values, dict):
        raise ConfigError(f"The settings file {path} holds no sections.", remedy="It is an object a section, as a run's config.json.")
    return values


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # editors on Windows may begin a file with a byte order mark
    except OSError as error:
        raise ConfigError(
            f"The settings file {path} cannot be read: {error.strerror or error}.", remedy="Check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The settings file {path} is not text in UTF-8: {error}.", remedy="Save it as UTF-8.") from error


def _component(name: str) -> str:
    """The section of a component named in words or by the paper's letter."""
    letters = dict(zip("ABC", COMPONENTS.values(), strict=True))
    section = letters.get(name.upper()) or COMPONENTS.get(name.lower().replace("_", "-"))
    if section is None:
        raise _unknown("component", name, [*COMPONENTS, *letters], "")
    return section


def _unknown(what: str, name: str, known: Iterable[str], origin: str) -> ConfigError:
    """The error for a name that does not exist, with the nearest that does."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return _no_such(what, name, near, f"Known: {', '.join(known)}.", origin)


def _unknown_setting(path: str, origin: str) -> ConfigError:
    """The error for a setting that does not exist, with up to three that do.

    In this order: the same section with a similar name, a similar section with the same name, any section with the same
    name, a path that is similar as a whole, any section with a similar name.
    """
    section, _, name = path.rpartition(".")
    paths = list(catalogue())
    names = {p: p.partition(".")[2] for p in paths}
    similar_sections = difflib.get_close_matches(section, GenerationConfig.sections(), n=2)
    similar_names = set(difflib.get_close_matches(name, names.values(), n=3, cutoff=0.75))
    own = [names[p] for p in paths if p.startswith(f"{section}.")]
    near = [f"{section}.{match}" for match in difflib.get_close_matches(name, own, n=1)]
    near += [p for p in paths if p.partition(".")[0] in similar_sections and names[p] == name]
    near += [p for p in paths if names[p] == name]
    near += difflib.get_close_matches(path, paths, n=1, cutoff=0.8)
    near += [p for p in paths if names[p] in similar_names]
    return _no_such("setting", path, list(dict.fromkeys(near))[:3], f"The sections are: {', '.join(GenerationConfig.sections())}.", origin)


def _no_such(what: str, name: str, near: list[str], otherwise: str, origin: str) -> ConfigError:
    remedy = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return ConfigError(f"{_in(origin)}{'there' if origin else 'There'} is no {what} {name!r}.", remedy=remedy)


# Values


def _checked(setting: Setting, value: Any, origin: str) -> Any:
    """`value` as the setting's type, or ConfigError."""
    try:
        value = _coerced(setting.type, value)
    except TypeError:
        raise ConfigError(
            f"{_in(origin)}{setting.path} must be {_expected(setting.type)}, not {value!r}.", remedy=f"It is: {setting.help}."
        ) from None
    if setting.choices and value not in setting.choices:
        near = difflib.get_close_matches(str(value), setting.choices, n=1)
        raise ConfigError(
            f"{_in(origin)}{setting.path} cannot be {value!r}.",
            remedy=f"Did you mean {near[0]}?" if near else f"Choose one of: {', '.join(setting.choices)}.",
        )
    if is_schedule(setting.type) and isinstance(value, tuple):
        _check_points(value, setting, origin)
        value, values = _simplest(value), [point[1] for point in value]
    else:
        values = list(_numbers(value))
    for number in values:
        problem = ""
        high = LARGEST_WHOLE if setting.high is None and isinstance(number, int) else setting.high
        if math.isnan(_as_float(number)):
            problem = "a number"
        elif isinstance(number, float) and math.isinf(number) and not setting.infinite:
            problem = "finite"
        elif setting.low is not None and number < setting.low:
            problem = f"at least {setting.low:g}"
        elif high is not None and number > high:
            problem = f"at most {high:g}"
        if problem:
            raise ConfigError(
                f"{_in(origin)}{setting.path} must be {problem}, not {_as_float(number):g}.", remedy=f"It is: {setting.help}."
            )
    return value


def _as_float(number: float) -> float:
    """The number, which may be whole; infinity, as a decimal notation of its size would be, where it is larger than any float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def is_schedule(kind: Any) -> bool:
    """Whether a setting's type is `config.Schedule`, `| None` or not."""
    return set(typing.get_args(Schedule)) <= set(typing.get_args(kind))


def _check_points(points: tuple[tuple[float, float], ...], setting: Setting, origin: str) -> None:
    progress = [point[0] for point in points]
    if not points or any(not 0 <= p <= 1 for p in progress) or progress != sorted(progress):
        raise ConfigError(
            f"{_in(origin)}{setting.path} must be a number or points whose progress ascends within 0 and 1, not {plain(points)}.",
            remedy="For example [[0, 2], [1, 8]]: from 2 at the first iteration to 8 at the last.",
        )


def _simplest(points: tuple[tuple[float, float], ...]) -> Schedule:
    """The number, where the points are all of one value."""
    return points[0][1] if len({point[1] for point in points}) == 1 else points


def _coerced(kind: Any, value: Any) -> Any:
    """`value` as `kind`: a type of `config.py`'s fields. TypeError where it is something else."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if type(None) in arguments and (value is None or value in ("auto", "none")):  # where there is no null, it is spelt so
            return None
        others = [argument for argument in arguments if argument is not type(None)]
        for argument in others[:-1]:
            with contextlib.suppress(TypeError):
                return _coerced(argument, value)
        return _coerced(others[-1], value)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError
        if arguments[-1] is Ellipsis:
            return tuple(_coerced(arguments[0], item) for item in value)
        if len(value) != len(arguments):
            raise TypeError
        return tuple(_coerced(argument, item) for argument, item in zip(arguments, value, strict=True))
    if kind is float and value in ("inf", "-inf") and isinstance(value, str):
        return float(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return _as_float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    if kind is str and not value.strip():
        raise TypeError
    return value


def _expected(kind: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_schedule(kind):
        words = "a number or a list of [progress, value]"
        return f'{words} or "auto"' if type(None) in arguments else words
    if origin in (types.UnionType, typing.Union):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return f'{_expected(inner)} or "auto"'
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list, each of which is {_expected(arguments[0])}"
        return f"a list of {len(arguments)}: {', '.join(_expected(argument) for argument in arguments)}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a non-empty text"}[kind]


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a value, however nested."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def plain(value: Any) -> Any:
    """A setting's value as JSON can hold it, from which `from_dict` and `resolve` make the same value again."""
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _in(origin: str) -> str:
    return f"In {origin}: " if origin else ""
