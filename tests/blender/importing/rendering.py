"""Pictures taken in Blender, to be compared with those of the worker."""

from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np


def light_evenly(scene: bpy.types.Scene, *, samples: int = 16) -> None:
    """The light that a texture shows itself in: white from everywhere, colours as they are, Cycles on the CPU, a white background."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = scene.cycles.use_denoising = False
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.view_settings.exposure, scene.view_settings.gamma = 0.0, 1.0
    scene.world = bpy.data.worlds.new("Even")
    if scene.world.node_tree is None:
        scene.world.use_nodes = True
    background = scene.world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    background.inputs["Strength"].default_value = 1.0


def render(scene: bpy.types.Scene, file: Path, size: int) -> np.ndarray:
    """[size, size, 3] what the scene's camera sees, display colours, the first row at the bottom."""
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.filepath = str(file)
    scene.render.use_file_extension = False
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return read_picture(file)


def read_picture(file: Path) -> np.ndarray:
    """[height, width, 3] display colours of a picture, the first row at the bottom."""
    image = bpy.data.images.load(str(file), check_existing=False)
    try:
        width, height = image.size
        pixels = np.empty(width * height * 4, dtype=np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[..., :3]


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of pictures with values from 0 to 1."""
    return -10.0 * math.log10(max(float(np.mean((picture - reference) ** 2)), 1e-12))
