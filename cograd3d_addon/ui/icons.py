"""Pictures of jobs in the interface: previews and thumbnails, loaded between redraws and kept in small number.

A panel asks for a picture while it is drawn and gets what is there, at once; what is missing or out of date is read by a timer right
afterwards, one file a call, and the viewports are drawn anew.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import bpy
import bpy.utils.previews
import numpy as np

from .. import session
from ..importing.undo import is_file_locked

MOST = 48
"""How many pictures are kept; those not shown for the longest time go first."""

_LARGEST = 512
_MENU_PIXELS = 32
_DELAY = 0.02
_PATIENCE = 0.5
"""Seconds between looks whether the file is free again: reading a picture makes an image in it for a moment."""

_log = logging.getLogger(__name__)


@dataclass
class _Picture:
    """A picture in memory. `version` is what its asker said; -1: not read yet."""

    icon: int = 0
    version: int = -1


_previews: bpy.utils.previews.ImagePreviewCollection | None = None
_pictures: OrderedDict[tuple[str, str], _Picture] = OrderedDict()
_wanted: OrderedDict[tuple[str, str], int] = OrderedDict()


def icon(path: Path, version: int, *, part: str = "") -> int:
    """The icon of a picture file, for `template_icon` and `icon_value`; 0 until it has been read, or if it cannot be.

    Args:
        path: a PNG file; need not exist.
        version: another number says that the file has changed.
        part: "" the whole; "first" only the first of the square pictures that stand side by side in it; "pairs" those in two rows.
    """
    key = (str(path), part)
    picture = _pictures.get(key)
    if picture is None or picture.version != version:
        _wanted[key] = version
        if not bpy.app.timers.is_registered(_load_in_turn):
            bpy.app.timers.register(_load_in_turn, first_interval=_DELAY, persistent=True)
    if picture is None:
        return 0
    _pictures.move_to_end(key)
    return picture.icon


def _load_in_turn() -> float | None:
    if is_file_locked():
        return _PATIENCE
    if _wanted and _previews is not None:
        _load_next()
        session.redraw()
    return _DELAY if _wanted else None


def _load_next() -> None:
    key, version = _wanted.popitem(last=False)
    picture = _pictures.setdefault(key, _Picture())
    picture.version = version
    pixels = _read(Path(key[0]))
    if pixels is not None:
        picture.icon = _show(key, arranged(pixels, key[1]))
    _pictures.move_to_end(key)
    while len(_pictures) > MOST:
        dropped, old = _pictures.popitem(last=False)
        if old.icon and _previews is not None:
            del _previews[_name(dropped)]


def _read(path: Path) -> np.ndarray | None:
    """[H, W, 4] float32, the bottom row first, as displayed; None if the file cannot be read."""
    if not path.is_file():
        return None
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        _log.warning("%s", error)
        return None
    try:
        width, height = image.size
        if not (0 < width <= 4 * _LARGEST and 0 < height <= 4 * _LARGEST):
            return None
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)


def arranged(pixels: np.ndarray, part: str) -> np.ndarray:
    """The part of a picture [H, W, 4] (bottom row first) that `icon` describes, at most `_LARGEST` pixels wide and high."""
    height, width = pixels.shape[:2]
    count = width // height
    if part == "first":
        pixels = pixels[:, :height]
    elif part == "pairs" and count > 1:
        columns = -(-count // 2)
        rows = [pixels[:, row * columns * height : (row + 1) * columns * height] for row in (1, 0)]
        sheet = np.ones((2 * height, columns * height, 4), np.float32)
        for row, picture in enumerate(rows):
            sheet[row * height : (row + 1) * height, : picture.shape[1]] = picture
        pixels = sheet
    step = -(-max(pixels.shape[:2]) // _LARGEST)
    return np.ascontiguousarray(pixels[::step, ::step])


def _show(key: tuple[str, str], pixels: np.ndarray) -> int:
    """Put pixels into the preview of that name, an existing one in place; returns its icon."""
    name = _name(key)
    assert _previews is not None, "pictures are shown only between register and unregister"
    preview = _previews.get(name) or _previews.new(name)
    height, width = pixels.shape[:2]
    preview.image_size = width, height
    preview.image_pixels_float.foreach_set(pixels.ravel())
    step = max(1, max(width, height) // _MENU_PIXELS)
    small = np.ascontiguousarray(pixels[::step, ::step])
    preview.icon_size = small.shape[1], small.shape[0]
    preview.icon_pixels_float.foreach_set(small.ravel())
    return preview.icon_id


def _name(key: tuple[str, str]) -> str:
    return "|".join(key)


def register() -> None:
    """Begin with no pictures."""
    global _previews
    _previews = bpy.utils.previews.new()


def unregister() -> None:
    """Free all pictures."""
    global _previews
    if bpy.app.timers.is_registered(_load_in_turn):
        bpy.app.timers.unregister(_load_in_turn)
    _wanted.clear()
    _pictures.clear()
    previews, _previews = _previews, None
    if previews is not None:
        bpy.utils.previews.remove(previews)
