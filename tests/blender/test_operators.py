"""All operators, whatever they do: each is explained, has a button, says why it is grey, and is tried by a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import bpy
import pytest

from tests.blender.refusals import why_grey

TESTS = Path(__file__).parents[1]
INDIRECT = {
    "region_menu": ("screen/scenarios/region_gizmos.py", 'button="RIGHTMOUSE"'),
    "show_environment": ("blender/test_jobs.py", '("show_environment", "addon_show")'),
    "allow_online_access": ("blender/test_jobs.py", '("allow_online_access", "userpref_show")'),
}
"""Operators that no test calls by name: the file that has one called all the same, and what is to be found in it."""
BY_THEMSELVES = {"bring_result"}
"""Operators that no button has."""


def operators() -> set[str]:
    """Every operator of the extension, without the prefix."""
    return set(dir(bpy.ops.cograd3d))


def called_in_tests() -> set[str]:
    """The operators that tests in Blender call, and those whose buttons tests on the screen press. To ask `poll` is no call."""
    texts = [path.read_text(encoding="utf-8") for folder in ("blender", "screen") for path in (TESTS / folder).rglob("*.py")]
    calls = re.findall(r"\bops(?:\.cograd3d)?\.(\w+)\(|\bpress\(f?\"cograd3d\.(\w+)", "\n".join(texts))
    return {called or pressed for called, pressed in calls}


def mentioned(path: Path) -> set[str]:
    """The operators that a module names: on buttons, in tables of buttons, for the keymaps; not where they are defined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "bl_idname" for target in node.targets)
    }
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in definitions]
    return {found[1] for text in texts if isinstance(text, str) and (found := re.fullmatch(r"cograd3d\.(\w+)", text))}


def test_each_is_explained(addon):
    assert len(operators()) > 40
    for name in operators():
        rna = getattr(bpy.ops.cograd3d, name).get_rna_type()
        description = rna.description
        assert len(description) > 15, f"{name} has no description"
        assert not description.endswith("."), f"{name}: Blender adds the full stop"
        for prop in rna.properties:
            if prop.identifier != "rna_type" and not prop.is_hidden:
                assert prop.description, f"{name}.{prop.identifier} has no description"


def test_each_is_tried_by_a_test(addon):
    called = called_in_tests()
    assert not called & INDIRECT.keys(), "the list is to hold no more than it must"
    for name, (file, words) in INDIRECT.items():
        assert words in (TESTS / file).read_text(encoding="utf-8"), f"{file} does not try {name} any more"
    assert operators() - called - INDIRECT.keys() == set()


def test_each_can_be_found_and_what_can_be_found_is_there(addon, addon_module):
    """A button of an operator that is not registered would be missing without a word."""
    named = set().union(*(mentioned(path) for path in Path(addon.__file__).parent.rglob("*.py")))
    tables = (*(action.operator for action in addon_module("settings.remedies").Action), *addon_module("preferences")._REMOVERS.values())
    assert {idname.removeprefix("cograd3d.") for idname in tables} <= named
    assert named | BY_THEMSELVES == operators()


def test_each_that_is_grey_in_a_fresh_file_says_why(addon, addon_module, monkeypatch, tmp_path):
    """Without an environment, a job, an object or anything else."""
    monkeypatch.delenv("COGRAD3D_PYTHON", raising=False)
    monkeypatch.setenv("COGRAD3D_ENV", str(tmp_path / "none"))
    addon_module("setup").supervisor.refresh()
    addon_module("operators.ordering").prompt_history.cache_clear()
    grey = [name for name in sorted(operators()) if not getattr(bpy.ops.cograd3d, name).poll()]
    assert len(grey) > 25
    silent = [name for name in grey if "context is incorrect" in why_grey(getattr(bpy.ops.cograd3d, name))]
    assert not silent


def test_a_grey_operator_without_a_reason_would_be_noticed():
    with pytest.raises(RuntimeError, match="context is incorrect"):
        bpy.ops.mesh.subdivide()
