"""The training command of the learned prior (standard library only at import; `trainer.py` does the work)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...files import output_error
from ...option_numbers import amount, count, positive, whole


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


def run(args: argparse.Namespace) -> int:
    """Trains until the budget is spent or a signal comes, and leaves a checkpoint either way.

    Raises:
        JobError: another process trains in this folder.
        OutputError: the folder cannot be made or written to.
        ResourceError: the device is not there.
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
    try:
        args.run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, args.run) from error
    with work_alone(args.run):  # two processes would write and remove each other's checkpoints
        trainer = Trainer(args.run, settings, device=args.device, init=args.init)
        return trainer.run(budget, export=args.export, checkpoint_minutes=args.checkpoint_minutes, sheet_minutes=args.sheet_minutes)


def main() -> int:
    """`python -m backend.embedded.learned.train`."""
    parser = argparse.ArgumentParser(description="Train the built-in learned prior.")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
