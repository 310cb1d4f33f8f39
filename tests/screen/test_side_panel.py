"""The extension in the side panel of a real window."""

from __future__ import annotations


def test_side_panel_shows_the_extension(play):
    values = play("side_panel").values
    assert values["enabled"]
    assert values["category"] == "CoGrad3D"
    buttons = "\n".join(values["buttons"])
    for name in ("prompt", "quality", "seed"):
        assert f".cograd3d.{name}" in buttons
    for name in ("generate", "roll_seed"):
        assert f"bpy.ops.cograd3d.{name}(" in buttons


def test_what_costs_something_asks_first(play):
    values = play("dialogs").values
    assert values["plan_pixels"] > 20_000, "the plan of the installation appears"
    assert values["after_escape"] == "absent"
    assert values["after_confirmation"] == "installing"
    assert values["discard_pixels"] > 5_000, "the question appears"
    assert values["kept"] and values["gone"]
