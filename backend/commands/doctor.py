"""`doctor`: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse

from .. import doctor
from ..errors import SetupError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"The exit code is 0 when `generate` would work, else {SetupError.exit_code}."
    parser.add_argument("--json", action="store_true", help="as a JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    findings = doctor.examine()
    print(doctor.to_json(findings) if args.json else doctor.report(findings))
    return 0 if doctor.able_to_run(findings) else SetupError.exit_code
