"""The least guidance that a preset asks for where a prior takes its share of the published one."""

from __future__ import annotations

from typing import Any

import pytest

from backend.config import GuidanceConfig
from backend.guidance.prior import PriorDefaults
from backend.guidance.rules import make_rule
from backend.pipeline import settled_scale


class Prior:
    """As much of one as a rule is made of."""

    def __init__(self, scale: float) -> None:
        self.recommended = PriorDefaults(guidance_scale=scale, weighting="sds", clamp=0.0, resolutions=(8,))


@pytest.mark.parametrize(
    ("recommended", "settings", "expected"),
    [
        (1.0, {"nominal_scale": 7.5}, 1.0),
        (1.0, {"nominal_scale": 7.5, "least_scale": 2.5}, 2.5),
        (100.0, {"nominal_scale": 7.5, "least_scale": 2.5}, 7.5),
        (3.0, {"nominal_scale": ((0.0, 199.0), (1.0, 1.0)), "least_scale": 2.5}, (5.0, 2.5)),
        (1.0, {"least_scale": 2.5}, 1.0),  # of what a prior recommends itself there is no share
        (1.0, {"scale": 1.5, "nominal_scale": 7.5, "least_scale": 2.5}, 1.5),  # what the user says holds
    ],
)
def test_least_scale(recommended: float, settings: dict[str, Any], expected: float | tuple[float, float]) -> None:
    config = GuidanceConfig(**settings)
    rule = make_rule(Prior(recommended), config)  # type: ignore[arg-type]
    if isinstance(expected, tuple):
        assert (rule.scale_at(0.0), rule.scale_at(1.0)) == pytest.approx(expected)
        assert settled_scale(config, recommended) is None
    else:
        assert rule.scale_at(0.5) == pytest.approx(expected)
        assert settled_scale(config, recommended) == pytest.approx(expected)
