"""`package`: the Blender extension's zip, built and validated with Blender's own tool."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import packaging
from ..files import absolute


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Blender's tool is that of the Blender named here, else of $BLENDER_EXECUTABLE, else of the one installed,\n"
        "else of the package bpy in this Python. To install the zip, drag it into Blender's window."
    )
    parser.add_argument("--output", type=Path, default=Path("dist"), metavar="DIR", help="where the zip goes (dist)")
    parser.add_argument("--blender", type=Path, metavar="PATH", help="the Blender whose tool is used")


def run(args: argparse.Namespace) -> int:
    made = packaging.build(absolute(args.output), packaging.find_tool(args.blender))
    print(f"{made.path}: {made.size / 1000:,.0f} kB, {len(made.files)} files")
    return 0
