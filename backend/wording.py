"""What the command line calls the choices that remedies speak of, and how a command is written down to be pasted.

A remedy says what to do in words that fit a panel as well as a terminal ("choose the draft quality"); a terminal's user is also told how
to say that here (`--quality draft`). Standard library only.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence

IN_OPTIONS = {
    "Use words of the built-in world,": "Use words of the built-in world (`words` lists them),",
    "choose the draft quality": "choose --quality draft",
    "allow it to be replaced": "replace it with --overwrite",
    "choose another image model:": "choose another image model with --prior:",
    "Choose another device,": "Choose another with --device (for a batch: --set run.device=NAME),",
    "Allow downloads": "Allow downloads with --set prior.allow_download=true",
    "Allow online access": "Unset HF_HUB_OFFLINE",
}
"""A phrase of a remedy, and the same on the command line."""


def in_options(remedy: str) -> str:
    """A remedy as the command line says it."""
    for phrase, option in IN_OPTIONS.items():
        remedy = remedy.replace(phrase, option)
    return remedy


def command_line(words: Sequence[str]) -> str:
    """Words as they are typed into this system's terminal, quoted where they have to be."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
