"""`worker`: one job, over the wire protocol on standard input and output."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", type=Path, required=True, metavar="DIR", help="the job folder")


def run(args: argparse.Namespace) -> int:
    from ..worker import run_worker

    return run_worker(args.job)
