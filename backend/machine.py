"""What this computer has: memory, disk, graphics card. Standard library only, and nothing here raises for want of a tool."""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3


@dataclass(frozen=True)
class Gpu:
    """A GPU that PyTorch can compute on.

    Attributes:
        name: as its driver calls it.
        memory: bytes; None where that cannot be told.
    """

    name: str
    memory: int | None = None


def nvidia_gpus() -> list[str]:
    """Names of the NVIDIA GPUs whose driver works, as the driver's own tool lists them, which may take many seconds; empty: none."""
    answer = _nvidia_smi("-L")
    if answer is not None:
        return [line.strip() for line in answer.splitlines() if line.startswith("GPU ")]
    folder = Path("/proc/driver/nvidia/gpus")  # containers may have the driver and not the tool
    try:
        return sorted(f"GPU at {entry.name}" for entry in folder.iterdir())
    except OSError:  # none, or none that could be used
        return []


def gpus() -> list[Gpu]:
    """The GPUs that a run could use, which may take many seconds to find; empty: none.

    A Mac's GPU shares the processor's memory; two thirds of it are what macOS lets a program have there.
    """
    if sys.platform == "darwin":
        total = _total_memory()
        return [Gpu("Apple", total * 2 // 3 if total else None)] if platform.machine() == "arm64" else []
    answer = _nvidia_smi("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    if answer is None:
        return [Gpu(name) for name in nvidia_gpus()]
    found = []
    for line in answer.splitlines():
        name, comma, mebibytes = line.rpartition(",")
        if comma:
            found.append(Gpu(name.strip(), int(mebibytes) * 2**20 if mebibytes.strip().isdigit() else None))
    return found


def _nvidia_smi(*arguments: str) -> str | None:
    """What the driver's tool says; None where there is none, or it fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None


def _meminfo(key: str) -> int | None:
    """Bytes of one line of Linux's /proc/meminfo."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup_available(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that a container's memory limit (cgroup version 2 or 1) leaves to this process; None where there is no limit.

    What the container has read of files counts as used until the kernel needs the room; like Kubernetes' working set, this leaves it out.
    """
    for folder, limit_file, usage_file, cache in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit, usage = (int((folder / name).read_text()) for name in (limit_file, usage_file))
        except (OSError, ValueError):  # "max" means no limit
            continue
        return max(0, limit - max(0, usage - _cgroup_statistic(folder, cache)))
    return None


def _cgroup_statistic(folder: Path, key: str) -> int:
    """Bytes of one line of a container's memory.stat; 0 where that cannot be told."""
    try:
        for line in (folder / "memory.stat").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return max(0, int(value))
    except (OSError, ValueError):
        pass
    return 0


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = [
        ("dwLength", ctypes.c_ulong),
        ("dwMemoryLoad", ctypes.c_ulong),
        ("ullTotalPhys", ctypes.c_ulonglong),
        ("ullAvailPhys", ctypes.c_ulonglong),
        ("ullTotalPageFile", ctypes.c_ulonglong),
        ("ullAvailPageFile", ctypes.c_ulonglong),
        ("ullTotalVirtual", ctypes.c_ulonglong),
        ("ullAvailVirtual", ctypes.c_ulonglong),
        ("ullAvailExtendedVirtual", ctypes.c_ulonglong),
    ]


def _windows_memory() -> tuple[int, int] | None:
    """(total, available) bytes of physical memory on Windows."""
    status = _MemoryStatus(dwLength=ctypes.sizeof(_MemoryStatus))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined,unused-ignore]
        return None
    return status.ullTotalPhys, status.ullAvailPhys


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _mac_available() -> int | None:
    """Bytes that macOS could hand out at once: free, inactive, speculative and purgeable pages of `vm_stat`."""
    try:
        answer = subprocess.run(["/usr/bin/vm_stat"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True)
        pages = {
            name.strip(): int(value.strip(" ."))
            for name, _, value in (line.partition(":") for line in answer.stdout.splitlines()[1:])
            if value.strip(" .").isdigit()
        }
        return os.sysconf("SC_PAGE_SIZE") * sum(pages.get(f"Pages {kind}", 0) for kind in ("free", "inactive", "speculative", "purgeable"))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def memory() -> tuple[int | None, int | None]:
    """(total, available) bytes of memory for this process, container limits counted; None for what cannot be told."""
    if sys.platform == "win32":
        return _windows_memory() or (None, None)
    if sys.platform == "darwin":
        return _total_memory(), _mac_available()
    available, limit = _meminfo("MemAvailable"), _cgroup_available()
    known = [value for value in (available, limit) if value is not None]
    return _meminfo("MemTotal") or _total_memory(), min(known) if known else None


def existing_parent(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists."""
    path = Path(os.path.abspath(path))
    while not os.path.exists(path) and path != path.parent:  # pathlib's raises where a folder cannot be looked into
        path = path.parent
    return path


def free_disk(path: Path) -> int:
    """Free bytes on the disk on which `path` is, or will be."""
    return shutil.disk_usage(existing_parent(path)).free


def visible_cores() -> int:
    """Processor cores that this process may run on: what torch has as many threads as."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """Processor cores this process may use, container limits counted."""
    limit = _cgroup_cores()
    return visible_cores() if limit is None else max(1, min(visible_cores(), math.ceil(limit)))


def _cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """As many cores as a container's limit on processor time (cgroup version 2 or 1) is worth; None where there is no limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = (int(number) for name in files for number in (root / name).read_text().split())
        except (OSError, ValueError):  # "max" means no limit
            continue
        if quota > 0 and period > 0:  # so does -1
            return quota / period
    return None


def describe() -> str:
    """System, version and processor, for people."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {cores()} cores"


def format_bytes(count: float) -> str:
    """`383945509` -> `384 MB`; decimal units, as download sizes are given elsewhere."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


if __name__ == "__main__":  # for programs that cannot wait for a driver: Blender
    print(json.dumps(nvidia_gpus()))
