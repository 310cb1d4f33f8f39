"""The whole life of the extension in one Blender: install, enable, disable, enable, uninstall; nothing stays but what is the user's."""

from __future__ import annotations

import importlib
import sys
import threading
import zipfile
from pathlib import Path

import addon_utils
import bpy
import pytest

from backend import packaging
from tests.blender.extension_zip import EXTENSION

CLASS_KINDS = (
    *(bpy.types.Operator, bpy.types.Panel, bpy.types.Menu, bpy.types.Header, bpy.types.UIList, bpy.types.PropertyGroup),
    *(bpy.types.AddonPreferences, bpy.types.Gizmo, bpy.types.GizmoGroup, bpy.types.WorkSpaceTool, bpy.types.AssetShelf),
)
DATA_TYPES = ("Scene", "WindowManager", "Object", "Collection", "Material", "Mesh", "Screen", "Preferences")


def descendants(cls: type) -> set[type]:
    return {found for child in cls.__subclasses__() for found in {child} | descendants(child)}


def is_registered(cls: type) -> bool:
    # Blender's own classes come into being when somebody looks at them
    return not cls.__module__.startswith("bpy") and getattr(cls, "is_registered", False)


def registered() -> dict[str, set[str]]:
    """Everything that an extension can register with Blender, by kind."""
    keymaps = bpy.context.window_manager.keyconfigs.addon.keymaps if bpy.context.window_manager.keyconfigs.addon else ()
    return {
        "classes": {cls.__name__ for base in CLASS_KINDS for cls in descendants(base) if is_registered(cls)},
        "operators": {f"{module}.{name}" for module in dir(bpy.ops) for name in dir(getattr(bpy.ops, module))},
        "properties": {f"{name}.{entry.identifier}" for name in DATA_TYPES for entry in getattr(bpy.types, name).bl_rna.properties},
        "handlers": {
            f"{name}: {handler.__module__}.{handler.__qualname__}"
            for name in dir(bpy.app.handlers)
            if isinstance(getattr(bpy.app.handlers, name), list)
            for handler in getattr(bpy.app.handlers, name)
        },
        "menus": {
            f"{name}: {function.__module__}.{function.__qualname__}"
            for name in dir(bpy.types)
            for function in getattr(getattr(getattr(bpy.types, name), "draw", None), "_draw_funcs", ())
        },
        "keymap items": {f"{keymap.name}: {item.idname}" for keymap in keymaps for item in keymap.keymap_items},
        "threads": {thread.name for thread in threading.enumerate()},
    }


def added(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    return {kind: after[kind] - before[kind] for kind in before if after[kind] - before[kind]}


def extension_folder() -> Path:
    return Path(bpy.utils.user_resource("EXTENSIONS")) / "user_default" / "cograd3d"


def uninstall() -> None:
    repositories = [repository.module for repository in bpy.context.preferences.extensions.repos]
    bpy.ops.extensions.package_uninstall(repo_index=repositories.index("user_default"), pkg_id="cograd3d")


@pytest.fixture
def not_installed(installed: str, zip_file: Path, folders: Path):
    """A Blender without the extension; it is installed again afterwards, for the other tests."""
    uninstall()
    yield
    if extension_folder().exists():
        uninstall()
    bpy.ops.extensions.package_install_files(filepath=str(zip_file), repo="user_default", enable_on_install=False)


def test_the_zip_holds_what_was_selected(zip_file: Path) -> None:
    with zipfile.ZipFile(zip_file) as archive:
        assert sorted(archive.namelist()) == packaging.selection()
        sizes = {entry.filename: entry.compress_size for entry in archive.infolist()}
    weights = sum(size for name, size in sizes.items() if name.startswith("backend/embedded/weights/"))
    assert 1_000_000 < weights < 50_000_000
    assert sum(sizes.values()) - weights < 2_000_000


def test_life(not_installed: None, zip_file: Path, folders: Path) -> None:
    bare = registered()

    bpy.ops.extensions.package_install_files(filepath=str(zip_file), repo="user_default", enable_on_install=True)
    assert EXTENSION in bpy.context.preferences.addons
    full = added(bare, registered())
    assert {"CoGradSettings", "CoGradInterface", "CoGradPreferences"} <= full["classes"]
    assert {"Scene.cograd3d", "WindowManager.cograd3d"} <= full["properties"]
    assert "cograd3d.generate" in full["operators"]
    session = importlib.import_module(f"{EXTENSION}.cograd3d_addon.session")
    assert bpy.app.timers.is_registered(session.poll)

    bpy.ops.preferences.addon_disable(module=EXTENSION)
    assert added(bare, registered()) == {}
    assert not bpy.app.timers.is_registered(session.poll)

    bpy.ops.preferences.addon_enable(module=EXTENSION)
    assert added(bare, registered()) == full
    assert bpy.app.timers.is_registered(session.poll)

    (folders / "jobs" / "kept").mkdir(parents=True)
    uninstall()
    assert EXTENSION not in bpy.context.preferences.addons
    assert added(bare, registered()) == {}
    assert not extension_folder().exists()
    assert (folders / "jobs" / "kept").exists()


def test_without_preferences_it_says_where_to_enable_it(installed: str, folders: Path, capfd) -> None:
    """As `blender --addons` asks for it; it can be enabled as usual afterwards."""
    bare = registered()
    assert addon_utils.enable(installed, default_set=False) is None
    assert "Enable it there, under Add-ons" in "".join(capfd.readouterr())
    assert added(bare, registered()) == {}
    bpy.ops.preferences.addon_enable(module=installed)
    assert installed in bpy.context.preferences.addons
    bpy.ops.preferences.addon_disable(module=installed)


def test_preferences_that_cannot_be_used_are_taken_back(installed: str, folders: Path, monkeypatch) -> None:
    bare = registered()
    bpy.ops.preferences.addon_enable(module=installed)
    supervision = importlib.import_module(f"{installed}.cograd3d_addon.setup")
    bpy.ops.preferences.addon_disable(module=installed)
    with monkeypatch.context() as patch:
        patch.setattr(supervision.supervisor, "choose", lambda **folders: 1 / 0)
        with pytest.raises(RuntimeError):
            bpy.ops.preferences.addon_enable(module=installed)
    assert added(bare, registered()) == {}


def test_installing_a_new_version_over_an_enabled_one(addon, zip_file: Path) -> None:
    before = registered()
    bpy.ops.extensions.package_install_files(filepath=str(zip_file), repo="user_default", enable_on_install=True)
    assert EXTENSION in bpy.context.preferences.addons
    assert added(before, registered()) == {} == added(registered(), before)


def test_nothing_heavy_is_imported(addon) -> None:
    """torch and numba belong to the worker; in Blender they would cost seconds and fight with its libraries."""
    assert not {"torch", "numba", "scipy", "diffusers"} & set(sys.modules)
