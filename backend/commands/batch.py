"""`batch`: many prompts, a mesh each.

Every prompt is a job folder and every run a `worker` process of an executor (`backend/execution`). The same command again finds the
folders by `batch.json` and does what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import preflight, request
from ..config import GenerationConfig
from ..console import Console, give_up, printable
from ..errors import EXIT_INTERRUPTED, InputError, OutputError, PromptError, UsageError
from ..execution.executor import GRACE_SECONDS, make_executor
from ..execution.gpus import check_device, usable_gpus, wants_gpu
from ..execution.local import fitting_processes
from ..execution.manifest import SUMMARY_FILE, BatchJob, Manifest, SummaryRow, write_summary
from ..execution.task import Outcome, Task
from ..files import absolute, make_folder
from ..job_lines import read_lines
from ..locks import work_alone
from ..protocol import JobSpec
from ..wording import in_options
from .assignments import assignments

EXIT_INCOMPLETE = 1
"""Some job is not finished; `summary.csv` says which and why."""

_SETTING_OPTIONS = {"seed": "run.seed", "prior": "prior.name"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  python3 -m backend batch prompts.txt --output toys --quality draft\n"
        "  python3 -m backend batch prompts.txt --output toys --ray auto\n\n"
        "PROMPTS has a prompt a line; empty lines and those that begin with # are passed over, a prompt that comes twice is made once.\n"
        "All are checked before any work. Assets are written to DIR/001-a-red-cat.glb and so on, job folders below DIR/jobs, an\n"
        "overview to DIR/summary.csv. The same command again does what is missing: finished jobs stay, interrupted ones go on from their\n"
        "checkpoint, failed ones are tried again. Ctrl-C lets all runs write a checkpoint first.\n\n"
        "With --ray, DIR, CoGrad3D and its environment have to be on storage that all nodes share, under the same paths.\n\n"
        "exit codes: 0 all prompts are finished, 1 some are not, 130 interrupted, those of bad input as everywhere."
    )
    parser.add_argument("prompts", type=Path, metavar="PROMPTS", help="a text file with a prompt a line")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder of the batch, new or that of an earlier run")
    parser.add_argument("--format", choices=("glb", "obj", "ply"), default="glb", help="what the assets are written as (%(default)s)")

    how = parser.add_argument_group("what is made, and how")
    how.add_argument("--quality", metavar="NAME", help="draft, normal or high (normal)")
    how.add_argument("--method", metavar="NAME", help="one of those that `methods` lists (cograd3d)")
    how.add_argument("--prior", metavar="MODEL", help="the image model, as in `generate` (builtin:learned)")
    how.add_argument("--seed", metavar="N", help="of all jobs; another seed makes other jobs in the same folder (0)")
    how.add_argument("--set", action="append", metavar="NAME=VALUE", help="one setting of all jobs, as in `generate`; repeatable")

    run = parser.add_argument_group("the run")
    where = run.add_mutually_exclusive_group()
    where.add_argument("--processes", type=int, metavar="N", help="runs at once; by default one for each GPU, or else for every two cores")
    where.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run on a Ray cluster: auto, host:port, or local to start Ray here; DIR has to be on storage that all nodes share",
    )
    run.add_argument(
        "--retries",
        type=int,
        default=1,
        metavar="N",
        help="how often a job is tried again that was killed, or failed for a reason that may pass (%(default)s)",
    )
    run.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    run.add_argument("--quiet", action="store_true", help="say nothing but errors and the summary")
    run.add_argument("--json", action="store_true", help="a JSON line for each job and the summary on standard output, for programs")
    run.add_argument("--yes", action="store_true", help="install what is needed without asking")


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work. Raises a `CoGradError` of the fitting class."""
    if args.processes is not None and args.processes < 1:
        raise UsageError(f"--processes must be at least 1, not {args.processes}.", remedy="Leave it out for what fits this computer.")
    if args.retries < 0:
        raise UsageError(f"--retries must be at least 0, not {args.retries}.", remedy="0 tries every job once.")
    plan = _plan(args)
    if args.ray is None and plan.unfinished():
        _processes(args.processes, plan)


def needs_environment(args: argparse.Namespace) -> bool:
    """Whether `run` needs the packages of the environment: not to say what would be done."""
    return not args.dry_run


def run(args: argparse.Namespace) -> int:
    if args.dry_run:
        return _show_plan(_plan(args), as_json=args.json)
    root = _root(args)
    make_folder(root)
    with work_alone(root):
        plan = _plan(args)
        report = _Report(plan, as_json=args.json, quiet=args.quiet)
        code = 0
        try:
            if plan.unfinished():
                _run_all(args, plan, report)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        for job in plan.jobs:
            if plan.status(job)[0] == "finished":  # a worker may have come to its end when its batch was gone
                plan.put(_counted(plan, job))
        write_summary(root / SUMMARY_FILE, [plan.row(job) for job in plan.manifest.jobs.values()])
        rows = [plan.row(job) for job in plan.jobs]
        report.summary(rows, interrupted=code != 0)
    return code or (0 if all(row.status == "finished" for row in rows) else EXIT_INCOMPLETE)


# --- what is to be done


@dataclass
class _Plan:
    """The jobs of this command, in the file's order, among all those of the folder.

    Attributes:
        manifest: all that the folder has or will have.
        jobs: those asked for now.
        specs: by the job's identity.
        config: the settings of all.
        repeated: (line, line of the first) of prompts that come again.
        errors: by the job's identity, what its last attempt in this run died of.
    """

    manifest: Manifest
    jobs: list[BatchJob]
    specs: dict[str, JobSpec]
    config: GenerationConfig
    repeated: list[tuple[int, int]]
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    def put(self, job: BatchJob) -> BatchJob:
        """Replace what is known of a job."""
        self.jobs = [job if other.number == job.number else other for other in self.jobs]
        return self.manifest.put(job)

    def unfinished(self) -> list[BatchJob]:
        """Those that are still to be worked on."""
        return [job for job in self.jobs if self.status(job)[0] != "finished"]

    def status(self, job: BatchJob) -> tuple[str, str]:
        """(new, waiting, interrupted, failed or finished; the error). Without its asset a job is not finished, only nearly."""
        folder = self.manifest.folder(job)
        if folder is None:
            return "new", ""
        state = folder.state
        if state.status == "finished":
            return ("finished" if self.manifest.asset(job).is_file() else "interrupted"), ""
        if state.status == "failed":
            return "failed", (state.error or {}).get("message", "")
        error = self.errors.get(job.identity)
        if error and state.status in ("created", "running"):  # killed: it could not write what happened
            return "failed", error
        return ("waiting" if state.status == "created" else "interrupted"), ""

    def remedy(self, job: BatchJob) -> str:
        """What can be done about a failure, in words of the command line; empty where nothing is known."""
        folder = self.manifest.folder(job)
        state = None if folder is None else folder.state
        return in_options((state.error or {}).get("remedy", "")) if state is not None and state.status == "failed" else ""

    def row(self, job: BatchJob) -> SummaryRow:
        """The job's line of the summary."""
        status, error = self.status(job)
        asset = job.asset if status == "finished" else ""
        return SummaryRow(
            number=job.number,
            prompt=job.prompt,
            seed=job.seed,
            prior=job.prior,
            quality=job.quality,
            method=job.method,
            status=status,
            seconds=round(job.seconds, 1),
            attempts=job.attempts,
            asset=asset,
            gaussians=job.gaussians,
            faces=job.faces,
            error=error,
        )


def _plan(args: argparse.Namespace) -> _Plan:
    """What is asked for, checked. Raises a `CoGradError` where any of it cannot work."""
    root = _root(args)
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root} is no folder.", remedy="Name the folder that the assets go to.")
    lines = _read_prompts(args.prompts)
    spec, config = _request(args)
    check_device(config.run.device)
    first_lines: dict[str, int] = {}
    repeated = [(line, first_lines[prompt]) for line, prompt in lines if first_lines.setdefault(prompt, line) != line]
    specs = {prompt: replace(spec, prompt=prompt) for prompt in first_lines}
    _check_prompts([(line, specs[prompt]) for prompt, line in first_lines.items()], config, root)
    manifest = Manifest.read(root)
    known = dict(manifest.jobs)
    jobs = [manifest.planned(spec, config, args.format) for spec in specs.values()]
    for job in jobs:
        if (old := known.get(job.identity)) is None or job.asset not in (old.asset, *old.assets):
            _check_free(manifest.asset(job))
    return _Plan(manifest, jobs, {job.identity: specs[job.prompt] for job in jobs}, config, repeated)


def _root(args: argparse.Namespace) -> Path:
    return absolute(args.output)


def _read_prompts(path: Path) -> list[tuple[int, str]]:
    """(line number, prompt) of a file. Raises `InputError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", remedy="Name a text file with a prompt a line.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8.", remedy="Save it as plain text in UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", remedy="Name a text file with a prompt a line.") from error
    numbered = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    lines = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"{path} has no prompts.", remedy="Write one on each line, for example: a red cat")
    return lines


def _request(args: argparse.Namespace) -> tuple[JobSpec, GenerationConfig]:
    """What every job is asked for but its prompt. Raises `ConfigError`."""
    given = list(assignments(args, _SETTING_OPTIONS))
    return request.make_request(
        "",
        quality=args.quality or "normal",
        method=args.method or "cograd3d",
        overrides={path: value for path, value, _ in given},
        origins={path: origin for path, _, origin in given},
    )


def _check_prompts(specs: Sequence[tuple[int, JobSpec]], config: GenerationConfig, root: Path) -> None:
    """Refuse the lines that no run could make, all of them at once. Raises `PromptError`, and for the rest as `check_request`."""
    bad = []
    for line, spec in specs:
        try:
            request.check_request(spec, config, root)
        except PromptError as error:
            remedy = in_options(error.remedy)
            bad.append(f"  line {line}, {printable(repr(spec.prompt), 80)}: {error.message}" + (f" {remedy}" if len(specs) == 1 else ""))
    if bad:
        count = "1 prompt" if len(bad) == 1 else f"{len(bad)} prompts"
        raise PromptError(
            "\n".join((f"{count} of {len(specs)} cannot be made:", *bad)),
            remedy="Change or remove those lines; `words` lists what the built-in image model knows. Nothing was started.",
        )


def _check_free(asset: Path) -> None:
    """Refuse to write over files that are not this batch's. Raises `OutputError`."""
    for path in (asset, *preflight.companions(asset)):
        if path.exists():
            raise OutputError(f"{path} exists already, and is not of this batch.", remedy="Choose another folder, or move it away.")


def _show_plan(plan: _Plan, *, as_json: bool) -> int:
    words = {"new": "to make", "waiting": "to make", "interrupted": "to go on with", "failed": "to try again", "finished": "finished"}
    for job in plan.jobs:
        status, _ = plan.status(job)
        if as_json:
            print(json.dumps({"type": "plan", "number": job.number, "prompt": job.prompt, "status": status, "asset": job.asset}))
        else:
            print(f"{words[status]:<14}  {job.asset}  {printable(job.prompt)}")
    return 0


# --- doing it


def _run_all(args: argparse.Namespace, plan: _Plan, report: _Report) -> None:
    """Run what is missing, keeping the manifest. Raises `KeyboardInterrupt` when interrupted, and what executors raise."""
    processes = None if args.ray is not None else _processes(args.processes, plan)
    executor = make_executor(processes, args.ray, shared=plan.manifest.root)
    _wait_for_earlier_workers(plan, report)
    with executor:
        executor.notify = report.note
        executor.reason = lambda task: plan.status(by_key[task.key])[1]
        unfinished = plan.unfinished()
        try:
            made = [plan.put(plan.manifest.make_folder(job, plan.specs[job.identity], plan.config)) for job in unfinished]
        finally:  # whatever was made is found again
            plan.manifest.write()
        report.begin(made, executor.processes)
        by_key = {str(job.number): job for job in made}
        gpus = executor.gpu_share if wants_gpu(plan.config.run.device) else 0.0
        for outcome in executor.run([_task(plan, job, gpus) for job in made], retries=args.retries):
            job = plan.put(_after(plan, by_key[outcome.key], outcome))
            plan.manifest.write()
            if not outcome.stopped:
                report.ended(job, outcome)


def _task(plan: _Plan, job: BatchJob, gpus: float) -> Task:
    return Task(str(job.number), ("worker", "--job", str(plan.manifest.root / job.folder)), gpus)


def _after(plan: _Plan, job: BatchJob, outcome: Outcome) -> BatchJob:
    """The job with what a run of it came to."""
    if outcome.exit_code and not outcome.stopped:
        plan.errors[job.identity] = outcome.message or f"exit code {outcome.exit_code}"
    job = replace(job, attempts=job.attempts + outcome.attempts, seconds=job.seconds + outcome.seconds, gaussians=0, faces=0)
    return _counted(plan, job) if outcome.exit_code == 0 else job


def _counted(plan: _Plan, job: BatchJob) -> BatchJob:
    """The job with how large its result is, where that is not known yet."""
    folder = plan.manifest.folder(job)
    if job.faces or folder is None:
        return job
    result: dict[str, Any] = {}
    for _, event in read_lines(folder.events_path):
        result = event if event.get("type") == "result" else result
    return replace(job, gaussians=result.get("gaussians", 0), faces=result.get("faces", 0))


def _processes(wanted: int | None, plan: _Plan) -> int:
    """How many runs at once, at most those wanted. Raises `ResourceError` if that is more than memory holds."""
    gpus = len(usable_gpus()) if wants_gpu(plan.config.run.device) else 0
    is_builtin = plan.config.prior.name in request.BUILTIN_PRIORS
    memory = preflight.memory_of_run(plan.specs[plan.jobs[0].identity].quality, builtin_prior=is_builtin)
    return fitting_processes(wanted, len(plan.jobs), gpus=gpus, memory=memory)


def _wait_for_earlier_workers(plan: _Plan, report: _Report) -> None:
    """Until the workers of a batch that was killed have written their checkpoints and gone: their jobs are locked."""
    deadline, told = time.monotonic() + GRACE_SECONDS, False
    for job in plan.unfinished():
        folder = plan.manifest.folder(job)
        while folder is not None and folder.in_use and time.monotonic() < deadline:
            if not told:
                report.note("Workers of an earlier batch are still writing their checkpoints; waiting for them.")
            told = True
            time.sleep(0.2)


# --- telling of it


class _Report:
    """What is told: notes and progress on standard error, the summary on standard output; as JSON, all on standard output."""

    def __init__(self, plan: _Plan, *, as_json: bool, quiet: bool) -> None:
        self.plan, self.as_json = plan, as_json
        self.console = Console(quiet=quiet or as_json)
        self.total, self.done, self.processes = 0, 0, 1
        self._seconds: list[float] = []  # of the jobs that this run finished
        self._titles: dict[str, str] = {}
        self._remedies: set[str] = set()  # that have been told

    def _say(self, text: str) -> None:
        try:
            self.console.say(text)
        except OSError:  # nobody looks any more (a closed pipe or terminal): the batch goes on, as a run does
            give_up(self.console.stream)

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            give_up(sys.stdout)

    def note(self, sentence: str) -> None:
        """Something besides the outcomes; a task's number becomes its prompt."""
        key, colon, rest = sentence.partition(": ")
        self._say(f"{self._titles[key]}: {rest}" if colon and key in self._titles else sentence)

    def begin(self, jobs: Sequence[BatchJob], processes: int) -> None:
        """These are going to be run."""
        self.total, self.processes = len(jobs), min(processes, len(jobs))
        self._titles = {str(job.number): printable(job.prompt) for job in jobs}
        finished = len(self.plan.jobs) - len(jobs)
        for line, first in self.plan.repeated:
            self._say(f"Line {line} is line {first} again and is made once.")
        already = f", {finished} are finished already" if finished else ""
        self._say(f"{len(jobs)} of {len(self.plan.jobs)} jobs to do{already}; {self.processes} at once.")

    def ended(self, job: BatchJob, outcome: Outcome) -> None:
        """One has ended."""
        from ..progress import clock

        self.done += 1
        if outcome.exit_code == 0:
            self._seconds.append(outcome.seconds)
        row, left = self.plan.row(job), self._seconds_left()
        if self.as_json:
            fields = {"type": "job", "done": self.done, "total": self.total, "seconds_left": left, "number": job.number}
            self._print(json.dumps(fields | dataclasses.asdict(row) | {"remedy": self.plan.remedy(job)}))
            return
        error = f": {printable(row.error)}" if row.error else ""
        rest = "" if left is None or self.done == self.total else f"; about {max(1, round(left / 60))} min left"
        what = f"{row.status} after {clock(outcome.seconds)}: {printable(job.prompt)}{error}"
        self._say(f"{self.done} of {self.total}  {what}{rest}")
        if (remedy := self.plan.remedy(job)) and remedy not in self._remedies:
            self._remedies.add(remedy)
            self._say(f"    {printable(remedy, 300)}")

    def _seconds_left(self) -> float | None:
        """By the mean of what was finished; None before anything was."""
        if not self._seconds:
            return None
        left = self.total - self.done
        return left * sum(self._seconds) / len(self._seconds) / max(1, min(self.processes, left))

    def summary(self, rows: Sequence[SummaryRow], *, interrupted: bool) -> None:
        """All are over."""
        from ..progress import clock

        counts = {status: sum(row.status == status for row in rows) for status in dict.fromkeys(row.status for row in rows)}
        path = self.plan.manifest.root / SUMMARY_FILE
        if self.as_json:
            self._print(json.dumps({"type": "summary", "interrupted": interrupted, "counts": counts, "file": str(path)}))
            return
        for row, job in zip(rows, self.plan.jobs):
            what = row.asset or printable(f"{row.prompt}{': ' if row.error else ''}{row.error}")
            size = f"{row.faces:,} faces" if row.faces else ""
            self._print(f"{job.number:>4}  {row.status:<11}  {clock(row.seconds):>8}  {size:>14}  {what}")
        self._print(f"{', '.join(f'{count} {status}' for status, count in counts.items())}; {path}")
        if counts.get("finished", 0) < len(rows):
            self._print("The same command again does what is missing.")
