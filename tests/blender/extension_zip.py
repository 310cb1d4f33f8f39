"""The extension's name when it is installed, and its zip. No bpy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTENSION = "bl_ext.user_default.cograd3d"
ZIP_VARIABLE = "COGRAD3D_TEST_ZIP"


def extension_zip(folder: Path, blender: str | None = None) -> Path:
    """The zip that is tested: the one $COGRAD3D_TEST_ZIP names, else a new one in `folder`, built with that Blender's own tool."""
    if os.environ.get(ZIP_VARIABLE):
        return Path(os.environ[ZIP_VARIABLE])
    command = [sys.executable, "-m", "backend", "package", "--output", str(folder), *(("--blender", blender) if blender else ())]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"`{' '.join(command)}` failed:\n{done.stdout}\n{done.stderr}"
    return next(folder.glob("*.zip"))
