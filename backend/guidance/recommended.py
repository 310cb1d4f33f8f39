"""How a model itself says that it likes to be used: the `recommended` of its cograd3d.json, checked, over what its family recommends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from ..errors import PriorError
from .pipeline_files import COPY_AGAIN, EXTRA_FILE
from .prior import PriorDefaults

WEIGHTINGS = ("sds", "x0", "uniform", "flow")


def with_recommended(defaults: dict[str, Any], overrides: dict[str, Any]) -> PriorDefaults:
    """What the family recommends, unless the model itself says otherwise.

    Args:
        defaults: fields of `PriorDefaults`, by the family.
        overrides: such fields as JSON has them.

    Raises:
        PriorError: the model recommends what is no setting, or what cannot be.
    """
    known = {f.name for f in dataclasses.fields(PriorDefaults)}
    unknown = sorted(overrides.keys() - known)
    if unknown:
        raise PriorError(f"{EXTRA_FILE} recommends '{unknown[0]}', which is no setting.", remedy=f"Known are {', '.join(sorted(known))}.")
    for name, value in overrides.items():
        if not _MAY_BE[name](value):
            raise PriorError(f"{EXTRA_FILE} recommends {value!r} as {name}, which cannot be.", remedy=COPY_AGAIN)
    return PriorDefaults(**defaults | {name: _as_tuples(value) for name, value in overrides.items()})


def _as_tuples(value: Any) -> Any:
    """JSON's lists, nested ones too, as tuples."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value


def _is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _are_pairs(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in values)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(size) is int and size > 0 for size in values) and [] != values == sorted(values)


_MAY_BE: dict[str, Callable[[Any], bool]] = {
    "guidance_scale": lambda value: _is_number(value, 0),
    "weighting": lambda value: value in WEIGHTINGS,
    "clamp": lambda value: _is_number(value, 0),
    "t_start": lambda value: _is_number(value, 0, 1),
    "t_end": lambda value: _is_number(value, 0, 1),
    "fov": lambda value: _is_number(value, 1, 179),
    "distance": lambda value: _are_pairs([value]) and 0 < value[0] <= value[1],
    "resolutions": _are_sizes,
    "backdrops": lambda value: _are_pairs(value) and value != [] and all(deviation >= 0 for _, deviation in value),
    "opacity_entropy": lambda value: _is_number(value, 0),
    "view_words": lambda value: isinstance(value, bool),
    "resolution_multiple": lambda value: type(value) is int and value >= 0,
}
"""Whether JSON's value may be that of a field of `PriorDefaults`."""
