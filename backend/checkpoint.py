"""Nested state (dicts and lists of tensors, arrays, numbers and strings) to safetensors plus JSON, and back.

Nothing is pickled. Tensors and arrays go to one flat mapping under their path; the rest stays a JSON document in which
`{"$tensor": path}` stands for a torch tensor and `{"$array": path}` for a numpy array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """(tensors by path, JSON document) of a nested state."""
    tensors: dict[str, Tensor] = {}

    def visit(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {"$tensor": path}
        if isinstance(value, np.ndarray):
            tensors[path] = torch.from_numpy(np.ascontiguousarray(value)).clone()
            return {"$array": path}
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise TypeError(f"a checkpoint's keys must be strings: {path}")
            return {key: visit(item, f"{path}.{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [visit(item, f"{path}.{index}") for index, item in enumerate(value)]
        if isinstance(value, np.generic):
            return value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"{path} is a {type(value).__name__}, which a checkpoint does not hold")

    return tensors, visit(state, "")


def unflatten(tensors: dict[str, Tensor], document: Any) -> Any:
    """The inverse of `flatten` (tuples come back as lists)."""
    if isinstance(document, dict):
        if document.keys() == {"$tensor"}:
            return tensors[document["$tensor"]]
        if document.keys() == {"$array"}:
            return tensors[document["$array"]].numpy()
        return {key: unflatten(tensors, value) for key, value in document.items()}
    if isinstance(document, list):
        return [unflatten(tensors, value) for value in document]
    return document
