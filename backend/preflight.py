"""What can be refused before any work starts: bad prompts and outputs, too little memory or disk. Standard library only."""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from pathlib import Path

from . import machine
from .errors import OutputError, PromptError, ResourceError

LONGEST_PROMPT = 1000
"""Characters. The text encoders of the usual diffusion models read 77 tokens, about 300 characters."""

ASSET_FORMATS = (".glb", ".obj", ".ply")

MEMORY_BYTES = {"draft": 1.5e9, "normal": 2.0e9, "high": 3.0e9}
"""What a run with the built-in prior holds at its peak, by quality."""

PIPELINE_MEMORY_BYTES = 4e9
"""What the smallest usual latent diffusion model needs in half precision, besides."""

JOB_BYTES = 300e6
"""Two checkpoints, two previews, the splats, the mesh and a trace of some thousand iterations."""


def memory_of_run(quality: str, *, builtin_prior: bool) -> float:
    """Bytes that a run needs at its peak, by `MEMORY_BYTES`."""
    return MEMORY_BYTES.get(quality, MEMORY_BYTES["normal"]) + (0 if builtin_prior else PIPELINE_MEMORY_BYTES)


def check_prompt(text: str, what: str = "prompt") -> None:
    """Refuse a prompt that no model could read.

    Raises:
        PromptError: it is empty, too long, or has characters that are not text.
    """
    if not text.strip():
        raise PromptError(f"The {what} is empty.", remedy='Say what to make, for example "a red cat".')
    if len(text) > LONGEST_PROMPT:
        raise PromptError(
            f"The {what} has {len(text):,} characters, and at most {LONGEST_PROMPT:,} are read.",
            remedy="Say it shorter; one sentence works best.",
        )
    strange = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn")), None)
    if strange is not None:
        raise PromptError(
            f"The {what} contains a character that is not text (U+{ord(strange):04X}).",
            remedy="Type it anew, on one line, without control characters.",
        )


def check_output(path: Path, *, overwrite: bool, formats: tuple[str, ...] = ASSET_FORMATS) -> None:
    """Refuse an output that could not be written at the end of the run.

    Raises:
        OutputError: unknown format, existing file, or a folder that is missing or not writable.
        ResourceError: its disk is full.
    """
    if path.suffix.lower() not in formats:
        raise OutputError(
            f"{path.name} has no known format.",
            remedy=f"End the name in {', '.join(formats[:-1])} or {formats[-1]}." if len(formats) > 1 else f"End the name in {formats[0]}.",
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", remedy="Name a file in it.")
    files = (path, *companions(path))
    for file in files:
        if file.exists() and not overwrite:
            raise OutputError(f"{file} exists already.", remedy="Choose another name, or allow it to be replaced.")
        if file.is_dir():
            raise OutputError(f"{file}, which comes with {path.name}, is a folder.", remedy="Choose another name, or move it away.")
    for folder in dict.fromkeys(map(_written_to, files)):
        if not folder.is_dir():
            raise OutputError(f"There is no folder {folder}.", remedy="Create it, or choose another one.")
        check_writable(folder)
        check_disk(folder, 50e6)


def _written_to(file: Path) -> Path:
    """The folder that a file is written to: where a symbolic link leads, for that is followed."""
    return Path(os.path.realpath(file)).parent if file.is_symlink() else file.parent


def companions(path: Path) -> tuple[Path, ...]:
    """The files that are written beside an asset of this name: an .obj's material and texture, whose names hold no spaces."""
    if path.suffix.lower() != ".obj":
        return ()
    stem = re.sub(r"[^\w.-]", "_", path.stem)
    return path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made, whatever its permission bits say. Raises `OutputError`."""
    try:
        with tempfile.TemporaryFile(dir=machine.existing_parent(folder), prefix=".cograd3d-"):
            pass
    except OSError as error:
        raise OutputError(
            f"Nothing can be written to {folder}: {(error.strerror or str(error)).lower()}.", remedy="Choose a folder you may write to."
        ) from error


def check_disk(folder: Path, needed: float) -> None:
    """Refuse a disk with less than `needed` bytes free. Raises `ResourceError`."""
    free = machine.free_disk(folder)
    if free < needed:
        raise ResourceError(
            f"The disk of {folder} has {machine.format_bytes(free)} free, and {machine.format_bytes(needed)} are needed.",
            remedy="Free some space, or choose a folder on another disk.",
        )


def check_memory(quality: str, *, builtin_prior: bool) -> None:
    """Refuse a run that this computer's free memory could not hold. Raises `ResourceError`."""
    needed = memory_of_run(quality, builtin_prior=builtin_prior)
    _, available = machine.memory()
    if available is not None and available < needed:
        lower = "" if quality == "draft" else ", or choose the draft quality"
        raise ResourceError(
            f"This run needs about {machine.format_bytes(needed)} of memory, and {machine.format_bytes(available)} are free.",
            remedy=f"Close other programs{lower}.",
        )
