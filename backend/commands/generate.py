"""`generate`: from a sentence to a textured mesh.

`check` refuses, with the standard library alone, whatever can be known to fail before anything is installed, loaded or written.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from .. import environment, preflight
from ..config import GenerationConfig
from ..errors import ConfigError, InputError, JobError, OutputError, PriorError, UsageError
from ..files import atomic_write_json
from ..job import JobFolder
from ..protocol import JobSpec

BUILTIN_PRIORS = ("builtin", "builtin:exact", "builtin:learned")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

_SETTING_OPTIONS = {
    "seed": "run.seed",
    "device": "run.device",
    "iterations": "optimizer.iterations",
    "prior": "prior.name",
    "initial": "gaussians.initial",
}
"""Options that are short for a setting."""

_FIXED_ON_RESUME = ("prompt", "negative", "quality", "method", "settings", "set", "without", "job", *_SETTING_OPTIONS)
"""What a job keeps from its beginning, so that a resumed run is the run that was interrupted."""

_SHAPE_FILES = (".obj", ".ply", ".glb", ".stl", ".xyz")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        '  python3 -m backend generate "a red cat" --output cat.glb\n'
        '  python3 -m backend generate "a golden teapot" --output teapot.obj --quality high --seed 7\n'
        "  python3 -m backend generate --resume JOB-FOLDER\n\n"
        "Ctrl-C ends a run so that --resume can go on with it. `python3 -m backend words` lists what the built-in image model knows."
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
        "--prior", metavar="MODEL", help="the image model: builtin, a diffusers folder, a .safetensors file or a hub id (builtin)"
    )
    how.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps (auto)")
    how.add_argument("--method", metavar="NAME", help="a preset of the method (cograd3d)")
    how.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with settings")
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
    run.add_argument("--quiet", action="store_true", help="say nothing but errors")
    run.add_argument("--json", action="store_true", help="events as JSON lines on standard output, for programs")
    run.add_argument("--yes", action="store_true", help="install what is needed without asking")


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work. Raises a `CoGradError` of the fitting class."""
    outputs = _outputs(args)
    for path in outputs:
        preflight.check_output(path, overwrite=args.overwrite)
    if args.resume is not None:
        _check_resume(args)
        return
    if args.prompt is None:
        raise UsageError("What should be made?", remedy='Say it in quotes: python3 -m backend generate "a red cat" --output cat.glb')
    spec, config = request(args)
    preflight.check_prompt(spec.prompt)
    if spec.negative_prompt:
        preflight.check_prompt(spec.negative_prompt, "negative prompt")
    builtin = config.prior.name in BUILTIN_PRIORS
    if builtin:
        _check_words(spec)
    else:
        _check_prior(config.prior.name)
    _check_shape(config.gaussians.initial)
    folder = _job_path(args)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already.", remedy="Name a new folder, or go on with the run in it with --resume.")
    jobs = folder.parent if folder is not None else jobs_folder()
    preflight.check_writable(jobs)
    preflight.check_disk(jobs, preflight.JOB_BYTES)
    preflight.check_memory(spec.quality, builtin_prior=builtin)


def run(args: argparse.Namespace) -> int:
    from ..progress import run_with_progress

    folder = _resumed(args) if args.resume is not None else _created(args)
    mode = "json" if args.json else "quiet" if args.quiet else "auto"
    return run_with_progress(folder, mode, resume=f"python3 -m backend generate --resume {shlex.quote(str(folder.path))}")


def jobs_folder() -> Path:
    """Where job folders are made that nobody asked for by name."""
    return environment.data_folder() / "jobs"


def request(args: argparse.Namespace) -> tuple[JobSpec, GenerationConfig]:
    """What was asked for, as it was asked and with every setting resolved. Raises `ConfigError`."""
    from .. import settings

    quality, method = args.quality or "normal", args.method or "cograd3d"
    assignments = [*_option_assignments(args), *(args.set or ())]
    try:
        config = settings.resolve(quality, method, args.settings, assignments, args.without or ())
    except ConfigError as error:
        raise ConfigError(_in_the_users_words(error.message), remedy=error.remedy) from error
    parsed = [settings.parse_assignment(assignment) for assignment in assignments]
    spec = JobSpec(
        prompt=args.prompt,
        negative_prompt=args.negative or "",
        quality=quality,
        method=method,
        initial=config.gaussians.initial if args.initial else "",
        overrides={f"{section}.{name}": value for section, name, value in parsed},
        without=tuple(args.without or ()),
        settings_file=str(args.settings.absolute()) if args.settings else "",
        outputs=tuple(map(str, _outputs(args))),
        overwrite=args.overwrite,
    )
    return spec, config


def _option_assignments(args: argparse.Namespace) -> Iterator[str]:
    """`--seed 3` as `run.seed=3`; files as absolute paths, so that a run can be resumed from anywhere."""
    for option, path in _SETTING_OPTIONS.items():
        value = getattr(args, option)
        if value is None:
            continue
        names_file = (
            option in ("prior", "initial") and value not in (*BUILTIN_PRIORS, "blob", "sphere") and Path(value).expanduser().exists()
        )
        yield f"{path}={Path(value).expanduser().absolute() if names_file else value}"


def _in_the_users_words(message: str) -> str:
    """An error about `--set run.seed=x` is one about `--seed x`."""
    for option, path in _SETTING_OPTIONS.items():
        message = message.replace(f"--set {path}=", f"--{option} ")
    return message


def _outputs(args: argparse.Namespace) -> list[Path]:
    return [Path(os.path.abspath(path.expanduser())) for path in args.output or ()]


def _job_path(args: argparse.Namespace) -> Path | None:
    return None if args.job is None else Path(os.path.abspath(args.job.expanduser()))


def _check_words(spec: JobSpec) -> None:
    from ..embedded import vocabulary

    vocabulary.parse(spec.prompt)
    if spec.negative_prompt:
        vocabulary.parse(spec.negative_prompt)


def _check_prior(name: str) -> None:
    path = Path(name).expanduser()
    if not path.exists() and not _HUB_ID.fullmatch(name):
        raise PriorError(
            f"There is no image model {name}.",
            remedy="Name an existing folder or .safetensors file, a hub id such as owner/model, or builtin.",
        )
    if path.is_file() and path.suffix.lower() != ".safetensors":
        raise PriorError(
            f"{path} is no .safetensors file.",
            remedy="Other formats can carry programs and are not opened; convert it, or choose another model.",
        )


def _check_shape(name: str) -> None:
    if name in ("blob", "sphere"):
        return
    path = Path(name).expanduser()
    if path.suffix.lower() not in _SHAPE_FILES:
        raise InputError(
            f"{name} is no shape to start from.", remedy=f"Choose blob, sphere, or a file that ends in {', '.join(_SHAPE_FILES)}."
        )
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy="Check the name given to --initial.")


def _check_resume(args: argparse.Namespace) -> None:
    fixed = [name for name in _FIXED_ON_RESUME if getattr(args, name) is not None]
    if fixed:
        names = ", ".join("a prompt" if name == "prompt" else f"--{name}" for name in fixed)
        raise UsageError(
            f"A resumed run keeps its settings, so --resume does not go with {names}.",
            remedy="Leave that out, or start a new run without --resume.",
        )
    folder = JobFolder.open(args.resume)
    if folder.in_use:
        raise JobError(f"Another process is working on {folder.path}.", remedy="Wait until it is done, or end it first.")
    spec = folder.spec
    if not args.output:
        finished = folder.state.status == "finished"
        for path in map(Path, spec.outputs):
            preflight.check_output(path, overwrite=args.overwrite or spec.overwrite or finished)
    preflight.check_writable(folder.path)
    preflight.check_disk(folder.path, preflight.JOB_BYTES)
    preflight.check_memory(spec.quality, builtin_prior=folder.config["prior"]["name"] in BUILTIN_PRIORS)


def _created(args: argparse.Namespace) -> JobFolder:
    """The new job's folder."""
    spec, config = request(args)
    path = _job_path(args)
    if path is None:
        return JobFolder.create(jobs_folder(), spec, config)
    made = JobFolder.create(path.parent, spec, config)
    try:
        if path.exists():
            path.rmdir()  # empty, or `check` would have refused it
        made.path.rename(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be made: {error.strerror or error}.", remedy=f"The job is in {made.path}; --resume goes on with it."
        ) from error
    return JobFolder.open(path)


def _resumed(args: argparse.Namespace) -> JobFolder:
    """The old job's folder, with the outputs that are wanted now."""
    folder = JobFolder.open(args.resume)
    outputs = tuple(map(str, _outputs(args))) or folder.spec.outputs
    spec = dataclasses.replace(folder.spec, outputs=outputs, overwrite=args.overwrite or folder.spec.overwrite)
    if spec != folder.spec:
        atomic_write_json(folder.spec_path, spec.to_dict())
    return folder
