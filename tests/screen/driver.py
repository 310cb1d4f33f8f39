"""Starts a real Blender in a window under Xvfb and has it play a scenario. No bpy: this is the outside.

A scenario is a file of `scenarios/`: `inside/play.py` plays it in Blender and writes `outcome.json`, because quitting Blender carries no
exit status. Everything a run makes (profile, jobs, screenshots, log) lies in its folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import processes

HERE = Path(__file__).parent
INSIDE = HERE / "inside"
WIDTH, HEIGHT = 1280, 800
BLENDER_LOG = "blender.log"
OUTCOME = "outcome.json"
COMPLAINTS = ("Traceback (most recent call last)", "unknown operator", "property not found", "not found COGRAD3D")
"""What Blender's log has where something cannot be drawn or fails in a timer, a handler or an operator."""

_LEAKS = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "WAYLAND_DISPLAY", "DISPLAY")


def blender_environ() -> dict[str, str]:
    """This process's variables without those that belong to its own Python and screen."""
    return {name: value for name, value in os.environ.items() if name not in _LEAKS}


@contextlib.contextmanager
def virtual_screen(folder: Path) -> Iterator[tuple[str, Path]]:
    """An X server without a screen: its display name and the file that holds its pixels (`images.read_screen`)."""
    program = shutil.which("Xvfb")
    assert program is not None, "Xvfb is not installed"
    reader, writer = os.pipe()
    with open(folder / "xvfb.log", "wb") as log:
        server = subprocess.Popen(
            [program, "-displayfd", str(writer), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", str(folder),
             "-nolisten", "tcp", "-noreset"],
            pass_fds=(writer,), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    os.close(writer)
    try:
        with open(reader) as answer:
            number = answer.readline().strip()
        assert number, f"Xvfb did not start: {(folder / 'xvfb.log').read_text(errors='replace')}"
        yield f":{number}", folder / "Xvfb_screen0"
    finally:
        server.terminate()
        server.wait(timeout=10)


@dataclass
class Outcome:
    """What a scenario told. `values` is what it recorded, `failure` its traceback, `left` processes still alive after Blender ended."""

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0
    left: dict[int, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.folder / BLENDER_LOG).read_text(encoding="utf-8", errors="replace")

    @property
    def complaints(self) -> str:
        """Every complaint in Blender's log with what follows it, each once: what is drawn wrong is drawn again and again."""
        lines = self.log.splitlines()
        found = [number for number, line in enumerate(lines) if any(words in line for words in COMPLAINTS)]
        return "\n...\n".join(dict.fromkeys("\n".join(lines[number : number + 12]) for number in found))[:10_000]

    def screenshot(self, name: str) -> Path:
        return self.folder / f"{name}.png"


class BlenderRun:
    """A Blender in its window, playing a scenario. Use as a context manager: leaving it ends every process it started."""

    def __init__(
        self, blender: Path, profile: Path, folder: Path, scenario: str, *, environ: dict[str, str], arguments: Mapping[str, Any]
    ) -> None:
        self.blender = blender
        self.profile = profile
        self.folder = folder
        self.scenario = HERE / "scenarios" / f"{scenario}.py"
        self.environ = environ
        self.arguments = arguments
        self.name = uuid.uuid4().hex
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BlenderRun:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            display, screen_file = stack.enter_context(virtual_screen(self.folder))
            stack.callback(processes.kill_all, self.name)
            log = stack.enter_context(open(self.folder / BLENDER_LOG, "wb"))
            environ = blender_environ() | self.environ | {
                "DISPLAY": display,
                "BLENDER_USER_RESOURCES": str(self.profile),
                processes.MARK: self.name,
                "COGRAD3D_SCENARIO": str(self.scenario),
                "COGRAD3D_SCENARIO_ARGUMENTS": json.dumps(dict(self.arguments)),
                "COGRAD3D_OUTCOME": str(self.folder),
                "COGRAD3D_SCREEN": str(screen_file),
            }  # fmt: skip
            self.started = time.monotonic()
            self.process = subprocess.Popen(
                [str(self.blender), "--enable-event-simulate", "--no-window-focus", "--window-geometry", "0", "0", str(WIDTH), str(HEIGHT),
                 "--python-exit-code", "77", "--python", str(INSIDE / "play.py")],
                env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def finish(self, timeout: float, linger: float = 10.0) -> Outcome:
        """Wait for the end of the scenario and of Blender, then at most `linger` seconds for that of everything they started."""
        outcome = Outcome(self.folder)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            outcome.failure = f"Blender did not end within {timeout:g} s"
        outcome.seconds = time.monotonic() - self.started
        try:
            told = json.loads((self.folder / OUTCOME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            outcome.failure = outcome.failure or f"the scenario left no outcome (Blender ended with {self.process.poll()}): {error}"
        else:
            outcome.values = told["values"]
            outcome.failure = told["failure"] or outcome.failure
        outcome.left = self.left(linger) if self.process.poll() is not None else {}
        if outcome.failure:
            outcome.failure += f"\nBlender's log ({self.folder / BLENDER_LOG}) ends with:\n" + "\n".join(outcome.log.splitlines()[-40:])
        return outcome

    def left(self, seconds: float) -> dict[int, str]:
        """Processes of this run that are still alive `seconds` from now, Blender itself excepted."""
        return processes.wait_until_gone(self.name, seconds, but=frozenset({self.process.pid}))

    def recorded(self, name: str, timeout: float) -> Any:
        """Wait until the running scenario has recorded a value of this name: `play.py` writes them as they come."""
        file = self.folder / "recorded" / f"{name}.json"
        deadline = time.monotonic() + timeout
        while not file.exists():
            assert self.process.poll() is None, f"Blender ended before it recorded {name!r}\n{Outcome(self.folder).log[-4000:]}"
            assert time.monotonic() < deadline, f"no {name!r} within {timeout:g} s\n{Outcome(self.folder).log[-4000:]}"
            time.sleep(0.05)
        return json.loads(file.read_text(encoding="utf-8"))


def install(blender: Path, zip_file: Path, profile: Path, environ: dict[str, str]) -> None:
    """Make a fresh profile with the extension installed and enabled, as a user who installed the zip from the disk would have it."""
    profile.mkdir(parents=True)
    done = subprocess.run(
        [str(blender), "--background", "--factory-startup", "--python-exit-code", "77",
         "--python", str(INSIDE / "install.py"), "--", str(zip_file)],
        env=blender_environ() | environ | {"BLENDER_USER_RESOURCES": str(profile)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"installing the extension failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
