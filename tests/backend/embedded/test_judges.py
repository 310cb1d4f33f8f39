"""Judges of pictures: shipped, cached or trained, and named by their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backend.embedded import world
from backend.embedded.learned.judges import cached_judge, fingerprint


def judge(value: float) -> nn.Module:
    made = nn.Linear(2, 1)
    nn.init.constant_(made.weight, value)
    nn.init.constant_(made.bias, 0)
    return made


def asked(tmp_path: Path, *, shipped: Path | None) -> float:
    """Which judge answers: 1 the shipped, 2 the cached, 3 one trained now."""
    return cached_judge(judge(0), lambda: judge(3), "it", tmp_path / "cached.safetensors", shipped=shipped).weight[0, 0].item()


def ship(path: Path, version: str) -> Path:
    save_file(judge(1).state_dict(), path, metadata={"world": version})
    return path


def test_the_shipped_one_goes_first(tmp_path: Path) -> None:
    save_file(judge(2).state_dict(), tmp_path / "cached.safetensors")
    assert asked(tmp_path, shipped=ship(tmp_path / "own.safetensors", world.version())) == 1
    assert asked(tmp_path, shipped=None) == 2


def test_one_of_another_world_is_passed_over(tmp_path: Path) -> None:
    shipped = ship(tmp_path / "own.safetensors", "another")
    assert asked(tmp_path, shipped=shipped) == 3
    assert load_file(tmp_path / "cached.safetensors")["weight"][0, 0] == 3, "it was kept"
    assert asked(tmp_path, shipped=tmp_path / "nothing.safetensors") == 3


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: data[:-4]])
def test_a_damaged_one_is_passed_over_and_stays_as_it_is(tmp_path: Path, damage) -> None:
    shipped = ship(tmp_path / "own.safetensors", world.version())
    damaged = damage(shipped.read_bytes())
    shipped.write_bytes(damaged)
    assert asked(tmp_path, shipped=shipped) == 3
    assert shipped.read_bytes() == damaged


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert asked(tmp_path / "file", shipped=None) == 3


def test_what_is_cached_could_be_shipped(tmp_path: Path) -> None:
    asked(tmp_path, shipped=None)
    assert asked(tmp_path / "elsewhere", shipped=tmp_path / "cached.safetensors") == 3
    assert not (tmp_path / "elsewhere").exists(), "nothing was trained"


def test_a_judge_is_named_by_its_weights(tmp_path: Path) -> None:
    one, other = judge(1), judge(1)
    assert fingerprint(one) == fingerprint(other) and len(fingerprint(one)) == 12
    with torch.no_grad():
        other.bias += 1e-6
    assert fingerprint(one) != fingerprint(other)
