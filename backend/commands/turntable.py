"""`turntable`: pictures of a result from all around, to be looked at anywhere."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .. import preflight
from ..errors import InputError, OutputError, UsageError

_PICTURES = (".png", ".gif", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="what to look at: a mesh (.glb, .obj, .ply) or splats (.ply)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="a .png (contact sheet), a .gif or .webp (animation), or a folder for both; by default beside FILE",
    )
    parser.add_argument("--views", type=int, default=8, metavar="N", help="pictures on the contact sheet (%(default)s)")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="edge of a picture (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing pictures")


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work. Raises a `CoGradError` of the fitting class."""
    if not args.file.is_file():
        raise InputError(f"There is no file {args.file}.", remedy="Name the asset.glb or splats.ply of a result.")
    if not 1 <= args.views <= 360:
        raise UsageError(f"--views must be from 1 to 360, not {args.views}.", remedy="8 show an object from all sides.")
    if not 16 <= args.size <= 4096:
        raise UsageError(f"--size must be from 16 to 4096, not {args.size}.", remedy="256 shows most of a 1024-pixel texture.")
    output = _output(args)
    if output.suffix and not output.is_dir():
        preflight.check_output(output, overwrite=args.overwrite, formats=_PICTURES)
        return
    if output.is_file():
        raise OutputError(f"{output} is a file.", remedy="Name a folder, or a file that ends in .png, .gif or .webp.")
    preflight.check_writable(output)
    existing = [path for path in _pictures(args.file, output) if path.exists()]
    if existing and not args.overwrite:
        raise OutputError(f"{existing[0]} exists already.", remedy="Choose another folder with --output, or replace it with --overwrite.")


def run(args: argparse.Namespace) -> int:
    from ..meshing.turntable import turntable

    for path in turntable(args.file, _output(args), views=args.views, size=args.size):
        print(path)
    return 0


def _output(args: argparse.Namespace) -> Path:
    return Path(os.path.expanduser(args.output)) if args.output is not None else args.file.parent


def _pictures(file: Path, folder: Path) -> list[Path]:
    """What `turntable` writes into a folder."""
    return [folder / f"{file.stem}-views.png", folder / f"{file.stem}-turntable.webp"]
