"""View-dependent prompts: the four words that tell a 2D prior where the camera stands, and what a rule is given of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..view_words import VIEW_DIRECTIONS, view_direction
from . import perpendicular
from .prior import Conditioning, DiffusionPrior


@dataclass(frozen=True)
class ViewConditioning:
    """What the prior is asked for B views.

    Attributes:
        positive: the prompt, in the words for each view.
        negative: what guidance leads away from: the user's negative prompt, else the empty one.
        empty: the empty prompt, whatever the user's negative one is.
        opposing: Perp-Neg's further negatives: (words of another direction, weights [B], none of them positive).
    """

    positive: Conditioning
    negative: Conditioning
    empty: Conditioning
    opposing: tuple[tuple[Conditioning, Tensor], ...] = ()

    def __len__(self) -> int:
        return len(self.positive)


class ViewPrompts:
    """A prompt in its four view-dependent forms, the negative prompt and the empty one, embedded once.

    Hard bins: a camera gets "<prompt>, front view" (or side, back, overhead), as DreamFusion does. With `blend`, a camera
    between two directions gets a blend of their embeddings. With `enabled` off every camera gets the plain prompt.
    """

    def __init__(self, prior: DiffusionPrior, prompt: str, negative_prompt: str = "", *, enabled: bool = True, blend: bool = False) -> None:
        self.prior, self.enabled, self.blend = prior, enabled, blend
        texts = [f"{prompt}, {direction} view" for direction in VIEW_DIRECTIONS] if enabled else [prompt]
        encoded = prior.encode_prompts([*texts, negative_prompt, ""])
        self._words = encoded.select(range(len(texts)))
        self._negative, self._empty = encoded.select([len(texts)]), encoded.select([len(texts) + 1])

    def views(self, azimuths: Sequence[float], elevations: Sequence[float], viewmats: Tensor, perp_neg: float = 0.0) -> ViewConditioning:
        """For cameras at these angles (degrees) with these world-to-camera matrices [B, 4, 4].

        Args:
            perp_neg: factor of Perp-Neg's weights; 0 leaves its negatives away.
        """
        count = len(azimuths)
        positive, negative, empty = (
            self.prior.place_cameras(rows, viewmats)
            for rows in (self.positive(azimuths, elevations), self.negative(count), self._empty.repeated(count))
        )
        opposing = () if perp_neg == 0 or not self.enabled else self._opposing(azimuths, elevations, viewmats, perp_neg)
        return ViewConditioning(positive, negative, empty, opposing)

    def positive(self, azimuths: Sequence[float], elevations: Sequence[float]) -> Conditioning:
        """One row a camera."""
        if not self.enabled:
            return self._words.repeated(len(azimuths))
        directions = [view_direction(a, e) for a, e in zip(azimuths, elevations, strict=True)]
        if not self.blend:
            return self._select(directions)
        between = [perpendicular.between(a) if d != "overhead" else (d, d, 1.0) for a, d in zip(azimuths, directions, strict=True)]
        first, second, shares = zip(*between, strict=True)
        return Conditioning.blend(self._select(first), self._select(second), torch.tensor(shares))

    def negative(self, count: int) -> Conditioning:
        """The negative prompt (the empty one, unless the user gave one), `count` times."""
        return self._negative.repeated(count)

    def _select(self, directions: Sequence[str]) -> Conditioning:
        return self._words.select([VIEW_DIRECTIONS.index(direction) for direction in directions])

    def _opposing(
        self, azimuths: Sequence[float], elevations: Sequence[float], viewmats: Tensor, factor: float
    ) -> tuple[tuple[Conditioning, Tensor], ...]:
        weights = torch.tensor([perpendicular.opposing_weights(a, e) for a, e in zip(azimuths, elevations, strict=True)]) * factor
        rows = (self._select([direction] * len(azimuths)) for direction in perpendicular.OPPOSING)
        return tuple(
            (self.prior.place_cameras(words, viewmats), weights[:, column].to(self.prior.device))
            for column, words in enumerate(rows)
            if weights[:, column].any()
        )
