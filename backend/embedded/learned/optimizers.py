"""Which optimiser moves which of the learned prior's weights: Muon the denoiser's hidden matrices, Adam everything else.

Muon (Jordan et al. 2024) gives every matrix a step whose singular values are all about one, so that rare directions
are learned as fast as common ones (docs/priors.md has what it gained over Adam).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

ADAM_BETAS = (0.9, 0.99)
ADAM_DECAY = 1e-3
MUON_DECAY = 1e-2
MUON_MOMENTUM = 0.95
SMALLEST_SIDE = 64
"""Smaller matrices have few directions to balance."""
_ENDS = ("unet/conv_in.weight", "unet/conv_out.weight")
"""The first and the last layer: their rows are of the picture, which Muon is not meant for."""
_CONDITIONING = ("time_embedding", "time_emb_proj", "add_embedding")
"""The matrices through which time and words reach the layers. With Muon for them, too, a step takes 0.49 s of a core, not 0.18."""


@dataclass(frozen=True)
class Rates:
    """Learning rates at their highest.

    Attributes:
        muon: of the denoiser's hidden matrices.
        ends: of its first and its last layer.
        adam: of its biases and norms, of what time and words pass through, and of matrices too small for Muon.
        text: of the text encoder, whose few words occur in every batch.
    """

    muon: float = 0.02
    ends: float = 0.003
    adam: float = 0.003
    text: float = 0.001

    def scaled_to(self, muon: float) -> Rates:
        """The same proportions with another rate of Muon's."""
        return Rates(*(rate * muon / self.muon for rate in astuple(self)))

    def of(self, name: str) -> float:
        """Adam's rate for a weight."""
        return self.text if name.startswith("text_encoder/") else self.ends if name in _ENDS else self.adam


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
        by_rate: dict[float, list[Tensor]] = {}
        for name, value in self._others.items():
            by_rate.setdefault(rates.of(name), []).append(value)
        groups_of_adam = [{"params": values, "lr": rate} for rate, values in by_rate.items()]
        self._adam = torch.optim.AdamW(groups_of_adam, betas=ADAM_BETAS, weight_decay=ADAM_DECAY, fused=True)
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
        for optimizer in (self._adam, *self._muons):
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("highest", group["lr"])
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
    if not name.startswith("unet/") or value.ndim < 2 or name in _ENDS or any(part in name for part in _CONDITIONING):
        return False
    return min(value.shape[0], value[0].numel()) >= SMALLEST_SIDE


def _as_matrix(value: Tensor) -> torch.nn.Parameter:
    """The same memory as [outputs, everything else]."""
    return torch.nn.Parameter(value.detach().view(value.shape[0], -1))


def _known(optimizers: Sequence[Optimizer], parameters: Mapping[str, Tensor]) -> list[tuple[str, dict[str, Tensor]]]:
    """What the optimisers keep of each parameter that has moved."""
    states = {value: moments for optimizer in optimizers for value, moments in optimizer.state.items()}
    return [(name, states[value]) for name, value in parameters.items() if value in states]
