"""Registering parts: in order, undone after a failure, undone to the last."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from cograd3d.cograd3d_addon.registration import parts


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the modules of the package `parts_under_test` were called for."""
    told: list[str] = []
    package = ModuleType("parts_under_test")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "parts_under_test", package)
    for name in ("a", "b", "c"):
        module = ModuleType(f"parts_under_test.{name}")
        module.register = lambda name=name: told.append(f"+{name}")
        module.unregister = lambda name=name: told.append(f"-{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return told


def fail() -> None:
    raise RuntimeError("broken")


def test_order(calls: list[str]) -> None:
    register, unregister = parts("parts_under_test", ("a", "b", "c"))
    register()
    unregister()
    assert calls == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_what_was_registered_before_a_failure_is_undone(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["parts_under_test.c"], "register", fail)
    with pytest.raises(RuntimeError, match="broken"):
        parts("parts_under_test", ("a", "b", "c"))[0]()
    assert calls == ["+a", "+b", "-b", "-a"]


def test_a_failure_to_undo_does_not_keep_the_others(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["parts_under_test.b"], "unregister", fail)
    with pytest.raises(RuntimeError, match="broken"):
        parts("parts_under_test", ("a", "b", "c"))[1]()
    assert calls == ["-c", "-a"]
