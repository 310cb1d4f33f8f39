"""The panel of the active object: its facts, and the buttons that make sense for it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.blender.layouts import Drawn, draw


@pytest.fixture
def panel(addon_module):
    return addon_module("ui.results").COGRAD3D_PT_result


def test_facts_and_buttons(thing, panel):
    drawn: Drawn = draw(panel)
    assert {"1", "draft", thing["cograd3d"]["version"], thing["cograd3d"]["prior_fingerprint"]} <= set(drawn.texts)
    assert {"copy_object_settings", "reproduce_object", "show_views", "mark_asset"} <= set(drawn.operators)
    assert "import_onto" not in drawn.operators, "it shows the selected job already"


@pytest.mark.parametrize("seed", ["9223372036854775807", 12])
def test_a_seed_is_shown_as_text_and_as_the_number_of_earlier_versions(thing, panel, seed):
    thing["cograd3d"]["seed"] = seed
    assert str(seed) in draw(panel).texts


def test_another_finished_job_can_take_its_place(thing, another_job, session, panel):
    session.select_job(another_job("2026-01-02-other-0a1b2d").id)
    assert "import_onto" in draw(panel).operators


def test_only_for_objects_of_ours(panel):
    assert not panel.poll(SimpleNamespace(active_object=None))
