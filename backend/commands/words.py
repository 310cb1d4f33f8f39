"""`words`: what the built-in image model can be asked for."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as a JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    from ..embedded import vocabulary

    if args.json:
        print(
            json.dumps(
                {
                    "objects": vocabulary.OBJECTS,
                    "colours": list(vocabulary.COLOURS),
                    "materials": vocabulary.MATERIALS,
                    "views": vocabulary.VIEW_WORDS,
                }
            )
        )
    else:
        print(vocabulary.describe())
    return 0
