"""How much memory this process holds, and how its lack shows, without a dependency."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_bytes() -> int:
    """Resident memory of this process in bytes: the present one on Linux, the peak elsewhere on Unix, 0 where it cannot be told."""
    status = Path("/proc/self/statm")
    if status.exists():
        import os

        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()


def peak_bytes() -> int:
    """The most resident memory this process has held, in bytes; 0 where that cannot be told."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


OUT_OF_MEMORY = (
    "can't allocate memory",  # torch's allocator on the CPU: "DefaultCPUAllocator: can't allocate memory"
    "not enough memory",  # the same on Windows, or with a limit on the address space
    "MPS backend out of memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""Parts of what torch's plain RuntimeErrors say when memory ran out."""


PAGING_FILE_TOO_SMALL = 1455
"""Windows' number for it, in what Python or a library in Rust, such as safetensors, says of a file that was to be mapped."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a computation found too little memory, on a GPU or in main memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if getattr(error, "winerror", None) == PAGING_FILE_TOO_SMALL or f"(os error {PAGING_FILE_TOO_SMALL})" in str(error):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
