"""Presets, files, single settings and parts left out: each layer over the one before."""

import json
import math

import pytest

from backend import settings
from backend.config import GenerationConfig
from backend.errors import ConfigError


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


def test_a_runs_own_settings_are_a_file_like_any_other(tmp_path):
    """`config.json` holds every setting, so whatever the presets say, the run is repeated; what is said beside it is stronger."""
    config = settings.resolve("draft", "hifa", sets=["gradient_fusion.cap=inf", "guidance.ism_step=[[0, 0.2], [1, 0.1]]", "run.seed=7"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps(settings.to_dict(config) | {"made_by": {"version": "0.1.0"}}))
    assert settings.resolve("high", "cograd3d", file) == config
    assert settings.resolve("high", "cograd3d", file, ["run.seed=8"]).run.seed == 8


@pytest.mark.parametrize(("name", "text"), [("mine.toml", "[run]\r\nseed = 7\r\n"), ("mine.json", '{"run": {"seed": 7}}')])
def test_a_file_as_editors_on_windows_save_it(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert settings.resolve(toml_file=tmp_path / name).run.seed == 7


def test_a_file_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.toml").write_text("[run]\nseed = 7\n")
    assert settings.resolve(toml_file="~/mine.toml").run.seed == 7


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("deep.toml", "x = " + 20_000 * "[", "nested too deeply"),
        ("deep.json", 200_000 * "[", "nested too deeply"),
        ("long.toml", "[run]\nseed = " + 5000 * "9", "not valid TOML: Exceeds the limit"),
    ],
)
def test_files_that_no_parser_bears(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        settings.resolve(toml_file=tmp_path / name)


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


def test_quality_presets_are_ordered():
    draft, normal, high = (settings.resolve(name) for name in ("draft", "normal", "high"))
    for section, name in (("optimizer", "iterations"), ("surface", "resolution"), ("surface", "faces"), ("texture", "size")):
        values = [getattr(getattr(config, section), name) for config in (draft, normal, high)]
        assert values == sorted(set(values))


def test_changed_settings_are_others():
    config = settings.resolve("draft")
    other = settings.changed(config, {"run.seed": 7, "surface.faces": 500})
    assert (other.run.seed, other.surface.faces) == (7, 500)
    assert config == settings.resolve("draft")
    assert settings.changed(other, {"run.seed": 0, "surface.faces": config.surface.faces}) == config
    with pytest.raises(ConfigError, match="seed"):
        settings.changed(config, {"run.sed": 1})
