"""`evaluate methods`: one prompt by every method of the paper's Table 1, for the same number of the prior's predictions.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, machine, settings
from ..files import atomic_path, atomic_write_text, make_folder

if TYPE_CHECKING:
    from ..config import GenerationConfig
    from ..guidance.prior import DiffusionPrior
    from .distil import Outcome

METHODS = (
    *("dreamfusion", "textmesh", "gaussiandreamer", "hifa", "perpneg"),
    *("scaledreamer", "consistent3d", "luciddreamer", "cograd3d"),
)
"""In the order of Table 1."""

BUDGETS = {
    "evaluations": "the same number of the prior's predictions for every method",
    "iterations": "the same number of iterations for every method",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate methods`."""
    parser.add_argument("--output", type=Path, default=Path("docs/methods"), help="folder of the pictures and of comparison.md")
    parser.add_argument("--prompt", default="a red cat", help="what to make (%(default)s)")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), metavar="NAME", help="other methods, of `python3 -m backend methods`"
    )
    parser.add_argument(
        "--prior", default="builtin:exact", help="prior to use; one of the built-in world can be measured against the truth"
    )
    parser.add_argument("--quality", default="draft", choices=("draft", "normal", "high"))
    parser.add_argument("--iterations", type=int, metavar="N", help="those of cograd3d, which set the budget; by default the quality's")
    parser.add_argument("--budgets", nargs="+", default=["evaluations"], choices=tuple(BUDGETS), help="what is the same for every method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="SECTION.NAME=VALUE", help="override a setting")


def run(args: argparse.Namespace) -> int:
    """Makes everything anew and writes the report."""
    from ..guidance.load import load_prior
    from ..pipeline import pick_device

    sets = [f"prior.name={args.prior}", f"run.seed={args.seed}", *args.sets]
    if args.iterations is not None:
        sets.insert(0, f"optimizer.iterations={args.iterations}")
    configs = {name: settings.resolve(args.quality, name, sets=sets) for name in args.methods}
    reference = settings.resolve(args.quality, "cograd3d", sets=sets)
    make_folder(args.output)
    prior = load_prior(reference.prior, pick_device(reference.run.device), seed=args.seed)
    parts = [_introduction(args)]
    for budget in args.budgets:
        picture = args.output / ("contact-sheet.png" if budget == args.budgets[0] else f"contact-sheet-{budget}.png")
        parts.append(_part(budget, args.prompt, configs, reference, prior, picture))
    atomic_write_text(args.output / "comparison.md", "\n".join(parts))
    return 0


def _part(
    budget: str, prompt: str, configs: dict[str, GenerationConfig], reference: GenerationConfig, prior: DiffusionPrior, picture: Path
) -> str:
    """All methods under one budget: a section of the report, and its picture."""
    from .distil import contact_sheet, distil, rows_per_iteration

    total = reference.optimizer.iterations
    allowed = total * rows_per_iteration(reference, prior)
    lines, rows = [], []
    for name, config in configs.items():
        count = max(1, round(allowed / rows_per_iteration(config, prior))) if budget == "evaluations" else total
        outcome = distil(replace(config, optimizer=replace(config.optimizer, iterations=count)), prior, prompt)
        lines.append(_table_row(name, config.guidance.rule, outcome))
        rows.append((_label(name, outcome), outcome.model))
        print(lines[-1], flush=True)
    with atomic_path(picture) as path:
        contact_sheet(prompt, rows).save(path, format="PNG", optimize=True)
    return "\n".join(
        (
            f"## {BUDGETS[budget][:1].upper()}{BUDGETS[budget][1:]}",
            "",
            "| method | rule | PSNR | PSNR, turned | IoU, turned | Janus | iterations | predictions | time |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            f"![{prompt}, a row a method]({picture.name})",
            "",
        )
    )


def _introduction(args: argparse.Namespace) -> str:
    words = ["python3", "-m", "backend", "evaluate", "methods", "--prompt", args.prompt]
    words += [] if args.methods == list(METHODS) else ["--methods", *args.methods]
    words += ["--prior", args.prior, "--quality", args.quality, "--seed", str(args.seed)]
    words += [] if args.iterations is None else ["--iterations", str(args.iterations)]
    words += ["--budgets", *args.budgets, *(word for assignment in args.sets for word in ("--set", assignment))]
    return (
        "# The methods side by side\n\n"
        f"`{shlex.join(words)}`, version {__version__}, on {machine.describe()}.\n\n"
        "Gaussians against the true object at 24 views that no camera visited (128 px), as in [results.md](../results.md): as they stand,\n"
        "and turned about Z by up to 45 degrees, since no word pins the frame. Janus is the share of the views from behind that resemble\n"
        "a frontal true view most. A prediction is one picture under one prompt at one noise level. Time is the optimisation's alone.\n"
    )


def _scores(outcome: Outcome) -> tuple[str, str, str, str]:
    """PSNR, both of them with the result turned, and the Janus rate."""
    found = outcome.score
    if found is None:
        return "-", "-", "-", "-"
    return f"{found.psnr:.1f} dB", f"{found.psnr_turned:.1f} dB ({found.turn:+.0f}°)", f"{found.iou_turned:.3f}", f"{found.janus:.2f}"


def _table_row(name: str, rule: str, outcome: Outcome) -> str:
    counts = f"{outcome.iterations:,}", f"{outcome.rows:,}", f"{outcome.seconds:.0f} s"
    return "| " + " | ".join((f"`{name}`", f"`{rule}`", *_scores(outcome), *counts)) + " |"


def _label(name: str, outcome: Outcome) -> str:
    _, psnr, iou, janus = _scores(outcome)
    found = [] if outcome.score is None else [psnr, f"IoU {iou}", f"Janus {janus}"]
    return "\n".join((name, *found, f"{outcome.iterations:,} iterations"))
