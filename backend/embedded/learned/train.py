"""The training command of the learned prior (standard library only at import; `trainer.py` does the work)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...errors import OutputError, PriorError, UsageError
from ...files import absolute, make_folder
from ...guidance.pipeline_files import EXTRA_FILE, INDEX_FILE
from ...option_numbers import amount, count, positive, whole
from ...preflight import check_writable

LEAST_VIEWS = 50
"""Of an object: enough for a few in every view word's direction."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the run's folder; a run found there goes on from its last checkpoint"
    )
    parser.add_argument("--minutes", type=amount, metavar="N", help="stop after this time (default: when interrupted)")
    parser.add_argument(
        "--images", type=count, metavar="N", help="stop when this many images have been seen, those of earlier runs included"
    )
    parser.add_argument(
        "--anneal", action="store_true", help="let the learning rate fall to zero over this run's --minutes or --images (last of all)"
    )
    parser.add_argument("--init", type=Path, metavar="FOLDER", help="take what fits from this pipeline folder when a run begins")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the averaged weights as a pipeline folder (float16) with every checkpoint"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=whole, default=0, metavar="N", help="processor cores to use (default: those that are free)")
    parser.add_argument("--batch", type=count, default=384, metavar="N", help="images a step (default: %(default)s)")
    parser.add_argument(
        "--lr", type=positive, default=0.02, metavar="X", help="learning rate of Muon; Adam's follows in proportion (default: %(default)s)"
    )
    parser.add_argument("--views", type=count, default=1500, metavar="N", help="rendered views an object (default: %(default)s)")
    parser.add_argument(
        "--references",
        type=count,
        default=96,
        metavar="N",
        help="views that an example's target is averaged over (default: %(default)s)",
    )
    parser.add_argument("--seed", type=whole, default=0, help="seed of a run that begins (default: %(default)s)")
    parser.add_argument(
        "--checkpoint-minutes", type=amount, default=10, metavar="N", help="time between checkpoints (default: %(default)s)"
    )
    parser.add_argument(
        "--sheet-minutes", type=amount, default=30, metavar="N", help="time between sample sheets, 0: none (default: %(default)s)"
    )


def check(args: argparse.Namespace) -> None:
    """Refuse what could not work, or would cost the user something, once the views are rendered. Raises a `CoGradError`."""
    if args.anneal and args.minutes is None and args.images is None:
        raise UsageError("--anneal needs an end to fall towards.", remedy="Give --minutes or --images.")
    if args.views < LEAST_VIEWS:
        raise UsageError(f"--views must be at least {LEAST_VIEWS}, not {args.views}.", remedy="1500 show an object well.")
    run = absolute(args.run)
    if args.init is not None and not any(run.glob("checkpoint-*.safetensors")):
        init = absolute(args.init)
        if not (init / INDEX_FILE).is_file():
            raise PriorError(f"{init} is no pipeline folder to start from.", remedy="Give a folder that this command exported.")
    if args.export is not None:
        _check_export(absolute(args.export), run)


def _check_export(folder: Path, run: Path) -> None:
    """`check_export`, where the run is not to be replaced with it. Raises `OutputError`."""
    if Path(os.path.realpath(folder)) in (place := Path(os.path.realpath(run)), *place.parents):
        raise OutputError(f"{folder} holds the run, and an export replaces a folder.", remedy="Name another folder with --export.")
    check_export(folder)


def check_export(folder: Path) -> None:
    """Refuse a folder that cannot be written or whose replacement would take other things with it. Raises `OutputError`."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / EXTRA_FILE).is_file():
        raise OutputError(f"{folder} is no folder that this command exported, so it is not replaced.", remedy="Name a new folder.")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is no folder.", remedy="Name a new folder.")
    check_writable(folder.parent)


def run(args: argparse.Namespace) -> int:
    """Trains until the budget is spent or a signal comes, and leaves a checkpoint either way.

    Raises:
        JobError: another process trains in this folder.
        OutputError: the folder cannot be made or written to.
        ConfigError: the device is not there.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: threads that spin for each other stall on busy cores
    from ...locks import work_alone
    from ...pipeline import pick_device
    from .optimizers import Rates
    from .trainer import Budget, Settings, Trainer

    settings = Settings(
        batch=args.batch,
        rates=Rates().scaled_to(args.lr),
        views=args.views,
        references=args.references,
        seed=args.seed,
        threads=args.threads,
    )
    budget = Budget(minutes=args.minutes, images=args.images, anneal=args.anneal)
    if args.device != "auto":
        pick_device(args.device)  # refused here, before anything is made
    folder, init, export = (None if path is None else absolute(path) for path in (args.run, args.init, args.export))
    assert folder is not None, "--run is required"
    make_folder(folder)
    with work_alone(folder):  # two processes would write and remove each other's checkpoints
        trainer = Trainer(folder, settings, device=args.device, init=init)
        return trainer.run(budget, export=export, checkpoint_minutes=args.checkpoint_minutes, sheet_minutes=args.sheet_minutes)
