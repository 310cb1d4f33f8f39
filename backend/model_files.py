"""Image models that are on this computer already, those of other programs included: where they are looked for, and what is found.

They are looked for in the cache of the hub's libraries, and in the folders that the user named once. Those are kept in a small file in the
data folder, which the command line and Blender share. What a folder or a file is, `guidance.recognition` says, from the headers of
.safetensors files, `model_index.json` and the denoiser's `config.json`; nothing else is read, and other formats, which may run code when
they are opened, are not opened at all. Links that lead out of a folder are not followed, and a search ends at a depth, a count and a time.

Standard library only.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .environment import data_folder
from .errors import InputError, PriorError
from .files import absolute, atomic_write_json, make_folder
from .guidance.kinds import KINDS
from .guidance.pipeline_files import INDEX_FILE, component_class
from .guidance.recognition import (
    INCOMPLETE,
    PICKLE_SUFFIXES,
    PICKLES,
    SAFETENSORS,
    WEIGHT_SUFFIXES,
    UnsupportedModelError,
    denoiser_folder,
    recognise_file,
    recognise_index,
)

FOLDERS_FILE = "model-folders.json"

LAYOUTS = (
    *("models/checkpoints", "models/diffusion_models", "models/unet", "models/diffusers"),  # ComfyUI
    "models/Stable-diffusion",  # Stable Diffusion WebUI and its relatives
)
"""Where other programs keep whole models, relative to their own folder. Where some of these exist, nothing else in there is looked at.
Those that are not named here (InvokeAI) keep little else in it."""

# fmt: off
SKIPPED = frozenset((
    "loras", "lora", "lycoris", "locon", "hypernetworks", "embeddings", "embedding", "textual_inversion",
    "controlnet", "control_net", "controlnets", "t2i_adapter", "ip_adapter", "gligen", "style_models",
    "vae", "vae_approx", "vae-approx", "text_encoders", "text_encoder", "clip", "clip_vision", "upscale_models", "upscalers", "esrgan",
    "custom_nodes", "extensions", "venv", "env", "node_modules", "__pycache__", "site-packages", "output", "outputs", "input",
    "blobs", "refs",
))
# fmt: on
"""Folders that hold parts of models, or no models at all."""

DEPTH = 6
ENTRIES = 20_000
HEADERS = 1_000
SECONDS = 10.0

_JUNCTION = 0xA0000003  # Windows' tag of a folder that is elsewhere
_LARGEST_JSON = 2**20
_DAMAGED = (OSError, PriorError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What comes of a file that is not what its name says, whatever is in it."""

# --- The folders


def folders(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The folders that the user named, in their order. A file that cannot be read is one without folders."""
    try:
        value = json.loads((data_folder(environ) / FOLDERS_FILE).read_bytes())
        return tuple(Path(text) for text in value["folders"] if isinstance(text, str) and text)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def add_folder(folder: Path | str, environ: Mapping[str, str] = os.environ) -> Path:
    """Look for models in this folder from now on; returns it as an absolute path.

    Raises:
        InputError: it is no folder.
        OutputError: that cannot be written down.
    """
    path = absolute(folder)
    if not path.is_dir():
        raise InputError(f"{path} is no folder.", remedy="Name the folder that holds models, or that of the program that uses them.")
    if path not in folders(environ):
        _keep((*folders(environ), path), environ)
    return path


def remove_folder(folder: Path | str, environ: Mapping[str, str] = os.environ) -> Path:
    """Look in this folder no more. Nothing in it is touched.

    Raises:
        InputError: it was not looked in.
        OutputError: that cannot be written down.
    """
    path, known = absolute(folder), folders(environ)
    if path not in known:
        raise InputError(f"Models are not looked for in {path}.", remedy=f"They are in: {', '.join(map(str, known)) or 'no folder'}.")
    _keep([other for other in known if other != path], environ)
    return path


def _keep(chosen: Iterable[Path], environ: Mapping[str, str]) -> None:
    file = data_folder(environ) / FOLDERS_FILE
    make_folder(file.parent)
    atomic_write_json(file, {"format": 1, "folders": [str(path) for path in chosen]})


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where Hugging Face's libraries keep the models they downloaded; as they do, also by the variable's older name."""
    if chosen := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return _expanded(chosen)
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return _expanded(home) / "hub"


def _expanded(path: str | Path) -> Path:
    """With the ~ and the variables in it, for which there may have been no shell."""
    return Path(os.path.expandvars(os.path.expanduser(path)))


# --- Finding them


@dataclass(frozen=True)
class ModelFile:
    """An image model that was found.

    Attributes:
        name: what `--prior` takes: a path, or a hub id for one in the hub's cache.
        title: how it is shown: its file's or folder's name, or its hub id.
        family: a key of `guidance.kinds.KINDS`.
        kind: "hub", "folder" or "file".
        size: bytes of its weights on disk.
        is_whole: whether nothing is to be fetched for it but small descriptions; single files often hold the denoiser alone.
    """

    name: str
    title: str
    family: str
    kind: str
    size: int
    is_whole: bool = True

    def describe(self) -> str:
        """Its family and size in words."""
        lacks = "" if self.is_whole else ", without its text encoders or its VAE: they come from the hub"
        return f"{KINDS[self.family].name}, {self.size / 1e9:.1f} GB{lacks}"


@dataclass(frozen=True)
class Scan:
    """What was found.

    Attributes:
        models: those that can be used, by title.
        left_out: what else was there, and how many of it.
        is_complete: whether everything was looked at before the search's limits were reached.
    """

    models: tuple[ModelFile, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = True


def scan(
    environ: Mapping[str, str] = os.environ,
    within: Sequence[Path] | None = None,
    *,
    entries: int = ENTRIES,
    headers: int = HEADERS,
    seconds: float = SECONDS,
) -> Scan:
    """The models in the hub's cache and in the user's folders.

    Args:
        within: look in these folders alone.
        entries, headers, seconds: after so many files and folders, opened files, or seconds it ends with what it has.
    """
    search = _Search(hub_cache(environ), entries, headers, seconds)
    for root in [search.cache, *folders(environ)] if within is None else within:
        search.look_through(root)
    found = sorted(search.found.values(), key=lambda model: (model.title.casefold(), model.name))
    return Scan(tuple(found), {what: count for what, count in search.left_out.items() if count}, search.is_complete)


class _Search:
    """One search over several folders, with common limits. Errors of the file system cost what they concern and nothing else."""

    def __init__(self, cache: Path, entries: int, headers: int, seconds: float) -> None:
        self.cache = cache
        self.found: dict[str, ModelFile] = {}
        self.left_out: Counter[str] = Counter()
        self.is_complete = True
        self._seen: set[str] = set()  # real paths
        self._entries, self._headers, self._deadline = entries, headers, time.monotonic() + seconds
        self._real_root = ""

    def look_through(self, root: Path) -> None:
        """Look in a folder and what is below it, the shallow first."""
        self._real_root = os.path.realpath(root)
        starts = [root / name for name in LAYOUTS if os.path.isdir(root / name)] or [root]  # pathlib's raises where nobody may look
        waiting = deque((start, 0) for start in starts if self._is_inside(start))
        self.left_out.update({"behind links": len(starts) - len(waiting)})
        while waiting:
            folder, depth = waiting.popleft()
            if not self._may_go_on():
                return
            for inner in self._look_into(folder):
                if depth + 1 < DEPTH:
                    waiting.append((inner, depth + 1))
                else:
                    self.is_complete = False

    def _may_go_on(self) -> bool:
        if self._entries <= 0 or self._headers <= 0 or time.monotonic() > self._deadline:
            self.is_complete = False
            return False
        return True

    def _look_into(self, folder: Path) -> list[Path]:
        """Take what a folder holds; returns the folders in it that are to be looked into."""
        real = os.path.realpath(folder)
        if real in self._seen:
            return []
        self._seen.add(real)
        try:
            with os.scandir(folder) as listed:
                inside = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            return []
        self._entries -= len(inside)
        if any(entry.name == INDEX_FILE for entry in inside):
            self._take_pipeline(folder, str(folder), folder.name, "folder")
            return []
        deeper = []
        for entry in inside:
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            try:
                is_folder, is_link = entry.is_dir(), _is_link(entry)
            except OSError:
                continue
            if is_folder and is_link:
                self.left_out["behind links"] += int(entry.name.casefold() not in SKIPPED)
            elif is_folder and entry.name.startswith("models--"):
                self._take_hub_repository(path)
            elif is_folder and entry.name.casefold() not in SKIPPED:
                deeper.append(path)
            elif not is_folder:
                self._take_file(path)
        return deeper

    def _take_file(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix == SAFETENSORS:
            if not self._may_go_on():
                return
            if not self._is_inside(path):
                self.left_out["behind links"] += 1
                return
            self._headers -= 1
        elif suffix not in WEIGHT_SUFFIXES:
            return
        try:
            found = recognise_file(path)
            size = path.stat().st_size
        except UnsupportedModelError as other:
            self.left_out[other.group] += 1
        except _DAMAGED:
            self.left_out["damaged"] += 1
        else:
            self._add(ModelFile(str(path), path.stem, found.kind.key, "file", size, not found.absent))

    def _take_hub_repository(self, repository: Path) -> None:
        """A repository in the layout of the hub's cache: by its hub id where the hub's libraries will find it, else its latest folder.

        By a hub id they mean one snapshot, that of the branch `main`. What was fetched last may be another, or hold more.
        """
        indices = [index for index in repository.glob(f"snapshots/*/{INDEX_FILE}") if self._is_inside(index)]
        if not indices:
            return  # text encoders, language models and all else that is no pipeline
        hub_id = repository.name.removeprefix("models--").replace("--", "/", 1)
        in_cache = os.path.realpath(repository.parent) == os.path.realpath(self.cache)
        meant = self._main_snapshot(repository) if in_cache else None

        def usefulness(index: Path) -> tuple[bool, bool, float]:
            has_weights = any(index.parent.glob("*/*.safetensors"))
            return has_weights, index.parent == meant, _modified(index)

        folder = max(indices, key=usefulness).parent
        is_meant = folder == meant
        self._take_pipeline(folder, hub_id if is_meant else str(folder), hub_id, "hub" if is_meant else "folder")

    def _main_snapshot(self, repository: Path) -> Path | None:
        """The snapshot that the hub's libraries take a repository's name for; None if they know of none."""
        branch = repository / "refs" / "main"
        try:
            is_small = self._is_inside(branch) and branch.stat().st_size < _LARGEST_JSON
            return repository / "snapshots" / branch.read_text(encoding="utf-8").strip() if is_small else None
        except (OSError, ValueError):
            return None

    def _take_pipeline(self, folder: Path, name: str, title: str, kind: str) -> None:
        try:
            index = self._read(folder / INDEX_FILE)
            if index is None:
                return
            denoiser = denoiser_folder(index)
            family = recognise_index(index, self._read(folder / denoiser / "config.json") or {}, title)
            weights = [path for path in folder.glob("*/*.safetensors") if self._is_inside(path)]
            size = sum(path.stat().st_size for path in weights)
            there = {path.parent.name for path in weights}
            networks = {denoiser, "vae", *(encoder.component for encoder in family.encoders)}
            wanting = [network for network in networks - there if component_class(index, network)]
            if any(path.suffix in PICKLE_SUFFIXES for network in wanting for path in folder.glob(f"{network}/*")):
                self.left_out[PICKLES] += 1
            elif denoiser in there:  # whatever else is wanting can be fetched
                self._add(ModelFile(name, title, family.key, kind, size))
            else:
                self.left_out[INCOMPLETE] += 1
        except UnsupportedModelError as other:
            self.left_out[other.group] += 1
        except _DAMAGED:
            self.left_out["damaged"] += 1

    def _read(self, path: Path) -> Any:
        """What a small JSON file says; None if it is not there, not in the folder that is looked through, or not small."""
        if not self._is_inside(path) or not path.is_file() or path.stat().st_size > _LARGEST_JSON:
            return None
        return json.loads(path.read_bytes())

    def _add(self, model: ModelFile) -> None:
        self.found.setdefault(model.name, model)

    def _is_inside(self, path: Path) -> bool:
        """Whether a path, links followed, is in the folder that is looked through."""
        real = os.path.realpath(path)
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link to somewhere, one of Windows' kinds included."""
    return entry.is_symlink() or getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0) == _JUNCTION


def _modified(path: Path) -> float:
    """When a file or link was made or changed, seconds; 0 if it is gone."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
