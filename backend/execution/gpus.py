"""Which process computes on which GPU of this computer."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from .. import machine
from ..errors import ConfigError

__all__ = ["GpuPool", "check_device", "share_of_gpu", "usable_gpus", "wants_gpu"]

_SLACK = 1e-6
"""Three thirds of a GPU are one, whatever the rounding."""


def usable_gpus(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; that variable rules where it is set."""
    chosen = environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(str(index) for index in range(len(machine.nvidia_gpus())))
    names = [name.strip() for name in chosen.split(",")]
    end = next((index for index, name in enumerate(names) if name in ("", "-1")), len(names))  # CUDA reads no further either
    return tuple(names[:end])


def check_device(device: str) -> None:
    """Raises `ConfigError` where the runs of an executor could not all compute on `run.device`."""
    if device.startswith("cuda:"):
        raise ConfigError(
            f"Each run is given its GPU, so the device cannot be {device}.",
            remedy="Set run.device=cuda; the variable CUDA_VISIBLE_DEVICES says which GPUs may be used.",
        )


def wants_gpu(device: str) -> bool:
    """Whether runs with this `run.device` take an NVIDIA GPU where there is one."""
    return device in ("auto", "cuda")


def share_of_gpu(processes: int, gpus: int) -> float:
    """What each of so many processes takes of a GPU, so that all of them run at once; 0 without GPUs."""
    return 1 / math.ceil(max(1, processes) / gpus) if gpus else 0.0


class GpuPool:
    """GPUs that are leased and given back, whole or in shares.

    Args:
        names: as CUDA_VISIBLE_DEVICES names them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._free = dict.fromkeys(names, 1.0)

    def __len__(self) -> int:
        return len(self._free)

    def serves(self, gpus: float) -> bool:
        """Whether so many could be leased if all were free."""
        return gpus <= 1 <= len(self._free) or gpus == 0 or (float(gpus).is_integer() and gpus <= len(self._free))

    def lease(self, gpus: float) -> dict[str, float] | None:
        """{name: share} of so many GPUs, None while they are not free. A share goes where the most is free."""
        if gpus <= 0:
            return {}
        share, count = (gpus, 1) if gpus < 1 else (1.0, int(gpus))
        freest = sorted(self._free, key=lambda name: -self._free[name])[:count]
        if len(freest) < count or any(self._free[name] < share - _SLACK for name in freest):
            return None
        for name in freest:
            self._free[name] -= share
        return dict.fromkeys(freest, share)

    def give_back(self, lease: Mapping[str, float]) -> None:
        """End a lease."""
        for name, share in lease.items():
            self._free[name] += share
