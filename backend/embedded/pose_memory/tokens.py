"""The space of the text encoder's tokens: which directions of the residual stream mean what, and how the finished tokens are read.

All directions are orthonormal, and orthogonal to (1, ..., 1), so that layer norms find a mean of zero. Their division by
the norm is kept harmless by large constants: along `fill` before the first layer's end, along `slack` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import vocabulary
from .pictures import BACKDROPS

WIDTH = 652
PROMPT_TOKENS = 16
"""The words of a prompt, start and end included; the longest caption has 14."""
POSES = 448
TOKENS = PROMPT_TOKENS + len(BACKDROPS) * POSES
"""After a prompt's own come one for every pose before either backdrop: first all of the dark one, then all of the light one."""
CODE = 613
"""Directions for codes: first a view's channel code, later its picture code."""

COLOURS = (*vocabulary.COLOURS, *vocabulary.COLOURLESS_MATERIALS)
"""The colours that a gate knows: the named ones, then those that unpainted wood and gold have."""
MATERIALS = ("", *vocabulary.MATERIALS)
VIEWS = ("", *vocabulary.VIEW_WORDS)
OBJECTS = (*vocabulary.OBJECTS, "")
"""What the gates know; "" is what a prompt does not say."""


@dataclass(frozen=True)
class Directions:
    """Rows [n, WIDTH] of an orthonormal system.

    Attributes:
        code: [CODE] what a token remembers.
        object, pose: [25], [R] within `code`: gates, for as long as no code is there, and functions of the pose, which are faint.
        colour, material, view: [14], [5], [5] gates.
        backdrop: [1] dark or light.
        law: [6] how often photographs are taken from a pose, whether each view word is true of it, and how clearly.
        is_pose, is_start, is_word: [1] the kinds of tokens.
        colour_rank: [1] how much a word has to say about the colour.
        fill, slack: [1] constants that keep the norm.
        chance: [1] the log of a pose's probability.
    """

    code: Tensor
    object: Tensor
    pose: Tensor
    colour: Tensor
    material: Tensor
    view: Tensor
    backdrop: Tensor
    law: Tensor
    is_pose: Tensor
    is_start: Tensor
    is_word: Tensor
    colour_rank: Tensor
    fill: Tensor
    slack: Tensor
    chance: Tensor

    @staticmethod
    def draw(pose_functions: int, seed: int = 0) -> Directions:
        """A system, the same for the same seed."""
        rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(WIDTH, WIDTH - 1)))
        q, _ = torch.linalg.qr(torch.cat([torch.ones(WIDTH, 1, dtype=torch.float64), rows], dim=1))
        free = q.T[1:].float()
        code, rest = free[:CODE], free[CODE:]
        sizes = {
            "colour": len(COLOURS), "material": len(MATERIALS), "view": len(VIEWS), "backdrop": 1, "law": len(VIEWS) + 1, "is_pose": 1,
            "is_start": 1, "is_word": 1, "colour_rank": 1, "fill": 1, "slack": 1, "chance": 1,
        }  # fmt: skip
        parts = dict(zip(sizes, rest.split([*sizes.values(), len(rest) - sum(sizes.values())]), strict=False))
        return Directions(code=code, object=code[: len(OBJECTS)], pose=code[len(OBJECTS) : len(OBJECTS) + pose_functions], **parts)


@dataclass(frozen=True)
class Told:
    """How the text encoder's tokens say things.

    Attributes:
        code: [K, WIDTH]; times a token it gives the picture's coefficients.
        norm: [WIDTH]; likewise -|v|^2 / 2 of the components that are compared, up to a constant.
        chance: [WIDTH]; likewise the log probability.
        no_memory: [WIDTH]; likewise at least one for tokens that are no memories, and zero for memories.
    """

    code: Tensor
    norm: Tensor
    chance: Tensor
    no_memory: Tensor
