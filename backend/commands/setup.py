"""`setup`: the Python environment that everything else runs in."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import attached, environment, installation, removal
from ..console import Console, printable
from ..environment import Environment, Status
from ..errors import SetupError, UsageError
from ..files import absolute
from ..installation import Plan
from ..pip_process import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Without --location, the folder is the one that the variable COGRAD3D_ENV names, else the one that --location named last,\n"
        "else one in the system's place for application data. So do later commands find it: the variable wins.\n"
        "pip's own settings (mirrors, proxies, certificates) are respected. Running setup again completes an interrupted installation."
    )
    parser.add_argument(
        "--location",
        type=Path,
        metavar="DIR",
        help="folder of the environment; later commands find it there, unless COGRAD3D_ENV names one",
    )
    parser.add_argument("--python", metavar="PYTHON", help="the Python (3.11 to 3.13) to make it from, by default this one")
    parser.add_argument("--offline-wheels", type=Path, metavar="DIR", help="install from a folder of wheels, without a network")
    parser.add_argument("--download-wheels", type=Path, metavar="DIR", help="only fill such a folder, for a computer of the same kind")
    parser.add_argument(
        "--allow-cuda", action="store_true", help="take PyTorch's large CUDA build even where no NVIDIA graphics card is found"
    )
    parser.add_argument("--repair", action="store_true", help="reinstall what is missing or damaged, and verify anew")
    parser.add_argument("--remove", action="store_true", help="delete the environment")
    parser.add_argument("--yes", action="store_true", help="do not ask before downloading")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("--json", action="store_true", help="progress and result as JSON lines, for programs")
    parser.add_argument(
        attached.OPTION, action="store_true", help="end with all that was started when standard input is closed, for programs"
    )


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work. Raises `UsageError`."""
    if args.remove and (args.repair or args.offline_wheels or args.download_wheels):
        raise UsageError("--remove goes with no other task.", remedy="Remove first, then run setup again.")
    if args.download_wheels and (args.repair or args.offline_wheels or args.location):
        raise UsageError("--download-wheels only fills a folder.", remedy="Leave --location, --offline-wheels and --repair out.")
    for folder in filter(None, (args.location, args.offline_wheels, args.download_wheels)):
        try:
            place = folder.expanduser()
            is_something_else = place.exists() and not place.is_dir()
        except (OSError, RuntimeError) as error:  # such as a name that is too long, or the home of nobody
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).rstrip(".")
            raise UsageError(f"{printable(str(folder))} cannot be used: {reason}.", remedy="Name another folder.") from error
        if is_something_else:
            raise UsageError(f"{folder} is not a folder.", remedy="Name a folder.")


def run(args: argparse.Namespace) -> int:
    if args.attached:
        attached.end_with_standard_input()
    console = JsonConsole() if args.json else Console(quiet=args.quiet)
    target = Environment(args.location)
    if args.remove:
        return _remove(target, console)
    if args.download_wheels:
        return _download(absolute(args.download_wheels), console, python=args.python, allow_cuda=args.allow_cuda)
    wheels = absolute(args.offline_wheels) if args.offline_wheels else None
    plan = installation.plan(target, wheels=wheels, allow_cuda=args.allow_cuda)

    def remember() -> None:
        if args.location is not None:
            environment.remember_location(target.root)

    variable = environment.location_of_variable()
    if args.location is not None and variable not in (None, target.root):
        console.say(f"Note that the variable COGRAD3D_ENV is set: later commands look in {variable}, not in {target.root}.")
    if plan.state.status is Status.READY and not args.repair:
        console.say(f"The environment in {target.root} is complete; --repair verifies it again.")
        marker = target.marker() or {}
    else:
        # One that works is not given up for one that may never be completed.
        made = (lambda: None) if environment.Environment().state().status is Status.READY else remember
        marker = install(plan, console, assume_yes=args.yes or args.json, python=args.python, repair=args.repair, made=made)
    remember()
    if args.json:
        result = {"type": "result", "location": str(target.root), "python": str(target.python), "verified": marker.get("verified")}
        print(json.dumps(result), flush=True)
    return 0


def _remove(target: Environment, console: Console) -> int:
    removed = removal.remove(target)
    if target.root == environment.remembered_location():
        environment.remember_location(None)
    console.say(f"Removed {target.root}." if removed else f"There is no environment in {target.root}.")
    return 0


def _download(folder: Path, console: Console, *, python: str | None, allow_cuda: bool) -> int:
    console.say(f"Downloading the wheels for computers like this one to {folder}")
    with console.own_line():
        installation.download_wheels(folder, console.progress, python=python, allow_cuda=allow_cuda)
    console.say("Done. On the other computer: python3 -m backend setup --offline-wheels DIR")
    return 0


def install(
    plan: Plan,
    console: Console,
    *,
    assume_yes: bool,
    python: str | None = None,
    repair: bool = False,
    made: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Say what is going to happen, ask if there is somebody to ask, do it, say how it went; returns the marker.

    `python` and `made` are those of `installation.install`; `repair` also verifies what is complete.

    Raises:
        SetupError: the answer was no, or it did not work.
    """
    if plan.state.status is Status.ABSENT:
        installation.base_python(python)  # refused before anybody is asked
    console.say(f"{plan.describe()}.")
    question = f"{plan.describe()}. Install it now?" if console.quiet else "Install it now?"  # it says what it is about
    if plan.downloads and not assume_yes and not console.confirm(question):
        raise SetupError("Nothing was installed, as you wished.", remedy="`python3 -m backend setup --location DIR` installs it elsewhere.")
    started = time.monotonic()
    with console.own_line():
        marker = installation.install(plan, console.progress, python=python, verify_again=repair, rebuild=repair, made=made)
    console.say(f"The environment is ready, after {time.monotonic() - started:.0f} s.")
    return marker


def ensure_environment(console: Console, *, assume_yes: bool) -> Path:
    """The Python of the environment, installed first where it is not ready."""
    python = environment.ready_python()
    if python is None:
        target = Environment()
        install(installation.plan(target), console, assume_yes=assume_yes)
        python = target.python
    return python


class JsonConsole(Console):
    """What `Console` says, as JSON lines on stdout."""

    def say(self, text: str) -> None:
        print(json.dumps({"type": "note", "text": text}), file=sys.stdout, flush=True)

    def progress(self, progress: Progress) -> None:
        print(json.dumps({"type": "progress", "text": progress.text, "fraction": progress.fraction}), file=sys.stdout, flush=True)
