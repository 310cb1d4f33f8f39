"""One exception class a cause, each with the exit code that the command line documents.

A message is one sentence that says what is wrong; a remedy is one sentence that says what to do.
Standard library only: the add-on and the environment's installer use these too.
"""

from __future__ import annotations


class CoGradError(Exception):
    """Base of every error that a user is meant to read.

    Attributes:
        code: short stable name, used on the wire (`error` events) and in `state.json`.
        exit_code: the process's exit code when this error ends a command.
        remedy: what the user can do about it; may be empty.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UsageError(CoGradError):
    """An unknown option, command or argument."""

    code, exit_code = "usage", 2


class PromptError(CoGradError):
    """A prompt that is empty, too long, unreadable, or outside the chosen prior's vocabulary."""

    code, exit_code = "prompt", 3


class ConfigError(CoGradError):
    """An unknown setting, a value out of range, or an unreadable settings file."""

    code, exit_code = "config", 4


class PriorError(CoGradError):
    """A diffusion prior that cannot be found, read or used."""

    code, exit_code = "prior", 5


class SetupError(CoGradError):
    """The Python environment cannot be made, verified or repaired."""

    code, exit_code = "setup", 6


class JobError(CoGradError):
    """A job folder that is missing, damaged, in use by another process, or from a newer version."""

    code, exit_code = "job", 7


class OutputError(CoGradError):
    """An output that exists, cannot be written, or has a format we do not know."""

    code, exit_code = "output", 8


class ResourceError(CoGradError):
    """Too little memory or disk for what was asked."""

    code, exit_code = "resources", 9


class InputError(CoGradError):
    """An input file (mesh, point cloud, splats) that cannot be used."""

    code, exit_code = "input", 10


class ProtocolError(CoGradError):
    """The two ends of the wire speak different protocol versions."""

    code, exit_code = "protocol", 11


class SurfaceError(CoGradError):
    """The Gaussians contain no surface that a mesh could be made of."""

    code, exit_code = "surface", 12


EXIT_INTERRUPTED = 130
"""Ctrl-C: the job folder is left resumable."""
