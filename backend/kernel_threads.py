"""Numba kernels spread over torch's number of threads.

Threads are ours, not numba's: its threading layers abort or hang when two Python threads or a fork meet, and the parallel compiler
triples the compile time. A kernel's first two arguments say which share of the work it does; it releases the GIL, and shares write to
disjoint memory, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch

Share = tuple[int, int]


def run(kernel: Callable[..., None], shares: list[Share], *arguments: Any) -> None:
    """Run a kernel on every share, the last one in the calling thread."""
    if len(shares) > 1:
        pool = _pool(torch.get_num_threads() - 1, os.getpid())
        futures = [pool.submit(kernel, *share, *arguments) for share in shares[:-1]]
        kernel(*shares[-1], *arguments)
        for future in futures:
            future.result()
    elif shares:
        kernel(*shares[0], *arguments)


def ranges(count: int, least: int) -> list[Share]:
    """Cut `count` items into (start, stop), one range a thread; ranges of fewer than `least` items are not worth a thread."""
    shares = max(1, min(torch.get_num_threads(), count // least))
    edges = [count * share // shares for share in range(shares + 1)]
    return list(pairwise(edges))


def strides(count: int) -> list[Share]:
    """Deal `count` items out as (start, step): neighbours, which cost alike, go to different threads."""
    threads = min(torch.get_num_threads(), count)
    return [(thread, threads) for thread in range(threads)]


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Helpers of the calling thread; `process` is part of the key because threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")
