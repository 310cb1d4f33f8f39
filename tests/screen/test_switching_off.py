"""The extension is disabled, in a real window, while a viewport looks through a view."""

from __future__ import annotations


def test_a_viewport_gets_its_own_view_back(play):
    values = play("switching_off").values
    assert values == {"moved": True, "maximised_is_back": True, "is_still_back": True, "quad_is_back": True}
