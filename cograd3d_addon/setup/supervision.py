"""Owns the environment's situation and the one process that may be at work on it. No bpy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...backend import environment, installation
from ...backend.environment import Environment, Status
from ...backend.errors import OutputError, SetupError
from ...backend.installation import Plan
from . import existing
from .hardware import GraphicsCards
from .process import Process
from .situation import Phase, Situation
from .task import REMOVE, Failure, Options, Task, Transcript, setup_command, verification_command

_BUSY = {Task.INSTALL: Phase.INSTALLING, Task.VERIFY: Phase.VERIFYING, Task.REMOVE: Phase.REMOVING}
_OPENING = {Task.INSTALL: "Preparing the installation", Task.VERIFY: "Trying everything out", Task.REMOVE: "Removing the environment"}
_AFTERWARDS = {
    Status.ABSENT: (Phase.ABSENT, "PyTorch and the other packages that generate assets are not installed yet.", 'Press "Set Up".'),
    Status.INTERRUPTED: (Phase.INTERRUPTED, "The installation was not completed.", 'Press "Continue", which goes on from there.'),
    Status.OUTDATED: (Phase.OUTDATED, "This version of CoGrad3D needs other packages than are installed.", 'Press "Update".'),
    Status.DAMAGED: (Phase.DAMAGED, "", 'Press "Repair".'),
    Status.FOREIGN: (Phase.FOREIGN, "", "Choose a new or empty folder in the preferences of CoGrad3D."),
}
_CHOOSE_ANOTHER = "Choose another Python, or empty that field in the preferences of CoGrad3D to have one installed."
_LOOK_AGAIN = 5.0


class Supervisor:
    """The state machine of the environment.

    Nothing here waits: `install`, `verify` and `remove` start a process, and `poll`, called a few times a second from the main thread,
    follows it. Processes that end in between leave nothing undone: what is on disk says how far they came.

    Attributes:
        situation: the current one; replaced, never changed, so that `is` tells whether anything happened.
    """

    def __init__(self) -> None:
        self.situation = Situation(Phase.UNKNOWN, "Nobody has looked for CoGrad3D's environment yet.", 'Press "Look Again".')
        self._seen = self.situation  # of the disk alone
        self._looked = 0.0
        self._location: Path | None = None
        self._existing: Path | None = None
        self._task: Task | None = None
        self._process: Process | None = None
        self._transcript = Transcript()
        self._cards = GraphicsCards()
        self._cancelled = False
        self._failure: Failure | None = None
        self._broken = False  # it is complete, and does not work

    @property
    def environment(self) -> Environment:
        """CoGrad3D's own environment, used or not."""
        return Environment(self._location)

    @property
    def existing(self) -> Path | None:
        """The Python that is used instead of our own environment: $COGRAD3D_PYTHON, or the one chosen."""
        return environment.chosen_python() or self._existing

    # --- What is there

    def choose(self, *, location: Path | None, own_python: Path | None) -> None:
        """Use this folder (None: the one that the backend finds) or this existing Python, which is tried out if it never was."""
        if (location, own_python) != (self._location, self._existing):
            if self._task is not Task.REMOVE:
                self.cancel()
            self._location, self._existing = location, own_python
            self._failure, self._broken = None, False
        self.refresh()
        chosen = self._existing is not None and environment.chosen_python() is None
        if chosen and self._task is None and self.situation.phase is Phase.UNKNOWN:
            self.verify()

    def refresh(self) -> None:
        """Look at the disk anew; milliseconds."""
        self._seen, self._looked = self._look(), time.monotonic()
        if not self._seen.is_ready:
            self._cards.look()  # they decide what is to be installed
        self._compose()

    def forgive(self) -> None:
        """Forget what failed last, and look anew: the user mended something."""
        self._failure, self._broken = None, False
        self._cards.stop()
        self._cards = GraphicsCards()
        self.refresh()

    def _compose(self) -> None:
        """What was seen on disk, and what is being done to it, as one situation."""
        found = self._seen
        usable = None if self._broken else found.python
        if self._task is not None:
            text = self._transcript.text or _OPENING[self._task]
            found = replace(
                found,
                phase=_BUSY[self._task],
                message=f"{text.rstrip('.')}.",
                remedy="Wait until it is done.",
                python=usable if self._task is Task.VERIFY else None,
                progress=text,
                fraction=self._transcript.fraction,
            )
        elif self._failure is not None:
            found = replace(found, phase=Phase.FAILED, message=self._failure.message, remedy=self._failure.remedy, python=usable)
        if found != self.situation:
            self.situation = found

    def _look(self) -> Situation:
        """What is on disk, whatever is being done to it."""
        ours = self._look_at_own()
        variable = environment.chosen_python()
        if variable is not None:
            seen = self._look_at_variable(variable)
        elif self._existing is not None:
            seen = self._look_at_existing(self._existing)
        else:
            return ours
        return replace(seen, root=ours.root, can_remove=ours.can_remove, can_verify=True, is_existing=True, log=self._log())

    def _look_at_variable(self, python: Path) -> Situation:
        if (trouble := _unusable(python)) is not None:
            message = f"The variable COGRAD3D_PYTHON: {trouble}"
            return Situation(Phase.DAMAGED, message, "Correct that variable, or unset it, and restart Blender.")
        return Situation(Phase.READY, f"Used as the variable COGRAD3D_PYTHON says: {python}", python=python)

    def _look_at_existing(self, python: Path) -> Situation:
        if (trouble := _unusable(python)) is not None:
            return Situation(Phase.DAMAGED, trouble, _CHOOSE_ANOTHER)
        found = existing.tried(python)
        if found is None:
            return Situation(Phase.UNKNOWN, f"{python} has not been tried out yet.", 'Press "Try It Out".')
        return Situation(Phase.READY, f"The Python you chose: {python}", python=python, details=found)

    def _look_at_own(self) -> Situation:
        ours = self.environment
        try:
            state = ours.state()
        except OSError as error:
            remedy = "Choose another folder in the preferences of CoGrad3D."
            return Situation(Phase.FOREIGN, f"{ours.root} cannot be read: {error.strerror or error}.", remedy, root=ours.root)
        here = Situation(Phase.READY, "Complete.", root=ours.root, can_remove=ours.is_ours(), log=self._log())
        if state.status is Status.READY:
            details = (ours.marker() or {}).get("verified")
            return replace(here, python=ours.python, can_verify=True, details=details if isinstance(details, Mapping) else {})
        phase, message, remedy = _AFTERWARDS[state.status]
        needs_network = bool(state.packages) or state.status is Status.ABSENT
        return replace(here, phase=phase, message=message or state.detail, remedy=remedy, needs_network=needs_network)

    def _log(self) -> Path | None:
        """What pip said, or where it never came to that, what the installer said."""
        own = [] if self.existing else [self.environment.log_file]
        return next((file for file in (*own, self.output_file) if file.is_file()), None)

    @property
    def output_file(self) -> Path:
        """Where the processes' standard error goes."""
        return environment.data_folder() / "setup.log"

    # --- What is done

    @property
    def gpus(self) -> tuple[str, ...] | None:
        """The NVIDIA GPUs that were found; None while they are being looked for."""
        return self._cards.found

    def plan(self, options: Options) -> Plan:
        """What `install` would download and where to, as far as it is known: the installer itself looks at every file.

        Raises:
            CoGradError: it cannot work: the folder is somebody else's, the disk is too small, ...
        """
        gpus = self.gpus or ()
        return installation.plan(self.environment, wheels=options.wheels, allow_cuda=options.allow_cuda, thorough=False, gpus=gpus)

    def install(self, options: Options | None = None) -> None:
        """Install, complete, update or repair the environment. Raises `SetupError` if something is at work already."""
        self._start(Task.INSTALL, setup_command(*(options or Options()).arguments(), location=self._location))

    def verify(self) -> None:
        """Try out everything in the Python that workers use. Raises `SetupError` if something is at work already."""
        self._start(Task.VERIFY, verification_command(self.existing or self.environment.python))

    def remove(self) -> None:
        """Delete our environment, never a folder that is not ours. Raises `SetupError` if something is at work already."""
        self._start(Task.REMOVE, setup_command(REMOVE, location=self._location))

    def _start(self, task: Task, command: list[str]) -> None:
        if self._task is not None:
            raise SetupError("CoGrad3D's environment is being worked on already.", remedy="Wait until that is done, or cancel it.")
        self._transcript, self._cancelled, self._failure = Transcript(), False, None
        if task is not Task.VERIFY:
            self._broken = False
        try:
            self._process = Process(command, self.output_file)
        except OutputError as error:
            self._failure = Failure(error.message, error.remedy)
        except OSError as error:
            self._failure = Failure(f"{command[0]} cannot be run: {error.strerror or error}.", "Choose another Python.")
            self._broken = task is Task.VERIFY
        else:
            self._task = task
        self.refresh()

    def cancel(self) -> None:
        """End the process that is at work, with all that it started; nothing is lost, it can be continued.

        A removal is not to be cancelled: half of it would only leave files without an owner.
        """
        if self._process is not None and self._task is not Task.REMOVE:
            self._cancelled = True
            self._process.kill()
            self.poll()

    def poll(self) -> bool:
        """Follow the process; returns whether the situation changed."""
        before = self.situation
        if self._process is not None:
            lines = self._process.read_lines()
            for line in lines:
                self._transcript.hear(line)
            if (exit_code := self._process.exit_code) is not None:
                self._finish(exit_code)
            elif lines:
                self._compose()
        elif not self.situation.is_ready and time.monotonic() > self._looked + _LOOK_AGAIN:
            self.refresh()  # it may have been set up in a terminal, or by another Blender
        return self.situation is not before

    def _finish(self, exit_code: int) -> None:
        task, process = self._task, self._process
        assert task is not None and process is not None
        process.release()
        self._task = self._process = None
        if not self._cancelled:
            self._failure = self._transcript.ending(exit_code, process.last_words())
            if task is Task.VERIFY:
                self._conclude_verification(self._transcript.found)
        self.refresh()

    def _conclude_verification(self, found: dict[str, Any] | None) -> None:
        self._broken = self._failure is not None
        chosen = self._existing if environment.chosen_python() is None else None
        if self._failure is None:
            if chosen is not None:
                existing.remember(chosen, found or {})
            return
        if self.existing is None:
            remedy = 'Press "Repair".'
        else:
            existing.forget()
            remedy = _CHOOSE_ANOTHER
        self._failure = Failure(self._failure.message, remedy)

    def close(self) -> None:
        """Blender is leaving: end an installation, which can be continued; let a removal come to its end."""
        self.cancel()
        self._cards.stop()


def _unusable(python: Path) -> str | None:
    """Why there is no such file to be run; None if there is one."""
    try:
        return None if python.is_file() else f"{python} is no file."
    except OSError as error:  # a folder on the way that may not be entered
        return f"{python} cannot be read: {error.strerror or error}."
