"""Values that follow a run's progress: read, refused, looked up, saved."""

import json

import pytest

from backend import settings
from backend.config import value_at

from .refusals import refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3.0),
        ("[[0, 2], [1, 8]]", ((0.0, 2.0), (1.0, 8.0))),
        ("[[0.2, 2]]", 2.0),
        ("[[0, 2], [0.3, 2], [1, 2.0]]", 2.0),
        ("[[0, 1], [0.5, 1], [0.5, 3]]", ((0.0, 1.0), (0.5, 1.0), (0.5, 3.0))),
        ("auto", None),
    ],
)
def test_schedules_are_read_and_made_simple(text, expected):
    assert settings.resolve(sets=[f"guidance.clamp={text}"]).guidance.clamp == expected


@pytest.mark.parametrize(("text", "expected"), [("0", 0.0), ("0.5", 0.5), ("[[0, 2], [1, 0]]", ((0.0, 2.0), (1.0, 0.0))), ("auto", None)])
def test_none_of_perp_neg_is_not_left_to_the_rule(text, expected):
    assert settings.resolve().guidance.perp_neg is None
    config = settings.resolve(method="perpneg", sets=[f"guidance.perp_neg={text}"])
    assert config.guidance.perp_neg == expected
    assert settings.from_dict(json.loads(json.dumps(settings.to_dict(config)))) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[1, 2], [0, 8]]", "whose progress ascends"),
        ("[[0, 2], [1.5, 8]]", "whose progress ascends within 0 and 1"),
        ("[[-0.1, 2]]", "whose progress ascends within 0 and 1"),
        ("[]", "whose progress ascends"),
        ("[[0, 2, 3]]", "a number or a list of [progress, value]"),
        ("[0, 2]", "a number or a list of [progress, value]"),
        ("true", "a number or a list of [progress, value]"),
        ("[[0, true]]", "a number or a list of [progress, value]"),
        ("rising", "a number or a list of [progress, value]"),
        ("[[0, 2], [1, -1]]", "at least 0"),
        ("[[0, 2], [1, inf]]", "finite"),
        ("nan", "a number"),
    ],
)
def test_impossible_schedules_are_refused(text, says):
    error = refused(f"guidance.clamp={text}")
    assert says in error.message and error.remedy


def test_a_schedules_range_is_that_of_its_values_not_of_its_progress():
    """ism_step may not be below 0.001, yet a schedule of it begins at progress 0; perp_neg may be 4, though progress ends at 1."""
    assert settings.resolve(sets=["guidance.ism_step=[[0, 0.1], [1, 0.05]]"]).guidance.ism_step == ((0.0, 0.1), (1.0, 0.05))
    assert settings.resolve(sets=["guidance.perp_neg=[[0, 4], [1, 0]]"]).guidance.perp_neg == ((0.0, 4.0), (1.0, 0.0))
    assert "at least 0.001" in refused("guidance.ism_step=[[0.5, 0.1], [1, 0]]").message
    assert "at most 4" in refused("guidance.perp_neg=[[0, 5], [1, 0]]").message


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.3, 2.0), (0.39999, 3.0), (0.4, 10.0), (0.7, 9.0), (1.0, 8.0)]
)
def test_a_schedule_is_linear_between_its_points_and_jumps_where_two_coincide(progress, expected):
    schedule = ((0.2, 1.0), (0.4, 3.0), (0.4, 10.0), (1.0, 8.0))
    assert value_at(schedule, progress) == pytest.approx(expected, abs=1e-3)


def test_schedules_survive_json_and_toml(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[timestep_sampling]\nmode = 'uniform'\nclip_high = [[0, 0.98], [0.4, 0.98], [0.4, 0.55]]\n[guidance]\nclamp = 2\n")
    config = settings.resolve(None, None, file)
    assert config.timestep_sampling.clip_high == ((0.0, 0.98), (0.4, 0.98), (0.4, 0.55)) and config.guidance.clamp == 2.0
    data = json.loads(json.dumps(settings.to_dict(config)))
    assert data["timestep_sampling"]["clip_high"] == [[0.0, 0.98], [0.4, 0.98], [0.4, 0.55]]
    assert settings.from_dict(data) == config
