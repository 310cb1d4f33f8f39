"""Which models may be fetched from the hub, or completed from there: said by the user, of each, since Blender started. No bpy.

Consent is kept nowhere else, neither in a .blend file nor in a preset: whoever opens somebody's file, or repeats somebody's job, has not
consented to anything yet.
"""

from __future__ import annotations

_allowed: set[str] = set()


def is_allowed(model: str) -> bool:
    """Whether the user has allowed to fetch this model: a hub id, or a file that lacks something."""
    return model.strip() in _allowed


def allow(model: str, yes: bool = True) -> None:
    """Take down what the user says of a model: a hub id or a file, not empty."""
    if yes and model.strip():
        _allowed.add(model.strip())
    else:
        _allowed.discard(model.strip())
