"""System libraries and programs that Blender needs on Linux and that pip cannot install: found, installed where that is allowed, or named.

`python3 tests/blender/system_packages.py` arranges what the wheel `bpy` and a virtual screen need.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

WHEEL_LIBRARIES: Mapping[str, str] = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
}
"""Debian's package of each library that the wheel loads: most at its import, EGL when it draws (without it the process aborts)."""
SCREEN_PROGRAMS: Mapping[str, str] = {"Xvfb": "xvfb"}


class PackagesMissing(Exception):
    """Something is missing and cannot be installed from here; the message has the line that would."""


def missing(libraries: Mapping[str, str] = {}, programs: Mapping[str, str] = {}) -> list[str]:
    """Debian's names of the packages whose libraries cannot be loaded or whose programs are not on the PATH."""
    if sys.platform != "linux":
        return []
    return [package for name, package in libraries.items() if not _loads(name)] + [
        package for name, package in programs.items() if shutil.which(name) is None
    ]


def arrange(libraries: Mapping[str, str] = {}, programs: Mapping[str, str] = {}) -> list[str]:
    """Install what is missing; the packages that were. PackagesMissing where that is not allowed or does not help."""
    packages = missing(libraries, programs)
    if not packages:
        return []
    line = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise PackagesMissing(f"missing on this system, by Debian's names: {' '.join(packages)}. Install them with its package manager.")
    if os.geteuid() != 0:
        raise PackagesMissing(f"missing on this system: {' '.join(packages)}. Run: sudo {line}")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "-qq", "update"], line.split()):
        done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise PackagesMissing(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
    if still := missing(libraries, programs):
        raise PackagesMissing(f"installed, and yet not found: {' '.join(still)}")
    return packages


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        print("installed:", " ".join(arrange(WHEEL_LIBRARIES, SCREEN_PROGRAMS)) or "nothing, everything was there")
    except PackagesMissing as error:
        sys.exit(str(error))
