"""What the method asks of a 2D prior: a frozen text-to-image diffusion model behind five calls.

Conventions: images are float [B, 3, H, W] in 0..1, display (sRGB) space. z is what the denoiser works on (latents, or
pixels in -1..1). z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps (paper, eq. 1), t an integer in 0..T-1.
Classifier-free guidance is the rules' business: `predict_noise` answers for the given prompts and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PriorDefaults:
    """How a prior likes to be used; every value can be overridden by a setting.

    Attributes:
        guidance_scale: s in e_u + s (e_c - e_u); 1 means the prompt alone.
        weighting: w(t): "sds" = 1 - abar, "x0" = sqrt((1 - abar) / abar), "uniform" = 1.
        clamp: elementwise bound on the gradient, 0 for none.
        t_low, t_high: range of timesteps, as fractions of T.
        fov: vertical field of view in degrees.
        distance: (nearest, farthest) camera distance; the asset fits the unit ball.
        resolutions: render sizes in pixels the prior is made for, ascending.
        backdrops: (grey level, standard deviation) of the plain backgrounds it is used to, one of which is drawn for each view.
    """

    guidance_scale: float
    weighting: str
    clamp: float
    t_low: float = 0.02
    t_high: float = 0.98
    fov: float = 40.0
    distance: tuple[float, float] = (3.1, 3.5)
    resolutions: tuple[int, ...]
    backdrops: tuple[tuple[float, float], ...] = ((0.6, 0.25),)


@dataclass(frozen=True)
class Conditioning:
    """Prompts as a prior understands them, one row a prompt.

    Attributes:
        prompts: the texts.
        tensors: named tensors whose first dimension is the row (text embeddings and the like); empty where a prior reads the texts.
    """

    prompts: tuple[str, ...]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> Conditioning:
        """The given rows, repeats allowed."""
        index = list(rows)
        return Conditioning(tuple(self.prompts[i] for i in index), {name: tensor[index] for name, tensor in self.tensors.items()})

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of all parts, in order."""
        names = parts[0].tensors.keys()
        return Conditioning(
            tuple(prompt for part in parts for prompt in part.prompts),
            {name: torch.cat([part.tensors[name] for part in parts]) for name in names},
        )


class DiffusionPrior(ABC):
    """A frozen text-to-image diffusion model.

    Attributes:
        name: what the user called it.
        fingerprint: short hash that names the weights.
        recommended: how it likes to be used.
        alphas_cumprod: [T] float32, abar_t.
        device: where z lives.
    """

    name: str
    fingerprint: str
    recommended: PriorDefaults
    alphas_cumprod: Tensor
    device: torch.device

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return len(self.alphas_cumprod)

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """One row a prompt; the empty prompt is the unconditional one."""

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1 to z, differentiably."""

    @abstractmethod
    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """eps_hat, like z_t, for t [B] (long) and B rows of conditioning; no gradient, no guidance."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z to images [B, 3, H, W] in 0..1, for previews; no gradient."""

    def state_dict(self) -> dict[str, Tensor]:
        """State that changes while the prior is used (a random generator's, say); checkpointed."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - most priors have no state
        """The inverse of `state_dict`."""
