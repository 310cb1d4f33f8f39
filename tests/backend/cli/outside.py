"""What the command line's tests have in common."""

from __future__ import annotations

import argparse

from backend import cli
from backend.commands import generate

WENT_ON = 99
"""The exit code of what would have gone on inside an environment."""


def generate_arguments(*arguments: str) -> argparse.Namespace:
    """What `generate` makes of them."""
    parser = cli.Parser(prog="generate")
    generate.add_arguments(parser)
    return parser.read(arguments)
