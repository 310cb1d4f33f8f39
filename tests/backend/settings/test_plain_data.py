"""The round trip through JSON."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import settings
from backend.config import GenerationConfig
from backend.errors import ConfigError


def values_for(setting):
    """A strategy of values that a setting accepts by itself."""
    low, high = setting.low, setting.high
    kind = str(setting.type)
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.type is bool:
        return st.booleans()
    if setting.type is int:
        return st.integers(math.ceil(low or 0), int(high) if high is not None else 10**6)
    if setting.type is float or "float | None" in kind:
        numbers = st.floats(low if low is not None else -1e6, high if high is not None else 1e6)
        extra = ([math.inf] if setting.infinite else []) + ([None] if "None" in kind else [])
        return st.one_of(numbers, st.sampled_from(extra)) if extra else numbers
    return st.just(setting.default)


@given(st.data())
def test_json_round_trip(data):
    config = GenerationConfig()
    for setting in data.draw(st.lists(st.sampled_from(list(settings.catalogue().values())), max_size=5)):
        setattr(getattr(config, setting.section), setting.name, data.draw(values_for(setting)))
    try:
        settings.check(config)
    except ConfigError:
        return
    assert settings.from_dict(json.loads(json.dumps(settings.to_dict(config), allow_nan=False))) == config


def test_json_keeps_tuples_and_infinity():
    config = settings.resolve(sets=["gradient_fusion.cap=inf", "optimizer.resolution_steps=[[0, 32], [0.5, 64]]", "guidance.scale=auto"])
    data = settings.to_dict(config)
    assert data["gradient_fusion"]["cap"] == "inf"
    assert data["optimizer"]["resolution_steps"] == [[0.0, 32], [0.5, 64]]
    assert data["guidance"]["scale"] is None
    assert settings.from_dict(data) == config


def test_from_dict_checks_and_fills_in():
    assert settings.from_dict({}) == GenerationConfig()
    assert settings.from_dict({"made_by": {"cograd3d": "0.1.0"}, "run": {"seed": 3}}).run.seed == 3
    for data in ({"run": {"sed": 3}}, {"run": {"seed": "three"}}, {"run": 3}, {"grid": {"elevation_edges": [1, 0]}}):
        with pytest.raises(ConfigError):
            settings.from_dict(data)
