"""Environments as the installer leaves them, of small files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from backend import environment
from backend.environment import MARKER_FILE, OWNER_FILE, Environment, Requirement


def put_package(root: Path, pin: Requirement, build: str = "") -> Path:
    """An installed package of one file, as pip leaves it; returns that file."""
    site = root / ("Lib" if os.name == "nt" else "lib/python{}.{}".format(*sys.version_info)) / "site-packages"
    name = pin.name.replace("-", "_")
    info = site / f"{name}-{pin.version}{build}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / f"{name}.py").write_text("answer = 42\n")
    (info / "RECORD").write_text(f"{name}.py,sha256=x,12\n{info.name}/RECORD,,\n")
    return site / f"{name}.py"


def put_environment(root: Path, *, marker: bool = True) -> Environment:
    """An environment with every pinned package."""
    made = Environment(root)
    made.python.parent.mkdir(parents=True)
    made.python.symlink_to(sys.executable)
    (root / OWNER_FILE).write_text("ours")
    for pin in environment.requirements():
        put_package(root, pin, "+cpu" if pin.name == "torch" else "")
    if marker:
        (root / MARKER_FILE).write_text(json.dumps({"requirements": environment.requirements_hash()}))
    return made
