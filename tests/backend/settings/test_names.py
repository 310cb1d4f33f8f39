"""Settings, presets, parts and files that do not exist: the nearest that does is named."""

import pytest

from .refusals import refused


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
    assert "UTF-8" in refused(toml_file=broken).message
    broken = tmp_path / "broken.json"
    for text, says in (
        ('{"optimizer": ', "not valid JSON"),
        ("[]", "no sections"),
        ('{"optimizer": {"iterations": "many"}}', "broken.json"),
    ):
        broken.write_text(text)
        assert says in refused(toml_file=broken).message
