"""`--set section.name=value`."""

import math

import pytest

from backend import settings

from .refusals import refused


@pytest.mark.parametrize(
    ("assignment", "section", "name", "expected"),
    [
        ("optimizer.iterations=12", "optimizer", "iterations", 12),
        (" optimizer.iterations = 12 ", "optimizer", "iterations", 12),
        ("gradient_fusion.cap=inf", "gradient_fusion", "cap", math.inf),
        ("gradient_fusion.cap=2", "gradient_fusion", "cap", 2.0),
        ("guidance.view_prompts=false", "guidance", "view_prompts", False),
        ("guidance.scale=7.5", "guidance", "scale", 7.5),
        ("guidance.scale=auto", "guidance", "scale", None),
        ("prior.name=org/model=x", "prior", "name", "org/model=x"),
        ("prior.name=2024", "prior", "name", "2024"),
        ("prior.name='quoted text'", "prior", "name", "quoted text"),
        ("region_sampling.indicator=level", "region_sampling", "indicator", "level"),
        ("grid.elevation_edges=[-10, 20, 90]", "grid", "elevation_edges", (-10.0, 20.0, 90.0)),
        ("grid.distance_edges=[]", "grid", "distance_edges", ()),
        ("timestep_sampling.gains=[1, 0, 0.5]", "timestep_sampling", "gains", (1.0, 0.0, 0.5)),
        ("optimizer.resolution_steps=[[0, 32], [0.5, 64]]", "optimizer", "resolution_steps", ((0.0, 32), (0.5, 64))),
        ("run.device=cuda:1", "run", "device", "cuda:1"),
    ],
)
def test_assignments(assignment, section, name, expected):
    value = getattr(getattr(settings.resolve(sets=[assignment]), section), name)
    assert value == expected
    assert type(value) is type(expected)


def test_the_last_assignment_wins():
    assert settings.resolve(sets=["run.seed=1", "run.seed=2"]).run.seed == 2


def test_an_assignment_sets_one_thing_only():
    # What would be a second TOML line is part of the value, and refused as such.
    assert "whole number" in refused("optimizer.iterations=1\nviews=2").message


@pytest.mark.parametrize("text", ["", "optimizer.iterations", "optimizer.iterations=", "=3"])
def test_malformed_assignments(text):
    assert "section.name=value" in refused(text).message
