"""Which optimiser moves which of the learned prior's weights: Muon the denoiser's hidden matrices, Adam everything else.

Muon (Jordan et al. 2024) gives every matrix a step whose singular values are all about one, so that rare directions
are learned as fast as common ones (docs/priors.md has what it gained over Adam).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

ADAM_BETAS = (0.9, 0.99)
ADAM_DECAY = 1e-3
MUON_DECAY = 1e-2
MUON_MOMENTUM = 0.95
SMALLEST_SIDE = 64
"""Smaller matrices have few directions to balance."""
_ENDS = ("conv_in", "conv_out")
"""The first and the last layer: their rows are pixels and colours, which Muon is not meant for."""


@dataclass(frozen=True)
class Rates:
    """Learning rates at their highest."""

    muon: float = 0.02
    adam: float = 8e-4

    def scaled_to(self, muon: float) -> Rates:
        """The same proportion with another rate of Muon's."""
        return Rates(muon, self.adam * muon / self.muon)


def _step(optimizer: Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _one_by_one(function: Callable[[Optimizer], None], optimizers: Sequence[Optimizer]) -> None:
    for optimizer in optimizers:
        function(optimizer)


class Optimizers:
    """Both optimisers as one.

    Args:
        parameters: names `text_encoder/...` and `unet/...` to the weights, float32. Gradients are read from their `grad`.
        rates: learning rates.
        groups: into how many the matrices are shared out, to be worked on at the same time.
    """

    def __init__(self, parameters: Mapping[str, Tensor], rates: Rates, groups: int = 1) -> None:
        self.rates = rates
        self._parameters = parameters
        self._matrices = {name: _as_matrix(value) for name, value in parameters.items() if _for_muon(name, value)}
        self._names = {matrix: name for name, matrix in self._matrices.items()}
        self._others = {name: value for name, value in parameters.items() if name not in self._matrices}
        self._adam = torch.optim.AdamW(self._others.values(), lr=rates.adam, betas=ADAM_BETAS, weight_decay=ADAM_DECAY, fused=True)
        costs = {name: float(min(matrix.shape) ** 2 * max(matrix.shape)) for name, matrix in self._matrices.items()}
        self._muons = [
            torch.optim.Muon(
                [self._matrices[name] for name in names],
                lr=rates.muon,
                momentum=MUON_MOMENTUM,
                weight_decay=MUON_DECAY,
                adjust_lr_fn="original",
            )
            for names in shared_out(costs, groups)
            if names
        ]

    def step(self, factor: float, each: Callable[[Callable[[Optimizer], None], Sequence[Optimizer]], object] = _one_by_one) -> None:
        """Takes one step at this share of the learning rates, and forgets the gradients.

        Args:
            each: calls a function with every optimiser; it may do so at the same time.
        """
        for name, matrix in self._matrices.items():
            gradient = self._parameters[name].grad
            matrix.grad = None if gradient is None else gradient.flatten(1)
        for optimizer, rate in ((self._adam, self.rates.adam), *((muon, self.rates.muon) for muon in self._muons)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        each(_step, [*self._muons, self._adam])
        for value in self._parameters.values():
            value.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Moments by name: `momentum/<weight>` of Muon's matrices, `first/<weight>` and `second/<weight>` of the others."""
        state = {f"momentum/{name}": moments["momentum_buffer"] for name, moments in _known(self._muons, self._matrices)}
        for name, moments in _known([self._adam], self._others):
            state |= {f"first/{name}": moments["exp_avg"], f"second/{name}": moments["exp_avg_sq"]}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor], step: int) -> None:
        """Takes up what `state_dict` gave after `step` steps; weights that it does not name begin anew."""
        for muon in self._muons:
            for matrix in muon.param_groups[0]["params"]:
                name = f"momentum/{self._names[matrix]}"
                if name in state:
                    muon.state[matrix] = {"momentum_buffer": torch.empty_like(matrix).copy_(state[name])}
        for name, value in self._others.items():
            if f"first/{name}" in state:
                self._adam.state[value] = {
                    "step": torch.tensor(float(step), device=value.device),
                    "exp_avg": torch.empty_like(value).copy_(state[f"first/{name}"]),
                    "exp_avg_sq": torch.empty_like(value).copy_(state[f"second/{name}"]),
                }


def shared_out(costs: Mapping[str, float], count: int) -> list[list[str]]:
    """The names in `count` groups of about the same cost."""
    groups: list[list[str]] = [[] for _ in range(count)]
    totals = [0.0] * count
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        least = totals.index(min(totals))
        groups[least].append(name)
        totals[least] += costs[name]
    return groups


def _for_muon(name: str, value: Tensor) -> bool:
    if not name.startswith("unet/") or value.ndim < 2 or any(part in name for part in _ENDS):
        return False
    return min(value.shape[0], value[0].numel()) >= SMALLEST_SIDE


def _as_matrix(value: Tensor) -> torch.nn.Parameter:
    """The same memory as [outputs, everything else]."""
    return torch.nn.Parameter(value.detach().view(value.shape[0], -1))


def _known(optimizers: Sequence[Optimizer], parameters: Mapping[str, Tensor]) -> list[tuple[str, dict[str, Tensor]]]:
    """What the optimisers keep of each parameter that has moved."""
    states = {value: moments for optimizer in optimizers for value, moments in optimizer.state.items()}
    return [(name, states[value]) for name, value in parameters.items() if value in states]
