"""What a worker and whoever started it say to each other.

One JSON object a line, `{"type": "progress", ...}`, as `wire` has it: events from the worker (its stdout), commands to it (its stdin). Both
ends may be of different age: a type or a field that a reader does not know is ignored with a log line, a field that is missing takes its
default. A malformed line raises `LineError`, after which the reader goes on with the next line.

Standard library only: the add-on, the worker and the command line all import this module.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from .errors import ProtocolError
from .wire import MAX_LINE_BYTES, LineError, excerpt, from_fields, tell_ignored, to_json

__all__ = [
    "COMMANDS", "EVENTS", "PHASES", "PROTOCOL_VERSION",
    "Alive", "Bye", "Cancel", "CheckpointWritten", "Command", "Detach", "Event", "Failure", "Hello", "JobSpec", "Message", "Notice",
    "Pause", "Paused", "Phase", "PreviewNow", "PreviewReady", "Progress", "Regions", "Result", "Resume", "Stop", "Weight",
    "check_hello", "decode_command", "decode_event", "encode_line",
]  # fmt: skip

PROTOCOL_VERSION = 1
"""Raised when an old reader would misunderstand a new writer; new types and new fields with defaults do not raise it."""

PHASES = {
    "prepare": "Getting ready",
    "prior": "Loading the image model",
    "optimise": "Shaping",
    "surface": "Building the surface",
    "texture": "Painting the texture",
    "export": "Saving",
}
"""The phases of a run in order, each with the name an artist reads."""

_T = TypeVar("_T")


# --- messages


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base of everything that travels on the wire; `type` names it there."""

    type: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class Event(Message):
    """What a worker tells."""


@dataclass(frozen=True, kw_only=True)
class Command(Message):
    """What a worker is told."""


@dataclass(frozen=True, kw_only=True)
class Hello(Event):
    """The first event. `check_hello` compares the versions.

    Attributes:
        protocol: the worker's `PROTOCOL_VERSION`.
        backend: the backend's version.
        pid: the worker's process id.
        job: absolute path of the job folder that the worker was told of; there need not be one.
    """

    type = "hello"
    protocol: int
    backend: str = ""
    pid: int = 0
    job: str = ""


@dataclass(frozen=True, kw_only=True)
class Phase(Event):
    """A phase of the run begins. `name` is a key of `PHASES`; `message` may say more, in an artist's words."""

    type = "phase"
    name: str
    message: str = ""

    @property
    def label(self) -> str:
        """What to show: the phase's name for people."""
        return PHASES.get(self.name, self.name)


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """How far the current phase is.

    Attributes:
        phase: a key of `PHASES`.
        iteration, total: steps done and steps in all, of this phase (0 of 0: unknown).
        loss: raw loss of the last step; NaN outside the optimisation.
        iterations_per_second: recent speed; 0 while unknown.
        seconds_left: until the phase ends; negative while unknown.
        gaussians: their number; 0 outside the optimisation.
        memory: resident bytes of the worker; 0 while unknown.
    """

    type = "progress"
    iteration: int
    total: int
    phase: str = "optimise"
    loss: float = math.nan
    iterations_per_second: float = 0.0
    seconds_left: float = -1.0
    gaussians: int = 0
    memory: int = 0


@dataclass(frozen=True, kw_only=True)
class Regions(Event):
    """The state of the N regions of the view grid, an entry a region in the grid's own order.

    Attributes:
        iteration: steps done.
        current: the region drawn last; -1 before the first.
        azimuth, elevation: [N] the regions' centres, degrees.
        distance: [N] the regions' centres, world units.
        loss: [N] moving average of a region's normalised loss; None before its first visit.
        indicator, probability: [N] r_i and P(i) of eqs. 6 and 7.
        weight: [N] the user's factors.
        visits: [N] how often each was drawn.
        timestep: [N] the regions' own shift of the noise level, t_local of eq. 8 as a fraction of T.
    """

    type = "regions"
    iteration: int
    azimuth: tuple[float, ...]
    elevation: tuple[float, ...]
    distance: tuple[float, ...]
    loss: tuple[float | None, ...]
    current: int = -1
    indicator: tuple[float | None, ...] = ()
    probability: tuple[float | None, ...] = ()
    weight: tuple[float, ...] = ()
    visits: tuple[int, ...] = ()
    timestep: tuple[float, ...] = ()

    def lag(self) -> tuple[float | None, ...]:
        """[N] How far each region still has to go, compared with the others: its loss over the mean of all that were visited. Above 1 it
        lags.
        """
        known = [loss for loss in self.loss if loss is not None and math.isfinite(loss)]
        mean = math.fsum(known) / len(known) if known else 0.0
        return tuple(loss / mean if loss is not None and math.isfinite(loss) and mean > 0 else None for loss in self.loss)


@dataclass(frozen=True, kw_only=True)
class PreviewReady(Event):
    """A preview lies in the job folder. Paths are relative to it; empty: not written.

    Attributes:
        iteration: steps done.
        image: the picture: the asset from four sides, or as the region's middle camera sees it.
        splats: the Gaussians.
        region: the region that is shown; -1: the asset from four sides.
    """

    type = "preview"
    iteration: int
    image: str = ""
    splats: str = ""
    region: int = -1


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten(Event):
    """The run can be taken up from here. `path` is relative to the job folder."""

    type = "checkpoint"
    iteration: int
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """The run stands still (`paused`), or goes on again."""

    type = "paused"
    paused: bool


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something the user should know, on the wire a `warning`; the run goes on."""

    type = "warning"
    message: str
    remedy: str = ""
    code: str = "warning"


@dataclass(frozen=True, kw_only=True)
class Result(Event):
    """The asset is there.

    Attributes:
        asset: path of the mesh in the job folder, relative to it.
        splats: path of the Gaussians in the job folder, relative to it.
        outputs: absolute paths of what was written outside the job folder.
        iterations: steps taken.
        seconds: time spent on the run, earlier processes and pauses not counted.
        vertices, faces, gaussians: counts.
        texture_size: pixels along an edge of the texture.
    """

    type = "result"
    asset: str
    splats: str = ""
    outputs: tuple[str, ...] = ()
    iterations: int = 0
    seconds: float = 0.0
    vertices: int = 0
    faces: int = 0
    gaussians: int = 0
    texture_size: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure(Event):
    """Why the run ended without a result, on the wire an `error`: what is wrong and what to do."""

    type = "error"
    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Bye(Event):
    """The last event.

    Attributes:
        reason: `finished`; `cancelled` (as told); `interrupted` (stdin closed, parent gone, lease run out, asked to terminate); `failed`.
        exit_code: of the process.
        resumable: whether starting the job again goes on from a checkpoint.
    """

    type = "bye"
    reason: str
    exit_code: int = 0
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class Pause(Command):
    """Stand still after the current step."""

    type = "pause"


@dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """Go on after a pause."""

    type = "resume"


@dataclass(frozen=True, kw_only=True)
class Stop(Command):
    """Optimise no further; make the mesh of what is there."""

    type = "stop"


@dataclass(frozen=True, kw_only=True)
class Cancel(Command):
    """Write a checkpoint and end without a mesh."""

    type = "cancel"


@dataclass(frozen=True, kw_only=True)
class Weight(Command):
    """Multiply the probability of some regions: above 1 boosts them, 0 freezes them, 1 undoes both."""

    type = "weight"
    regions: tuple[int, ...]
    factor: float


@dataclass(frozen=True, kw_only=True)
class PreviewNow(Command):
    """Write a preview after the current step: of the whole asset, or of what the middle camera of `region` sees (-1: the asset)."""

    type = "preview"
    region: int = -1


@dataclass(frozen=True, kw_only=True)
class Detach(Command):
    """The sender goes away: from now on neither a closed standard input nor a parent that is gone ends the run.

    Commands come through the command file then (`command_file.py`).

    Attributes:
        lease: seconds. Above 0: the run writes a checkpoint and ends once no command has come for that long. 0: it runs to its end.
    """

    type = "detach"
    lease: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Alive(Command):
    """Somebody is still there: renews the lease of a `Detach`, as every command does, and asks for nothing."""

    type = "alive"


EVENTS: dict[str, type[Event]] = {
    event.type: event
    for event in (Hello, Phase, Progress, Regions, PreviewReady, CheckpointWritten, Paused, Notice, Result, Failure, Bye)
}  # fmt: skip
COMMANDS: dict[str, type[Command]] = {command.type: command for command in (Pause, Resume, Stop, Cancel, Weight, PreviewNow, Detach, Alive)}


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What was asked for, as it was asked; `config.json` holds what became of it.

    Attributes:
        prompt, negative_prompt: the sentence, and what to stay away from.
        quality: draft, normal or high.
        method: name of a method preset.
        initial: initial shape: a name, or the absolute path of a mesh or point cloud; empty: as the settings say.
        overrides: settings by their dotted name, e.g. {"optimizer.iterations": 400}.
        without: modules of the method that are switched off.
        settings_file: absolute path of the TOML file that was read; empty: none.
        outputs: absolute paths the asset is copied to.
        overwrite: whether those may replace existing files.
        refines: absolute path of the job folder whose result this run improves; empty: none.
    """

    VERSION: ClassVar[int] = 1

    prompt: str
    negative_prompt: str = ""
    quality: str = "normal"
    method: str = "cograd3d"
    initial: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    settings_file: str = ""
    outputs: tuple[str, ...] = ()
    overwrite: bool = False
    refines: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON object, with the version of its layout."""
        return {"version": self.VERSION} | {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> JobSpec:
        """The inverse of `to_dict`; raises `LineError` for a missing prompt or a value of the wrong type."""
        return from_fields(cls, {name: v for name, v in value.items() if name != "version"}, "job spec")


# --- to and from lines


def encode_line(message: Message) -> bytes:
    """One message as a line, line feed included. Raises `LineError` if that is longer than `MAX_LINE_BYTES`."""
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    line = to_json({"type": message.type} | fields).encode("ascii") + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise LineError(f"A {message.type} message of {len(line):,} bytes is longer than the {MAX_LINE_BYTES:,} that a line may have.")
    return line


def decode_event(line: bytes | str) -> Event | None:
    """The event in a line, or None for a type this version does not know. Raises `LineError`."""
    return _decode(line, EVENTS)


def decode_command(line: bytes | str) -> Command | None:
    """The command in a line, or None for a type this version does not know. Raises `LineError`."""
    return _decode(line, COMMANDS)


def check_hello(hello: Hello) -> None:
    """Raises `ProtocolError` unless the worker speaks this version."""
    if hello.protocol == PROTOCOL_VERSION:
        return
    older = "worker" if hello.protocol < PROTOCOL_VERSION else "add-on"
    raise ProtocolError(
        f"The worker speaks protocol version {hello.protocol}, this end speaks version {PROTOCOL_VERSION}.",
        remedy=f"The {older} is the older one: update CoGrad3D so that both come from the same version, and run its setup again.",
    )


def _decode(line: bytes | str, known: Mapping[str, type[_T]]) -> _T | None:
    if len(line) > MAX_LINE_BYTES:
        raise LineError(f"A line of {len(line):,} bytes is longer than the {MAX_LINE_BYTES:,} that a line may have.")
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError too
        raise LineError(f"A line is not JSON ({type(error).__name__}): {excerpt(line)}") from error
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise LineError(f"A line is no JSON object with a type: {excerpt(line)}")
    name = value.pop("type")
    if name not in known:
        tell_ignored(f"a message of the unknown type {name[:60]!r}")
        return None
    return from_fields(known[name], value, name)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
