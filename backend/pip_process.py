"""pip as a process inside CoGrad3D's environment: how it is run, and what its lines say about how far it is. Standard library only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from .environment import Environment, Requirement, clean_environ


@dataclass(frozen=True)
class Progress:
    """What the installer is doing; `fraction` (0..1) where it can be told."""

    text: str
    fraction: float | None = None


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A `Report` that tells nobody."""


class PipFailed(Exception):
    """pip ended with an error; the argument is the line that says why."""


_DESTINATIONS = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_QUIET", "PIP_VERBOSE", "PIP_PROGRESS_BAR", "PIP_DRY_RUN")
"""Settings of the user's pip that would put packages elsewhere or hide how far it is; mirrors, proxies and certificates are respected.

The same in pip's configuration file is overridden where it is usual: `user = true`, with which pip refuses a virtual environment."""


class Pip:
    """Runs pip, and other steps of an installation, and logs what they print.

    The installer's lock is handed on to them, so that it holds even when this process is killed and pip lives on.

    Args:
        environment: whose pip it is.
        download_bytes: about how much an installation downloads in all.
        report: is told how far it is.
        lock: of the installer; None if none is held.
    """

    def __init__(self, environment: Environment, download_bytes: int, report: Report, lock: BinaryIO | None) -> None:
        self._environment = environment
        self._download_bytes = download_bytes
        self._report = report
        self._lock = lock
        self._watch = PipWatch(download_bytes)

    def version(self) -> tuple[int, ...]:
        """(major, minor) of the pip that is there; (0, 0) if there is none."""
        names = [folder.name.removesuffix(".dist-info") for folder in self._environment.metadata_folders().get("pip", ())]
        return max((tuple(map(int, re.findall(r"\d+", name)[:2])) for name in names), default=(0, 0))

    def __call__(self, action: str, *arguments: str, tell: bool = True) -> None:
        """Run pip and tell how far it is. Raises `PipFailed`."""
        bar = "raw" if self.version() >= (24, 1) else "off"
        options = ["--no-input", "--disable-pip-version-check", "--progress-bar", bar]
        watch = self._watch if tell else PipWatch(self._download_bytes)
        watch.failure = ""

        def hear(line: str) -> None:
            progress = watch.hear(line)
            if progress is not None and tell:
                self._report(progress)

        if self.run([str(self._environment.python), "-P", "-m", "pip", action, *options, *arguments], hear) != 0:
            raise PipFailed(watch.failure or "pip gave no reason")

    def look_up(self, pin: Requirement, *arguments: str) -> dict[str, Any]:
        """The metadata of the wheel that pip would choose; installs nothing.

        Its dependencies are not resolved: where an index serves no metadata files, pip would download each of them, all of CUDA among them.
        """
        with tempfile.TemporaryDirectory(prefix="cograd3d-") as temporary:
            file = Path(temporary) / "report.json"
            self("install", "--dry-run", "--no-deps", "--ignore-installed", "--report", str(file), *arguments, str(pin), tell=False)
            metadata: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["install"][0]["metadata"]
            return metadata

    def run(self, command: list[str], hear: Callable[[str], None] = lambda line: None) -> int:
        """Run a step, its output line by line to `hear` and to the log; whatever ends this process's part ends the step too."""
        environ = clean_environ({name: value for name, value in os.environ.items() if name not in _DESTINATIONS}) | {"PIP_USER": "0"}
        handed_on = (self._lock.fileno(),) if self._lock is not None and os.name == "posix" else ()
        with self._environment.log_file.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    errors="replace",
                    env=environ,
                    pass_fds=handed_on,
                )
            except OSError as error:
                log.write(f"{error}\n")
                return 127
            assert process.stdout is not None
            with process:
                try:
                    for line in process.stdout:
                        if not line.startswith("Progress "):
                            log.write(line)
                            log.flush()
                        hear(line)
                except BaseException:
                    process.kill()
                    raise
            return process.returncode


class PipWatch:
    """Reads pip's lines (with `--progress-bar raw`) and says how far it is.

    Args:
        total: bytes that are expected to be downloaded in all; what pip takes from its cache counts as downloaded.

    Attributes:
        failure: pip's first error, without the word ERROR; empty if there was none.
    """

    _FILE = re.compile(
        r"^(?:Downloading|Using cached|Processing) (?P<path>\S+\.whl)(?: \((?P<size>[\d.]+) (?P<unit>[kMG]?B)\))?(?: \(from .*\))?$"
    )
    _BYTES = re.compile(r"^Progress (?P<done>\d+) of (?P<total>\d+)$")
    _UNITS: ClassVar[dict[str, float]] = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}

    def __init__(self, total: int) -> None:
        self.total = total
        self.failure = ""
        self._done = 0.0  # bytes of the files before this one
        self._size = 0.0
        self._name = ""

    def hear(self, line: str) -> Progress | None:
        """The progress that this line tells; None if it tells none."""
        line = line.strip()
        if match := self._BYTES.match(line):
            return self._progress(int(match["done"]))
        if match := self._FILE.match(line):
            self._done += self._size
            self._size = float(match["size"]) * self._UNITS[match["unit"]] if match["size"] else _size_of(Path(match["path"]))
            self._name = re.split(r"[/\\]", match["path"])[-1].partition("-")[0]
            return self._progress(0)
        if line.startswith("Installing collected packages:"):
            return Progress(f"Installing {line.count(',') + 1} package(s)")
        if line.startswith("ERROR:") and not self.failure:
            self.failure = line.removeprefix("ERROR:").strip().rstrip(".")
        return None

    def _progress(self, done: float) -> Progress:
        return Progress(f"Fetching {self._name}", min(1.0, (self._done + done) / self.total))


def _size_of(path: Path) -> int:
    """Bytes of a wheel that pip takes from a folder; 0 if it lies elsewhere."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
