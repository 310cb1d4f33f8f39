"""Nested state to tensors plus JSON and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from backend.checkpoint import flatten, unflatten


def test_everything_comes_back() -> None:
    state = {
        "iteration": 7,
        "rate": 0.25,
        "name": "x",
        "none": None,
        "deep": {"tensor": torch.arange(3.0), "list": [torch.zeros(0), {"array": np.arange(4, dtype=np.int64)}]},
        "number": np.float64(1.5),
        "huge": 2**100,
    }
    tensors, document = flatten(state)
    back = unflatten(tensors, json.loads(json.dumps(document)))
    assert torch.equal(back["deep"]["tensor"], torch.arange(3.0))
    assert back["deep"]["list"][0].shape == (0,)
    assert isinstance(back["deep"]["list"][1]["array"], np.ndarray)
    assert back["deep"]["list"][1]["array"].tolist() == [0, 1, 2, 3]
    assert {key: back[key] for key in ("iteration", "rate", "name", "none", "number", "huge")} == {
        "iteration": 7,
        "rate": 0.25,
        "name": "x",
        "none": None,
        "number": 1.5,
        "huge": 2**100,
    }


def test_tensors_are_copies() -> None:
    live, array = torch.zeros(2), np.zeros(2)
    tensors, _ = flatten({"a": live, "b": array})
    live.fill_(1)
    array.fill(1)
    assert tensors["a"].tolist() == tensors["b"].tolist() == [0, 0]


def test_the_tensors_of_a_list_are_told_apart() -> None:
    back = unflatten(*flatten({"a": [torch.tensor(1), torch.tensor(2)], "b": [[np.array(3)], [np.array(4)]]}))
    assert (back["a"], back["b"]) == ([1, 2], [[3], [4]])


def test_views_of_one_tensor_are_stored_apart() -> None:
    base = torch.arange(6.0)
    tensors, _ = flatten({"a": base[:3], "b": base[3:]})
    assert tensors["a"].untyped_storage().data_ptr() != tensors["b"].untyped_storage().data_ptr()


@pytest.mark.parametrize("value", [{1: "x"}, {"a": object()}, {"a": {1, 2}}])
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        flatten(value)
