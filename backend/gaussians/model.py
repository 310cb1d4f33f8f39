"""The Gaussians that are optimised, and their file format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import GaussiansConfig
from .rasterize.conventions import MAX_SH_DEGREE, SH_C0
from .splat_file import read_splats, write_splats

GROUPS = ("means", "scales", "quats", "opacities", "sh0", "shN")
"""The parameter groups; each has its own optimiser. `shN` exists only if the degree is above 0."""


def rgb_to_sh(rgb: Tensor) -> Tensor:
    """The constant spherical-harmonic coefficient that is seen as colour `rgb`."""
    return (rgb - 0.5) / SH_C0


class GaussianModel:
    """N Gaussians as `torch.nn.Parameter`s, in the form in which they are optimised.

    Attributes:
        params: means [N, 3]; scales [N, 3], logarithms of standard deviations; quats [N, 4], wxyz, of any length;
            opacities [N], logits; sh0 [N, 1, 3]; and, if `sh_degree` > 0, shN [N, (sh_degree + 1)^2 - 1, 3].
        sh_degree: degree of the view-dependent colour, 0 to 3.
        scale_range: smallest and largest standard deviation, kept by `clamp_`.
        bound: radius of the ball around the origin that no centre leaves, kept by `clamp_`.
    """

    def __init__(self, params: Mapping[str, Tensor], scale_range: tuple[float, float] = (0.0, math.inf), bound: float = math.inf) -> None:
        count = len(params["means"])
        harmonics = 1 + (params["shN"].shape[1] if "shN" in params else 0)
        self.sh_degree = math.isqrt(harmonics) - 1
        if (self.sh_degree + 1) ** 2 != harmonics or self.sh_degree > MAX_SH_DEGREE:
            raise ValueError(f"{harmonics} spherical harmonics are not those of a degree from 0 to {MAX_SH_DEGREE}.")
        shapes = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3), "shN": (harmonics - 1, 3)}
        self.params: dict[str, torch.nn.Parameter] = {}
        for name in GROUPS:
            if name == "shN" and self.sh_degree == 0:
                continue
            if tuple(params[name].shape) != (count, *shapes[name]):
                raise ValueError(f"{name} has shape {tuple(params[name].shape)}, not {(count, *shapes[name])}.")
            self.params[name] = torch.nn.Parameter(params[name].detach().clone().contiguous())
        self.scale_range = scale_range
        self.bound = bound

    @classmethod
    def create(cls, means: Tensor, scales: Tensor, colors: Tensor, config: GaussiansConfig) -> GaussianModel:
        """From centres [N, 3], standard deviations [N, 3] and colours [N, 3], unrotated, with the configured opacity, degree and bounds."""
        count = len(means)
        params = {
            "means": means,
            "scales": scales.clamp_min(1e-8).log(),
            "quats": means.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
            "opacities": means.new_full((count,), math.log(config.opacity / (1 - config.opacity))),
            "sh0": rgb_to_sh(colors)[:, None],
        }
        if config.sh_degree > 0:
            params["shN"] = means.new_zeros(count, (config.sh_degree + 1) ** 2 - 1, 3)
        model = cls(params, (config.min_scale, config.max_scale), config.bound)
        model.clamp_()
        return model

    def __len__(self) -> int:
        return len(self.params["means"])

    @property
    def device(self) -> torch.device:
        return self.params["means"].device

    def copies(self, count: int) -> dict[str, Tensor]:
        """{group: [count, N, ...]} the parameters as many times, as leaves: one backward pass gives each copy its own gradient."""
        return {name: parameter.detach().expand(count, *parameter.shape).requires_grad_() for name, parameter in self.params.items()}

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring the standard deviations back into `scale_range` and the centres into the ball, in place."""
        low, high = self.scale_range
        self.params["scales"].clamp_(math.log(low) if low > 0 else -math.inf, math.log(high))
        means = self.params["means"]
        means.mul_((self.bound / means.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1))

    def state_dict(self) -> dict[str, Tensor]:
        """Detached parameters by group, sharing memory with the model."""
        return {name: parameter.detach() for name, parameter in self.params.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace all Gaussians; their number may change, so optimisers made before hold stale parameters.

        Raises:
            ValueError: the groups or their shapes do not fit this model's degree.
        """
        if set(state) != set(self.params):
            raise ValueError(f"The state holds the groups {sorted(state)}, not {sorted(self.params)}.")
        self.params = GaussianModel({name: tensor.to(self.device) for name, tensor in state.items()}).params

    def to(self, device: torch.device | str) -> GaussianModel:
        """A copy on `device`."""
        return GaussianModel({name: tensor.to(device) for name, tensor in self.state_dict().items()}, self.scale_range, self.bound)

    def save_ply(self, path: Path | str, *, durable: bool = True) -> None:
        """Write the standard 3DGS .ply, which every splat viewer reads; see `files.atomic_path`."""
        groups = {name: np.asarray(tensor.cpu(), dtype=np.float32) for name, tensor in self.state_dict().items()}
        write_splats(Path(path), groups, durable=durable)

    @classmethod
    def load_ply(cls, path: Path | str) -> GaussianModel:
        """Read a standard 3DGS .ply.

        Raises:
            InputError: the file is missing, damaged, or no 3DGS file.
        """
        return cls({name: torch.from_numpy(array) for name, array in read_splats(Path(path)).items()})
