"""The catalogue of settings, beside the fields, the checks and the documentation; it costs no library."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backend import settings
from backend.config import GenerationConfig

DOCS = Path(__file__).parents[3] / "docs" / "method.md"


def test_every_declared_default_passes_its_own_checks():
    for setting in settings.catalogue().values():
        assert settings._checked(setting, setting.default, "") == setting.default
        assert setting.help
    settings.check(GenerationConfig())


def test_the_catalogue_has_every_field():
    config = GenerationConfig()
    assert list(settings.catalogue()) == [f"{s}.{f.name}" for s in config.sections() for f in dataclasses.fields(getattr(config, s))]


@pytest.mark.parametrize("section", ["grid", "region_sampling", "timestep_sampling", "gradient_fusion"])
def test_the_documented_defaults_are_the_real_ones(section):
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| `([^`]*)` \|", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    for path, setting in settings.catalogue().items():
        if setting.section == section:
            assert path in rows, f"docs/method.md does not list {path}"
            _, _, value = settings.parse_assignment(f"{path}={rows[path]}")
            assert settings._checked(setting, value, "docs/method.md") == setting.default, path


def test_settings_need_the_standard_library_only():
    script = "import sys, backend.settings as s; s.resolve(); print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=DOCS.parents[1])
    assert done.stdout.strip() == "[]"
