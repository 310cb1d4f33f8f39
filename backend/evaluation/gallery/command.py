"""`evaluate gallery`: variants of the method on the gallery's prompts, measured and written up.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ... import machine
from ...console import give_up
from ...files import make_folder
from ...preflight import memory_of_run
from ...request import BUILTIN_PRIORS
from . import prompts, variants
from .records import Record, read_records, write_records

if TYPE_CHECKING:
    from .runs import Run

RECORDS_FILE = "records.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate gallery`."""
    groups = ", ".join(variants.GROUPS)
    lists = "; ".join(f"{name}: {text}" for name, text in prompts.SETS.items())
    parser.add_argument("--methods", nargs="+", default=["all"], metavar="NAME", help=f"what is compared: {groups}, or single names (all)")
    parser.add_argument("--prompts", nargs="+", default=["gallery"], metavar="NAME", help=f"prompts, or lists of them ({lists})")
    parser.add_argument("--seeds", type=_count, default=3, metavar="N", help="seeds of each prompt (%(default)s)")
    parser.add_argument("--core-seeds", type=_count, metavar="N", help="seeds of the core prompts, if more")
    parser.add_argument("--prior", default="builtin:exact", metavar="NAME", help="the diffusion model (%(default)s)")
    parser.add_argument(
        "--reliability", type=float, default=1.0, metavar="P", help="share of calls in which the exact prior obeys view words (%(default)s)"
    )
    parser.add_argument("--quality", default="draft", choices=("draft", "normal", "high"))
    iterations_help = "those of cograd3d, which set everybody's budget of predictions; several: how quality grows with it is plotted"
    parser.add_argument("--iterations", type=_count, nargs="+", metavar="N", help=iterations_help)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="SECTION.NAME=VALUE", help="a setting of every run")
    parser.add_argument(
        "--report", type=Path, required=True, metavar="DIR", help="tables, plots and pages; figures in its records.csv are not made again"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the runs live (DIR/work)")
    parser.add_argument("--processes", type=_count, metavar="N", help="runs at the same time (by the machine)")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster; `local` starts one here")
    parser.add_argument(
        "--retries", type=int, default=1, metavar="N", help="how often a run that ended badly is taken up again (%(default)s)"
    )
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        dest="scores",
        metavar="NAME[=MODEL]",
        help="one of the paper's own scores, too: clip_b32 or clip_l14 (of a CLIP folder or hub id), vqa_score, image_reward",
    )
    parser.add_argument("--allow-download", action="store_true", help="fetch models of --score from the hub")
    parser.add_argument("--answers", nargs="*", type=Path, default=[], metavar="CSV", help="filled-in ranking pages")
    parser.add_argument("--report-only", action="store_true", help="write up what there is")


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Does what is missing, then writes the report. Returns 1 if a run could not be done.

    Raises:
        JobError: another process adds to this report.
    """
    from ...execution.gpus import check_device, wants_gpu
    from ...guidance.load import load_prior
    from ...locks import work_alone
    from ...out_of_memory import free_caches
    from ...pipeline import pick_device
    from .runs import Terms, plan

    compared = variants.chosen(args.methods)
    reference = variants.chosen([variants.FULL])[0]
    budgets = [()] if args.iterations is None else [(f"optimizer.iterations={count}",) for count in sorted(set(args.iterations))]
    terms = [Terms(args.prior, args.reliability, args.quality, (*budget, *args.sets)) for budget in budgets]
    whole = reference.config(args.quality, terms[-1].assignments)
    check_device(whole.run.device)
    work = args.work or args.report / "work"
    make_folder(args.report)
    if args.work is not None and not args.report_only:
        make_folder(args.work)
    prior = load_prior(whole.prior, pick_device(whole.run.device), seed=0)
    runs = [run for each in terms for run in plan(compared, _pairs(args), each, reference, prior, work)]
    del prior
    free_caches()  # what the runs' processes need of the GPU
    # Two galleries would do the same runs, and each forget the other's records.
    with contextlib.nullcontext() if args.report_only else work_alone(args.report):
        return _complete(runs, args, gpus=None if wants_gpu(whole.run.device) else ())


def _complete(runs: Sequence[Run], args: argparse.Namespace, gpus: Sequence[str] | None = None) -> int:
    """`run`, once it is known what belongs to the report and which GPUs it may use."""
    from ...locks import FolderLock
    from .measures import judges
    from .public_scores import parse_scores
    from .ranking import KEY_FILE, read_answers
    from .runs import finished, prepare

    if args.answers:
        read_answers(args.answers, args.report / KEY_FILE)  # what cannot be used is known before the work
    known = read_records(args.report / RECORDS_FILE)
    known += [record for run in runs if (record := finished(run.folder)) is not None]  # of a gallery that was killed, too
    if not (args.report_only and FolderLock(args.report).is_held_elsewhere()):  # it is another gallery's, which adds to it meanwhile
        write_records(args.report / RECORDS_FILE, known)
    wanted = parse_scores(args.scores)
    done = {(record.key, record.fingerprint) for record in known if has_scores(record, wanted)}
    missing = [run for run in runs if (run.record.key, run.record.fingerprint) not in done]
    failed = 0
    if missing and not args.report_only:
        judges(wanted, allow_download=args.allow_download, progress=_say)  # what cannot be had is known before the work, and fetched once
        for each in missing:
            prepare(each)
        _say(f"{len(runs) - len(missing)} of {len(runs)} runs are done; {len(missing)} to go")
        known, failed = _execute(missing, known, args, gpus)
    write_up(runs, known, args)
    return int(failed > 0)


def _pairs(args: argparse.Namespace) -> list[tuple[str, int]]:
    """(prompt, seed), all prompts with the first seed before any with the second."""
    core = prompts.prompt_set("core")
    most = max(args.seeds, args.core_seeds or 0)
    chosen = prompts.chosen(args.prompts)
    return [(prompt, seed) for seed in range(most) for prompt in chosen if seed < args.seeds or prompt in core]


def _execute(
    missing: Sequence[Run], known: list[Record], args: argparse.Namespace, gpus: Sequence[str] | None = None
) -> tuple[list[Record], int]:
    """Does the runs; returns all records and the number of runs that failed. Records are kept as they come. `gpus`: see `make_executor`."""
    from ...execution import Task, make_executor
    from ...execution.gpus import usable_gpus
    from ...execution.local import fitting_processes
    from .runs import finished

    options = tuple(word for score in args.scores for word in ("--score", score))
    folders = {run.folder.name: run.folder for run in missing}
    path, failed, began = args.report / RECORDS_FILE, 0, time.monotonic()
    processes = args.processes
    if args.ray is None:
        memory = memory_of_run(args.quality, builtin_prior=args.prior in BUILTIN_PRIORS)
        processes = fitting_processes(processes, len(missing), gpus=len(usable_gpus() if gpus is None else gpus), memory=memory)
    with make_executor(processes, args.ray, gpus, shared=args.work or args.report / "work") as executor:
        executor.notify = _say
        share = executor.gpu_share if gpus is None else 0.0
        tasks = [Task(name, ("evaluate", "run", str(folder.absolute()), *options), gpus=share) for name, folder in folders.items()]
        for count, outcome in enumerate(executor.run(tasks, retries=args.retries), start=1):
            record = finished(folders[outcome.key])
            left = (time.monotonic() - began) / count * (len(tasks) - count) / 60
            is_done = record is not None and outcome.exit_code == 0  # what was measured earlier has a record in any case
            if not is_done and outcome.stopped:
                continue
            if record is None or not is_done:
                failed += 1
                _say(f"{count}/{len(tasks)} {outcome.key} failed: {outcome.message}")
                continue
            known = [*known, record]
            write_records(path, known)
            figures = f"{record.psnr:.1f} dB, Janus {record.janus:.2f}, {outcome.seconds:.0f} s"
            _say(f"{count}/{len(tasks)} {record.variant}, {record.prompt}, seed {record.seed}: {figures}; {left:.0f} min left")
    return known, failed


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:  # nobody looks any more (a closed pipe or terminal): the runs go on
        give_up(sys.stdout)


def has_scores(record: Record, wanted: Mapping[str, str]) -> bool:
    """Whether a record has all these scores by these models; if not, its job is measured again, not run."""
    return not any(math.isnan(getattr(record, name)) or getattr(record, f"{name}_model") != model for name, model in wanted.items())


def write_up(runs: Sequence[Run], known: Sequence[Record], args: argparse.Namespace) -> None:
    """The report about those of the runs that are done."""
    from ...embedded import vocabulary, world
    from ..work_folders import job_in
    from .measures import truth_strip
    from .report import write_report
    from .runs import STRIP_FILE, name_of

    by_key = {(record.key, record.fingerprint): record for record in known}
    done = [(run, by_key[run.record.key, run.record.fingerprint]) for run in runs if (run.record.key, run.record.fingerprint) in by_key]
    if not done:
        _say("No run is done: there is nothing to report.")
        return
    strips, traces, truths = {}, {}, {}
    largest = max(record.budget for _, record in done)
    for run, record in done:
        if record.budget < largest:
            continue
        key = record.variant, record.prompt, record.seed
        if (run.folder / STRIP_FILE).exists():
            strips[key] = run.folder / STRIP_FILE
            job = job_in(run.folder)
            if job is not None and job.trace_path.exists():
                traces[key] = job.trace_path
    for prompt in dict.fromkeys(record.prompt for _, record in done):
        truths[prompt] = (args.work or args.report / "work") / f"truth-{name_of(prompt)}-{world.version()}.png"
        if not truths[prompt].exists():
            truths[prompt].parent.mkdir(parents=True, exist_ok=True)
            truth_strip(vocabulary.parse(prompt), truths[prompt])
    write_report(
        args.report,
        [record for _, record in done],
        variants=list(dict.fromkeys(run.record.variant for run in runs)),
        reference=variants.FULL,
        title="The gallery",
        command=command_line(args),
        machine=machine.describe(),
        strips=strips,
        truths=truths,
        traces=traces,
        answers=args.answers,
    )
    _say(f"{len(done)} of {len(runs)} runs: {args.report / 'index.html'}")


def command_line(args: argparse.Namespace) -> str:
    """The command that makes this report."""
    words = ["python3", "-m", "backend", "evaluate", "gallery", "--methods", *args.methods, "--prompts", *args.prompts]
    words += ["--seeds", str(args.seeds), *(["--core-seeds", str(args.core_seeds)] if args.core_seeds else [])]
    words += ["--prior", args.prior, "--reliability", repr(args.reliability).removesuffix(".0"), "--quality", args.quality]
    words += [] if args.iterations is None else ["--iterations", *map(str, args.iterations)]
    words += [word for assignment in args.sets for word in ("--set", assignment)]
    words += [word for score in args.scores for word in ("--score", score)]
    words += ["--answers", *map(str, args.answers)] if args.answers else []
    return shlex.join([*words, "--report", str(args.report)])
