"""What is hovered or looked through goes away, in a real window."""

from __future__ import annotations


def test_what_is_hovered_or_looked_through_goes_away(play):
    values = play("vanishing").values
    assert values["views"] == 3 and values["selected"] == []
    assert values["moved"]
    assert values["is_back"]
