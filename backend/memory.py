"""How much memory this process holds, without a dependency."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_bytes() -> int:
    """Resident memory of this process in bytes: the present one on Linux, the peak elsewhere on Unix, 0 where it cannot be told."""
    status = Path("/proc/self/statm")
    if status.exists():
        import os

        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
