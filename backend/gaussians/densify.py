"""Adaptive control of the Gaussians' number (3DGS, section 5.2), under a hard cap.

Gaussians that the image pulls at hard are duplicated if small and split if large; almost transparent ones are removed. The tensor
surgery on parameters and optimisers is gsplat's (`gsplat.strategy.ops`), which carries any tensor in its `state` along: we let it carry
each row's number and a factor, from which others (the history of gradient fusion) can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config import DensificationConfig
from .model import GaussianModel
from .rasterize.gsplat_backend import import_quietly

RESET_OPACITY = 2.0
"""Opacities are reset to this many times the opacity below which Gaussians are removed (gsplat's DefaultStrategy), and to 1 at most."""


class Remap(NamedTuple):
    """How the Gaussians after a refinement follow from those before.

    Attributes:
        rows: [M] the row that each Gaussian comes from.
        factor: [M] how much of a tensor carried along it inherits: 1 if kept, 0.5 for a duplicate's copy, 0 for a split's child.
        duplicated, split, pruned: numbers of Gaussians.
        opacities_reset: all opacities were lowered, so what was known about their gradients is void.
    """

    rows: Tensor
    factor: Tensor
    duplicated: int = 0
    split: int = 0
    pruned: int = 0
    opacities_reset: bool = False


class Densifier:
    """Collects screen-space gradients and, every so often, refines the Gaussians.

    Call `accumulate` after every backward pass and `step` after every optimiser step.

    Args:
        config: thresholds and times.
        iterations: length of the run, which `config.start` and `config.stop` are shares of.
        generator: on the CPU; decides where a split's children go.
        device: of the Gaussians.
    """

    def __init__(
        self, config: DensificationConfig, iterations: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> None:
        self.config = config
        self.iterations = iterations
        self.generator = generator
        self._device = torch.device(device)
        self._forget(0)

    def accumulate(self, meta: Mapping[str, Any], views: int) -> None:
        """Add the screen-space gradients of one backward pass; `meta` is the rasteriser's.

        Gradients are in normalised image coordinates (-1..1) and, as in gsplat, multiplied by the number of views that the loss is
        a mean over, whether or not this pass is of all of them, so that neither resolution nor batch size changes their scale.
        """
        if not self.config.enabled or meta["means2d"].grad is None:
            return
        gradient = meta["means2d"].grad  # [..., C, N, 2]
        visible = (meta["radii"] > 0).all(dim=-1)
        scale = gradient.new_tensor([meta["width"], meta["height"]]) * (views / 2)
        norm = (gradient * scale).norm(dim=-1) * visible
        count = norm.shape[-1]
        if len(self._gradient) != count:
            self._forget(count)
        self._gradient += norm.flatten(0, -2).sum(dim=0)
        self._visits += visible.flatten(0, -2).sum(dim=0)

    @torch.no_grad()
    def step(self, iteration: int, model: GaussianModel, optimizers: dict[str, torch.optim.Optimizer]) -> Remap | None:
        """Refine after iteration `iteration` (0-based) if it is time to; parameters and optimisers are replaced in place.

        Args:
            optimizers: one for each of `model.params`, each with one parameter group.

        Returns:
            What became of the rows, or None if nothing changed.
        """
        config, done = self.config, iteration + 1
        progress = done / self.iterations
        if not config.enabled or progress < config.start:
            return None
        count = len(model)
        refines = done % config.every == 0
        reset_every = max(1, round(config.reset_every * self.iterations))
        resets = config.reset_every > 0 and done % reset_every == 0 and progress < config.stop
        if not refines and not resets:
            return None
        if len(self._gradient) != count:
            self._forget(count)
        state = {
            "rows": torch.arange(count, device=model.device),
            "factor": torch.ones(count, device=model.device),
            "gradient": self._gradient / self._visits.clamp_min(1),
        }
        pruned = duplicated = split = 0
        if refines:
            pruned = self._prune(model, optimizers, state)
            if progress < config.stop:
                duplicated, split = self._grow(model, optimizers, state)
        if resets:
            ops = import_quietly("gsplat.strategy.ops")
            ops.reset_opa(model.params, optimizers, {}, min(max(RESET_OPACITY * config.prune_opacity, 0.01), 1.0))
        if refines:
            self._forget(len(model))
        if not (pruned or duplicated or split or resets):
            return None
        return Remap(state["rows"], state["factor"], duplicated, split, pruned, resets)

    def _prune(self, model: GaussianModel, optimizers: dict[str, torch.optim.Optimizer], state: dict[str, Tensor]) -> int:
        """Remove Gaussians that are almost transparent or hold a number that is not finite; the most opaque one always stays."""
        opacities = model.params["opacities"].sigmoid()
        finite = torch.stack([torch.isfinite(x).reshape(len(x), -1).all(dim=1) for x in model.params.values()]).all(dim=0)
        doomed = (opacities < self.config.prune_opacity) | ~finite
        doomed[torch.where(finite, opacities, -1).argmax()] = False
        pruned = int(doomed.sum())
        if pruned:
            import_quietly("gsplat.strategy.ops").remove(model.params, optimizers, state, doomed)
        return pruned

    def _grow(self, model: GaussianModel, optimizers: dict[str, torch.optim.Optimizer], state: dict[str, Tensor]) -> tuple[int, int]:
        """Duplicate and split; where the cap binds, those with the largest gradients. Either adds one Gaussian."""
        config, count = self.config, len(model)
        gradient = state["gradient"]
        candidates = int((gradient > config.grow_gradient).sum())
        chosen = torch.topk(gradient, min(candidates, max(config.max_count - count, 0))).indices
        grows = torch.zeros(count, dtype=torch.bool, device=model.device)
        grows[chosen] = True
        large = model.params["scales"].exp().amax(dim=-1) > config.split_scale
        duplicates, splits = grows & ~large, grows & large
        duplicated, split = int(duplicates.sum()), int(splits.sum())
        if duplicated:
            import_quietly("gsplat.strategy.ops").duplicate(model.params, optimizers, state, duplicates)
            state["factor"][-duplicated:] = 0.5
        if split:
            splits = torch.cat([splits, splits.new_zeros(duplicated)])
            with self._seeded(model.device):
                import_quietly("gsplat.strategy.ops").split(model.params, optimizers, state, splits)
            state["factor"][-2 * split :] = 0.0
            model.clamp_()
        return duplicated, split

    @contextmanager
    def _seeded(self, device: torch.device) -> Iterator[None]:
        """Torch's global random numbers follow from our generator inside, and are what they were again outside."""
        seed = int(torch.randint(2**62, (1,), generator=self.generator))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def _forget(self, count: int) -> None:
        self._gradient = torch.zeros(count, device=self._device)
        self._visits = torch.zeros(count, device=self._device)

    def state_dict(self) -> dict[str, Tensor]:
        """What has been accumulated since the last refinement (`gradient` and `visits` [N]) and the generator's state."""
        return {"gradient": self._gradient.clone(), "visits": self._visits.clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state_dict` was taken."""
        self._gradient, self._visits = (state[name].to(self._device, copy=True) for name in ("gradient", "visits"))
        self.generator.set_state(state["generator"].cpu())
