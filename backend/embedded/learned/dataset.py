"""Training pictures: views of the built-in world's objects, coloured, patterned and put on backgrounds on the fly, with captions.

The views are rendered once, as linear channels (`world.view_bank`: 55 MB for 1,500 views of an object); a picture is
composed from them when it is drawn, so that every colour, material and background is new each time. As in the exact
prior's photographs, cameras stand at one distance, in front more often than behind, and there is a dark or a light
backdrop. The (object, colour) pairs that are held out are never drawn, in no material and not as an object's natural
colour either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import vocabulary, world
from ..appearance import description_weights
from ..renderer import CHANNEL_SCALE, CHANNELS
from ..vocabulary import Description
from .model import RESOLUTION

EMPTY_CAPTION = 0.1
"""Share of captions that say nothing, for classifier-free guidance (Ho and Salimans 2021)."""
VIEW_CAPTION = 0.9
"""Share of the others that name the view: view words are what is learned last."""
VIEW_SHARES = {"front view": 0.3, "side view": 0.34, "back view": 0.24, "overhead view": 0.12}
"""How often each view word is named. Rare views are named more often than they are seen; within a word, views keep their natural shares."""
REPHRASED = 0.1
"""Share of captions in other words than `Description.text`, which is what prompts are turned into (`guidance.pipeline_components`)."""
PLAIN = 0.5
"""Share of objects without a material; the materials share the rest."""
NAMED_COLOUR = 0.92
"""Share of captions that name the colour; the others leave the object its natural one."""
TINTED = 0.3
"""The same for wooden and golden objects, which have a colour of their own."""

_ALPHA = CHANNELS.index("alpha")


@dataclass(frozen=True)
class _Views:
    """One object's bank: channels [V, C, H, W] uint8, and the cumulative sampling law of each view word (None: of all views)."""

    channels: Tensor
    cumulative: dict[str | None, np.ndarray]


@dataclass(frozen=True)
class Examples:
    """A batch.

    Attributes:
        images: [B, 3, H, W] float32 in -1..1, on the dataset's device.
        captions: B sentences.
        descriptions: what each shows; `view` is set where the caption names it.
        view_words: the true view word of each, named or not.
        weights: [B, C, 3] channel weights and backgrounds: [B, 3] in display space, both on the CPU.
    """

    images: Tensor
    captions: list[str]
    descriptions: list[Description]
    view_words: list[str]
    weights: Tensor
    backgrounds: Tensor


class WorldDataset:
    """Draws examples without end.

    Args:
        views: views an object in the bank; an attribute, too.
        rng: everything random comes from it.
        progress: told what is being rendered.
        objects: a subset of the world's objects.
        held_out: (object, colour) pairs that are never drawn.
        device: where pictures are composed; the bank is kept there.
    """

    def __init__(
        self,
        views: int,
        rng: np.random.Generator,
        *,
        progress: Callable[[str], None] = lambda message: None,
        objects: tuple[str, ...] = vocabulary.OBJECTS,
        held_out: frozenset[tuple[str, str]] = vocabulary.HELD_OUT,
        device: torch.device | None = None,
    ) -> None:
        self.views = views
        self.rng = rng
        self.device = device or torch.device("cpu")
        self.objects = objects
        self.held_out = held_out
        self._views: dict[str, _Views] = {}
        self._words: dict[str, list[str]] = {}
        for name in objects:
            progress(f"rendering {views} views of a {name}")
            bank = world.view_bank(name, views, RESOLUTION, distance=(world.DISTANCE, world.DISTANCE))
            words = [vocabulary.view_word(a, e) for a, e in zip(bank.azimuth, bank.elevation, strict=True)]
            natural = np.exp(world.front_bias_log_weights(bank.azimuth))
            laws: dict[str | None, np.ndarray] = {None: natural} | {
                word: natural * [w == word for w in words] for word in vocabulary.VIEW_WORDS
            }
            self._views[name] = _Views(
                torch.from_numpy(bank.channels).to(self.device), {word: np.cumsum(law) / law.sum() for word, law in laws.items()}
            )
            self._words[name] = words

    def draw(self, count: int, *, varied: bool = True) -> Examples:
        """`count` independent examples; backdrops are `varied` or at exactly the world's levels."""
        descriptions = [self.describe() for _ in range(count)]
        rows = [int(self.draw_views(description, 1)[0]) for description in descriptions]
        captions = [self.caption(description) for description in descriptions]
        weights = torch.from_numpy(np.stack([description_weights(description) for description in descriptions]))
        backgrounds = self.backgrounds(count, varied=varied)
        channels = torch.stack([self._views[d.object].channels[row] for d, row in zip(descriptions, rows, strict=True)])
        images = _compose(channels, weights.to(self.device), backgrounds.to(self.device))
        words = [self._words[d.object][row] for d, row in zip(descriptions, rows, strict=True)]
        return Examples(images, captions, descriptions, words, weights, backgrounds)

    def channels(self, name: str) -> Tensor:
        """[V, C, H, W] uint8: the bank of an object's views."""
        return self._views[name].channels

    def describe(self) -> Description:
        """What an example shall show; `view` is set where its caption is to name it."""
        rng = self.rng
        name = self.objects[rng.integers(len(self.objects))]
        material = None if rng.random() < PLAIN else vocabulary.MATERIALS[rng.integers(len(vocabulary.MATERIALS))]
        allowed = [colour for colour in vocabulary.COLOURS if (name, colour) not in self.held_out]
        colour: str | None = allowed[rng.integers(len(allowed))]
        own = Description(name, None, material).base_colour
        if rng.random() >= (TINTED if own is None else NAMED_COLOUR) and (own is None or own in allowed):
            colour = None
        view = None
        if rng.random() < VIEW_CAPTION * (1 - EMPTY_CAPTION):
            view = str(rng.choice(list(VIEW_SHARES), p=list(VIEW_SHARES.values())))
        return Description(name, colour, material, view)

    def caption(self, description: Description) -> str:
        """A phrasing of the description; those that name no view are empty as often as makes `EMPTY_CAPTION` of all."""
        unnamed = 1 - VIEW_CAPTION * (1 - EMPTY_CAPTION)
        if description.view is None and self.rng.random() < EMPTY_CAPTION / unnamed:
            return ""
        if self.rng.random() >= REPHRASED:
            return description.text
        phrasings = vocabulary.captions(description)
        return phrasings[self.rng.integers(len(phrasings))]

    def draw_views(self, description: Description, count: int) -> np.ndarray:
        """[count] rows of the object's bank by the law of the description's view word."""
        cumulative = self._views[description.object].cumulative[description.view]
        return np.minimum(np.searchsorted(cumulative, self.rng.random(count), side="right"), len(cumulative) - 1)

    def backgrounds(self, count: int, *, varied: bool = True) -> Tensor:
        """[count, 3] float32: one of the world's backdrops for each, `varied` in level and tint."""
        level, deviation = np.array(world.BACKDROPS)[self.rng.integers(len(world.BACKDROPS), size=count)].T
        grey, tint = self.rng.normal(level, deviation)[:, None], self.rng.normal(0, world.BACKDROP_TINT, (count, 3))
        shown = (grey + tint).clip(0, 1) if varied else np.repeat(level[:, None], 3, axis=1)
        return torch.from_numpy(shown.astype(np.float32))


def _compose(channels: Tensor, weights: Tensor, backgrounds: Tensor) -> Tensor:
    """`appearance.compose` as one batched product, to -1..1: channels [B, C, H, W] uint8, weights [B, C, 3], backgrounds [B, 3]."""
    batch, _, height, width = channels.shape
    table = channel_table(weights, backgrounds).transpose(1, 2)
    constant = (backgrounds * 2 - 1)[:, :, None]
    return torch.baddbmm(constant, table, channels.flatten(2).float(), alpha=2 * CHANNEL_SCALE).view(batch, 3, height, width)


def channel_table(weights: Tensor, backgrounds: Tensor) -> Tensor:
    """[B, C, 3]: what each channel adds to a picture that is all background; of weights [B, C, 3] and backgrounds [B, 3]."""
    table = weights.clone()
    table[:, _ALPHA] -= backgrounds
    return table


def stable_target(noisy: Tensor, alpha_bar: Tensor, references: Tensor) -> Tensor:
    """[D, S, N] posterior means of x0 over sets that contain what z_t was made from (Xu et al. 2023, "Stable Target Field").

    Over draws of a set its mean given z_t is E[x0 | z_t], as for a single drawn image, with a variance up to R times
    smaller where the noise leaves many views possible.

    Args:
        noisy: [D, S, N] z_t, in any orthonormal coordinates; alpha_bar: [D, S]; references: [D, R, N].
    """
    alpha_bar = alpha_bar[..., None]
    likeness = noisy @ references.transpose(1, 2)
    evidence = (alpha_bar.sqrt() * likeness - 0.5 * alpha_bar * references.square().sum(2)[:, None]) / (1 - alpha_bar)
    return evidence.softmax(2) @ references
