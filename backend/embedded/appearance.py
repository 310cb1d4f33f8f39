"""Colours and materials: how an object's scalar channels become a picture.

A picture is linear in the channels of `renderer.render_channels`,

    image_c = sum_k channel_k * weight_kc + (1 - alpha) * background_c,

in display space, exactly, for every colour, material and background. The weights below keep it within 0..1 without
clipping: per colour channel the weight of the whole primary surface and of any pattern on it add up to at most 1.
"""

from __future__ import annotations

import numpy as np

from .renderer import CHANNEL_SCALE, CHANNELS
from .vocabulary import COLOURS, Description

_WOOD, _WOOD_GRAIN = (0.76, 0.52, 0.29), (0.47, 0.27, 0.12)
_GOLD, _GOLD_SHEEN = (0.78, 0.52, 0.08), (0.22, 0.44, 0.55)
_UNPAINTED = COLOURS["gray"]


def channel_weights(colour: str | None, material: str | None) -> np.ndarray:
    """[C, 3] float32: what each channel of `CHANNELS` contributes to red, green and blue (zero for alpha).

    Args:
        colour: a key of `COLOURS`; None is the material's own colour, or gray where it has none.
        material: one of `MATERIALS`, or None for plain paint.
    """
    weights = np.zeros((len(CHANNELS), 3), dtype=np.float32)
    rows = {name: weights[index] for index, name in enumerate(CHANNELS)}
    for component, name in enumerate(("fixed_r", "fixed_g", "fixed_b")):
        rows[name][component] = 1.0
    base = np.array(COLOURS[colour] if colour else {"wooden": _WOOD, "golden": _GOLD}.get(material or "", _UNPAINTED))
    rows["primary"][:] = base
    if material in ("striped", "spotted"):
        rows["stripes" if material == "striped" else "spots"][:] = _companion(base) - base
    elif material == "wooden":
        rows["grain"][:] = (np.array(_WOOD_GRAIN) if colour is None else 0.5 * base) - base
    elif material == "golden":
        # A metal's reflections take its own hue; a coloured one is lacquer over it.
        rows["primary"][:] = 0.75 * base if colour else base
        rows["sheen"][:] = np.minimum(np.array(_GOLD_SHEEN), 1 - rows["primary"])
    return weights


def _companion(base: np.ndarray) -> np.ndarray:
    """The colour of stripes and spots: off-white on dark paint, a deep tone of the same hue on light paint."""
    luminance = float(base @ (0.30, 0.59, 0.11))
    return np.array((0.93, 0.92, 0.88)) if luminance < 0.42 else 0.30 * base


def description_weights(description: Description) -> np.ndarray:
    """[C, 3] the channel weights of what a prompt asks for, in its natural colour where the prompt names none."""
    return channel_weights(description.base_colour, description.material)


def compose(channels: np.ndarray, weights: np.ndarray, background: np.ndarray | tuple[float, float, float]) -> np.ndarray:
    """Pictures from channels.

    Args:
        channels: [..., C, H, W] uint8 as rendered, or float in 0..1.
        weights: [C, 3] of `channel_weights`, or [..., C, 3] with the same leading axes.
        background: [3] or [..., 3] display-space colour.

    Returns:
        [..., 3, H, W] float32 in 0..1.
    """
    values = channels * np.float32(CHANNEL_SCALE) if channels.dtype == np.uint8 else channels.astype(np.float32, copy=False)
    *leading, count, height, width = values.shape
    # One product: the background enters as a constant 1 and as minus alpha.
    backdrop = np.asarray(background, dtype=np.float32)
    table = np.array(np.broadcast_to(weights, (*backdrop.shape[:-1], *np.shape(weights)[-2:])), dtype=np.float32)
    table[..., CHANNELS.index("alpha"), :] -= backdrop
    image = np.swapaxes(table, -1, -2) @ values.reshape(*leading, count, height * width)
    image += backdrop[..., None]
    return image.reshape(*leading, 3, height, width)
