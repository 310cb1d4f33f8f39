"""The panel's choices become a request, and a request becomes the panel's choices again."""

from __future__ import annotations

import dataclasses

import pytest
from cograd3d.backend import settings
from cograd3d.backend.errors import ConfigError, PriorError
from cograd3d.backend.request import make_request
from cograd3d.cograd3d_addon.settings.choices import Choices, choices_of, lower_quality, one_line, refusal

FULL = Choices(
    prompt="a red cat",
    negative_prompt="blue",
    prior_source="HUB",
    prior_hub="owner/model",
    quality="draft",
    method="cograd3d-literal",
    seed=7,
    faces=1234,
    texture_size=256,
    overrides={"optimizer.iterations": 60, "guidance.scale": 12.5},
)


def again(choices, **options):
    spec, config = choices.request(**options)
    return choices_of(spec, settings.to_dict(config))


@pytest.mark.parametrize(
    "choices",
    [
        Choices(prompt="a red cat"),
        Choices(prompt="a red cat", prior_source="EXACT"),
        FULL,
        dataclasses.replace(FULL, prior_source="FILE", prior_hub="", prior_path="/models/some.safetensors"),
        dataclasses.replace(FULL, prior_source="FOLDER", prior_hub="", prior_path="/models/some"),
    ],
    ids=lambda choices: choices.prior_source,
)
def test_there_and_back(choices):
    assert again(choices) == choices
    assert choices.request() == again(choices).request()


def test_a_request_says_everything():
    spec, config = FULL.request()
    assert (spec.prompt, spec.negative_prompt, spec.quality, spec.method) == ("a red cat", "blue", "draft", "cograd3d-literal")
    assert (config.prior.name, config.run.seed, config.surface.faces, config.texture.size) == ("owner/model", 7, 1234, 256)
    assert (config.optimizer.iterations, config.guidance.scale) == (60, 12.5)
    assert not config.prior.allow_download
    assert dataclasses.replace(FULL, allow_download=True).request()[1].prior.allow_download


@pytest.mark.parametrize("name", ["builtin", "builtin:learned", "builtin:exact"])
def test_the_built_in_models(name):
    spec, config = make_request("a red cat", overrides={"prior.name": name})
    found = choices_of(spec, settings.to_dict(config))
    assert found.is_builtin and not found.overrides
    assert found.prior_source == ("EXACT" if name == "builtin:exact" else "BUILTIN")
    assert found.request()[1] == config


def test_what_the_panel_does_not_offer_is_not_lost():
    spec, config = make_request("a red cat", overrides={"texture.size": 128, "run.seed": 3})
    found = choices_of(spec, settings.to_dict(config))
    assert found.overrides == {"texture.size": 128} and found.texture_size == 0
    assert found.request()[1] == config


def test_consent_to_download_is_asked_anew():
    assert not again(dataclasses.replace(FULL, allow_download=True)).allow_download


def test_a_shape_to_start_from(tmp_path):
    spec, config = FULL.request(tmp_path / "shape.ply")
    assert config.gaussians.initial == spec.initial == str(tmp_path / "shape.ply")
    assert choices_of(spec, settings.to_dict(config)).overrides["gaussians.initial"] == str(tmp_path / "shape.ply")


def test_what_a_settings_file_and_a_switch_changed_is_shown_as_changes(tmp_path):
    from cograd3d.backend.request import make_request

    file = tmp_path / "mine.toml"
    file.write_text("[optimizer]\niterations = 77\n")
    spec, config = make_request("a red cat", quality="draft", settings_file=file, without=("gradient-fusion",))
    found = choices_of(spec, settings.to_dict(config))
    assert found.overrides["optimizer.iterations"] == 77
    assert found.overrides["gradient_fusion.enabled"] is False
    file.unlink()
    assert settings.to_dict(found.request()[1]) == settings.to_dict(config)


@pytest.mark.parametrize(
    ("method", "lines", "filled_in", "expected"),
    [
        ("cograd3d", "", 0.0, None),
        ("cograd3d", "rule = 'perp_neg'", 1.0, None),
        ("cograd3d", "rule = 'perp_neg'\nperp_neg = 0", 0.0, 0.0),
        ("cograd3d", "perp_neg = 0.5", 0.5, 0.5),
        ("perpneg", "", 1.0, None),
        ("perpneg", "perp_neg = 0", 0.0, 0.0),
        ("scaledreamer", "perp_neg = 'auto'", 0.0, 0.0),
    ],
)
def test_what_the_rule_fills_in_is_no_change(method, lines, filled_in, expected, tmp_path):
    from cograd3d.backend.request import make_request

    file = tmp_path / "mine.toml"
    file.write_text(f"[guidance]\n{lines}\n")
    spec, config = make_request("a red cat", method=method, settings_file=file)
    config.guidance.perp_neg = filled_in  # as the run does
    assert choices_of(spec, settings.to_dict(config)).overrides.get("guidance.perp_neg") == expected


def test_a_job_of_presets_that_are_no_more():
    spec, config = Choices(prompt="a cat").request()
    found = choices_of(dataclasses.replace(spec, quality="gorgeous", method="magic"), settings.to_dict(config))
    assert (found.quality, found.method) == ("normal", "cograd3d")


def test_line_ends_of_the_text_box_do_not_reach_the_backend():
    assert one_line(" a red\n\tcat  sitting ") == "a red cat sitting"
    assert Choices(prompt="a red\ncat").request()[0].prompt == "a red cat"


@pytest.mark.parametrize("source", ["FOLDER", "FILE", "HUB"])
def test_a_model_that_was_not_chosen(source):
    with pytest.raises(PriorError) as caught:
        Choices(prompt="a cat", prior_source=source).request()
    assert caught.value.remedy


def test_a_setting_that_cannot_be():
    with pytest.raises(ConfigError):
        Choices(prompt="a cat", overrides={"optimizer.iterations": -1}).request()


def test_lower_quality():
    assert [lower_quality(quality) for quality in ("high", "normal", "draft", "gorgeous")] == ["normal", "draft", None, "draft"]


def why(choices, **changes):
    facts = {"wants_object": False, "has_object": False, "hint": "", "problem": None} | changes
    return refusal(choices, **facts)


def test_generate_is_grey_for_a_reason():
    fine = Choices(prompt="a red cat")
    assert why(fine) == ""
    reasons = [
        why(Choices(prompt=" \n ")),
        why(fine, hint="The built-in model does not know the word “dinosaur”."),
        why(fine, problem=("Too few iterations.", "Take more.")),
        why(fine, wants_object=True),
        why(dataclasses.replace(fine, overrides={"gaussians.initial": "/a.ply"}), wants_object=True, has_object=True),
        why(dataclasses.replace(fine, prior_source="HUB")),
    ]
    assert all(reasons)
    assert len(set(reasons)) == len(reasons)
    assert not any(reason.endswith(".") for reason in reasons)
    assert why(fine, wants_object=True, has_object=True) == ""
