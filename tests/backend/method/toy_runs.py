"""Runs of the loop that take milliseconds a step, on priors whose every answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from backend import settings
from backend.config import GenerationConfig
from backend.gaussians.initialize import initialize
from backend.guidance.prior import Conditioning, DiffusionPrior, PriorDefaults
from backend.job_lines import trace_visits
from backend.method.optimizer import Distillation


class GreyPrior(DiffusionPrior):
    """Believes that every picture is plain grey: x0_hat = 0 in -1..1, whatever the prompt."""

    def __init__(self) -> None:
        self.name, self.fingerprint, self.device = "grey", "none", torch.device("cpu")
        self.recommended = PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(24,))
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(tuple(prompts))

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def decode(self, z: Tensor) -> Tensor:
        return z * 0.5 + 0.5

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return z_t / (1 - self.alphas_cumprod[t].view(-1, 1, 1, 1)).sqrt()


class OverflowingPrior(GreyPrior):
    """Answers as a model does whose half precision overflowed."""

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return torch.full_like(z_t, torch.nan)


class OverflowingEncoder(GreyPrior):
    """Its answer is a number, and what comes back through its encoder is none."""

    def encode_images(self, images: Tensor) -> Tensor:
        z = images * 2 - 1
        z.register_hook(lambda gradient: gradient * torch.inf)
        return z


class WanderingPrior(GreyPrior):
    """Changes its mind a little with each answer, by a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.whim = torch.Generator().manual_seed(0)

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict_noise(z_t, t, conditioning) * (1 + 0.1 * torch.rand(1, generator=self.whim).item())

    def state_dict(self) -> dict[str, Tensor]:
        return {"whim": self.whim.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.whim.set_state(state["whim"])


class OnAMacsGpu(Tensor):
    """Has no double precision, as tensors there."""

    def double(self, *arguments: object) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self, *arguments: object) -> Tensor:
        return self.as_subclass(Tensor)


class LatentPrior(GreyPrior):
    """Of pictures around grey for the empty prompt, of brighter ones for any other, in "latents" of half their size; notes the prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []

    def encode_images(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images * 2 - 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z * 0.5 + 0.5, scale_factor=2)

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        self.asked.append(conditioning.prompts)
        a = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        mean = torch.tensor([0.5 if prompt else 0.0 for prompt in conditioning.prompts]).view(-1, 1, 1, 1)
        return (1 - a).sqrt() * (z_t - a.sqrt() * mean) / (a * 0.3**2 + 1 - a)


def config(*sets: str) -> GenerationConfig:
    base = ["gaussians.count=60", "optimizer.iterations=200", "optimizer.views=2", "optimizer.resolution_steps=[]", "gaussians.opacity=0.6"]
    return settings.resolve("draft", sets=[*base, "gaussians.colour_noise=0.4", *sets])


def distillation(settled: GenerationConfig, prior: DiffusionPrior | None = None, device: str = "cpu") -> Distillation:
    model = initialize(settled.gaussians, torch.Generator().manual_seed(0), torch.device(device))
    return Distillation(settled, prior or GreyPrior(), model, "anything")


def losses(run: Distillation, steps: int) -> list[float]:
    return [line["loss"] for _ in range(steps) for line in trace_visits(run.step())]
