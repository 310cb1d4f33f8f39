"""`evaluate`: what is measured about results. One subcommand a report."""

from __future__ import annotations

import argparse

from ..embedded.learned import evaluate as prior
from . import methods, refinement, regions, results
from .gallery import command as gallery
from .gallery import single

_REPORTS = {
    "results": (results, "generate a list of prompts and measure them against the true objects of the built-in world"),
    "refinement": (refinement, "generate prompts, refine what looks worst of each, and measure both against the true objects"),
    "regions": (regions, "compare what runs say of their view regions with the true objects"),
    "methods": (methods, "make one prompt by every method of the paper's Table 1 and measure them side by side"),
    "prior": (prior, "draw what a learned prior of the built-in world is asked for, and count how often it shows that"),
    "gallery": (gallery, "compare methods, ablations or forms on many prompts and seeds, with tables, plots and pages"),
    "run": (single, "do one run of a gallery, which does so itself for each"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every report."""
    reports = parser.add_subparsers(dest="evaluation", required=True, metavar="REPORT")
    for name, (module, text) in _REPORTS.items():
        module.add_arguments(reports.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))


def run(args: argparse.Namespace) -> int:
    """Makes the report that was asked for."""
    return _REPORTS[args.evaluation][0].run(args)
