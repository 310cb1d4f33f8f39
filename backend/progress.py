"""What `generate` shows while it runs, from the same events that a worker sends.

Four ways: *live*, a bar and the view regions as a small heat map, redrawn in place; *plain*, a line now and then, for logs and pipes;
*quiet*, errors only; *json*, the protocol's events on standard output, a line each. `auto` is live where the terminal allows it and plain
elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Protocol, TextIO

from . import __version__
from .control import Control
from .errors import EXIT_INTERRUPTED
from .job import JobFolder
from .protocol import PROTOCOL_VERSION, Bye, Event, Failure, Hello, Notice, Paused, Phase, Progress, Regions, Result
from .wording import command_line, in_options
from .worker import JobRunner, Wire, claim_stdout, ending_signals, execute, log_to, run_pipeline

__all__ = ["MODES", "Terminal", "heat_map", "make_reporter", "progress_lines", "resume_command", "run_with_progress"]

MODES = ("auto", "live", "plain", "quiet", "json")

_PLAIN_INTERVAL = 10.0
_LIVE_INTERVAL = 0.1

_SHADES = "·░▒▓█"
_ASCII_SHADES = ".:o%#"
_COLOURS = (60, 31, 30, 77, 220)
"""Five steps of viridis in the 256-colour palette: ordered in brightness too, so that colour-blind people can read them."""

_LAG_RANGE = (0.5, 1.5)
"""The lag (`Regions.lag`) of the first and of the last shade."""

_SIDES = {"front": 0.0, "right": 90.0, "back": 180.0, "left": 270.0}
"""Where the camera stands, as in Blender's views: `right` is seen from +X."""


@dataclass(frozen=True)
class Terminal:
    """What the output can show.

    Attributes:
        width, height: in characters.
        live: whether the cursor can be moved.
        unicode: whether block characters can be written.
        colour: whether 256 colours can be shown.
    """

    width: int = 80
    height: int = 24
    live: bool = False
    unicode: bool = False
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Terminal:
        """What `stream` is, by what it and the environment say; a file or a pipe is no live terminal. NO_COLOR is respected."""
        size = _size(stream)
        name = environment.get("TERM", "")
        modern = "WT_SESSION" in environment if os.name == "nt" else name not in ("", "dumb", "unknown")
        live = stream.isatty() and modern
        colours = "256" in name or bool(environment.get("COLORTERM")) or os.name == "nt"
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        return cls(size.columns, size.lines, live, encoding == "utf8", live and colours and not environment.get("NO_COLOR"))


def _size(stream: TextIO) -> os.terminal_size:
    """The size of the terminal behind `stream`; 80 x 24 where there is none, or it does not know."""
    with contextlib.suppress(OSError, ValueError):
        size = os.get_terminal_size(stream.fileno())
        if size.columns and size.lines:
            return size
    return os.terminal_size((80, 24))


# --- text, as pure functions


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def memory(count: int) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def printable(text: str) -> str:
    """`text` on one line with nothing in it that a terminal obeys: it may come from a prompt, a file name or a library."""
    return "".join(c if c.isprintable() else " " if c in "\t\n\r" else "?" for c in text)


def fit(text: str, width: int) -> str:
    """`text` cut to `width` columns of a terminal; East Asian characters are two wide, combining ones none."""
    used, kept = 0, []
    for c in text:
        used += 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        if used > width:
            break
        kept.append(c)
    return "".join(kept)


def details(progress: Progress) -> str:
    """Speed, loss, Gaussians and memory, as far as they are known."""
    parts = []
    if progress.iterations_per_second > 0:
        parts.append(f"{progress.iterations_per_second:.1f} steps/s")
    if math.isfinite(progress.loss):
        parts.append(f"loss {progress.loss:.3g}")
    if progress.gaussians:
        parts.append(f"{progress.gaussians:,} Gaussians")
    if progress.memory:
        parts.append(memory(progress.memory))
    return ", ".join(parts)


def progress_lines(progress: Progress, label: str, terminal: Terminal, *, note: str = "") -> list[str]:
    """A bar with how far the phase is and how long it still takes, and a line of details."""
    width = terminal.width - 1  # a full last column makes some terminals wrap
    label = printable(label)
    share = min(1.0, progress.iteration / progress.total) if progress.total > 0 else 0.0
    counts = f"{progress.iteration}/{progress.total}" if progress.phase == "optimise" else f"{100 * share:.0f} %"
    left = note or (f"{clock(progress.seconds_left)} left" if progress.seconds_left >= 0 else "")
    tail = "  ".join(part for part in (counts, left) if part)
    room = min(40, width - len(label) - len(tail) - 4)
    full, empty = ("━", "─") if terminal.unicode else ("#", "-")
    done = int(share * room)
    bar = f"  {full * done}{empty * (room - done)}" if room >= 8 else ""
    lines = [f"{label}{bar}  {tail}"]
    if text := details(progress):
        lines.append(f"  {text}")
    return [fit(line, width) for line in lines]


def heat_map(regions: Regions, terminal: Terminal) -> list[str]:
    """The view regions as text: elevation bands from the top down, azimuths from the front to the right, the back and the left.

    A cell is the darker (brighter in colour) the more its region lags behind the others; with several distances, that of the worst. `[ ]`
    is the region drawn last, `x` one that is frozen, `+` and `-` one that is boosted or held back. Empty if the terminal is too narrow or
    too low for it.
    """
    azimuths = sorted({azimuth % 360 for azimuth in regions.azimuth})
    elevations = sorted(set(regions.elevation), reverse=True)
    margin = 6
    cell = min(4, (terminal.width - 1 - margin) // len(azimuths)) if azimuths else 0
    if cell < 2 or len(elevations) + 2 > terminal.height - 6:
        return []
    lag = regions.lag()
    members: dict[tuple[float, float], list[int]] = {}
    for region, (azimuth, elevation) in enumerate(zip(regions.azimuth, regions.elevation, strict=True)):
        members.setdefault((azimuth % 360, elevation), []).append(region)
    lines = [fit(" " * margin + _side_labels(azimuths, cell), terminal.width - 1)]
    degree = "°" if terminal.unicode else ""
    for elevation in elevations:
        cells = (_cell(members.get((azimuth, elevation), []), lag, regions, cell, terminal) for azimuth in azimuths)
        lines.append(f"{elevation:4.0f}{degree or ' '} " + "".join(cells))
    shades = _SHADES if terminal.unicode else _ASCII_SHADES
    legend = f"{shades[0]} ahead  {shades[2]} as the mean  {shades[-1]} lags behind  [ ] drawn now"
    if any(weight != 1 for weight in regions.weight):
        legend += "  x frozen  + boosted  - held back"
    return [*lines, fit(" " * margin + legend, terminal.width - 1)]


def _side_labels(azimuths: list[float], cell: int) -> str:
    text = ""
    for name, side in _SIDES.items():
        nearest = min(range(len(azimuths)), key=lambda column: abs((azimuths[column] - side + 180) % 360 - 180))
        if nearest * cell >= len(text) + bool(text):
            text = text.ljust(nearest * cell) + name
    return text


def _cell(members: list[int], lag: tuple[float | None, ...], regions: Regions, width: int, terminal: Terminal) -> str:
    shades = _SHADES if terminal.unicode else _ASCII_SHADES
    known = [value for region in members if (value := lag[region]) is not None]
    low, high = _LAG_RANGE
    step = min(len(shades) - 1, max(0, int((max(known) - low) / (high - low) * len(shades)))) if known else None
    body = (shades[step] if step is not None else " ") * max(1, width - 2)
    weights = [regions.weight[region] for region in members if region < len(regions.weight)]
    if weights and (heaviest := max(weights)) != 1:
        body = "x" * len(body) if heaviest == 0 else body[:-1] + ("+" if heaviest > 1 else "-")
    if terminal.colour and step is not None:
        body = f"\x1b[38;5;{_COLOURS[step]}m{body}\x1b[0m"
    current = regions.current in members
    if width == 2:
        return body + ("<" if current else " ")
    return f"[{body}]" if current else f" {body} "


def resume_command(folder: JobFolder) -> str:
    """The command that goes on with a job, to be pasted into a terminal."""
    return command_line(["python3", "-m", "backend", "generate", "--resume", str(folder.path)])


# --- reporters


class Reporter(Protocol):
    """Shows events."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def interrupting(self) -> None:
        """Tell that the run is going to end at the user's wish; called from a signal handler."""

    def close(self) -> None:
        """The last event was shown."""


class _TextReporter:
    """What all reporters that write text have in common: the end of a run, for better or worse."""

    def __init__(self, folder: JobFolder, stream: TextIO, terminal: Terminal, resume: str) -> None:
        self.folder, self.stream, self.terminal, self.resume = folder, stream, terminal, resume
        self._iteration = folder.state.iteration  # a resumed run may end before its next step
        self._mute = False

    def __call__(self, event: Event) -> None:
        match event:
            case Failure(message=message, remedy=remedy):
                self.say(f"error: {message}", *([f"  {in_options(remedy)}"] if remedy else []))
            case Bye(resumable=True, reason=reason):
                how = {"cancelled": "Cancelled", "interrupted": "Stopped"}.get(reason, "Ended")
                self.say(f"{how} after {self._iteration} steps. To go on:", f"  {self.resume}")
            case Progress(phase="optimise", iteration=iteration):
                self._iteration = iteration

    def say(self, *lines: str) -> None:
        """Write lines that stay."""
        self._write("".join(f"{printable(line)}\n" for line in lines))

    def interrupting(self) -> None:
        # Not through the stream: the signal may have come in the middle of a write to it.
        with contextlib.suppress(OSError, ValueError):
            os.write(self.stream.fileno(), b"\nStopping after a checkpoint. Ctrl-C again stops at once.\n")

    def close(self) -> None:
        pass

    def _write(self, text: str) -> None:
        if self._mute:
            return
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        try:
            self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError):  # nobody looks any more (a closed pipe or stream): the run goes on
            self._mute = True


class QuietReporter(_TextReporter):
    """Errors, and how to go on after an interruption."""


class PlainReporter(_TextReporter):
    """A line at the start of every phase, now and then in between, and at the end."""

    def __init__(self, folder: JobFolder, stream: TextIO, terminal: Terminal, resume: str) -> None:
        super().__init__(folder, stream, terminal, resume)
        self._phase = ""
        self._told = -math.inf

    def __call__(self, event: Event) -> None:
        match event:
            case Phase(name=name, message=message) if name != self._phase or message:
                self._phase, self._told = name, time.monotonic()
                self.say(f"{event.label}{': ' if message else ' ...'}{message}")
            case Progress():
                self._progress(event)
            case Paused(paused=paused):
                self.say("Paused." if paused else "Going on.")
            case Notice(message=message, remedy=remedy):
                self.say(f"warning: {message} {remedy}".rstrip())
            case Result():
                self.say(*result_lines(event, self.folder))
        super().__call__(event)

    def _progress(self, event: Progress) -> None:
        if time.monotonic() - self._told < _PLAIN_INTERVAL:
            return
        self._told = time.monotonic()
        share = f" ({100 * event.iteration // event.total} %)" if event.total else ""
        left = f"{clock(event.seconds_left)} left" if event.seconds_left >= 0 else ""
        rest = ", ".join(part for part in (left, details(event)) if part)
        self.say(f"  {event.iteration}/{event.total}{share}{', ' if rest else ''}{rest}")


class LiveReporter(_TextReporter):
    """A block of lines at the bottom, redrawn in place; phases that are over, warnings and the result stay above it."""

    def __init__(self, folder: JobFolder, stream: TextIO, terminal: Terminal, resume: str) -> None:
        super().__init__(folder, stream, terminal, resume)
        self._phase: Phase | None = None
        self._phase_began = 0.0
        self._progress: Progress | None = None
        self._regions: Regions | None = None
        self._paused = False
        self._drawn = 0  # lines of the block on the screen
        self._drawn_at = -math.inf

    def __call__(self, event: Event) -> None:
        match event:
            case Phase():
                self._enter(event)
            case Progress():
                self._progress = event
                self._draw()
            case Regions():
                self._regions = event
                self._draw()
            case Paused(paused=paused):
                self._paused = paused
                self._draw(now=True)
            case Notice(message=message, remedy=remedy):
                self.say(f"warning: {message} {remedy}".rstrip())
            case Result():
                self._leave_phase()
                self.say(*result_lines(event, self.folder))
        super().__call__(event)

    def say(self, *lines: str) -> None:
        self._write(self._erase() + "".join(f"{printable(line)}\n" for line in lines))
        self._draw(now=True)

    def interrupting(self) -> None:
        super().interrupting()
        self._drawn = 0  # the block stays where it is; the next one is drawn below the message

    def close(self) -> None:
        self._phase = None
        self._write(self._erase())

    def _enter(self, phase: Phase) -> None:
        if self._phase is None or phase.name != self._phase.name:
            self._leave_phase()
            self._phase_began, self._progress = time.monotonic(), None
        self._phase = phase
        self._draw(now=True)

    def _leave_phase(self) -> None:
        if self._phase is not None:
            over, self._phase = self._phase, None
            mark = "✓" if self.terminal.unicode else "*"
            self.say(f"{mark} {over.label} ({clock(time.monotonic() - self._phase_began)})")

    def _block(self) -> list[str]:
        if self._phase is None:
            return []
        label = self._phase.label
        if self._progress is None:
            return [fit(printable(f"{label} ... {self._phase.message}"), self.terminal.width - 1)]
        lines = progress_lines(self._progress, label, self.terminal, note="paused" if self._paused else "")
        if self._regions is not None and self._phase.name == "optimise" and (cells := heat_map(self._regions, self.terminal)):
            lines += ["", *cells]
        return lines

    def _draw(self, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self._drawn_at < _LIVE_INTERVAL:
            return
        size = _size(self.stream)
        self.terminal = replace(self.terminal, width=size.columns, height=size.lines)
        erase, block = self._erase(), self._block()
        self._drawn, self._drawn_at = len(block), moment
        self._write(erase + "".join(f"{line}\n" for line in block))

    def _erase(self) -> str:
        lines, self._drawn = self._drawn, 0
        return f"\x1b[{lines}F\x1b[J" if lines else ""


class JsonReporter:
    """Events as the wire has them."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __call__(self, event: Event) -> None:
        self._wire.send(event)

    def interrupting(self) -> None:
        pass

    def close(self) -> None:
        self._wire.close()


def result_lines(result: Result, folder: JobFolder) -> list[str]:
    """What was made, and where it lies."""
    counts = [f"{result.faces:,} faces" if result.faces else "", f"{result.texture_size} px texture" if result.texture_size else ""]
    about = ", ".join(part for part in (f"{result.iterations} steps", *counts) if part)
    return [f"Done in {clock(result.seconds)}: {about}", *(f"  {path}" for path in result.outputs or (str(folder.path / result.asset),))]


def make_reporter(mode: str, folder: JobFolder, stream: TextIO, resume: str) -> Reporter:
    """The text reporter of a mode, on a stream; see `MODES`."""
    terminal = Terminal.of(stream)
    if mode == "auto":
        mode = "live" if terminal.live else "plain"
    kind = {"live": LiveReporter, "plain": PlainReporter, "quiet": QuietReporter}[mode]
    return kind(folder, stream, terminal, resume)


# --- the run


def run_with_progress(
    folder: JobFolder, mode: str = "auto", *, stream: TextIO | None = None, resume: str = "", runner: JobRunner = run_pipeline
) -> int:
    """Run a job in this process, show it, and return the process's exit code.

    The first Ctrl-C (or SIGTERM) writes a checkpoint and ends with 130 and the command to go on; the second ends at once, the last
    checkpoint stays. Errors of the run are shown, not raised.

    Args:
        folder: the job, new or to be taken up again.
        mode: one of `MODES`.
        stream: where text goes; standard error if None. JSON always goes to standard output, and nothing else does.
        resume: the command to go on, if it is not that of `resume_command`.
        runner: the job.

    Raises:
        OutputError: the log cannot be written.
    """
    control = Control()
    log_to(folder)
    with contextlib.ExitStack() as stack:
        if mode == "json":
            reporter: Reporter = JsonReporter(Wire(stack.enter_context(_reserved_stdout()), lambda: None))
        else:
            reporter = make_reporter(mode, folder, stream or sys.stderr, resume or resume_command(folder))
        stack.enter_context(_signals(control, reporter.interrupting))
        reporter(Hello(protocol=PROTOCOL_VERSION, backend=__version__, pid=os.getpid(), job=str(folder.path)))
        try:
            bye = execute(folder, runner, reporter, control)
        except KeyboardInterrupt:  # the second Ctrl-C, while the first was being obeyed
            bye = Bye(reason="interrupted", exit_code=EXIT_INTERRUPTED, resumable=True)
        reporter(bye)
        reporter.close()
    return bye.exit_code


@contextlib.contextmanager
def _reserved_stdout() -> Iterator[int]:
    descriptor = claim_stdout()
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()  # what was printed meanwhile is no part of the wire, a line without an end included
        os.dup2(descriptor, 1)
        os.close(descriptor)


@contextlib.contextmanager
def _signals(control: Control, interrupting: Callable[[], None]) -> Iterator[None]:
    """Signals to end interrupt the run the first time and raise KeyboardInterrupt the second; only the main thread can have this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if control.should_cancel:
            raise KeyboardInterrupt
        control.interrupt()
        interrupting()

    previous = {number: signal.signal(number, handle) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
