"""`evaluate run`: does and measures one run of a gallery, in a process of its own; made for `evaluate gallery`.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError

if TYPE_CHECKING:
    from ...embedded.vocabulary import Description
    from ...job import JobFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate run`."""
    parser.add_argument("folder", type=Path, help="a run's folder, made by `evaluate gallery`")
    parser.add_argument("--score", action="append", default=[], dest="scores", metavar="NAME[=MODEL]", help="as of `evaluate gallery`")


def run(args: argparse.Namespace) -> int:
    """Does the run, from wherever it was left. Returns an exit code."""
    from .measures import judges, measure_run, turntable_strip
    from .public_scores import parse_scores
    from .runs import RUN_FILE, STRIP_FILE, perform

    if not (args.folder / RUN_FILE).is_file():
        raise InputError(f"{args.folder} is no run of a gallery.", remedy="Name a folder that `evaluate gallery` made.")

    def take_measures(job: JobFolder, description: Description) -> dict[str, Any]:
        turntable_strip(job, args.folder / STRIP_FILE)
        return measure_run(job, description, judges=judges(parse_scores(args.scores)))

    return perform(args.folder, take_measures)
