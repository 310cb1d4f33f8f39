"""Imported objects for Blender's asset browser: marked, with picture, description and tags."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import metadata

TAG = "CoGrad3D"

_BEST_AZIMUTH, _BEST_ELEVATION = 330.0, 20.0
"""Degrees. From the front, a little from the side and from above: how things are recognised."""

_SMALL_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "into", "made", "of", "on", "one", "or", "the", "to", "with", "without")
)


def mark_as_asset(thing: bpy.types.Object, jobs_folder: Path) -> None:
    """Mark an imported object as an asset.

    Its picture is one of its job's, taken by the worker; where the job folder is gone, Blender draws one itself, in a moment.

    Args:
        thing: the object.
        jobs_folder: where the job folders are.
    """
    data = thing[metadata.KEY]
    thing.asset_mark()
    asset = thing.asset_data
    asset.description = str(data.get("prompt", ""))
    for tag in tags(str(data.get("prompt", ""))):
        asset.tags.new(tag, skip_if_exists=True)
    picture = best_view(data, jobs_folder / str(data.get("job", "")))
    if picture is not None:
        _set_preview(thing, picture)
    elif not bpy.app.background:
        thing.asset_generate_preview()


def tags(prompt: str) -> list[str]:
    """Words to find an asset by: the add-on's name and the words of its prompt, small ones left out."""
    words = re.findall(r"\w+", prompt.lower())
    return list(dict.fromkeys([TAG, *(word for word in words if word not in _SMALL_WORDS)]))[:16]


def best_view(data: Mapping[str, Any], folder: Path) -> Path | None:
    """The picture of the region that shows most of the asset; None if there is none."""
    try:
        regions = json.loads(data["regions"])
        azimuth, elevation = (np.array(regions[name], dtype=np.float64) for name in ("azimuth", "elevation"))
        turn = np.abs((azimuth - _BEST_AZIMUTH + 180.0) % 360.0 - 180.0)
        order = np.argsort(turn + np.abs(elevation - _BEST_ELEVATION), kind="stable")
    except (KeyError, TypeError, ValueError):
        return None
    paths = (folder / "views" / f"region-{region:03d}.png" for region in order)
    return next((path for path in paths if path.is_file()), None)


def _set_preview(thing: bpy.types.Object, picture: Path) -> None:
    image = bpy.data.images.load(str(picture), check_existing=False)
    try:
        pixels = np.empty(len(image.pixels), dtype=np.float32)
        image.pixels.foreach_get(pixels)
        preview = thing.preview_ensure()
        preview.image_size = image.size
        preview.image_pixels_float.foreach_set(pixels)
    finally:
        bpy.data.images.remove(image)
