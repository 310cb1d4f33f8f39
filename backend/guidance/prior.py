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

NOMINAL_SCALE = 100.0
"""What latent models of the Stable Diffusion class are driven with by the methods that DreamFusion began."""


@dataclass(frozen=True, kw_only=True)
class PriorDefaults:
    """How a prior likes to be used; every value can be overridden by a setting.

    Attributes:
        guidance_scale: s in e_u + s (e_c - e_u); 1 means the prompt alone. `NOMINAL_SCALE` is what published methods' scales are meant for.
        weighting: w(t): "sds" = 1 - abar, "x0" = sqrt((1 - abar) / abar), "uniform" = 1, "flow" = 1 + x0.
        clamp: elementwise bound on the gradient, 0 for none.
        t_start: the highest noise level, a fraction of T, at which its answer is about what it is shown: annealing begins there.
        t_end: the level below which its answer makes what it is shown worse: annealing ends there.
        fov: vertical field of view in degrees.
        distance: (nearest, farthest) camera distance; the asset fits the unit ball.
        resolutions: render sizes in pixels the prior is made for, ascending.
        resolution_multiple: multiples of it, from half the largest of these up to that, serve as well; 0: none do.
        backdrops: (grey level, standard deviation) of the plain backgrounds it is used to, one of which is drawn for each view.
        opacity_entropy: weight of the penalty on translucency that its pictures' edges ask for: the softer they are, the more.
        view_words: whether words for where the camera stands help it; not one that is told the cameras themselves.
    """

    guidance_scale: float
    weighting: str
    clamp: float
    t_start: float = 0.98
    t_end: float = 0.1
    fov: float = 40.0
    distance: tuple[float, float] = (3.1, 3.5)
    resolutions: tuple[int, ...]
    backdrops: tuple[tuple[float, float], ...] = ((0.6, 0.25),)
    opacity_entropy: float = 0.05
    view_words: bool = True
    resolution_multiple: int = 0

    def serves(self, pixels: int) -> bool:
        """Whether pictures of this size may be shown to the prior as they are."""
        if pixels in self.resolutions:
            return True
        largest = self.resolutions[-1]
        return self.resolution_multiple > 0 and pixels % self.resolution_multiple == 0 and largest / 2 <= pixels <= largest


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

    def repeated(self, count: int) -> Conditioning:
        """The only row, `count` times, without copying its tensors (views, not to be written to)."""
        (prompt,) = self.prompts
        return Conditioning((prompt,) * count, {name: tensor.expand(count, *tensor.shape[1:]) for name, tensor in self.tensors.items()})

    @staticmethod
    def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of all parts, in order."""
        names = parts[0].tensors.keys()
        return Conditioning(
            tuple(prompt for part in parts for prompt in part.prompts),
            {name: torch.cat([part.tensors[name] for part in parts]) for name in names},
        )

    @staticmethod
    def blend(first: Conditioning, second: Conditioning, share: Tensor) -> Conditioning:
        """Row by row `share` [B] of the first and the rest of the second, linear in every tensor.

        A row takes the prompt of the one with the larger share; where a prior reads the texts that is all that a blend is.
        """
        prompts = tuple(a if s >= 0.5 else b for a, b, s in zip(first.prompts, second.prompts, share.tolist(), strict=True))
        tensors = {}
        for name, one in first.tensors.items():
            weights = share.to(one.device, torch.float32).view(-1, *[1] * (one.ndim - 1))
            tensors[name] = torch.lerp(second.tensors[name].float(), one.float(), weights).to(one.dtype)
        return Conditioning(prompts, tensors)


class DiffusionPrior(ABC):
    """A frozen text-to-image diffusion model.

    Attributes:
        name: what the user called it.
        fingerprint: short hash that names the weights.
        recommended: how it likes to be used.
        alphas_cumprod: [T] float32, abar_t.
        device: where z lives.
        views_per_prediction: views that are predicted together, each in the light of the others: rows of a batch come in groups of so many.
        memory: how much memory it uses, a mode of `guidance.memory`; empty where there are no modes.
        progress: share of the run that is done, 0..1, told before each step: early ones may be done more cheaply.
        cost_power: the power of the renders' edge that a step's time is taken to go with. 2 for networks, which work on every pixel: of the
            shape of Stable Diffusion 1.5 a step at 512 pixels took 5.2 times as long as one at 256, on a CPU.
    """

    name: str
    fingerprint: str
    recommended: PriorDefaults
    alphas_cumprod: Tensor
    device: torch.device
    views_per_prediction: int = 1
    memory: str = ""
    progress: float = 0.0
    cost_power: float = 2.0

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return len(self.alphas_cumprod)

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """One row a prompt; the empty prompt is the unconditional one."""

    def place_cameras(self, conditioning: Conditioning, viewmats: Tensor) -> Conditioning:
        """The rows for cameras [B, 4, 4] (world to camera, `cameras.py`); most priors know no cameras and take them as they are."""
        return conditioning

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1 to z, differentiably."""

    @abstractmethod
    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """eps_hat, like z_t, for t [B] (long) and B rows of conditioning; no gradient, no guidance."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """z to images [B, 3, H, W] in 0..1, for previews; no gradient."""

    def use_memory(self, mode: str) -> None:  # noqa: B027 - most priors have no modes
        """Changes `memory`, between two steps; the answers stay the same."""

    def take_warnings(self) -> list[str]:
        """What the user should know of what happened since the last call, a sentence each."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """State that changes while the prior is used (a random generator's, say); checkpointed."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:  # noqa: B027 - most priors have no state
        """The inverse of `state_dict`."""
