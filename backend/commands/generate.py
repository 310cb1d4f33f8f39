"""`generate`: from a sentence to a textured mesh.

Reads the options; what they ask for is put together and checked by `request.py`, before anything is installed, loaded or written.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from .. import machine, models, request, settings
from ..config import DEFAULT_PRIOR, GenerationConfig
from ..console import Console
from ..errors import OutputError, UsageError
from ..files import absolute
from ..job import JobFolder
from ..protocol import JobSpec
from ..refinement import refine
from .assignments import assignments

_SETTING_OPTIONS = {
    "seed": "run.seed",
    "device": "run.device",
    "iterations": "optimizer.iterations",
    "prior": "prior.name",
    "initial": "gaussians.initial",
}
"""Options that are short for a setting."""

_FIXED_ON_RESUME = (
    *("prompt", "negative", "quality", "method", "settings", "set", "without", "job", *_SETTING_OPTIONS),
    *("refine", "regions", "factor"),
)
"""What a job keeps from its beginning, so that a resumed run is the run that was interrupted."""

_FIXED_ON_REFINE = tuple(name for name in _FIXED_ON_RESUME if name not in ("job", "iterations", "refine", "regions", "factor"))
"""What a refinement takes from the run that it refines."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        '  python3 -m backend generate "a red cat" --output cat.glb\n'
        '  python3 -m backend generate "a golden teapot" --output teapot.obj --quality high --seed 7\n'
        "  python3 -m backend generate --resume JOB-FOLDER\n"
        "  python3 -m backend generate --refine JOB-FOLDER --regions 3,4,5 --output better.glb\n\n"
        "methods:\n"
        f"{_methods()}\n\n"
        "Ctrl-C ends a run so that --resume can go on with it. `python3 -m backend words` lists what the built-in image model knows,\n"
        "`python3 -m backend methods` says where the methods come from."
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help='what to make, in quotes: "a red cat"')
    parser.add_argument(
        "--output",
        action="append",
        type=Path,
        metavar="FILE",
        help="the asset: .glb, .obj or .ply; repeatable; without it the asset stays in the job folder",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")

    look = parser.add_argument_group("what is made")
    look.add_argument("--negative", metavar="TEXT", help="what to stay away from")
    look.add_argument("--seed", metavar="N", help="another seed gives another result, the same seed the same one (0)")
    look.add_argument("--quality", metavar="NAME", help="draft, normal or high (normal)")
    look.add_argument("--iterations", metavar="N", help="optimisation steps, by default those of the quality")
    look.add_argument(
        "--initial", metavar="SHAPE", help="what it starts from: blob, sphere, or a file with a mesh or points (your blockout)"
    )

    how = parser.add_argument_group("how it is made")
    how.add_argument(
        "--prior",
        metavar="MODEL",
        help="the image model: builtin:learned, builtin:exact, a diffusers folder, a .safetensors file or a hub id (builtin:learned);"
        " `models` lists some",
    )
    how.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps (auto)")
    how.add_argument("--method", metavar="NAME", help="one of the methods below (cograd3d)")
    how.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with settings, or the config.json of a run to be repeated")
    how.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="one setting, for example gradient_fusion.cap=1.0; repeatable, stronger than the file",
    )
    how.add_argument(
        "--without", action="append", metavar="PART", help="switch off region-sampling, timestep-sampling or gradient-fusion; repeatable"
    )

    run = parser.add_argument_group("the run")
    run.add_argument(
        "--job",
        type=Path,
        metavar="DIR",
        help="the run's own folder, new; by default one is made in the system's place for application data",
    )
    run.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run of this folder")
    run.add_argument("--refine", type=Path, metavar="DIR", help="a new, short run that improves the result of this folder's")
    run.add_argument(
        "--regions", type=_regions, metavar="N,N", help="with --refine: the view regions that need it most, as numbered in regions.json"
    )
    run.add_argument("--factor", type=float, metavar="F", help="with --refine: how much more often those are worked on (4)")
    run.add_argument("--quiet", action="store_true", help="say nothing but errors")
    run.add_argument("--json", action="store_true", help="events as JSON lines on standard output, for programs")
    run.add_argument("--yes", action="store_true", help="install what is needed without asking")


def _methods() -> str:
    """A line a method preset."""
    described = settings.presets("method")
    return "\n".join(f"  {name:<{max(map(len, described))}}  {description}" for name, description in described.items())


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work. Raises a `CoGradError` of the fitting class."""
    if args.resume is not None:
        _check_resume(args)
        return
    if args.refine is not None:
        _check_fixed(args, _FIXED_ON_REFINE, "A refinement takes its settings from the run that it refines", "--refine")
        if args.factor is not None and not args.regions:
            raise UsageError("--factor goes with --regions.", remedy="Name the view regions that are to be worked on more often.")
    elif args.regions is not None or args.factor is not None:
        raise UsageError("--regions and --factor go with --refine.", remedy="Name the folder of a finished run with --refine.")
    elif args.prompt is None:
        raise UsageError("What should be made?", remedy='Say it in quotes: python3 -m backend generate "a red cat" --output cat.glb')
    spec, config = make_request(args)
    folder = _job_path(args)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already.", remedy="Name a new folder, or go on with the run in it with --resume.")
    if folder is None:
        place = request.jobs_folder()
    else:
        place = folder if folder.is_dir() else folder.parent
    request.check_request(spec, config, place)


def run(args: argparse.Namespace) -> int:
    from ..progress import run_with_progress

    folder = _resumed(args) if args.resume is not None else _created(args)
    if args.resume is None and args.refine is None and not (args.quiet or args.json):
        _recommend_model(folder, Console())
    mode = "json" if args.json else "quiet" if args.quiet else "auto"
    return run_with_progress(folder, mode)


def _recommend_model(folder: JobFolder, console: Console) -> None:
    """One line where a GPU could run a larger image model and none was chosen. Choosing the built-in one by name is a choice."""
    is_chosen = folder.config["prior"]["name"] != DEFAULT_PRIOR or "prior.name" in folder.spec.overrides
    best = None if is_chosen else models.recommend(machine.gpus())
    if best is not None:
        console.say(f"With this GPU, {best.title} would know far more than the built-in image model: `python3 -m backend models` says how.")


def make_request(args: argparse.Namespace) -> tuple[JobSpec, GenerationConfig]:
    """What was asked for, as it was asked and with every setting resolved. Raises `ConfigError`, and `JobError` for a refinement."""
    if args.refine is not None:
        return _refinement(args)
    given = list(assignments(args, _SETTING_OPTIONS))
    return request.make_request(
        args.prompt,
        negative_prompt=args.negative or "",
        quality=args.quality or "normal",
        method=args.method or "cograd3d",
        overrides={path: value for path, value, _ in given},
        settings_file=args.settings,
        without=args.without or (),
        outputs=args.output or (),
        overwrite=args.overwrite,
        origins={path: origin for path, _, origin in given},
    )


def _refinement(args: argparse.Namespace) -> tuple[JobSpec, GenerationConfig]:
    options = {} if args.factor is None else {"factor": args.factor}
    if args.iterations is not None:
        options["iterations"] = settings.parse_value("optimizer.iterations", args.iterations)
    spec, config = refine(JobFolder.open(absolute(args.refine)), args.regions or (), **options)
    return dataclasses.replace(spec, outputs=_outputs(args), overwrite=args.overwrite), config


def _regions(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of region numbers such as 3,4,5") from error


def _outputs(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(str(absolute(path)) for path in args.output or ())


def _job_path(args: argparse.Namespace) -> Path | None:
    return None if args.job is None else absolute(args.job)


def _check_resume(args: argparse.Namespace) -> None:
    _check_fixed(args, _FIXED_ON_RESUME, "A resumed run keeps its settings", "--resume")
    request.check_resume(JobFolder.open(absolute(args.resume)), args.output, overwrite=args.overwrite)


def _check_fixed(args: argparse.Namespace, fixed: Sequence[str], why: str, option: str) -> None:
    """Refuse what does not go with an option that takes up an earlier run."""
    if given := [name for name in fixed if getattr(args, name) is not None]:
        names = ", ".join("a prompt" if name == "prompt" else f"--{name}" for name in given)
        raise UsageError(f"{why}, so {option} does not go with {names}.", remedy=f"Leave that out, or start a new run without {option}.")


def _created(args: argparse.Namespace) -> JobFolder:
    """The new job's folder."""
    spec, config = make_request(args)
    path = _job_path(args)
    if path is None:
        return JobFolder.create(request.jobs_folder(), spec, config)
    is_there = path.is_dir()  # empty, or `check` would have refused it; a link, a disk's root or this process's own folder are to stay
    made = JobFolder.create(path if is_there else path.parent, spec, config)
    try:
        if is_there:
            for file in sorted(made.path.iterdir(), key=lambda file: file == made.spec_path):  # which makes a job of it, last
                file.rename(path / file.name)
            made.path.rmdir()
        else:
            made.path.rename(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be made: {error.strerror or error}.", remedy=f"The job is in {made.path}; --resume goes on with it."
        ) from error
    return JobFolder.open(path)


def _resumed(args: argparse.Namespace) -> JobFolder:
    """The old job's folder, with the outputs that are wanted now."""
    folder = JobFolder.open(absolute(args.resume))
    spec = folder.spec
    if args.output:  # none of what the job wrote before
        spec = dataclasses.replace(spec, outputs=_outputs(args), overwrite=args.overwrite)
    elif args.overwrite:
        spec = dataclasses.replace(spec, overwrite=True)
    if spec != folder.spec:
        folder.write_spec(spec)
    return folder
