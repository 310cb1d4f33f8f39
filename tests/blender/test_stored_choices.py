"""What is chosen from a menu is stored as a number, in .blend files and in Blender's preferences: in every version the same number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from tests.blender.extension_zip import EXTENSION
from tests.blender.layouts import draw

NUMBERS = {
    "CoGradSettings": {
        "prior_source": {"BUILTIN": 0, "FOLDER": 1, "FILE": 2, "HUB": 3, "EXACT": 4},
        "quality": {"draft": 0, "normal": 1, "high": 2},
        "method": {
            "cograd3d": 0,
            "cograd3d-literal": 1,
            "annealed-only": 2,
            "dreamfusion": 3,
            "perpneg": 4,
            "hifa": 5,
            "textmesh": 6,
            "gaussiandreamer": 7,
            "luciddreamer": 8,
            "consistent3d": 9,
            "scaledreamer": 10,
        },
        "texture_size": {"0": 0, "256": 1, "512": 2, "1024": 3, "2048": 4, "4096": 5, "8192": 6},
        "initial_source": {"NONE": 0, "SELECTED": 1},
    },
    "CoGradInterface": {
        "job_filter": {"ALL": 0, "ACTIVE": 1, "FINISHED": 2, "UNFINISHED": 3},
        "measure": {"indicator": 0, "probability": 1, "loss": 2, "visits": 3, "timestep": 4},
    },
    "CoGradPreferences": {
        "on_quit": {"STOP": 0, "KEEP": 1},
        "colour_scale": {"VIRIDIS": 0, "CIVIDIS": 1, "INFERNO": 2, "CUSTOM": 3},
    },
}
"""Files out there have these. A new item gets a new number, one that is taken out keeps its own."""

SHORTCUTS = {
    "region_weight.action": ["BOOST", "CALM", "FREEZE", "RESET"],
    "region_select_all.action": ["ALL", "NONE", "LAGGING"],
    "region_step.to": ["WORST", "NEXT", "PREVIOUS"],
    "export_result.format": ["GLB", "FBX", "USD", "OBJ", "ABC", "PLY", "STL"],
    "open_folder.which": ["ENVIRONMENT", "JOBS", "CACHE"],
    "choose_model.source": ["BUILTIN", "FOLDER", "FILE", "HUB", "EXACT"],
}
"""Of operators: a shortcut or a favourite of the user's has the number, counted from 0 in this order."""


def classes(addon_module) -> dict[str, type]:
    return {
        "CoGradSettings": addon_module("properties").CoGradSettings,
        "CoGradInterface": addon_module("properties").CoGradInterface,
        "CoGradPreferences": addon_module("preferences").CoGradPreferences,
    }


def enums(kind: Any) -> dict[str, dict[str, int]]:
    """{property: {identifier: number}} as Blender has it."""
    return {
        one.identifier: {item.identifier: item.value for item in one.enum_items} for one in kind.bl_rna.properties if one.type == "ENUM"
    }


def test_the_numbers_are_those_of_every_version(addon_module):
    assert {name: enums(kind) for name, kind in classes(addon_module).items()} == NUMBERS


def test_they_do_not_depend_on_the_order_of_the_menu(addon_module):
    """Each item says its own."""
    for kind in classes(addon_module).values():
        for name in enums(kind):
            items = kind.__annotations__[name].keywords["items"]
            assert all(len(item) == 4 and isinstance(item[3], int) for item in items), name


def test_shortcuts(addon):
    found = {}
    for operator in dir(bpy.ops.cograd3d):
        for one in getattr(bpy.ops.cograd3d, operator).get_rna_type().properties:
            if one.type == "ENUM":
                assert [item.value for item in one.enum_items] == list(range(len(one.enum_items)))
                found[f"{operator}.{one.identifier}"] = [item.identifier for item in one.enum_items]
    assert found == SHORTCUTS


def test_a_file_means_the_same_when_a_later_version_lists_them_otherwise(addon, addon_module, monkeypatch, tmp_path):
    file = str(tmp_path / "file.blend")
    bpy.context.scene.cograd3d.method = "perpneg"
    bpy.ops.wm.save_as_mainfile(filepath=file)
    methods = addon_module("settings.methods")
    monkeypatch.setattr(methods, "NAMES", {name: methods.NAMES[name] for name in sorted(methods.NAMES)})
    methods.methods.cache_clear()
    later = bpy.props.EnumProperty(name="Method", items=addon_module("properties")._method_items())
    methods.methods.cache_clear()
    kind = type("LaterSettings", (bpy.types.PropertyGroup,), {"__annotations__": {"method": later}})
    bpy.ops.preferences.addon_disable(module=EXTENSION)
    bpy.utils.register_class(kind)
    bpy.types.Scene.cograd3d = bpy.props.PointerProperty(type=kind)
    try:
        bpy.ops.wm.open_mainfile(filepath=file)
        assert next(iter(enums(kind)["method"])) != "cograd3d", "it is the same menu"
        assert bpy.context.scene.cograd3d.method == "perpneg"
    finally:
        del bpy.types.Scene.cograd3d
        bpy.utils.unregister_class(kind)


class TestFileOfALaterVersion:
    @pytest.fixture
    def file(self, addon, tmp_path):
        """Its menus have items that are not in those of this version."""
        file, chosen = str(tmp_path / "file.blend"), bpy.context.scene.cograd3d
        chosen.prompt, chosen.height = "a red cat", 2.0
        bpy.ops.preferences.addon_disable(module=EXTENSION)
        later = {name: bpy.props.EnumProperty(items=[("LATER", "Later", "", 77)]) for name in NUMBERS["CoGradSettings"]}
        kind = type("LaterSettings", (bpy.types.PropertyGroup,), {"__annotations__": later})
        bpy.utils.register_class(kind)
        bpy.types.Scene.cograd3d = bpy.props.PointerProperty(type=kind)
        for name in later:
            setattr(bpy.context.scene.cograd3d, name, "LATER")
        bpy.ops.wm.save_as_mainfile(filepath=file)
        del bpy.types.Scene.cograd3d
        bpy.utils.unregister_class(kind)
        return file

    @pytest.fixture
    def panels(self, addon_module):
        """Of what is chosen: all that they say."""

        def panels() -> str:
            main, advanced = addon_module("ui.main"), addon_module("ui.advanced")
            return " ".join(draw(kind).text for kind in (*main.CLASSES, advanced.COGRAD3D_PT_advanced))

        return panels

    def check(self, panels):
        chosen = bpy.context.scene.cograd3d
        assert (chosen.prompt, chosen.height) == ("a red cat", 2.0)
        assert (chosen.method, chosen.quality, chosen.prior_source) == ("cograd3d", "normal", "BUILTIN")
        assert chosen.choices().method == "cograd3d"
        drawn = panels()
        assert "later version" in drawn and "Image Model, Quality, Method, Texture, Start From" in drawn

    def test_what_is_not_known_is_chosen_anew_and_told(self, file, panels):
        bpy.ops.preferences.addon_enable(module=EXTENSION)
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        assert "later version" not in panels()
        bpy.ops.wm.open_mainfile(filepath=file)
        self.check(panels)
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        assert "later version" not in panels()

    def test_also_where_the_extension_is_enabled_after_it_was_opened(self, file, panels, addon_module):
        bpy.ops.preferences.addon_enable(module=EXTENSION)
        addon_module("later_files").look()  # which Blender's timer does
        self.check(panels)

    def test_a_script_finds_it_done(self, file, panels, addon_module, monkeypatch):
        bpy.ops.preferences.addon_enable(module=EXTENSION)
        monkeypatch.setattr(addon_module("session"), "has_timer", lambda: False)
        bpy.ops.cograd3d.generate.poll()
        self.check(panels)

    def test_so_it_is_with_the_preferences_and_with_what_the_startup_file_has(self, addon, addon_module, monkeypatch):
        """An earlier version is installed again."""
        later_files, unset = addon_module("later_files"), []

        def stored(name: str, value: str) -> SimpleNamespace:
            menu = SimpleNamespace(type="ENUM", identifier=name, name=name)
            rna = SimpleNamespace(properties=[menu])
            return SimpleNamespace(bl_rna=rna, property_unset=unset.append, **{name: value})

        monkeypatch.setattr(later_files, "preferences", lambda: stored("colour_scale", ""))
        later_files.choose_anew()
        monkeypatch.setattr(later_files, "preferences", lambda: stored("on_quit", "KEEP"))
        later_files.choose_anew()
        assert unset == ["colour_scale"] and later_files.notice() == ""
