"""Settings: layering, checks, names, and the round trip through JSON."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend import settings
from backend.config import RULES, GenerationConfig, value_at
from backend.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs" / "method.md"


def refused(*sets, **arguments):
    """The error of settings that must be refused."""
    with pytest.raises(ConfigError) as error:
        settings.resolve(sets=sets, **arguments)
    assert error.value.remedy
    return error.value


# Layers


def test_plain_defaults():
    assert settings.resolve(quality=None, method=None) == GenerationConfig()


def test_the_papers_method_is_the_default():
    assert settings.resolve(quality=None, method="cograd3d") == GenerationConfig()


def test_each_layer_overrides_the_one_before(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[optimizer]\niterations = 77\nviews = 3\n[gradient_fusion]\nenabled = true\ncap = inf\n[prior]\nname = "some/model"\n')
    draft = settings.resolve("draft")
    assert draft.optimizer.iterations == 400
    config = settings.resolve("draft", "annealed-only", file, ["optimizer.views=4", "region_sampling.enabled=true"], ["region-sampling"])
    assert config.surface == draft.surface  # quality preset
    assert config.timestep_sampling.mode == "annealed"  # method preset
    assert config.optimizer.iterations == 77  # the file, over the quality preset
    assert config.gradient_fusion.enabled  # the file, over the method preset
    assert config.gradient_fusion.cap == math.inf
    assert config.prior.name == "some/model"
    assert config.optimizer.views == 4  # --set, over the file
    assert not config.region_sampling.enabled  # --without, over --set


def test_resolving_leaves_the_defaults_alone():
    settings.resolve("high", sets=["optimizer.views=7"])
    assert settings.resolve(None, None) == GenerationConfig()


@pytest.mark.parametrize(
    "names", [["region-sampling", "timestep-sampling", "gradient-fusion"], ["A", "b", "C"], ["region_sampling", "B", "Gradient-Fusion"]]
)
def test_without(names):
    config = settings.resolve(without=names)
    enabled = [getattr(config, section).enabled for section in settings.COMPONENTS.values()]
    assert enabled == [False, False, False]


@pytest.mark.parametrize("kind", ["quality", "method"])
def test_every_preset_resolves_and_describes_itself(kind):
    known = settings.presets(kind)
    assert set(known) >= ({"draft", "normal", "high"} if kind == "quality" else {"cograd3d", "annealed-only"})
    for name, description in known.items():
        assert description
        assert settings.resolve(**{kind: name})


METHODS = {
    "dreamfusion": {
        "guidance.rule": "sds",
        "guidance.nominal_scale": 101.0,
        "timestep_sampling.mode": "uniform",
        "timestep_sampling.clip_low": 0.02,
        "timestep_sampling.clip_high": 0.98,
        "grid.elevation_edges": (-10.0, 45.0),
        "published_iterations": 10_000,
    },
    "textmesh": {
        "guidance.rule": "sds",
        "timestep_sampling.mode": "uniform",
        "timestep_sampling.clip_high": 0.98,
        "grid.elevation_edges": (-10.0, 72.0),
        "published_iterations": 10_000,
    },
    "gaussiandreamer": {
        "guidance.rule": "sds",
        "guidance.nominal_scale": 101.0,
        "guidance.clamp": {0: 1.5, 500 / 1200: 1.75, 1000 / 1200: 2.0, 1: 2.0},
        "timestep_sampling.mode": "uniform",
        "timestep_sampling.clip_low": 0.02,
        "timestep_sampling.clip_high": {0: 0.98, 499 / 1200: 0.98, 501 / 1200: 0.55, 1: 0.55},
        "densification.start": 300 / 1200,
        "densification.stop": 900 / 1200,
        "densification.grow_gradient": 2e-4,
        "grid.elevation_edges": (-10.0, 60.0),
        "published_iterations": 1_200,
    },
    "hifa": {
        "guidance.rule": "hifa",
        "guidance.nominal_scale": 100.0,
        "guidance.perp_neg": 1.0,
        "guidance.hifa_steps": 4,
        "guidance.hifa_image_weight": 0.1,
        "timestep_sampling.mode": "sqrt",
        "timestep_sampling.start": 0.98,
        "timestep_sampling.end": 0.30,
        "timestep_sampling.jitter": 0.0,
        "grid.elevation_edges": (-10.0, 45.0),
        "published_iterations": 10_000,
    },
    "perpneg": {
        "guidance.rule": "perp_neg",
        "guidance.nominal_scale": 101.0,
        "guidance.perp_neg": 1.0,
        "guidance.blend_views": True,
        "timestep_sampling.mode": "uniform",
        "timestep_sampling.clip_low": 0.02,
        "timestep_sampling.clip_high": 0.98,
        "grid.elevation_edges": (-10.0, 45.0),
        "published_iterations": 10_000,
    },
    "scaledreamer": {
        "guidance.rule": "asd",
        "guidance.nominal_scale": 7.5,
        "guidance.perp_neg": 0.5,
        "guidance.asd_shift": 0.1,
        "timestep_sampling.mode": "uniform",
        "timestep_sampling.clip_low": {0: 0.5, 0.5: 0.26, 1: 0.02},
        "timestep_sampling.clip_high": {0: 0.98, 0.5: 0.74, 1: 0.5},
        "grid.elevation_edges": (-10.0, 45.0),
        "published_iterations": 25_000,
    },
    "consistent3d": {
        "guidance.rule": "cds",
        "guidance.nominal_scale": {0: 101.0, 0.5: 76.0, 1: 51.0},
        "guidance.clamp": {0: 2.0, 1: 8.0},
        "guidance.cds_gap": (0.1, 0.3),
        "timestep_sampling.mode": "sqrt",
        "timestep_sampling.start": 0.7,
        "timestep_sampling.end": 0.1,
        "timestep_sampling.jitter": 0.0,
        "grid.elevation_edges": (-10.0, 45.0),
        "published_iterations": 3_000,
    },
    "luciddreamer": {
        "guidance.rule": "ism",
        "guidance.nominal_scale": 7.5,
        "guidance.ism_step": {0: 0.1, 750 / 5000: 0.09, 1500 / 5000: 0.08, 1: 0.08},
        "guidance.ism_stride": 0.2,
        "timestep_sampling.mode": "uniform",
        "timestep_sampling.clip_low": 0.02,
        "timestep_sampling.clip_high": {0: 0.98, 750 / 5000: 0.74, 1500 / 5000: 0.5, 1: 0.5},
        "densification.start": 100 / 5000,
        "densification.stop": 3000 / 5000,
        "densification.reset_every": 300 / 5000,
        "grid.elevation_edges": (-12.0, 45.0),
        "published_iterations": 5_000,
    },
}
"""What was published of each method of Table 1, by setting: a value, {progress: value} of a schedule, the range of the elevations."""

QUALITY_DECIDES = (
    *("optimizer.iterations", "optimizer.views", "optimizer.resolution_steps", "densification.every", "densification.max_count"),
    *("gaussians.count", "grid.fov", "grid.distance_edges", "guidance.scale", "prior.name", "prior.views"),
)
"""So that methods differ in nothing but their method."""


@pytest.mark.parametrize("method", METHODS)
def test_the_numbers_of_a_method_are_the_published_ones(method):
    config = settings.resolve("draft", method)
    for path, expected in METHODS[method].items():
        if path == "published_iterations":
            assert settings.method_information(method).published_iterations == expected
            continue
        section, name = path.split(".")
        value = getattr(getattr(config, section), name)
        if isinstance(expected, dict):
            assert {p: value_at(value, p) for p in expected} == pytest.approx(expected, abs=1e-3), path
        elif name == "elevation_edges":
            assert (value[0], value[-1]) == expected
        else:
            assert value == pytest.approx(expected), path


@pytest.mark.parametrize("method", METHODS)
def test_a_baseline_has_none_of_the_papers_parts(method):
    config = settings.resolve("draft", method)
    assert not config.region_sampling.enabled and not config.gradient_fusion.enabled
    assert config.grid.cameras == "uniform" and config.timestep_sampling.mode in ("uniform", "sqrt")


@pytest.mark.parametrize("method", settings.presets("method"))
@pytest.mark.parametrize("quality", settings.presets("quality"))
def test_methods_differ_in_nothing_but_their_method(method, quality):
    plain, config = settings.resolve(quality, None), settings.resolve(quality, method)
    for path in QUALITY_DECIDES:
        section, name = path.split(".")
        assert getattr(getattr(config, section), name) == getattr(getattr(plain, section), name), path


def test_textmesh_leaves_a_pixel_prior_its_published_scale():
    """nominal_scale is for a prior that recommends 100; a pixel prior recommends 20, and 21 was published with one."""
    nominal = settings.resolve("draft", "textmesh").guidance.nominal_scale
    assert 1 + (nominal - 1) * (20 - 1) / (100 - 1) == pytest.approx(21, abs=0.01)
    optimizer = settings.resolve("draft", "textmesh").optimizer
    assert min(optimizer.flatness, optimizer.depth_distortion, optimizer.normal_consistency) > 0


@pytest.mark.parametrize("method", settings.presets("method"))
def test_every_method_says_where_it_comes_from(method):
    information = settings.method_information(method)
    assert information.name == method and information.description == settings.presets("method")[method]
    assert re.search(r"\w+.* et al\.|\w+ and \w+", information.source)
    assert information.source[-1] != "." and len(information.description) < 120
    if method in METHODS:
        assert re.search(r" 20\d\d, ", information.source) and information.approximates.endswith(".")


def test_a_method_that_does_not_exist_has_no_information():
    with pytest.raises(ConfigError, match="dreamfusoin"):
        settings.method_information("dreamfusoin")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("perp_neg", ["0", "1", "[[0, 1], [0.5, 0]]"])
def test_any_rule_is_the_papers_base(rule, perp_neg):
    config = settings.resolve("draft", "cograd3d", sets=[f"guidance.rule={rule}", f"guidance.perp_neg={perp_neg}"])
    assert config.guidance.rule == rule and config.gradient_fusion.enabled and config.timestep_sampling.mode == "hybrid"


# Schedules


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


@pytest.mark.parametrize("method", settings.presets("method"))
def test_methods_survive_json(method):
    config = settings.resolve("draft", method)
    assert settings.from_dict(json.loads(json.dumps(settings.to_dict(config), allow_nan=False))) == config


def test_quality_presets_are_ordered():
    draft, normal, high = (settings.resolve(name) for name in ("draft", "normal", "high"))
    for section, name in (("optimizer", "iterations"), ("surface", "resolution"), ("surface", "faces"), ("texture", "size")):
        values = [getattr(getattr(config, section), name) for config in (draft, normal, high)]
        assert values == sorted(set(values))


def test_annealed_only_is_the_global_schedule_alone():
    config = settings.resolve(method="annealed-only")
    assert (config.region_sampling.enabled, config.gradient_fusion.enabled) == (False, False)
    assert (config.timestep_sampling.enabled, config.timestep_sampling.mode) == (True, "annealed")


# --set


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


# Names


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("gradient_fusion.capp", "gradient_fusion.cap"),
        ("fusion.cap", "gradient_fusion.cap"),
        ("cap", "gradient_fusion.cap"),
        ("optimizer.iteration", "optimizer.iterations"),
        ("optimiser.iterations", "optimizer.iterations"),
        ("regon_sampling.uniform_flor", "region_sampling.uniform_floor"),
        ("gradient_fusion.momentum", "timestep_sampling.momentum"),
    ],
)
def test_unknown_settings_name_the_nearest(name, suggestion):
    error = refused(f"{name}=1")
    assert repr(name) in error.message
    assert suggestion in error.remedy


def test_what_resembles_nothing_lists_the_sections():
    assert "gradient_fusion" in refused("qqq.zzz=1").remedy


def test_unknown_names_in_a_file_name_the_file(tmp_path):
    file = tmp_path / "mine.toml"
    for text, suggestion in (
        ("[gradient_fusion]\ncapp = 1", "gradient_fusion.cap"),
        ("cap = 1", "gradient_fusion.cap"),
        ("gradient_fusion = 1", "gradient_fusion.enabled"),
        ("[gradient_fuson]", "gradient_fusion"),
    ):
        file.write_text(text)
        error = refused(toml_file=file)
        assert "mine.toml" in error.message
        assert suggestion in error.remedy


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        ({"quality": "norml"}, "normal"),
        ({"method": "cograd"}, "cograd3d"),
        ({"without": ["region"]}, "region-sampling"),
        ({"without": ["D"]}, "A, B, C"),
    ],
)
def test_unknown_presets_and_components(arguments, suggestion):
    assert suggestion in refused(**arguments).remedy


@pytest.mark.parametrize("name", ["../config", "quality/draft", ""])
def test_presets_are_names_and_not_paths(name):
    refused(method=name)


def test_unreadable_files(tmp_path):
    refused(toml_file=tmp_path / "missing.toml")
    refused(toml_file=tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_text("[optimizer\n")
    assert "line 1" in refused(toml_file=broken).message
    broken.write_bytes(b"\xff\xfe")
    refused(toml_file=broken)


# Values


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("optimizer.iterations=1.5", "whole number"),
        ("optimizer.iterations=true", "whole number"),
        ("optimizer.iterations=many", "whole number"),
        ("optimizer.iterations=0", "at least 1"),
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
    ],
)
def test_impossible_values_are_refused(assignment, says):
    assert says in refused(assignment).message


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


# The catalogue


def test_every_declared_default_passes_its_own_checks():
    for setting in settings.catalogue().values():
        assert settings._checked(setting, setting.default, "") == setting.default
        assert setting.help
    settings.check(GenerationConfig())


def test_the_catalogue_has_every_field():
    config = GenerationConfig()
    assert list(settings.catalogue()) == [f"{s}.{f.name}" for s in config.sections() for f in dataclasses.fields(getattr(config, s))]


# Plain data


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


def test_settings_need_the_standard_library_only():
    script = "import sys, backend.settings as s; s.resolve(); print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=DOCS.parents[1])
    assert done.stdout.strip() == "[]"


# The documentation


@pytest.mark.parametrize("section", ["grid", "region_sampling", "timestep_sampling", "gradient_fusion"])
def test_the_documented_defaults_are_the_real_ones(section):
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| `([^`]*)` \|", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for path, setting in settings.catalogue().items():
        if setting.section == section:
            assert path in rows, f"docs/method.md does not list {path}"
            _, _, value = settings.parse_assignment(f"{path}={rows[path]}")
            assert settings._checked(setting, value, "docs/method.md") == setting.default, path


def test_changed_settings_are_others():
    config = settings.resolve("draft")
    other = settings.changed(config, {"run.seed": 7, "surface.faces": 500})
    assert (other.run.seed, other.surface.faces) == (7, 500)
    assert config == settings.resolve("draft")
    assert settings.changed(other, {"run.seed": 0, "surface.faces": config.surface.faces}) == config
    with pytest.raises(ConfigError, match="seed"):
        settings.changed(config, {"run.sed": 1})
