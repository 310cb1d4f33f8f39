"""Registering the parts of a package in order, and undoing it in the reverse one. No bpy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType


def parts(package: str, names: Sequence[str]) -> tuple[Callable[[], None], Callable[[], None]]:
    """`register` and `unregister` for a package whose modules `names` each have these two.

    Modules are imported when they are registered, not before: importing the package needs no bpy. If one fails to register, those before
    it are undone, so that enabling can be tried again. If one fails to unregister, the others are undone nevertheless, and the first error
    is raised at the end.
    """

    def module(name: str) -> ModuleType:
        return importlib.import_module(f".{name}", package)

    def register() -> None:
        """Register every part."""
        done: list[str] = []
        try:
            for name in names:
                module(name).register()
                done.append(name)
        except Exception:
            undo(module(name) for name in reversed(done))
            raise

    def unregister() -> None:
        """Undo `register`."""
        undo(module(name) for name in reversed(names))

    return register, unregister


def undo(modules: Iterable[ModuleType]) -> None:
    """Unregister modules; raises the first error after all have had their turn."""
    first: Exception | None = None
    for module in modules:
        try:
            module.unregister()
        except Exception as error:
            first = first or error
    if first:
        raise first
