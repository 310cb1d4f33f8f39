"""Images that were painted on and not saved since: most exporters read files, and would show them as they were before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import bpy
import numpy as np

from ...backend.errors import OutputError
from ...backend.files import remove_quietly
from .datablocks import images_of, texture_nodes


@contextmanager
def textured_as_painted(materials: Sequence[bpy.types.Material | None]) -> Iterator[None]:
    """Inside, materials have textures in which any exporter finds what the user sees.

    A copy stands in for an image that was painted on, which stays unsaved: only the user can say whether its file is to be painted over.
    One that is packed is not packed anew either: undo would bring the old bytes back and leave the image as if it had been saved, and the
    next saving of the .blend file would lose what was painted. Of an image in several tiles there is no copy.

    Raises:
        OutputError: a copy cannot be written.
    """
    painted = [image for image in images_of(materials) if image.is_dirty and image.source in ("FILE", "GENERATED")]
    with ExitStack() as stack:
        copies = {image: stack.enter_context(_copy(image)) for image in painted}
        for node in texture_nodes(materials):
            if node.image in copies:
                stack.callback(setattr, node, "image", node.image)
                node.image = copies[node.image]
        yield


@contextmanager
def _copy(image: bpy.types.Image) -> Iterator[bpy.types.Image]:
    """What an image shows, with a file. The file's name says what is in it: the exporters that put it beside theirs overwrite what is
    called like it, and that may be the user's own.
    """
    width, height = image.size
    pixels = np.empty(width * height * 4, dtype=np.float32)
    image.pixels.foreach_get(pixels)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()[:8]
    stem = bpy.path.clean_name(Path(bpy.path.basename(image.filepath)).stem or image.name)
    path = Path(bpy.app.tempdir) / f"{stem}-{digest}{'.exr' if image.is_float else '.png'}"
    copy = bpy.data.images.new(image.name, width, height, alpha=True, float_buffer=image.is_float)
    try:
        if not image.is_float:  # those are in the scene's own colour space, and saved as such
            copy.colorspace_settings.name = image.colorspace_settings.name
        copy.alpha_mode = image.alpha_mode
        copy.pixels.foreach_set(pixels)
        copy.file_format, copy.filepath_raw = "OPEN_EXR" if image.is_float else "PNG", str(path)
        try:
            copy.save()
        except RuntimeError as error:
            raise OutputError(f"{image.name} as it was painted could not be written: {error}", remedy="Save that image first.") from error
        yield copy
    finally:
        bpy.data.images.remove(copy)
        remove_quietly(path)
