"""The image models that can be chosen: the built-in one, those found on this computer, those worth having, and one's own. No bpy.

Looking for them takes as long as a disk takes, so another process does it, when the extension is enabled and whenever somebody asks
for it; `shelf` keeps what was found last, and reading that costs nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...backend import models
from ...backend.embedded import vocabulary
from ...backend.environment import data_folder
from ...backend.errors import CoGradError
from ...backend.machine import Gpu
from ...backend.model_files import ModelFile, Scan
from ...backend.models import CATALOGUE, Model
from ..setup.process import Process
from ..setup.task import installer_python
from .choices import Choices

BUILTIN_ABOUT = (
    f"Knows {len(vocabulary.OBJECTS)} objects, {len(vocabulary.COLOURS)} colours, {len(vocabulary.MATERIALS)} materials. Needs no download."
)

EXACT_ABOUT = "Knows the same words by pictures of the objects themselves: sharper eyes and patterns. Needs no download."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What there is on this computer.

    Attributes:
        scan: the models.
        gpus: what could run them.
        folders: those that the user named.
    """

    scan: Scan = field(default_factory=Scan)
    gpus: tuple[Gpu, ...] = ()
    folders: tuple[Path, ...] = ()

    @property
    def recommended(self) -> Model | None:
        """The model for this computer; None: the built-in one."""
        return models.recommend(self.gpus)


def search_command() -> list[str]:
    """The command line that finds them, for a program at the other end. Raises `SetupError` where there is no Python to run it."""
    return [installer_python(), "-P", "-m", "backend.cli", "models", "--json"]


def understood(text: str) -> Found:
    """What `python3 -m backend models --json` printed. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    answer = json.loads(text)
    scan = Scan(tuple(ModelFile(**entry) for entry in answer["found"]), answer["left_out"], answer["complete"])
    folders = answer["looked_in"][1:]  # the first is the hub's cache
    return Found(scan, tuple(Gpu(**entry) for entry in answer["gpus"]), tuple(Path(folder) for folder in folders))


class Shelf:
    """What was found last; nothing here waits.

    A process of its own looks, and no thread: a disk or a graphics driver may take many seconds, and while a thread computed,
    files that were loaded and operators that ran ended in crashes (Blender 4.2, 4.5 and 5.0 as a Python module).

    Args:
        command: what the process runs; prints what `understood` reads.
        log: where its standard error goes; by default `models.log` in the data folder.
    """

    def __init__(self, command: Callable[[], Sequence[str]] = search_command, log: Path | None = None) -> None:
        self.command = command
        self._log = log
        self._process: Process | None = None
        self._lines: list[str] = []
        self._found: Found | None = None
        self._again = self._news = False

    @property
    def found(self) -> Found | None:
        """The models and GPUs; None until they were looked for."""
        return self._found

    @property
    def is_looking(self) -> bool:
        """Whether they are being looked for."""
        return self._process is not None

    def look(self) -> None:
        """Look for them; once more, if that is under way and may have passed by what is new."""
        if self._process is not None:
            self._again = True
            return
        self._lines = []
        try:
            self._process = Process(self.command(), self._log or data_folder() / "models.log")
        except (CoGradError, OSError):  # what cannot be looked for costs the list, not the work
            _log.exception("image models cannot be looked for")
            self._take(self._found or Found())

    def poll(self) -> bool:
        """Follow the process, from the main thread. Returns whether it is at work."""
        if self._process is None:
            return False
        self._lines += self._process.read_lines()
        if self._process.exit_code is None:
            return True
        self._process.release()
        self._process = None
        try:
            self._take(understood("\n".join(self._lines)))
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.exception("image models could not be looked for")
            self._take(self._found or Found())
        if self._again:
            self._again = False
            self.look()
        return self.is_looking

    def stop(self) -> None:
        """Look no more; what was found is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.release()
            self._process = None
        self._again = False

    def has_news(self) -> bool:
        """Whether something was found since this was asked last."""
        news, self._news = self._news, False
        return news

    def _take(self, found: Found) -> None:
        self._found, self._news = found, True


shelf = Shelf()

# --- The menu


@dataclass(frozen=True)
class Entry:
    """Something that can be chosen as image model.

    Attributes:
        source: BUILTIN, EXACT, FOLDER, FILE or HUB, as `Choices.prior_source`.
        value: the path or the hub id; empty for the built-in models, and where the user has yet to say it.
        title: its name in the menu.
        about: all that is to be known before it is chosen.
        is_recommended: whether it is the one for this computer.
    """

    source: str
    value: str
    title: str
    about: str
    is_recommended: bool = False


BUILTIN = (Entry("BUILTIN", "", "Built-in", BUILTIN_ABOUT), Entry("EXACT", "", "Built-in, Exact", EXACT_ABOUT))

OWN = (
    Entry("FOLDER", "", "A Folder...", "A diffusers folder on this computer"),
    Entry("FILE", "", "A File...", "A .safetensors file on this computer"),
    Entry("HUB", "", "A Name on the Hub...", "A model by its name on the Hugging Face hub, fetched once and then kept"),
)
"""Entries that only open a field."""


def menu(found: Found | None) -> tuple[tuple[str, tuple[Entry, ...]], ...]:
    """(heading, entries) of everything that can be chosen; a heading without entries is left out."""
    found = found or Found()
    here = {model.name for model in found.scan.models}
    groups = (
        ("Built In", BUILTIN),
        ("On This Computer", tuple(_of_file(model) for model in found.scan.models)),
        ("From the Hub", tuple(_of_hub(model, found.recommended) for model in CATALOGUE if model.hub_id not in here)),
        ("Your Own", OWN),
    )
    return tuple((heading, entries) for heading, entries in groups if entries)


def entry_of(source: str, value: str, found: Found | None) -> Entry | None:
    """The entry that is chosen with these values; None where the user said it himself."""
    entries = (entry for _, entries in menu(found) for entry in entries)
    return next((entry for entry in entries if entry.source == source and _same(source, entry.value, value)), None)


def chosen(choices: Choices, found: Found | None) -> Entry | None:
    """The entry that the panel's choices are; None where the user said it himself."""
    return entry_of(choices.prior_source, value_of(choices), found)


def value_of(choices: Choices) -> str:
    """The path or the hub id that is chosen, empty for a built-in model."""
    return "" if choices.is_builtin else (choices.prior_hub if choices.prior_source == "HUB" else choices.prior_path).strip()


def title_of(choices: Choices, found: Found | None) -> str:
    """The chosen model in few words."""
    entry, value = chosen(choices, found), value_of(choices)
    if entry is not None and (value or choices.is_builtin):
        return entry.title
    return (value if choices.prior_source == "HUB" else os.path.basename(os.path.normpath(value)) if value else "") or "None Chosen"


def suggestion(choices: Choices, found: Found | None) -> str:
    """What to say to somebody whose GPU could do more than the built-in model, and who has no other; else nothing."""
    if found is None or not choices.is_builtin or found.scan.models or found.recommended is None:
        return ""
    return f"Your GPU can run {found.recommended.title}, which knows far more than the built-in model."


def summary(found: Found | None) -> str:
    """What was found, in a line or two."""
    if found is None:
        return "Not looked for yet."
    scan = found.scan
    others = ", ".join(f"{count} {what}" for what, count in sorted(scan.left_out.items()))
    sentences = [
        f"{len(scan.models)} found." if scan.models else "None found.",
        f"Left out: {others}." if others else "",
        "" if scan.is_complete else "Not everything was looked at: choose a folder with fewer files in it.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _of_file(model: ModelFile) -> Entry:
    known = models.by_hub_id(model.name)
    about = f"{model.describe()}. {model.name}" if known is None else f"{_sentence(known.good_for)}. {model.describe()}. {known.terms()}"
    return Entry(model.kind.upper(), model.name, known.title if known else model.title, about)


def _of_hub(model: Model, recommended: Model | None) -> Entry:
    about = f"{_sentence(model.good_for)}. {_sentence(model.cost())}. {model.terms()}"
    return Entry("HUB", model.hub_id, model.title, about, model == recommended)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _same(source: str, one: str, other: str) -> bool:
    if source in ("FOLDER", "FILE") and one and other:
        return os.path.normpath(one) == os.path.normpath(other)  # Blender's folders end in a separator
    return one == other.strip()
