"""Saving and restoring a sampler's arrays and random state, exactly, through JSON."""

from __future__ import annotations

from typing import Any

import numpy as np


def pack(arrays: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, Any]:
    """The arrays as nested lists (Python writes floats so that they read back exactly) and the generator's state under "rng"."""
    return {**{name: array.tolist() for name, array in arrays.items()}, "rng": rng.bit_generator.state}


def unpack(state: dict[str, Any], arrays: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Fills `arrays` in place and sets the generator. ValueError, before anything is changed, if a shape differs."""
    loaded = {name: np.array(state[name], dtype=array.dtype) for name, array in arrays.items()}
    for name, array in arrays.items():
        if loaded[name].shape != array.shape:
            raise ValueError(f"the saved {name} has shape {loaded[name].shape}, here it is {array.shape}")
    for name, array in arrays.items():
        array[...] = loaded[name]
    rng.bit_generator.state = state["rng"]
