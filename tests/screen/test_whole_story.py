"""The acceptance test: from a typed sentence to an exported asset in a real window, with a real worker and the built-in image model."""

from __future__ import annotations

import json
import struct

import pytest


@pytest.mark.usefixtures("real_worker")
def test_from_a_sentence_to_an_exported_asset(play):
    outcome = play("whole_story", timeout=420)
    values = outcome.values
    assert values["prompt"] == "a red cat"

    # Gizmos: nearly all little cameras in the window show the colour of their own number and not the one farthest from it.
    for moment in ("running", "reopened"):
        seen = values[moment]
        assert seen["regions"] >= 20
        assert seen["contrast"] > 80
        assert seen["own"] > 0.7
        assert seen["foreign"] < 0.3

    # The preview stands there, about as high as it was ordered, and is seen.
    assert values["preview"]["faces"] > 1000
    assert 0.4 < values["preview"]["height"] < 2.5
    assert values["preview"]["pixels"] > 200

    # A click selects what was clicked, and the push reaches the optimiser.
    assert values["selected"] == [values["clicked"]]
    trace = [json.loads(line) for line in values["trace"].splitlines()]
    before = [step["weight"][values["clicked"]] for step in trace if step["iteration"] < values["boosted_after"]]
    assert set(before) == {1.0}
    assert trace[-1]["weight"][values["clicked"]] == 4.0
    assert sum(weight != 1.0 for weight in trace[-1]["weight"]) == 1

    # The result, in the scene, in the file, and exported.
    assert values["status"] == "finished", values["error"]
    assert values["asset"]["prompt"] == "a red cat"
    assert values["asset"]["faces"] > 500
    assert values["asset"]["uv"] == 1
    assert len(values["asset"]["images"]) == 1
    assert values["asset_reopened"] == values["asset"]
    assert len(values["objects"]) == 1, "the preview goes when the result comes"
    exported = (outcome.folder / "exported.glb").read_bytes()
    magic, _, length, json_length, kind = struct.unpack_from("<4s4I", exported)
    assert magic == b"glTF" and length == len(exported) and kind == 0x4E4F534A
    document = json.loads(exported[20 : 20 + json_length])
    assert len(document["meshes"]) == len(document["images"]) == 1
