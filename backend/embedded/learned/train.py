"""The training command of the learned prior (standard library only at import; `trainer.py` does the work)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="the run's folder; a run found there goes on from its last checkpoint"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="stop after this time (default: when interrupted)")
    parser.add_argument("--images", type=int, metavar="N", help="stop when this many images have been seen, those of earlier runs included")
    parser.add_argument(
        "--anneal", action="store_true", help="let the learning rate fall to zero over this run's --minutes or --images (last of all)"
    )
    parser.add_argument("--init", type=Path, metavar="FOLDER", help="take what fits from this pipeline folder when a run begins")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the averaged weights as a pipeline folder (float16) with every checkpoint"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="processor cores to use (default: those that are free)")
    parser.add_argument("--batch", type=int, default=384, metavar="N", help="images a step (default: %(default)s)")
    parser.add_argument(
        "--lr", type=float, default=0.02, metavar="X", help="learning rate of Muon; Adam's follows in proportion (default: %(default)s)"
    )
    parser.add_argument("--views", type=int, default=1500, metavar="N", help="rendered views an object (default: %(default)s)")
    parser.add_argument(
        "--references",
        type=int,
        default=96,
        metavar="N",
        help="views that an example's target is averaged over (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of a run that begins (default: %(default)s)")
    parser.add_argument("--checkpoint-minutes", type=float, default=10, metavar="N", help="time between checkpoints (default: %(default)s)")
    parser.add_argument(
        "--sheet-minutes", type=float, default=30, metavar="N", help="time between sample sheets, 0: none (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Trains until the budget is spent or a signal comes, and leaves a checkpoint either way."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: threads that spin for each other stall on busy cores
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
    trainer = Trainer(args.run, settings, device=args.device, init=args.init)
    budget = Budget(minutes=args.minutes, images=args.images, anneal=args.anneal)
    return trainer.run(budget, export=args.export, checkpoint_minutes=args.checkpoint_minutes, sheet_minutes=args.sheet_minutes)


def main() -> int:
    """`python -m backend.embedded.learned.train`."""
    parser = argparse.ArgumentParser(description="Train the built-in learned prior.")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    raise SystemExit(main())
