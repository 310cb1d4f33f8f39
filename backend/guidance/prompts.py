"""View-dependent prompts: the four words that tell a 2D prior where the camera stands."""

from __future__ import annotations

from collections.abc import Sequence

from ..view_words import VIEW_DIRECTIONS, view_direction
from .prior import Conditioning, DiffusionPrior


class ViewPrompts:
    """A prompt in its four view-dependent forms and the negative prompt, embedded once.

    Hard bins: a camera gets "<prompt>, front view" (or side, back, overhead), as DreamFusion does. With `enabled`
    off every camera gets the plain prompt.
    """

    def __init__(self, prior: DiffusionPrior, prompt: str, negative_prompt: str = "", *, enabled: bool = True) -> None:
        self.enabled = enabled
        texts = [f"{prompt}, {direction} view" for direction in VIEW_DIRECTIONS] if enabled else [prompt]
        encoded = prior.encode_prompts([*texts, negative_prompt])
        self._positive = encoded.select(range(len(texts)))
        self._negative = encoded.select([len(texts)])

    def positive(self, azimuths: Sequence[float], elevations: Sequence[float]) -> Conditioning:
        """One row a camera (degrees)."""
        if not self.enabled:
            return self._positive.select([0] * len(azimuths))
        return self._positive.select([VIEW_DIRECTIONS.index(view_direction(a, e)) for a, e in zip(azimuths, elevations, strict=True)])

    def negative(self, count: int) -> Conditioning:
        """The negative prompt (the empty one, unless the user gave one), `count` times."""
        return self._negative.select([0] * count)
