"""What a model recommends of itself."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from backend.config import GuidanceConfig
from backend.errors import PriorError
from backend.guidance.load import LEARNED_WEIGHTS
from backend.guidance.prior import PriorDefaults
from backend.guidance.recommended import _MAY_BE, WEIGHTINGS, with_recommended

FAMILY = {"guidance_scale": 100.0, "weighting": "sds", "clamp": 0.0, "resolutions": (512,)}


def test_the_model_goes_before_its_family() -> None:
    found = with_recommended(FAMILY, {"resolutions": [32, 64], "backdrops": [[0.2, 0.04]], "distance": [3, 3.5], "view_words": False})
    assert (found.guidance_scale, found.resolutions, found.backdrops) == (100.0, (32, 64), ((0.2, 0.04),))
    assert (found.distance, found.view_words) == ((3, 3.5), False)


def test_the_learned_prior_recommends_what_can_be() -> None:
    recommended = json.loads((LEARNED_WEIGHTS / "cograd3d.json").read_text())["recommended"]
    assert with_recommended(FAMILY, recommended).resolutions == tuple(recommended["resolutions"])


def test_every_field_and_every_weighting_is_known() -> None:
    assert set(_MAY_BE) == {field.name for field in dataclasses.fields(PriorDefaults)}
    (weighting,) = (field for field in dataclasses.fields(GuidanceConfig) if field.name == "weighting")
    assert set(WEIGHTINGS) == set(weighting.metadata["choices"]) - {"auto"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolutions", []),
        ("resolutions", 64),
        ("resolutions", [64, 32]),
        ("resolutions", [0]),
        ("resolutions", ["64"]),
        ("guidance_scale", "x"),
        ("guidance_scale", True),
        ("guidance_scale", float("nan")),
        ("weighting", "foo"),
        ("weighting", ["sds"]),
        ("clamp", None),
        ("clamp", -1),
        ("t_start", 1.5),
        ("fov", 0),
        ("distance", [0, 0]),
        ("distance", [3.5, 3.1]),
        ("distance", 3.3),
        ("backdrops", [1]),
        ("backdrops", []),
        ("backdrops", [[0.6, -0.1]]),
        ("view_words", "no"),
        ("resolution_multiple", -8),
        ("opacity_entropy", -0.1),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: Any) -> None:
    with pytest.raises(PriorError, match=rf"cograd3d.json recommends .* as {name}, which cannot be\.") as error:
        with_recommended(FAMILY, {name: value})
    assert error.value.remedy


def test_what_is_no_setting_is_refused() -> None:
    with pytest.raises(PriorError, match="'warmth', which is no setting"):
        with_recommended(FAMILY, {"warmth": 1})
