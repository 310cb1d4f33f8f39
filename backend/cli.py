"""The command line: finds the command, reads its options, brings it into the right Python, turns every error into one sentence and a code.

Standard library only at import, as are the modules in `commands`: each has `add_arguments(parser)` and `run(args) -> int`; `check(args)`,
where there is one, refuses bad input before an environment is installed for it.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import __version__, environment, errors
from .console import Console, give_up, printable
from .errors import CoGradError, OutputError, ResourceError, SetupError, UsageError
from .files import disk_is_full
from .wording import in_options

PROGRAM = "python3 -m backend"

_UNUSABLE = frozenset((errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP))
"""What the system says of a path that it does not even look at."""

_NO_HOME = "Could not determine home directory."
"""What pathlib says of a `~` that is nobody's, and of a user who has no home."""


@dataclass(frozen=True)
class Command:
    """An entry of the command line.

    Attributes:
        module: where its `add_arguments`, `run` and perhaps `check` are, relative to this package.
        summary: one line of help.
        needs_environment: whether `run` needs the packages of the environment.
        may_install: whether a missing environment is installed on the way; not where a program is at the other end, which has to
            ask its user first.
    """

    module: str
    summary: str
    needs_environment: bool = True
    may_install: bool = True


COMMANDS: dict[str, Command] = {
    "generate": Command("commands.generate", "turn a sentence into a textured mesh"),
    "batch": Command("commands.batch", "turn a file of sentences into textured meshes, many at a time"),
    "words": Command("commands.words", "list the words that the built-in image model knows", needs_environment=False),
    "models": Command("commands.models", "list image models: built in, on this computer, worth having", needs_environment=False),
    "methods": Command("commands.methods", "list the methods and the distillation rules, with their sources", needs_environment=False),
    "settings": Command("commands.settings", "list every setting, as a file that generate --settings takes", needs_environment=False),
    "turntable": Command("commands.turntable", "look at a result: a contact sheet and an animation of an asset"),
    "setup": Command("commands.setup", "install, repair or remove CoGrad3D's own Python environment", needs_environment=False),
    "doctor": Command("commands.doctor", "say what is installed, what is missing and how to mend it", needs_environment=False),
    "worker": Command("commands.worker", "run the job of a job folder, for programs such as Blender", may_install=False),
    "evaluate": Command("commands.evaluate", "compare results with the true objects of the built-in world"),
    "bench rasterizer": Command("bench.rasterizer", "measure the rasterisers against each other"),
    "bench iteration": Command("bench.iteration", "measure what the parts of an iteration cost"),
    "bench history": Command("bench.history", "measure memory and time of the gradient history"),
    "fit-prior": Command("commands.fit_prior", "make the built-in learned image model anew"),
    "train-prior": Command("commands.train_prior", "train a convolutional image model of the built-in world"),
    "package": Command("commands.package", "build the zip that Blender installs", needs_environment=False),
}


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `UsageError`, with the nearest name where one was mistyped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"{printable(message[:1].upper() + message[1:]).rstrip('.')}.", remedy=f"`{self.prog} --help` shows how to say it."
        )

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The parsed arguments. Raises `UsageError`."""
        self._refuse_unknown_options(arguments)
        args, rest = self.parse_known_args(arguments)
        if rest:
            hint = (
                'Put a prompt of several words in quotes: "a red cat".'
                if self.prog.endswith("generate")
                else f"`{self.prog} --help` shows how to say it."
            )
            raise UsageError(f"{self.prog} does not know what to do with {printable(' '.join(map(repr, rest)))}.", remedy=hint)
        return args

    def _refuse_unknown_options(self, arguments: Sequence[str]) -> None:
        """First of all: a mistyped option otherwise shows as the lack of another, or swallows its value."""
        known = self._option_string_actions
        for index, argument in enumerate(arguments):
            if argument == "--":
                return
            if nested := self._nested_parser(argument):
                nested._refuse_unknown_options(arguments[index + 1 :])
                return
            name = argument.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in known:
                hint = _nearest(name, [option for option in known if option.startswith("--")])
                raise UsageError(f"{self.prog} has no option {printable(name)}.", remedy=hint or f"`{self.prog} --help` lists its options.")

    def _nested_parser(self, name: str) -> Parser | None:
        """The parser of the subcommand `name`, where this parser has subcommands."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and name in action.choices:
                return action.choices[name]  # type: ignore[no-any-return]
        return None

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if action.type is Path and not arg_string.strip():  # a shell's variable that is not set, say: it would mean the current folder
            raise argparse.ArgumentError(action, "an empty name names no file or folder")
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint = _nearest(str(value), choices)
            raise argparse.ArgumentError(action, f"{printable(repr(value))} is none of {', '.join(choices)}.{' ' + hint if hint else ''}")


def _nearest(name: str, known: Sequence[str]) -> str:
    """`Did you mean ...?`, or nothing."""
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else ""


def main(arguments: Sequence[str] | None = None, *, inside: bool = False) -> int:
    """Run one command line; returns the exit code.

    Args:
        arguments: without the program's name.
        inside: this process was started in the environment on purpose; do not look for another.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    try:
        try:
            code = _dispatch(arguments, inside)
        except SystemExit:  # the help was printed
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # now it can still be told that this fails; at the interpreter's exit it cannot
        return code
    except CoGradError as error:
        return _fail(error, arguments)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return errors.EXIT_INTERRUPTED
    except BrokenPipeError:  # `... | head`
        give_up(sys.stdout)
        return 0
    except MemoryError:
        return _fail(
            ResourceError("There is not enough memory for this.", remedy="Close other programs, or choose the draft quality."), arguments
        )
    except ImportError as error:
        if environment.is_ours(error):
            raise
        return _fail(environment.import_failure(error), arguments)
    except RuntimeError as error:
        if str(error) != _NO_HOME:
            raise
        remedy = "Set the variable HOME, or name that folder without a ~."
        return _fail(UsageError("A folder lies in a home folder that cannot be found out.", remedy=remedy), arguments)
    except OSError as error:
        if disk_is_full(error):
            return _fail(OutputError("The disk is full.", remedy="Free some space, or choose a folder on another disk."), arguments)
        if error.errno not in _UNUSABLE or error.filename is None:
            raise
        place = printable(os.fsdecode(error.filename))
        remedy = "Choose another name, or change the permissions of its folders."
        return _fail(UsageError(f"{place} cannot be used: {error.strerror}.", remedy=remedy), arguments)


def _prepare_streams() -> None:
    """What is said to nobody, or in letters that an encoding lacks, must not end a command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed from the start
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - the process's own from now on
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error has it


def _dispatch(arguments: list[str], inside: bool) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else UsageError.exit_code
    if arguments[0] in ("-V", "--version", "version"):
        print(f"CoGrad3D {__version__}")
        return 0
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name = " ".join(arguments[:words])
    if name not in COMMANDS:
        return _explain_unknown(name, arguments[1:])
    command = COMMANDS[name]
    inside = inside or environment.is_inside() or not command.needs_environment
    try:
        module = importlib.import_module(f".{command.module}", __package__)
    except ModuleNotFoundError as error:
        if inside or environment.is_ours(error):
            raise
        return _go_inside(arguments)  # it needs more than the standard library even to read its options
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=f"{command.summary[:1].upper()}{command.summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.read(arguments[words:])
    if hasattr(module, "check"):
        module.check(args)
    inside = inside or (hasattr(module, "needs_environment") and not module.needs_environment(args))
    if not inside and not command.may_install and environment.ready_python() is None:
        raise SetupError("CoGrad3D's Python environment is not installed.", remedy=f"Run `{PROGRAM} setup`.")
    if not inside:
        quiet = getattr(args, "quiet", False) or getattr(args, "json", False)
        return _go_inside(arguments, quiet=quiet, assume_yes=getattr(args, "yes", False))
    return int(module.run(args))


def _go_inside(arguments: list[str], *, quiet: bool = False, assume_yes: bool = False) -> int:
    """Run the same command line in the environment, which is installed first where it is not ready."""
    from .commands.setup import ensure_environment

    return environment.run_inside(ensure_environment(Console(quiet=quiet), assume_yes=assume_yes), arguments)


def _explain_unknown(name: str, rest: list[str]) -> int:
    """What to say about something that is no command; for the first word of some commands, which those are. Raises `UsageError`."""
    if members := {other.partition(" ")[2]: COMMANDS[other] for other in COMMANDS if other.startswith(f"{name} ")}:
        if rest[:1] in (["-h"], ["--help"]):
            print("\n".join(f"{PROGRAM} {name} {member:<12}  {command.summary}" for member, command in members.items()))
            return 0
        hint = _nearest(rest[0], list(members)) if rest else ""
        raise UsageError(f"{PROGRAM} {name} needs to know what: {' or '.join(members)}.", remedy=hint)
    if " " in name.strip():
        raise UsageError("A command is missing.", remedy=f'To make an asset: {PROGRAM} generate "{printable(name)}" --output asset.glb')
    kind = "option" if name.startswith("-") else "command"
    first_words = list(dict.fromkeys(other.partition(" ")[0] for other in COMMANDS))
    hint = _nearest(name, first_words) or f"`{PROGRAM} --help` lists the commands."
    raise UsageError(f"There is no {kind} {printable(repr(name))}.", remedy=hint)


def _fail(error: CoGradError, arguments: Sequence[str]) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        give_up(sys.stdout)
    if "--json" in arguments:
        fields = {"code": error.code, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        try:
            print(json.dumps({"type": "error"} | fields), flush=True)
        except OSError:  # nobody reads it: the exit code still says what it was
            give_up(sys.stdout)
    else:
        text = f"error: {error.message}" + (f"\n  {in_options(error.remedy)}" if error.remedy else "")
        try:
            print("\n".join(printable(line, limit=len(line)) for line in text.split("\n")), file=sys.stderr)
        except OSError:
            give_up(sys.stderr)
    if os.environ.get("COGRAD3D_DEBUG"):
        traceback.print_exception(error)
    return error.exit_code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CoGradError)]
    return "\n".join(
        (
            f"CoGrad3D {__version__}: from a sentence to a textured 3D mesh.",
            "",
            f'usage: {PROGRAM} generate "a red cat" --output cat.glb',
            f"       {PROGRAM} COMMAND --help",
            "",
            "commands:",
            *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "exit codes:",
            "    0  done",
            *(
                f"  {kind.exit_code:>3}  {_first_sentence(kind)}"
                for kind in sorted(classes, key=lambda kind: kind.exit_code)
                if kind is not CoGradError
            ),
            f"  {errors.EXIT_INTERRUPTED:>3}  interrupted (Ctrl-C); a job that was running can be resumed",
            "    1  anything else",
        )
    )


def _first_sentence(kind: type) -> str:
    sentence = (kind.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], inside=True))
