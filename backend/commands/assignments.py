"""Settings on a command line: options that are short for one, and `--set`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from .. import settings


def assignments(args: argparse.Namespace, options: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """(name, value, what was typed) of every setting on the command line; `--set` comes last and so is stronger.

    Args:
        options: which settings the options of these names are short for.

    Raises:
        ConfigError: there is no such setting, or its value does not fit.
    """
    for option, path in options.items():
        if (text := getattr(args, option)) is not None:
            yield path, settings.parse_value(path, text), f"--{option} {text}"
    for assignment in args.set or ():
        section, name, value = settings.parse_assignment(assignment)
        yield f"{section}.{name}", value, f"--set {assignment}"
