"""CoGrad3D's own Python environment: where it is, what belongs in it, what state it is in, how to run things in it.

Standard library only: this runs before anything else is installed, under the user's own Python or Blender's. `installation.py` makes it.

An environment is a virtual environment made by `venv`, plus three files of ours in its folder: `cograd3d-environment` says that the folder
is ours (without it nothing in there is ever deleted), `installed.json` is written last, after the verification, and names what was
verified, and `install.log` keeps what pip said. A folder without `installed.json` is an interrupted installation.
"""

from __future__ import annotations

import contextlib
import csv
import enum
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SetupError
from .files import disk_is_full
from .machine import cores, existing_parent, visible_cores

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("requirements.txt")

OWNER_FILE = "cograd3d-environment"
MARKER_FILE = "installed.json"
LOG_FILE = "install.log"

# --- Where it is


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The platform's folder for an application's data: environments and default job folders go below it."""
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = _xdg_folder(environ, "XDG_DATA_HOME", Path.home() / ".local" / "share")
    return base / "cograd3d"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where things that can be made again are kept: $COGRAD3D_CACHE, else `cograd3d` in the platform's cache folder."""
    if environ.get("COGRAD3D_CACHE"):
        return Path(environ["COGRAD3D_CACHE"]).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = _xdg_folder(environ, "XDG_CACHE_HOME", Path.home() / ".cache")
    return base / "cograd3d"


def _xdg_folder(environ: Mapping[str, str], variable: str, default: Path) -> Path:
    """A base folder as freedesktop.org's specification has it: a relative path is invalid and ignored."""
    folder = Path(environ.get(variable) or default)
    return folder if folder.is_absolute() else default


def cache_parts(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """What is in the cache folder, which on Windows holds other things as well: the built-in prior's pictures, numba's machine code."""
    return cache_folder(environ) / "views", cache_folder(environ) / "numba"


def _location_file(environ: Mapping[str, str]) -> Path:
    return data_folder(environ) / "location.txt"


def default_location(environ: Mapping[str, str] = os.environ) -> Path:
    """The environment's folder: $COGRAD3D_ENV, else the one `setup --location` was given last, else `env` in the data folder."""
    return location_of_variable(environ) or remembered_location(environ) or data_folder(environ) / "env"


def location_of_variable(environ: Mapping[str, str] = os.environ) -> Path | None:
    """$COGRAD3D_ENV; None where it is not set."""
    return Path(environ["COGRAD3D_ENV"]).expanduser().absolute() if environ.get("COGRAD3D_ENV") else None


def remembered_location(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that `setup --location` was given last; None where there is none, or nobody can read any more which."""
    try:
        remembered = _location_file(environ).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return Path(remembered) if remembered and "\0" not in remembered else None


def remember_location(root: Path | None, environ: Mapping[str, str] = os.environ) -> None:
    """Make `root` the environment that later commands find; None forgets it.

    Raises:
        SetupError: the data folder cannot be written.
    """
    file = _location_file(environ)
    with told_as_setup_error(file, "Mend that, or set the variable COGRAD3D_ENV to the environment's folder."):
        if root is None or root == data_folder(environ) / "env":
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, str(root) + "\n")


@contextlib.contextmanager
def told_as_setup_error(place: Path, remedy: str) -> Iterator[None]:
    """What the system refuses becomes a `SetupError`, about `place` where it names no other; full disks and closed pipes `cli` tells."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if disk_is_full(error):
            raise
        raise SetupError(
            f"{error.filename2 or error.filename or place} cannot be used: {error.strerror or error}.", remedy=remedy
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that it is whole or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


# --- What belongs in it


@dataclass(frozen=True)
class Requirement:
    """One pinned package of requirements.txt that applies to this system."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)\s*(?:;\s*sys_platform\s*==\s*\"(?P<platform>\w+)\")?$")


def requirements(text: str | None = None) -> list[Requirement]:
    """The pinned packages, those for other systems left out."""
    pins = []
    for line in (REQUIREMENTS.read_text(encoding="utf-8") if text is None else text).splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = _PIN.match(line)
        if match is None:
            raise SetupError(
                f"requirements.txt has a line that is no exact pin: {line!r}.", remedy="Restore the file from the project's repository."
            )
        if match["platform"] in (None, sys.platform):
            pins.append(Requirement(normalise(match["name"]), match["version"]))
    return pins


def requirements_hash() -> str:
    """Names the pinned set; an environment installed from another set is outdated."""
    return hashlib.sha256("\n".join(map(str, requirements())).encode()).hexdigest()[:16]


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- What state it is in


class Status(enum.Enum):
    """The states of an environment's folder."""

    ABSENT = "absent"
    READY = "ready"
    INTERRUPTED = "interrupted"
    OUTDATED = "outdated"
    DAMAGED = "damaged"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class State:
    """Status, one sentence about it, and the packages that are missing or damaged."""

    status: Status
    detail: str
    packages: tuple[Requirement, ...] = field(default=())


class Environment:
    """A folder that is, was, or will be our environment. Reading never changes it."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = default_location() if root is None else Path(root).expanduser().absolute()

    @property
    def python(self) -> Path:
        return self.root / "Scripts" / "python.exe" if sys.platform == "win32" else self.root / "bin" / "python"

    @property
    def marker_file(self) -> Path:
        return self.root / MARKER_FILE

    @property
    def log_file(self) -> Path:
        return self.root / LOG_FILE

    @property
    def site_packages(self) -> Path | None:
        """The folder that packages are installed in; None where no virtual environment was made yet."""
        pattern = "Lib/site-packages" if sys.platform == "win32" else "lib/python3.*/site-packages"
        return next(iter(sorted(self.root.glob(pattern))), None)

    def marker(self) -> dict[str, Any] | None:
        """What was verified at the end of the installation; None where that never happened."""
        try:
            marker = json.loads(self.marker_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return marker if isinstance(marker, dict) else None

    def is_ours(self) -> bool:
        return os.path.isfile(self.root / OWNER_FILE)  # pathlib's raises where the folder cannot be looked into

    def state(self, *, thorough: bool = False) -> State:
        """The folder's state from its files alone, in milliseconds; `thorough` also looks at every installed file (about a second)."""
        try:
            if not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir())):
                return State(Status.ABSENT, f"No environment at {self.root} yet.")
        except OSError as error:
            return State(Status.FOREIGN, f"{self.root} cannot be read: {error.strerror or error}.")
        if not self.is_ours():
            return State(Status.FOREIGN, f"{self.root} exists and is not an environment of CoGrad3D.")
        if not self.python.exists() or self.site_packages is None:  # follows the link: false when the Python it was made from is gone
            status = Status.DAMAGED if self.marker_file.exists() else Status.INTERRUPTED
            return State(status, "Its Python is missing.", tuple(requirements()))
        if not self._python_fits(self.site_packages):
            return State(Status.DAMAGED, "The Python that it was made from is another version now.", tuple(requirements()))
        installed = self.metadata_folders()
        records = ((pin, _record(installed.get(pin.name, ()), pin.version)) for pin in requirements())
        missing = tuple(pin for pin, record in records if record is None or (thorough and not _record_holds(record)))
        marker = self.marker()
        if marker is None:
            return State(Status.INTERRUPTED, "Its installation was not completed.", missing)
        if marker.get("requirements") != requirements_hash():
            return State(Status.OUTDATED, "It holds another set of packages than this version needs.", missing)
        if missing:
            return State(Status.DAMAGED, f"Missing or damaged: {', '.join(pin.name for pin in missing)}.", missing)
        return State(Status.READY, "Complete.")

    def _python_fits(self, site_packages: Path) -> bool:
        """Whether its Python looks for packages in this folder: an update may have put another version in the old one's place.

        Told by names, where they have a version in them. Windows' have none, and there an environment has a Python of its own.
        """
        names = (Path(os.path.realpath(self.python)).name, site_packages.parent.name)
        return len({name for name in names if re.fullmatch(r"python3\.\d+", name)}) < 2

    def metadata_folders(self) -> dict[str, list[Path]]:
        """The folders that describe installed packages, by the package's normalised name."""
        found: dict[str, list[Path]] = {}
        site_packages = self.site_packages
        for folder in site_packages.glob("*.dist-info") if site_packages else ():
            found.setdefault(normalise(folder.name.removesuffix(".dist-info").rpartition("-")[0]), []).append(folder)
        return found


def _record(folders: Sequence[Path], version: str) -> Path | None:
    """The list of a package's files, of those folders that describe it; None where none is of the version (of which +cpu is a build)."""
    for folder in folders:
        found = folder.name.removesuffix(".dist-info").rpartition("-")[2]
        if found.partition("+")[0] == version and (folder / "RECORD").is_file():
            return folder / "RECORD"
    return None


def _record_holds(record: Path) -> bool:
    """Whether every file that pip recorded is there with the size it had (bytecode excepted, which Python makes again)."""
    site_packages = record.parent.parent
    try:
        with record.open(newline="", encoding="utf-8") as rows:
            files = list(csv.reader(rows))
        for path, _, size in files:
            if path.endswith(".pyc"):
                continue
            found = os.stat(site_packages / path).st_size
            if size and found != int(size):
                return False
    except (OSError, ValueError, csv.Error):
        return False
    return bool(files)  # a power failure can leave nothing of the record itself


# --- Processes inside it


_LEAKS = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")


def clean_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` without what would make another Python (Blender sets some of these) load foreign modules and libraries."""
    return {name: value for name, value in environ.items() if name not in _LEAKS} | {"PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}


def child_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables for `python -m backend ...` inside the environment: clean, able to import this package, with idle threads that sleep.

    Without OMP_WAIT_POLICY=PASSIVE the waiting threads of torch's and numba's OpenMP pools fight for the cores: 2 ms steps became 140 ms.
    In a container that has fewer cores' time than it sees cores, as many threads as cores would be halted most of the time.
    Without NUMBA_CACHE_DIR numba would keep its machine code beside the source, which in Blender is the extension's own folder: it may be
    read-only, and numba would make it again after Blender has removed it.
    """
    defaults = {"OMP_WAIT_POLICY": "PASSIVE"}
    if cores() < visible_cores():
        defaults |= thread_environ(cores())
    if "NUMBA_CACHE_DIR" not in environ:
        defaults["NUMBA_CACHE_DIR"] = str(_machine_code_folder(environ))
    return defaults | clean_environ(environ) | {"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONSAFEPATH": "1"}


def thread_environ(threads: int) -> dict[str, str]:
    """The variables that hold OpenMP, MKL and numba to so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))


def _machine_code_folder(environ: Mapping[str, str]) -> Path:
    """numba's part of the cache; where nothing can be written there, a folder of this user's among the temporary files.

    numba refuses to work where it can keep its machine code nowhere.
    """
    folder = cache_folder(environ) / "numba"
    if _is_writable(folder):
        return folder
    try:
        instead = Path(tempfile.gettempdir(), f"cograd3d-{os.getuid() if os.name == 'posix' else 'numba'}")
        instead.mkdir(mode=0o700, exist_ok=True)
        found = instead.lstat()
    except OSError:
        return folder
    # What lies there is run, so nobody else may have put it there; Windows gives every user temporary files of their own.
    is_safe = os.name != "posix" or (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return instead if is_safe else folder


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, or in the nearest one above it that exists."""
    try:
        with tempfile.TemporaryFile(dir=existing_parent(folder), prefix=".cograd3d-"):
            return True
    except OSError:
        return False


def chosen_python(environ: Mapping[str, str] = os.environ) -> Path | None:
    """$COGRAD3D_PYTHON: a Python that somebody else has equipped, used as it is instead of an environment of ours."""
    return Path(environ["COGRAD3D_PYTHON"]).expanduser().absolute() if environ.get("COGRAD3D_PYTHON") else None


def is_inside(environment: Environment | None = None) -> bool:
    """Whether this process runs in the environment (or in $COGRAD3D_PYTHON) already."""
    python = chosen_python()
    if python is not None:
        return python == Path(sys.executable).absolute()
    return os.path.realpath(sys.prefix) == os.path.realpath((environment or Environment()).root)  # pathlib's raises for links in a circle


def run_inside(python: Path, arguments: Sequence[str]) -> int:
    """Go on as `python -m backend.cli ARGUMENTS`: in this very process where the system can do that, else in a child.

    Raises:
        SetupError: that Python does not start.
    """
    command = [str(python), "-P", "-m", "backend.cli", *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if os.name == "posix":
            os.execve(command[0], command, child_environ())
        process = subprocess.Popen(command, env=child_environ())
    except OSError as error:
        raise SetupError(f"{python} does not start: {error.strerror or error}.", remedy=_remedy()) from error
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Windows sends Ctrl-C to the whole console; the child decides what it means
            continue


def _remedy() -> str:
    """What helps where the Python that things run in is no good."""
    return "Correct the variable COGRAD3D_PYTHON, or unset it." if chosen_python() else "Run `python3 -m backend setup --repair`."


def is_ours(error: ImportError) -> bool:
    """Whether what cannot be imported is a module of this project, which no installation could bring."""
    return (error.name or "").partition(".")[0] == __package__


def import_failure(error: ImportError) -> SetupError:
    """What to say of a package that cannot be imported, and what to do about it."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return SetupError(f"The Python package {error.name} is missing.", remedy=_remedy())
    return SetupError(
        f"A Python package does not work: {(str(error).splitlines() or ['it cannot be imported'])[0][:300]}.", remedy=_remedy()
    )


def ready_python(environment: Environment | None = None) -> Path | None:
    """The Python to run things in; None where `install` must come first."""
    python = chosen_python()
    if python is not None:
        if not python.exists():
            raise SetupError(f"COGRAD3D_PYTHON names {python}, which does not exist.", remedy="Correct that variable, or unset it.")
        return python
    environment = environment or Environment()
    return environment.python if environment.state().status is Status.READY else None
