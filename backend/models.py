"""Image models that are worth having: what each is, what it costs to have, and which one fits this computer. Standard library only.

Sizes are as published, in half precision, and memory is what a run at 512 pixels needs by estimate: about, both of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .machine import GIB, Gpu


@dataclass(frozen=True)
class Model:
    """A model of the hub.

    Attributes:
        title: how people call it.
        hub_id: what `--prior` takes.
        family: a key of `guidance.kinds.KINDS`.
        licence: its licence's name, and what an artist has to know about it.
        is_gated: whether the hub gives it only to those who have an account and have accepted the licence there.
        download: GB to fetch, about.
        memory: GB of the GPU's memory that a run needs, about.
        good_for: one line.
        is_preferred: whether it may be the one that is recommended: anybody can have it and use what it makes.
    """

    title: str
    hub_id: str
    family: str
    licence: str
    is_gated: bool
    download: float
    memory: float
    good_for: str
    is_preferred: bool = False

    def cost(self) -> str:
        """Download and memory in words."""
        return f"about {self.download:g} GB to download, about {self.memory:g} GB of GPU memory"

    def terms(self) -> str:
        """The licence in words."""
        return f"{self.licence}{'; to be accepted on its page of the hub' if self.is_gated else ''}"


CATALOGUE: tuple[Model, ...] = (
    Model(
        "Stable Diffusion 1.5",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "sd",
        "CreativeML OpenRAIL-M",
        is_gated=False,
        download=2.1,
        memory=6,
        good_for="small and quick; what most methods were published with",
        is_preferred=True,
    ),
    Model(
        "MVDream",
        "ashawkey/mvdream-sd2.1-diffusers",
        "mvdream",
        "OpenRAIL",
        is_gated=False,
        download=2.6,
        memory=10,
        good_for="sees four sides at once, so that an object has one face; plain looks",
    ),
    Model(
        "Stable Diffusion XL",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "sdxl",
        "CreativeML OpenRAIL++-M",
        is_gated=False,
        download=7,
        memory=14,
        good_for="finer detail, and longer prompts are understood better",
        is_preferred=True,
    ),
    Model(
        "DeepFloyd IF, stage I",
        "DeepFloyd/IF-I-XL-v1.0",
        "if",
        "DeepFloyd IF License, for research",
        is_gated=True,
        download=18,
        memory=16,
        good_for="works on pixels and reads prompts closely: steady shapes, coarse colours",
    ),
    Model(
        "Stable Diffusion 3.5 Medium",
        "stabilityai/stable-diffusion-3.5-medium",
        "sd3",
        "Stability AI Community License, free of charge for small businesses",
        is_gated=True,
        download=16,
        memory=16,
        good_for="reads prompts closely",
    ),
    Model(
        "FLUX.1 [schnell]",
        "black-forest-labs/FLUX.1-schnell",
        "flux",
        "Apache-2.0",
        is_gated=True,
        download=34,
        memory=32,
        good_for="large; distilled to a few steps, and so the less suited of the two",
    ),
    Model(
        "FLUX.1 [dev]",
        "black-forest-labs/FLUX.1-dev",
        "flux",
        "FLUX.1 [dev] Non-Commercial License",
        is_gated=True,
        download=34,
        memory=32,
        good_for="large; the most natural pictures",
    ),
)
"""Models known to be on the hub, the smallest first. Whether the hub asks for its licence to be accepted may have changed."""


def by_hub_id(hub_id: str) -> Model | None:
    """The model of this name, if it is one of the catalogue's."""
    return next((model for model in CATALOGUE if model.hub_id == hub_id.strip()), None)


def recommend(gpus: Sequence[Gpu]) -> Model | None:
    """The model for a computer with these GPUs: the largest that the largest of them holds. None: the built-in one.

    A GPU that does not tell its memory gets the smallest, one that is too small for it none.
    """
    if not gpus:
        return None
    preferred = [model for model in CATALOGUE if model.is_preferred]
    known = [gpu.memory for gpu in gpus if gpu.memory is not None]
    if not known:
        return preferred[0]
    fitting = [model for model in preferred if model.memory <= max(known) / GIB + 0.5]  # a card of 6 GB has a little less
    return fitting[-1] if fitting else None
