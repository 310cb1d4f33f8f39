"""Builds the Blender extension's zip with Blender's own tool, and finds that tool. Standard library only.

What goes in is chosen here and copied to a temporary folder first, so that a zip holds the same files however untidy the checkout is. The
patterns in blender_manifest.toml choose the same files from a tidy one (a test says so), for `blender --command extension build`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import PACKAGE_ROOT
from .errors import OutputError, SetupError
from .files import atomic_path, output_error

MANIFEST = "blender_manifest.toml"

ROOT_FILES = (MANIFEST, "__init__.py", "LICENSE")
FOLDERS = ("backend", "cograd3d_addon")
KINDS = frozenset((".py", ".toml", ".txt", ".json", ".safetensors", ".png", ".svg"))
"""Endings of the files that are taken from FOLDERS."""
LEFT_OUT = frozenset(("backend/evaluation/gallery/weights",))
"""Folders that are not taken: trained judges, which only evaluations need."""
COMPILED = "__pycache__"

OLDEST_BLENDER = (4, 2)
"""The first with extensions."""

_USUAL_PLACES = (
    "/Applications/Blender*.app/Contents/MacOS/Blender",
    "C:/Program Files/Blender Foundation/Blender */blender.exe",
)
_TOOL_IN_SCRIPTS = "addons_core/bl_pkg/cli/blender_ext.py"
_TAGS_IN_SCRIPTS = "modules/_bpy_internal/extensions/tags.py"


def selection(root: Path = PACKAGE_ROOT) -> list[str]:
    """The extension's files, as sorted paths relative to `root` with forward slashes."""
    found = [name for name in ROOT_FILES if (root / name).is_file()]
    for folder in FOLDERS:
        for parent, folders, files in os.walk(root / folder):
            where = Path(parent).relative_to(root)
            folders[:] = [name for name in folders if _is_taken(name, (where / name).as_posix())]
            found += [(where / name).as_posix() for name in files if not name.startswith(".") and Path(name).suffix in KINDS]
    return sorted(found)


def _is_taken(name: str, path: str) -> bool:
    return name != COMPILED and not name.startswith(".") and path not in LEFT_OUT


@dataclass(frozen=True)
class Tool:
    """Blender's tool for extensions.

    Attributes:
        name: what it is and where, for people.
        command: the words that come before `build` or `validate`.
        options: further options of either.
    """

    name: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()

    def __call__(self, task: str, *arguments: str) -> str:
        """Run a task in a profile of its own; returns what was said. Raises `OutputError` if it fails."""
        with tempfile.TemporaryDirectory(prefix="cograd3d-profile-") as profile:
            done = subprocess.run(
                [*self.command, task, *arguments, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=os.environ | {"BLENDER_USER_RESOURCES": profile, "PYTHONDONTWRITEBYTECODE": "1"},
                check=False,
            )
        said = done.stdout.strip()
        if done.returncode != 0:
            raise OutputError(
                f"Blender's tool refuses to {task} the extension: {said or f'exit code {done.returncode}'}",
                remedy=f"Correct what it names; {self.name} was asked.",
            )
        return said


@dataclass(frozen=True)
class Package:
    """A zip that Blender installs: where it is, its size in bytes, the names of its files."""

    path: Path
    size: int
    files: tuple[str, ...]


def build(output: Path, tool: Tool, root: Path = PACKAGE_ROOT) -> Package:
    """Make `<id>-<version>.zip` in the folder `output`, replacing an older one only by a valid one.

    Args:
        output: made if missing.
        tool: from `find_tool`.
        root: the extension's source folder.

    Raises:
        OutputError: Blender's tool finds something wrong, or the zip cannot be written.
    """
    manifest = tomllib.loads((root / MANIFEST).read_text(encoding="utf-8"))
    target = output / f"{manifest['id']}-{manifest['version']}.zip"
    with tempfile.TemporaryDirectory(prefix="cograd3d-package-") as temporary:
        source = Path(temporary, "source")
        for name in selection(root):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, source / name)
        built = Path(temporary, target.name)
        tool("validate", str(source))
        tool("build", "--source-dir", str(source), "--output-filepath", str(built))
        tool("validate", str(built))
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(error, target) from error
        with atomic_path(target) as partial:
            shutil.copyfile(built, partial)
    with zipfile.ZipFile(target) as archive:
        return Package(target, target.stat().st_size, tuple(sorted(archive.namelist())))


# --- Blender and its tool


def find_tool(blender: Path | None = None) -> Tool:
    """The tool of a Blender, else that of the package `bpy` in this Python.

    Args:
        blender: the executable to take; by default as `find_blender` finds one.

    Raises:
        SetupError: there is none, or the named one is none or too old.
    """
    executable = find_blender(blender)
    if executable is not None:
        version = blender_version(executable)
        if version < OLDEST_BLENDER:
            raise SetupError(
                f"{executable} is Blender {format_version(version)}, which knows no extensions.",
                remedy=f"Name a Blender from {format_version(OLDEST_BLENDER)} on with --blender PATH.",
            )
        return Tool(f"Blender {format_version(version)} ({executable})", (str(executable), "--factory-startup", "--command", "extension"))
    for scripts in _wheel_scripts():
        tags = scripts / _TAGS_IN_SCRIPTS
        return Tool(
            f"the package bpy ({scripts.parent.parent})",
            (sys.executable, str(scripts / _TOOL_IN_SCRIPTS)),
            ("--valid-tags", str(tags)) if tags.is_file() else (),
        )
    raise SetupError(
        "There is no Blender here, and its tool builds the extension.",
        remedy="Name one with --blender PATH or the variable BLENDER_EXECUTABLE, or use a Python that has the package bpy.",
    )


def find_blender(chosen: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Blender's executable: the chosen one, $BLENDER_EXECUTABLE, the one on the PATH, or one where its installers put it.

    Raises:
        SetupError: one was named and is not there.
    """
    named = chosen or environ.get("BLENDER_EXECUTABLE")
    if named:
        path = shutil.which(str(Path(named).expanduser()), path=environ.get("PATH"))
        if path is None:
            origin = "" if chosen else "BLENDER_EXECUTABLE names "
            raise SetupError(f"{origin}{named}{', which' if origin else ''} is no program.", remedy="Name Blender's executable.")
        return Path(path).absolute()
    path = shutil.which("blender", path=environ.get("PATH"))
    if path is not None:
        return Path(path).absolute()
    places = [place for pattern in _USUAL_PLACES for place in _glob(pattern)]
    return max(places, default=None)


def blender_version(executable: Path) -> tuple[int, ...]:
    """The version that a Blender says it has. Raises `SetupError` if it says none."""
    try:
        said = subprocess.run(
            [str(executable), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{executable} does not start: {error}.", remedy="Name Blender's executable.") from error
    match = re.search(r"^Blender (\d+(?:\.\d+)+)", said, flags=re.MULTILINE)
    if match is None:
        raise SetupError(f"{executable} is no Blender.", remedy="Name Blender's executable.")
    return tuple(map(int, match[1].split(".")))


def format_version(version: Sequence[int]) -> str:
    """(4, 5, 15) as 4.5.15."""
    return ".".join(map(str, version))


def _glob(pattern: str) -> Iterator[Path]:
    """The files that match an absolute pattern; none on a system whose paths look otherwise."""
    anchor = Path(pattern).anchor
    return Path(anchor).glob(pattern[len(anchor) :]) if anchor else iter(())


def _wheel_scripts() -> Iterator[Path]:
    """The folder `scripts` of the package bpy in this Python, which is found and not imported: that would start a whole Blender."""
    try:
        spec = importlib.util.find_spec("bpy")
    except (ImportError, ValueError):  # a module that somebody else put into sys.modules
        spec = None
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from (tool.parents[3] for tool in sorted(Path(folder).glob(f"*/scripts/{_TOOL_IN_SCRIPTS}")))
