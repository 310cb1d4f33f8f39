"""The backend's sentences as they read in Blender, where a remedy is a button instead of a command. No bpy."""

from __future__ import annotations

import re

_REPLACEMENTS = (
    (r"with `python3 -m backend setup --location DIR`", "in the preferences of CoGrad3D"),
    (r"[Nn]ame one with `python3 -m backend setup --python PATH`", 'Name one in the preferences of CoGrad3D, under "Make It With"'),
    (r"Fill it with `python3 -m backend setup --download-wheels DIR` where there is a network",
     "Fill one where there is a network: `python3 -m backend setup --download-wheels DIR`"),
    (r"install with `python3 -m backend setup --offline-wheels DIR`", 'use "Install from a Folder of Wheels"'),
    (r"or take that build all the same with --allow-cuda", 'or set up again and tick "PyTorch for NVIDIA GPUs"'),
    (r"(Install its venv module \([^)]*\))", r'\1, or choose another Python in the preferences of CoGrad3D, under "Make It With"'),
    (r"Run `python3 -m backend setup --repair`", 'Press "Repair"'),
    (r"Run `python3 -m backend setup`", 'Press "Set Up"'),
    (r"then run the same command again, which goes on from here", "then set up again, which goes on from here"),
    (r"then run the same command again", "then try again"),
    (r"Name the right folder with --location", "Name the right folder in the preferences of CoGrad3D"),
)  # fmt: skip


def in_blender(text: str) -> str:
    """`text` with the commands of a terminal replaced by what to press."""
    for pattern, replacement in _REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return text
