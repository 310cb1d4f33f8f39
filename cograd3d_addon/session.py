"""The add-on's life beside the scene: the job manager, the one timer that drives it, and who listens.

Nothing of this lives in a scene or a window manager, so that loading a file, undoing and switching scenes do not touch it. Only the timer
and the handlers call in here by themselves, always on the main thread.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from ..backend.environment import child_environ
from ..backend.errors import SetupError
from ..backend.job import JobFolder
from ..backend.protocol import Event
from ..backend.request import jobs_folder
from .jobs import Job, JobManager, end_waiting, worker_command
from .narration import Narrator
from .package import preferences

__all__ = [
    "chosen_job", "has_timer", "look_for_jobs", "manager", "poll", "redraw", "register", "register_poller", "select_job", "selected_job",
    "subscribe", "subscribe_tick", "unregister", "unregister_poller", "unsubscribe", "unsubscribe_tick", "work_until",
]  # fmt: skip

BUSY_INTERVAL = 0.05
IDLE_INTERVAL = 0.5
_TICKS_A_SECOND = 4
_PREFERENCES_INTERVAL = 1.0
_WAITING = "COGRAD3D_WAITING"
"""A variable, since a reload of the add-on does not reach those: the jobs that wait for the next session, and in which process."""

_log = logging.getLogger(__name__)


class _Session:
    """What is kept while the add-on is enabled."""

    def __init__(self) -> None:
        self.manager = JobManager(_chosen_folder(), _command, environ=_environ)
        self.selected = ""
        self.is_chosen = False
        self.tick_listeners: list[Callable[[], object]] = []
        self.pollers: list[Callable[[], object]] = []
        self.changed = True
        self.told_at = self.preferences_read_at = 0.0
        self.is_quitting = self.has_looked = False


_session: _Session | None = None


# --- what the rest of the add-on uses


def manager() -> JobManager:
    """All jobs. Raises `RuntimeError` while the add-on is disabled."""
    return _current().manager


def selected_job() -> Job | None:
    """The job that the panel and the viewport show."""
    return _session.manager.get(_session.selected) if _session else None


def chosen_job() -> Job | None:
    """The same, if the user chose it; None where it is shown only because no other was chosen."""
    return selected_job() if _session and _session.is_chosen else None


def select_job(id: str, *, by_user: bool = True) -> None:
    """Have a job shown, by the name of its folder; empty: none. `by_user`: whether somebody asked for this one."""
    session = _current()
    if (session.selected, session.is_chosen) != (id, by_user):
        session.selected, session.is_chosen = id, by_user
        session.changed = True


def subscribe(listener: Callable[[Job, Event], object]) -> None:
    """Have a function called with every event of every job, on the main thread. Its errors are logged and contained."""
    _add(_current().manager.listeners, listener)


def unsubscribe(listener: Callable[[Job, Event], object]) -> None:
    """Undo `subscribe`; without effect if there is nothing to undo."""
    if _session:
        _remove(_session.manager.listeners, listener)


def subscribe_tick(listener: Callable[[], object]) -> None:
    """Have a function called after ticks that changed something, at most four times a second, and after a file was loaded."""
    _add(_current().tick_listeners, listener)


def unsubscribe_tick(listener: Callable[[], object]) -> None:
    """Undo `subscribe_tick`; without effect if there is nothing to undo."""
    if _session:
        _remove(_session.tick_listeners, listener)


def register_poller(poller: Callable[[], object]) -> None:
    """Have a function called at every tick: for other child processes. While it returns True, ticks come as often as while a job runs."""
    _add(_current().pollers, poller)


def unregister_poller(poller: Callable[[], object]) -> None:
    """Undo `register_poller`; without effect if there is nothing to undo."""
    if _session:
        _remove(_session.pollers, poller)


def redraw(*, preferences_too: bool = False) -> None:
    """Have the 3D viewports drawn anew, panels and gizmos included, and, where they show the same, the preferences."""
    kinds = {"VIEW_3D", "PREFERENCES"} if preferences_too else {"VIEW_3D"}
    for window in bpy.context.window_manager.windows if bpy.context.window_manager else ():
        for area in window.screen.areas:
            if area.type in kinds:
                area.tag_redraw()


# --- without a window


def has_timer() -> bool:
    """Whether Blender calls `poll` by itself. Without a window, as in `blender -b`, it never does."""
    return not bpy.app.background


def work_until(is_over: Callable[[], bool], state: Callable[[], tuple[str, str]]) -> None:
    """Where there is no timer, do its work until something is over, and tell on standard output how it goes. Else return at once: the timer
    does it, and nobody is kept waiting.

    Args:
        state: the step that is being done, and how far it is, as `narration` tells it.

    Raises:
        RuntimeError: the add-on was disabled meanwhile.
    """
    narrator = Narrator()
    while not (has_timer() or is_over()):
        _current()
        poll()
        narrator.tell(*state())
        time.sleep(BUSY_INTERVAL)


def look_for_jobs() -> None:
    """Where there is no timer, find the jobs on disk, once: the timer would have by now. A script names one, or means the newest."""
    session = _current()
    if not (has_timer() or session.has_looked):
        session.has_looked = True
        _contained(_read_preferences)
        session.manager.scan()
        _tell_tick_listeners()


# --- the timer


def poll() -> float | None:
    """What the timer does; returns when to come again, in seconds, or None for never. Tests without an event loop call it themselves."""
    session = _session
    if session is None:
        return None
    now = time.monotonic()
    if now - session.preferences_read_at >= _PREFERENCES_INTERVAL:
        session.preferences_read_at = now
        _contained(_read_preferences)
    if _contained(session.manager.tick):
        session.changed = True
    busy_pollers = [poller for poller in list(session.pollers) if _contained(poller)]
    if session.changed and now - session.told_at >= 1 / _TICKS_A_SECOND:
        session.changed, session.told_at = False, now
        _tell_tick_listeners()
    return BUSY_INTERVAL if session.manager.is_busy or busy_pollers else IDLE_INTERVAL


def _tell_tick_listeners() -> None:
    for listener in list(_current().tick_listeners):
        _contained(listener)
    _contained(redraw)


def _contained(function: Callable[[], object]) -> object:
    """Call it; an error goes to the log instead of ending the timer."""
    try:
        return function()
    except Exception:
        _log.exception("%s failed", getattr(function, "__qualname__", function))
        return None


def _read_preferences() -> None:
    """Take over what the user changed there."""
    jobs = _current().manager
    jobs.root = _chosen_folder()
    jobs.max_running = _preference("max_running", 1)


def _preference(name: str, default):  # type: ignore[no-untyped-def]  # of the default's type
    """A preference, or `default` where there are none: while the add-on is being enabled or disabled."""
    try:
        return getattr(preferences(), name, default)
    except (KeyError, AttributeError):
        return default


def _chosen_folder() -> Path:
    return _preference("jobs_path", jobs_folder)()


def _command(folder: JobFolder) -> Sequence[str]:
    from .setup import worker_python

    python = worker_python()
    if python is None:
        raise SetupError("CoGrad3D's environment is not set up yet.", remedy="Set it up in the side panel or in the preferences.")
    return worker_command(python, folder.path)


def _environ() -> Mapping[str, str]:
    """The worker's: while Blender may not use the network, neither may it, whatever its job was allowed when it was ordered."""
    return child_environ() | ({} if bpy.app.online_access else {"HF_HUB_OFFLINE": "1"})


# --- coming and going


def register() -> None:
    """Start the session and its timer."""
    global _session
    os.environ.pop(_WAITING, None)
    _session = _Session()
    bpy.app.timers.register(poll, first_interval=BUSY_INTERVAL, persistent=True)
    bpy.app.handlers.load_post.append(_after_load)
    if hasattr(bpy.app.handlers, "exit_pre"):
        bpy.app.handlers.exit_pre.append(_before_exit)


def unregister() -> None:
    """End the session: workers end after a checkpoint, go on, or wait some seconds for the add-on to be enabled again."""
    global _session
    session, _session = _session, None
    if bpy.app.timers.is_registered(poll):
        bpy.app.timers.unregister(poll)
    handlers = [bpy.app.handlers.load_post] + ([bpy.app.handlers.exit_pre] if hasattr(bpy.app.handlers, "exit_pre") else [])
    for functions in handlers:
        for function in (_after_load, _before_exit):
            _remove(functions, function)
    if session is not None:
        waiting = session.manager.close(keep_running=_preference("on_quit", "STOP") == "KEEP", at_once=session.is_quitting)
        if waiting:
            os.environ[_WAITING] = json.dumps([os.getpid(), *map(str, waiting)])
            atexit.register(_at_exit)


def _at_exit() -> None:
    """Blender itself was going, not only the add-on: some versions (before 5.1) do not say so before they disable it."""
    pid, *jobs = json.loads(os.environ.pop(_WAITING, "[0]"))
    if pid == os.getpid():
        end_waiting([Path(job) for job in jobs])


@persistent
def _after_load(*_: object) -> None:
    """What the interface mirrors of the jobs was reset with the file."""
    if _session:
        _session.changed, _session.told_at = True, 0.0


@persistent
def _before_exit(*_: object) -> None:
    """Blender itself is going, not only the add-on."""
    if _session:
        _session.is_quitting = True


def _current() -> _Session:
    if _session is None:
        raise RuntimeError("CoGrad3D is disabled")
    return _session


def _add(functions: list, function: Callable[..., object]) -> None:
    if function not in functions:
        functions.append(function)


def _remove(functions: list, function: Callable[..., object]) -> None:
    if function in functions:
        functions.remove(function)
