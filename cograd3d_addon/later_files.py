"""Files and preferences of a later version of CoGrad3D: what was chosen from a menu there may not be in the menu here."""

from __future__ import annotations

import logging
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .package import preferences

_notice = ""
_has_looked = False
_log = logging.getLogger(__name__)


def notice() -> str:
    """What had to be chosen anew in the open file, in sentences for the user; empty where nothing had to."""
    return _notice


def look() -> None:
    """Look at the open file, if that has not been done: while Blender enables an extension, it hides the file from it."""
    if not _has_looked:
        choose_anew()


@persistent
def choose_anew(*_: Any) -> None:
    """Choose what is chosen at first wherever something is stored that is not in the menu: else nothing could be drawn or ordered."""
    global _notice, _has_looked
    _has_looked = hasattr(bpy.data, "scenes")
    names = dict.fromkeys(name for scene in getattr(bpy.data, "scenes", ()) for name in _unset_unknown(scene.cograd3d))
    _notice = ""
    if names:
        _notice = f"This file was saved by a later version of CoGrad3D. Not known here, and to be chosen anew: {', '.join(names)}."
        _log.warning(_notice)
    _unset_unknown(preferences())
    for manager in getattr(bpy.data, "window_managers", ()):
        _unset_unknown(manager.cograd3d)  # the startup file keeps it


def _unset_unknown(owner: bpy.types.bpy_struct) -> list[str]:
    """Give menus whose item is not known their default; their names."""
    unknown = [menu for menu in owner.bl_rna.properties if menu.type == "ENUM" and not getattr(owner, menu.identifier)]
    for menu in unknown:
        owner.property_unset(menu.identifier)
    return [menu.name for menu in unknown]


def register() -> None:
    """Look at the open file, at the preferences, and at every other file that is opened. While Blender starts no file is open yet."""
    bpy.app.handlers.load_post.append(choose_anew)
    choose_anew()
    if not _has_looked:
        bpy.app.timers.register(look, first_interval=0.0)


def unregister() -> None:
    """Undo `register`."""
    global _notice, _has_looked
    _notice, _has_looked = "", False
    if bpy.app.timers.is_registered(look):
        bpy.app.timers.unregister(look)
    if choose_anew in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(choose_anew)
