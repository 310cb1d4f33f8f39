"""Noise schedules of diffusion and of flow-matching models in one language: abar_t, and the noise that a prediction implies.

Rules know one forward process, z_t = sqrt(abar) z + sqrt(1 - abar) eps. A flow-matching model (Lipman et al. 2023; Liu et al. 2023)
knows x_t = (1 - sigma) z + sigma eps and predicts v = eps - z. Divided by its norm n = sqrt((1 - sigma)^2 + sigma^2) its process is ours:
z_t = x_t / n with sqrt(abar) = (1 - sigma) / n and sqrt(1 - abar) = sigma / n, hence n = 1 / (sqrt(abar) + sqrt(1 - abar)). So such a model
is a schedule of abar like any other, is shown x_t = n z_t at sigma, and implies eps = x_t + (1 - sigma) v. No rule sees a difference, and
the weighting "flow", w = 1 + sqrt((1 - abar) / abar) = 1 / (1 - sigma), makes SDS exactly the difference of velocities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PriorError
from .pipeline_files import COPY_AGAIN, read_json

FLOW = "flow_prediction"
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", FLOW)
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
SMALLEST_ALPHA_BAR = 2.0**-24
"""Stands for an abar of zero, by which rules would divide."""


def to_noise(prediction: Tensor, z_t: Tensor, alpha_bar: Tensor, prediction_type: str) -> Tensor:
    """The noise that a prediction implies, from z_t = sqrt(abar) z + sqrt(1 - abar) eps.

    Args:
        prediction: [B, ...] the network's output.
        z_t: [B, ...] its noisy input; for a flow-matching model before `flow_input`.
        alpha_bar: broadcastable to them, abar_t.
        prediction_type: `epsilon` (eps itself), `v_prediction` (v = sqrt(abar) eps - sqrt(1 - abar) z; Salimans and Ho
            2022, appendix D), `sample` (z itself) or `flow_prediction` (eps - z).
    """
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "v_prediction":
        return signal * prediction + noise * z_t
    if prediction_type == "sample":
        return (z_t - signal * prediction) / noise
    if prediction_type == FLOW:
        return (z_t + signal * prediction) / (signal + noise)
    raise PriorError(f"The model predicts '{prediction_type}', which is unknown.", remedy=f"Known are {', '.join(PREDICTION_TYPES)}.")


def flow_input(z_t: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, sigma) that a flow-matching model is shown: x_t like z_t, sigma like alpha_bar, 0..1."""
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return z_t / (signal + noise), noise / (signal + noise)


def read_schedule(path: Path, *, flow: bool, image_tokens: int = 0, changes: Mapping[str, Any] | None = None) -> tuple[Tensor, str]:
    """(abar [T] float32, prediction type) of a scheduler_config.json. How the scheduler would sample does not matter here.

    Args:
        flow: whether the model is a flow-matching one, which the scheduler must be for, or must not.
        image_tokens: tokens of an image, by which some flow-matching schedules shift their noise levels.
        changes: what holds in the place of the file's own entries.

    Raises:
        PriorError: it is unknown, damaged, or of the other kind.
    """
    config = read_json(path) | dict(changes or {})
    name = str(config.get("_class_name", "unknown"))
    if flow != ("FlowMatch" in name):
        kind, other = ("flow-matching", "diffusion") if flow else ("diffusion", "flow-matching")
        raise PriorError(
            f"The noise schedule of {name} is unknown to this model: it is for {other} models, and this is a {kind} one.",
            remedy="Restore the scheduler folder that the model was published with.",
        )
    count = config.get("num_train_timesteps", 1000)
    if type(count) is not int or count < 1:
        raise PriorError(f"The noise schedule of {name} has {count!r} as its number of timesteps.", remedy=COPY_AGAIN)
    return _read_flow(config, image_tokens) if flow else _read_diffusion(config, name)


def flow_alphas(count: int, shift: float) -> Tensor:
    """[count] float32 abar of sigma = shift s / (1 + (shift - 1) s), s in the middles of `count` equal steps, so never 0 or 1."""
    s = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    sigma = shift * s / (1 + (shift - 1) * s)
    return ((1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)).float()


def _read_flow(config: dict[str, Any], image_tokens: int) -> tuple[Tensor, str]:
    """Of FlowMatchEulerDiscreteScheduler and its kin: the shift, fixed or (Esser et al. 2024, section 5.3.2) grown with the image."""
    shift = float(config.get("shift", 1.0))
    if config.get("use_dynamic_shifting"):
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        mu = low + (high - low) * (image_tokens - few) / (many - few)
        shift = math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    return flow_alphas(config.get("num_train_timesteps", 1000), shift), FLOW


def _read_diffusion(config: dict[str, Any], name: str) -> tuple[Tensor, str]:
    from diffusers import DDIMScheduler

    schedule = config.get("beta_schedule", "linear")
    has_betas = "beta_start" in config or config.get("trained_betas") is not None
    if not has_betas or schedule not in BETA_SCHEDULES:
        raise PriorError(
            f"The noise schedule of {name} (betas: {schedule}) is unknown.",
            remedy=f"Known are models trained with the {', '.join(BETA_SCHEDULES)} schedules.",
        )
    prediction_type = config.get("prediction_type", "epsilon")
    known = [kind for kind in PREDICTION_TYPES if kind != FLOW]
    if prediction_type not in known:
        raise PriorError(f"The model predicts '{prediction_type}', which is unknown.", remedy=f"Known are {', '.join(known)}.")
    fields = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
    scheduler: Any = DDIMScheduler(**{key: config[key] for key in fields if key in config})
    alphas_cumprod = scheduler.alphas_cumprod.float()
    return torch.where(alphas_cumprod > 0, alphas_cumprod, SMALLEST_ALPHA_BAR), prediction_type
