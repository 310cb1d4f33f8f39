"""The job folder: the one truth about a run.

::

    <date>-<slug>-<id>/
      spec.json  config.json  state.json   what was asked, every resolved setting, where the run stands
      made_by.json                         versions, and the prior's fingerprint
      events.jsonl  trace.jsonl            what the worker told; one object an iteration
      commands.jsonl                       what a running worker is told by those who did not start it
      worker.log
      checkpoint/<iteration>/              tensors.safetensors and state.json, the last two kept
      preview.png  preview.ply  regions.json
      views/region-<number>.png            what the middle cameras of the view regions see
      asset.glb  splats.ply
      job.lock                             locked, not merely present, while a process works here

Files are moved into place whole and the `.jsonl` are appended to a line at a time, so the folder reads whatever was killed. How lines
and checkpoints are written and read stands in `job_lines` and `job_checkpoints`. Standard library only at import.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from . import settings
from .command_file import COMMAND_FILE
from .config import GenerationConfig
from .errors import JobError
from .files import atomic_path, atomic_write_json, output_error, remove_leftovers
from .job_checkpoints import Checkpoint, CheckpointStore
from .job_lines import LineAppender, read_lines
from .locks import FolderLock
from .protocol import JobSpec, Message
from .wire import LineError, from_fields, plain

__all__ = ["JobFolder", "JobState", "slug"]


def slug(prompt: str, length: int = 32) -> str:
    """A prompt as part of a file name: lower-case ASCII words joined by hyphens, at most `length` characters, `untitled` if nothing is
    left.
    """
    ascii_text = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode("ascii").lower()
    words = "-".join(re.findall(r"[a-z0-9]+", ascii_text))
    if len(words) > length:
        words = words[: length + 1].rpartition("-")[0] or words[:length]
    return words or "untitled"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class JobState:
    """Where a run stands, as `state.json` has it.

    Attributes:
        status: created, running, finished, cancelled, interrupted or failed. `running` without a process that holds the lock means it was
            killed.
        phase: a key of `protocol.PHASES`: the one begun last; empty before the first.
        iteration, total: optimisation steps that a checkpoint holds, and in all.
        error: code, message and remedy of what ended the run, or None.
        created, updated: UTC, ISO 8601.
        version: of the folder's layout.
    """

    VERSION: ClassVar[int] = 1

    status: str = "created"
    phase: str = ""
    iteration: int = 0
    total: int = 0
    error: Mapping[str, str] | None = None
    created: str = ""
    updated: str = ""
    version: int = VERSION


class JobFolder:
    """One job folder. `create` makes a new one, `open` takes up an old one; `lock` before writing anything into it.

    Attributes:
        path: absolute path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_depth = 0
        self._lock = FolderLock(path)
        self._appenders: dict[str, LineAppender] = {}
        self._checkpoints = CheckpointStore(self.checkpoints_path, JobState.VERSION)
        self._state: JobState | None = None

    # --- making and opening

    @classmethod
    def create(cls, root: str | os.PathLike[str], spec: JobSpec, config: GenerationConfig | Mapping[str, Any]) -> JobFolder:
        """A new folder below `root` (made if missing), complete from its first moment.

        Args:
            root: the folder that holds all jobs.
            spec: what was asked for.
            config: every resolved setting, or the JSON document of them.

        Raises:
            OutputError: it cannot be written there.
        """
        root = Path(root).absolute()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(error, root) from error
        name = f"{datetime.date.today().isoformat()}-{slug(spec.prompt)}"
        while os.path.lexists(path := root / f"{name}-{secrets.token_hex(3)}"):  # of so few digits some come again
            pass
        moment = _now()
        with atomic_path(path) as temporary:
            temporary.mkdir()
            atomic_write_json(temporary / "spec.json", spec.to_dict())
            atomic_write_json(temporary / "config.json", _config_document(config))
            atomic_write_json(temporary / "state.json", dataclasses.asdict(JobState(created=moment, updated=moment)))
        return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> JobFolder:
        """An existing folder.

        Raises:
            JobError: there is none, it is no job folder, it is damaged, or a newer version of CoGrad3D made it.
        """
        folder = cls(Path(path).absolute())
        if not folder.path.is_dir():
            raise JobError(f"There is no job folder {folder.path}.", remedy="Check the path; `generate` makes a new one.")
        if not folder.spec_path.is_file():
            raise JobError(
                f"{folder.path} is no job folder: it has no spec.json.",
                remedy="Choose the folder of one job, not the one that holds them all.",
            )
        _ = folder.spec, folder.config, folder.state
        return folder

    # --- paths

    @property
    def spec_path(self) -> Path:
        """What was asked for."""
        return self.path / "spec.json"

    @property
    def config_path(self) -> Path:
        """Every resolved setting."""
        return self.path / "config.json"

    @property
    def state_path(self) -> Path:
        """Where the run stands."""
        return self.path / "state.json"

    @property
    def events_path(self) -> Path:
        """Every event, one a line."""
        return self.path / "events.jsonl"

    @property
    def trace_path(self) -> Path:
        """Every iteration, one a line."""
        return self.path / "trace.jsonl"

    @property
    def commands_path(self) -> Path:
        """What running workers are told, one command a line (`command_file.py`)."""
        return self.path / COMMAND_FILE

    @property
    def log_path(self) -> Path:
        """What the worker and its libraries logged."""
        return self.path / "worker.log"

    @property
    def checkpoints_path(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoint"

    @property
    def preview_image_path(self) -> Path:
        """The latest preview, as a picture."""
        return self.path / "preview.png"

    @property
    def preview_splats_path(self) -> Path:
        """The latest preview, as Gaussians."""
        return self.path / "preview.ply"

    @property
    def views_path(self) -> Path:
        """The folder of the regions' pictures."""
        return self.path / "views"

    def view_path(self, region: int) -> Path:
        """What the middle camera of a region sees."""
        return self.views_path / f"region-{region:03d}.png"

    @property
    def regions_path(self) -> Path:
        """The latest state of the view regions."""
        return self.path / "regions.json"

    @property
    def asset_path(self) -> Path:
        """The textured mesh."""
        return self.path / "asset.glb"

    @property
    def splats_path(self) -> Path:
        """The Gaussians it was made of."""
        return self.path / "splats.ply"

    @property
    def lock_path(self) -> Path:
        """Locked while a process works here; it has that process's number, or the last one's."""
        return self._lock.path

    # --- spec, config, state

    @property
    def spec(self) -> JobSpec:
        """What was asked for. Raises `JobError` if spec.json cannot be read."""
        value = self._read_object(self.spec_path, JobSpec.VERSION)
        try:
            return JobSpec.from_dict(value)
        except LineError as error:
            raise self.damaged(self.spec_path) from error

    def write_spec(self, spec: JobSpec) -> None:
        """Replace what was asked for. Raises `OutputError`."""
        atomic_write_json(self.spec_path, spec.to_dict())

    @property
    def config(self) -> dict[str, Any]:
        """Every resolved setting, as `settings.to_dict` writes them. Raises `JobError` if config.json cannot be read."""
        return self._read_object(self.config_path)

    def write_config(self, config: GenerationConfig | Mapping[str, Any]) -> None:
        """Replace the settings by what they became. Raises `OutputError`."""
        atomic_write_json(self.config_path, _config_document(config))

    @property
    def made_by(self) -> dict[str, str]:
        """Versions, and the image model's name and fingerprint, of whoever worked here last; empty where that is not known."""
        try:
            return {name: str(value) for name, value in self._read_object(self._made_by_path).items()}
        except JobError:  # nothing depends on it but what is said of a run
            return {}

    def write_made_by(self, made_by: Mapping[str, str]) -> None:
        """Replace what is known of who works here. Raises `OutputError`."""
        atomic_write_json(self._made_by_path, dict(made_by))

    @property
    def _made_by_path(self) -> Path:
        return self.path / "made_by.json"

    @property
    def state(self) -> JobState:
        """Where the run stands. Raises `JobError` if state.json cannot be read."""
        try:
            return from_fields(JobState, self._read_object(self.state_path, JobState.VERSION), "job state")
        except LineError as error:
            raise self.damaged(self.state_path) from error

    def update_state(self, **changes: Any) -> JobState:
        """Change fields of `state.json`; the rest stays. Raises `OutputError`."""
        if self._state is None:
            self._state = self.state
        self._state = dataclasses.replace(self._state, **changes, updated=_now())
        atomic_write_json(self.state_path, dataclasses.asdict(self._state))
        return self._state

    def _read_object(self, path: Path, version: int | None = None) -> dict[str, Any]:
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise self.damaged(path) from error
        if not isinstance(value, dict):
            raise self.damaged(path)
        if version is not None:
            found = value.get("version")
            if type(found) is not int:
                raise self.damaged(path)
            if found > version:
                raise JobError(
                    f"{self.path} was made by a newer version of CoGrad3D.",
                    remedy="Update CoGrad3D, or start the job anew with this version.",
                )
        return value

    def damaged(self, path: Path) -> JobError:
        """What to raise where a file of this folder does not say what it should."""
        return JobError(f"{path} is damaged or missing.", remedy="Start the job anew; what the folder holds stays as it is.")

    # --- one process

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from working on this job; ends with the process, however that ends. Reentrant within one `JobFolder`.

        Raises:
            JobError: another process works on this job.
            OutputError: the folder is not writable.
        """
        if self._lock_depth == 0:
            self._lock.acquire()
            self._state = None  # another process may have gone on since it was read
            self._remove_leftovers()
        self._lock_depth += 1
        try:
            yield
        finally:
            self._lock_depth -= 1
            if self._lock_depth == 0:
                self._remove_leftovers()
                self.close()

    def _remove_leftovers(self) -> None:
        """What a process left that was killed while it wrote. Twice a run, since a file is taken for left only after some seconds."""
        for folder in (self.path, self.views_path):
            remove_leftovers(folder)

    def close(self) -> None:
        """Close what is open in this folder and give up the lock."""
        while self._appenders:
            self._appenders.popitem()[1].close()
        self._lock.release()

    @property
    def in_use(self) -> bool:
        """Whether another process works on this job now. Raises `OutputError` if the folder is not writable."""
        return self._lock.is_held_elsewhere()

    # --- events, trace

    def append_event(self, event: Message) -> None:
        """Append an event to events.jsonl, with the time it happened. Raises `OutputError`."""
        fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
        self._appender(self.events_path).append({"type": event.type, "time": _now()} | fields)

    def append_trace(self, values: Mapping[str, Any]) -> None:
        """Append an iteration to trace.jsonl; arrays and tensors become lists, NaN and infinities null. Raises `OutputError`."""
        import orjson  # with `json`, an iteration's hundreds of numbers take a fifth of the method's own time

        self._appender(self.trace_path).append_line(orjson.dumps(values, default=plain, option=orjson.OPT_SERIALIZE_NUMPY))

    def read_events(self) -> Iterator[dict[str, Any]]:
        """The events so far, as JSON objects."""
        return (value for _, value in read_lines(self.events_path))

    def read_trace(self) -> Iterator[dict[str, Any]]:
        """The iterations so far, as JSON objects."""
        return (value for _, value in read_lines(self.trace_path))

    def truncate_trace(self, iteration: int) -> None:
        """Drop the iterations from `iteration` on (the first is 0): where a run goes on from a checkpoint made after `iteration` steps."""
        with self._closed(self.trace_path):
            end = next((offset for offset, line in read_lines(self.trace_path) if line.get("iteration", 0) >= iteration), None)
            if end is not None:
                os.truncate(self.trace_path, end)

    def _appender(self, path: Path) -> LineAppender:
        """What keeps a file of lines open."""
        appender = self._appenders.get(path.name)
        if appender is None:
            appender = self._appenders[path.name] = LineAppender(path)
        return appender

    @contextlib.contextmanager
    def _closed(self, path: Path) -> Iterator[None]:
        """For cutting a file of lines: nothing of it is open, and its last line is whole."""
        if (appender := self._appenders.pop(path.name, None)) is not None:
            appender.close()
        LineAppender(path).close()
        try:
            yield
        except OSError as error:
            raise output_error(error, path) from error

    # --- checkpoints

    def write_checkpoint(self, iteration: int, tensors: Mapping[str, Any], state: Any) -> Path:
        """Write a checkpoint and drop all but the last two; returns its folder.

        Args:
            iteration: optimisation steps done.
            tensors: torch tensors or numpy arrays by name.
            state: a JSON document (NaN and infinities allowed).

        Raises:
            OutputError: the disk is full or the folder not writable; earlier checkpoints are untouched.
        """
        if (trace := self._appenders.get(self.trace_path.name)) is not None:
            trace.sync()  # after a power cut too the trace is to reach as far as the checkpoint
        return self._checkpoints.write(iteration, tensors, state)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """(iteration, folder) of every checkpoint, the latest first; nothing is said about what is in them."""
        return self._checkpoints.entries()

    def latest_checkpoint(self, passed_over: Callable[[Path], None] = lambda path: None) -> Checkpoint | None:
        """The latest checkpoint that is whole, read back; None if there is none.

        Args:
            passed_over: told the folder of every later one, which is damaged.

        Raises:
            JobError: it was made by a newer version.
        """
        return self._checkpoints.latest(passed_over)

    def set_aside(self, path: Path) -> None:
        """Give what lies in this folder a name that nothing reads, NAME-1 or the next that is free. Raises `OutputError`."""
        if (appender := self._appenders.pop(path.name, None)) is not None:
            appender.close()
        names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(1))
        try:
            path.rename(next(name for name in names if not name.exists()))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise output_error(error, path) from error


def _config_document(config: GenerationConfig | Mapping[str, Any]) -> Mapping[str, Any]:
    return settings.to_dict(config) if isinstance(config, GenerationConfig) else config
