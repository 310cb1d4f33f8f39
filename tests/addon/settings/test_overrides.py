"""The changed advanced settings: stored as one text, shown over what the presets say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from cograd3d.backend import settings
from cograd3d.cograd3d_addon.settings import overrides
from cograd3d.cograd3d_addon.settings.controls import ELSEWHERE, SECTIONS, Kind, controls, sections
from hypothesis import given
from hypothesis import strategies as st

ITERATIONS = controls()["optimizer.iterations"]
CAP = controls()["gradient_fusion.cap"]
NUMBERS = [control for control in controls().values() if control.kind in (Kind.NUMBER, Kind.WHOLE)]


def normal(path):
    return overrides.presets_values("normal", "cograd3d")[path]


def test_every_setting_is_in_the_panel_once():
    shown = [control.path for section in sections().values() for control in section]
    assert len(shown) == len(set(shown))
    assert set(shown) | ELSEWHERE == set(normal_paths())
    assert set(sections()) <= set(SECTIONS)


def normal_paths():
    return overrides.presets_values("normal", "cograd3d")


@pytest.mark.parametrize("control", controls().values(), ids=lambda control: control.path)
def test_every_control_says_what_it_is(control):
    assert control.label
    assert len(control.explanation) > len(control.path) + 10
    if control.special_label:
        changed = overrides.change("", control, control.start, "normal", "annealed-only")
        preset = overrides.presets_values("normal", "annealed-only")[control.path]
        assert overrides.is_changed(changed, control.path) or overrides.same(control.start, preset)
        assert control.low is None or control.start >= control.low
        assert control.high is None or control.start <= control.high
    if control.kind is Kind.CHOICE:
        assert overrides.presets_values("normal", "cograd3d")[control.path] in {None, *dict(control.choices)}


def test_a_change_is_kept_and_forgotten_when_it_is_none():
    text = overrides.change("", ITERATIONS, 123, "normal", "cograd3d")
    assert overrides.effective(text, ITERATIONS, "high", "cograd3d") == 123
    assert overrides.count(text) == overrides.count(text, "optimizer") == 1
    assert overrides.count(text, "grid") == 0
    assert overrides.change(text, ITERATIONS, normal(ITERATIONS.path), "normal", "cograd3d") == ""
    assert overrides.reset(text, ITERATIONS.path) == ""


def test_what_nobody_changed_follows_the_quality():
    values = {quality: overrides.effective("", ITERATIONS, quality, "cograd3d") for quality in ("draft", "normal", "high")}
    assert values["draft"] < values["normal"] < values["high"]


@pytest.mark.parametrize("control", NUMBERS, ids=lambda control: control.path)
def test_what_blender_makes_of_a_preset_number_is_no_change(control):
    value = normal(control.path)
    if isinstance(value, float) and math.isfinite(value):
        assert overrides.change("", control, float(np.float32(value)), "normal", "cograd3d") == ""


@given(st.floats(2.0**-20, 2.0**20, width=32))
def test_a_number_survives_blenders_single_precision(value):
    control = controls()["guidance.scale"]
    text = overrides.change("", control, value, "normal", "cograd3d")
    stored = overrides.effective(text, control, "normal", "cograd3d")
    assert np.float32(stored) == pytest.approx(np.float32(value), rel=1e-6)
    assert overrides.change(text, control, float(np.float32(stored)), "normal", "cograd3d") == text


def test_no_limit_is_written_as_the_backend_reads_it():
    text = overrides.change("", CAP, math.inf, "normal", "cograd3d")
    if text:
        assert json.loads(text) == {CAP.path: "inf"}
    assert overrides.effective(text, CAP, "normal", "cograd3d") == math.inf
    assert not overrides.problems(text, "normal", "cograd3d")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "\x00"])
def test_a_text_that_is_not_ours_changes_nothing(text):
    assert overrides.read(text) == {}
    assert overrides.effective(text, ITERATIONS, "draft", "cograd3d") == overrides.effective("", ITERATIONS, "draft", "cograd3d")
    assert not overrides.problems(text, "draft", "cograd3d")


@pytest.mark.parametrize("control", [c for c in controls().values() if c.kind is Kind.LIST], ids=lambda control: control.path)
def test_a_list_is_typed_as_it_is_shown(control):
    value = normal(control.path)
    typed = overrides.parse_list(control, overrides.list_text(value))
    assert overrides.same(typed, value)
    assert overrides.change("", control, typed, "normal", "cograd3d") == ""


def test_what_is_no_list_is_kept_to_be_spoken_of():
    control = controls()["grid.elevation_edges"]
    text = overrides.change("", control, overrides.parse_list(control, "high and low"), "normal", "cograd3d")
    assert overrides.list_text(overrides.effective(text, control, "normal", "cograd3d")) == "high and low"
    assert set(overrides.problems(text, "normal", "cograd3d")) == {control.path}


SCHEDULES = [control for control in controls().values() if control.kind is Kind.SCHEDULE]


def typed(control, text):
    """What is stored after a text was typed into the field of a schedule."""
    return overrides.change("", control, overrides.parse_schedule(control, text), "normal", "cograd3d")


def shown(text, control):
    return overrides.schedule_text(overrides.effective(text, control, "normal", "cograd3d"))


def test_every_schedule_has_its_control():
    assert {control.path for control in SCHEDULES} == {path for path, s in settings.catalogue().items() if settings.is_schedule(s.type)}
    assert {"guidance.clamp", "guidance.ism_step", "timestep_sampling.clip_low"} <= {control.path for control in SCHEDULES}
    assert {control.path for control in SCHEDULES if control.special_label} >= {"guidance.clamp", "guidance.nominal_scale"}


@pytest.mark.parametrize("control", SCHEDULES, ids=lambda control: control.path)
def test_a_schedule_is_typed_as_it_is_shown(control):
    value = normal(control.path)
    if value is not None:
        assert typed(control, overrides.schedule_text(value)) == ""
    low, high = control.low or 0.0, 0.5 if control.high is None else min(control.high, 0.5)
    for text in (f"{high:g}", f"[0, {low:g}], [1, {high:g}]", f"[0, {high:g}]"):
        stored = typed(control, text)
        assert shown(stored, control) == text or overrides.schedule_text(value) == text
        assert not overrides.problems(stored, "normal", "annealed-only") or control.path.startswith("timestep_sampling")


def test_points_may_be_typed_with_brackets_or_without():
    control = controls()["guidance.perp_neg"]
    assert (
        json.loads(typed(control, "[0, 2], [1, 4]")) == json.loads(typed(control, "[[0, 2], [1, 4]]")) == {control.path: [[0, 2], [1, 4]]}
    )
    assert json.loads(typed(control, " 3 ")) == {control.path: 3.0}


@pytest.mark.parametrize("text", ["a lot", "0, 2", "[1, 2], [0, 3]", "[0, 99], [1, 2]", "inf", "true"])
def test_what_is_no_schedule_is_kept_to_be_spoken_of(text):
    control = controls()["guidance.perp_neg"]
    stored = typed(control, text)
    assert shown(stored, control) == text
    assert set(overrides.problems(stored, "normal", "cograd3d")) == {control.path}


def test_a_schedule_that_the_model_decides_again():
    control = controls()["guidance.clamp"]
    stored = typed(control, "2")
    assert overrides.effective(stored, control, "normal", "cograd3d") == 2.0
    assert overrides.change(stored, control, None, "normal", "cograd3d") == ""


def test_perp_neg_is_left_to_the_rule_or_none():
    control = controls()["guidance.perp_neg"]
    assert (control.special, control.special_label, control.start) == (None, "As the Rule Has It", 1.0)
    assert overrides.effective("", control, "normal", "cograd3d") is None
    stored = typed(control, "0")
    assert json.loads(stored) == {control.path: 0.0}
    assert settings.resolve(overrides=json.loads(stored)).guidance.perp_neg == 0
    assert overrides.change(stored, control, None, "normal", "cograd3d") == ""
    assert json.loads(overrides.change("", control, None, "normal", "perpneg")) == {control.path: None}, "the preset names a weight"


def test_a_single_pair_of_a_list_is_a_pair():
    control = controls()["optimizer.resolution_steps"]
    assert overrides.parse_list(control, "[0, 32]") == [[0, 32]]
    assert overrides.parse_list(control, "[]") == []


def test_rules_are_written_as_people_know_them():
    assert dict(controls()["guidance.rule"].choices) == {
        "sds": "SDS", "perp_neg": "Perp-Neg", "asd": "ASD", "cds": "CDS", "ism": "ISM", "hifa": "HiFA", "vsd": "VSD", "csd": "CSD",
    }  # fmt: skip


def test_problems_name_the_setting():
    problems = overrides.problems(overrides.write({ITERATIONS.path: -5, "guidance.scale": 20.0}), "normal", "cograd3d")
    assert set(problems) == {ITERATIONS.path}
    message, remedy = problems[ITERATIONS.path]
    assert "iterations" in message
    assert remedy
    assert set(overrides.problems('{"no.such": 1}', "normal", "cograd3d")) == {"no.such"}
