"""Values that are impossible, by themselves or with others."""

import pytest

from backend import settings

from .refusals import refused


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("optimizer.iterations=1.5", "whole number"),
        ("optimizer.iterations=true", "whole number"),
        ("optimizer.iterations=many", "whole number"),
        ("optimizer.iterations=0", "at least 1"),
        (f"optimizer.iterations={'9' * 400}", "at most"),
        (f"run.seed={'9' * 400}", "at most"),
        (f"run.seed={'9' * 5000}", "whole number"),
        (f"run.seed={'[' * 20_000}", "whole number"),
        (f"optimizer.lr_means={'9' * 400}", "finite"),
        ("gradient_fusion.cap=true", "a number"),
        ("gradient_fusion.cap=nan", "a number"),
        ("gradient_fusion.cap=-0.5", "at least 0"),
        ("gradient_fusion.cap=-inf", "at least 0"),
        ("optimizer.lr_means=inf", "finite"),
        ("region_sampling.uniform_floor=1.5", "at most 1"),
        ("guidance.view_prompts=yes", "true or false"),
        ("guidance.view_prompts=1", "true or false"),
        ("guidance.scale=strong", 'a number or "auto"'),
        ("region_sampling.indicator=ratios", "cannot be 'ratios'"),
        ("grid.elevation_edges=30", "a list"),
        ("grid.elevation_edges=[0, up]", "a list"),
        ("grid.elevation_edges=[30, 10]", "ascending"),
        ("grid.elevation_edges=[10, 10]", "ascending"),
        ("grid.elevation_edges=[10]", "ascending"),
        ("grid.elevation_edges=[]", "ascending"),
        ("grid.elevation_edges=[0, 100]", "within -90 and 90"),
        ("grid.distance_edges=[0, 2]", "positive"),
        ("grid.distance_edges=[3, 2]", "ascending"),
        ("timestep_sampling.gains=[1, 2]", "a list of 3"),
        ("timestep_sampling.start=0.02", "must be below"),
        ("timestep_sampling.end=0.98", "must be below"),
        ("timestep_sampling.clip_low=0.99", "must be below"),
        ("timestep_sampling.end=0.01", "must not exceed"),
        ("timestep_sampling.clip_high=0.02", "must be below"),
        ("timestep_sampling.start=0.99", "must not exceed"),
        ("timestep_sampling.clip_low=[[0, 0.02], [1, 0.99]]", "must be below"),
        ("timestep_sampling.mode=sqeezed", "cannot be"),
        ("guidance.cds_gap=[0.3, 0.1]", "must not exceed"),
        ("guidance.cds_gap=[0.1]", "a list of 2"),
        ("grid.cameras=uniform", "needs views in the regions drawn for them"),
        ("grid.cameras=everywhere", "cannot be"),
        ("guidance.rule=imm", "cannot be"),
        ("densification.reset_every=1.5", "at most 1"),
        ("gaussians.grow=-1", "at least 0"),
        ("densification.start=0.9", "must not exceed"),
        ("gaussians.min_scale=0.5", "must be below"),
        ("gaussians.count=1000000", "must not exceed"),
        ("optimizer.betas=[0.9, 1.0]", "below 1"),
        ("optimizer.views_per_region=3", "4 views a step cannot be divided into regions of 3"),
        ("optimizer.resolution_steps=[[0.5, 64]]", "begin at progress 0"),
        ("optimizer.resolution_steps=[[0, 64], [0, 32]]", "ascend"),
        ("optimizer.resolution_steps=[[0, 4]]", "at least 8 pixels"),
        ("optimizer.resolution_steps=[[0, 64.5]]", "a list"),
        ("run.device=gpu", "no device"),
        ("run.seed=-1", "at least 0"),
        ("prior.name=''", "non-empty"),
        ("prior.reliability=0.3", "of the built-in exact prior, and the image model is builtin:learned"),
    ],
)
def test_impossible_values_are_refused(assignment, says):
    assert says in refused(assignment).message


def test_the_exact_prior_may_be_unreliable_under_its_earlier_name_too():
    exact = settings.to_dict(settings.resolve(sets=["prior.name=builtin:exact", "prior.reliability=0.3"]))
    exact["prior"]["name"] = "builtin"
    assert settings.from_dict(exact).prior.reliability == 0.3


def test_a_misspelt_choice_names_the_nearest():
    assert "ratio" in refused("region_sampling.indicator=rato").remedy
    assert "ratio, literal, level" in refused("region_sampling.indicator=xyz").remedy


def test_an_error_names_where_the_value_came_from(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[gradient_fusion]\ncap = -1\n")
    assert "mine.toml" in refused(toml_file=file).message
    assert "--set gradient_fusion.cap=-1" in refused("gradient_fusion.cap=-1").message


def test_timesteps_that_follow_no_schedule_need_no_order_of_start_and_end():
    """mode uniform takes neither: then only the range itself must be one, at any progress."""
    sets = ["timestep_sampling.mode=uniform", "timestep_sampling.clip_low=0.9"]
    assert settings.resolve(sets=sets).timestep_sampling.clip_low == 0.9
    assert "must be below" in refused(*sets, "timestep_sampling.clip_high=[[0, 0.98], [0.5, 0.95], [0.5, 0.9]]").message
    sets = ["timestep_sampling.clip_low=[[0, 0.5], [1, 0.02]]", "timestep_sampling.clip_high=[[0, 0.98], [1, 0.5]]"]
    assert settings.resolve(sets=sets).timestep_sampling.mode == "hybrid", "start and end lie within what is permitted at some time"


def test_cameras_anywhere_go_without_fusion():
    error = refused("grid.cameras=uniform")
    assert "--without gradient-fusion" in error.remedy
    assert settings.resolve(sets=["grid.cameras=uniform"], without=["gradient-fusion"]).grid.cameras == "uniform"
    assert settings.resolve(sets=["grid.cameras=orbit"]).gradient_fusion.enabled


def test_views_around_the_object_need_no_regions_to_share():
    assert settings.resolve(sets=["grid.cameras=orbit", "optimizer.views_per_region=3"]).optimizer.views == 4
