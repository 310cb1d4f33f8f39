"""`methods`: what `--method` and `guidance.rule` can name, and where it comes from."""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap

from .. import settings
from ..config import RULES
from ..settings import MethodInformation

_WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'A method is a preset of settings: python3 -m backend generate "a red cat" --method luciddreamer.\n'
        "Any rule can be the base of one: --method cograd3d --set guidance.rule=ism, with --set guidance.perp_neg=1 for the words of the\n"
        "other views as negatives.\n"
        "docs/methods.md has their equations."
    )
    parser.add_argument("--json", action="store_true", help="as a JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    methods = [settings.method_information(name) for name in settings.presets("method")]
    if args.json:
        print(json.dumps({"methods": [dataclasses.asdict(method) for method in methods], "rules": RULES}))
    else:
        print("\n\n".join(["methods (--method):", *map(_described, methods), _rules()]))
    return 0


def _described(method: MethodInformation) -> str:
    paragraphs = [method.description, f"Source: {method.source}."]
    if method.approximates:
        paragraphs.append(f"Differs: {method.approximates}")
    if method.published_iterations is not None:
        paragraphs.append(f"Published with {method.published_iterations:,} iterations.")
    return "\n".join(
        [f"  {method.name}", *(textwrap.fill(text, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6) for text in paragraphs)]
    )


def _rules() -> str:
    width = max(map(len, RULES))
    return "\n".join(["rules (--set guidance.rule=...):", "", *(f"  {name:<{width}}  {text}" for name, text in RULES.items())])
