"""Hybrid orthogonal gradient fusion (paper, section 3.4, eq. 10).

The gradient of one region's views is joined by what its neighbours' last gradients say in the directions it leaves free::

    fusion = GradientFusion(grid, config.gradient_fusion, num_train_timesteps, device)
    fused = fusion.fuse(regions, t, iteration, main, active=start <= progress < stop)
    ...                                                   # the optimiser steps with the sum of fused.gradients over the regions
    fusion.record(regions, t, iteration, main)            # the unfused gradients go to the history
    fusion.remap(rows, factor)                            # whenever Gaussians were duplicated, split or pruned

A step has R regions, each with its own timestep and gradient; the paper's has one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import FusionConfig
from ..errors import ResourceError
from .fusion_arithmetic import FACTS, Neighbours, fuse
from .gradient_history import GradientHistory
from .region_gradients import RegionGradients
from .view_grid import ViewGrid

STORAGE_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class FusionReport:
    """What one region's fusion was made of.

    Attributes:
        neighbours: a dict for each neighbour used: `region`, `weight` (w_ij; they sum to 1), `t` and `age` (iterations) of its
            stored gradient, `cosine` {group: cosine between the stored and the main gradient, to six digits}.
        norm_main: {group: norm of the main gradient}.
        norm_projected: {group: norm of the sum of projected gradients as it was added, that is, after the cap}.
        norm_fused: {group: norm of the fused gradient}.
    """

    neighbours: list[dict[str, Any]]
    norm_main: dict[str, float]
    norm_projected: dict[str, float]
    norm_fused: dict[str, float]


@dataclass(frozen=True)
class FusionResult:
    """What `fuse` returns.

    Attributes:
        gradients: the fused gradients (the main ones themselves where no region fused anything).
        reports: [R] what each region's was made of.
    """

    gradients: RegionGradients
    reports: list[FusionReport]


class GradientFusion:
    """Fuses each region's gradient with its neighbours' history.

    With w_ij proportional to exp(-theta^2 / 2 sigma^2) exp(-|t - t_j| / time scale) exp(-age / age scale), normalised over
    the neighbours whose stored gradient was taken at a similar timestep, eq. 10 is linear in the auxiliary gradients, so that

        sum_j g_proj_j = a - <a, g> / <g, g> g        with a = sum_j w_ij g_j.

    Inner products are taken per parameter group, or over all of them (`projection = "global"`, the literal form); the norm of
    the sum is bounded by `cap` times the main gradient's in the same sense. In place of eq. 10's epsilon, a zero gradient
    has no direction to project out and, under a finite cap, is left alone.

    Args:
        grid: the regions, their neighbours and angles.
        config: the settings.
        num_train_timesteps: T, which turns the settings' fractions into timesteps.
        device: of the parameters; the history is kept there or, with `history_device = "cpu"`, in main memory.

    Attributes:
        history_device: where that is.
    """

    def __init__(self, grid: ViewGrid, config: FusionConfig, num_train_timesteps: int, device: torch.device | str) -> None:
        self.config = config
        self._grid = grid
        self._steps = num_train_timesteps
        self.history_device = torch.device("cpu" if config.history_device == "cpu" else device)
        self._history = GradientHistory(len(grid), STORAGE_DTYPES[config.storage], self.history_device)
        self._log_closeness = np.full((len(grid), len(grid)), -math.inf)  # of neighbours: -theta^2 / 2 sigma^2
        for region, row in enumerate(self._log_closeness):
            near = grid.neighbours(region)
            row[near] = -(grid.angles[region, near] ** 2) / (2 * config.angle_scale**2)

    @property
    def nbytes(self) -> int:
        """Bytes the history holds now."""
        return self._history.nbytes

    def required_bytes(self, numbers: int) -> int:
        """Bytes of a full history of `numbers` values a region (Gaussians times numbers per Gaussian)."""
        return len(self._grid) * numbers * self._history.values.itemsize

    def check_memory(self, numbers: int) -> None:
        """Raises ResourceError if a history of `numbers` values a region would exceed the limit. Nothing if disabled."""
        needed, limit = self.required_bytes(numbers) / 2**30, self.config.memory_limit_gib
        if self.config.enabled and needed > limit:
            raise ResourceError(
                f"The gradient history of {len(self._grid)} regions would take {needed:.2f} GiB, more than the limit of {limit:g} GiB.",
                remedy="Raise gradient_fusion.memory_limit_gib (with gradient_fusion.history_device = cpu if the GPU is full), "
                "lower densification.max_count or gaussians.sh_degree, or use fewer regions.",
            )

    # One iteration

    @torch.no_grad()
    def fuse(
        self, regions: Sequence[int], t: Sequence[int], iteration: int, gradients: RegionGradients, *, active: bool = True
    ) -> FusionResult:
        """The gradients to step with, for a step in these regions at these timesteps [R].

        The main gradients themselves where fusion is off, not `active` yet, or no neighbour has a gradient at a similar timestep.
        A step's regions do not see each other's new gradients: what is fused is the history before the step.

        Raises:
            ValueError: if the gradients' groups or shapes are not those of the history (a missed `remap`).
        """
        weights = self._weights(regions, t, iteration) if active and self.config.enabled else None
        if weights is None or not weights.any():
            peaks, squares = gradients.measured
            zero = dict.fromkeys(gradients, 0.0)
            by_group = [dict(zip(gradients, row, strict=True)) for row in (peaks * squares.sqrt()).tolist()]
            return FusionResult(gradients, [FusionReport([], norm, dict(zero), dict(norm)) for norm in by_group])
        self._history.check(gradients)
        used = np.flatnonzero(weights.any(axis=0))
        weights = weights[:, used]
        neighbours = Neighbours(self._history.values, self._history.scales, used, weights.astype(np.float32))
        joint, edges = self.config.projection == "global", gradients.layout.edges
        fused, told = fuse(gradients.flat, gradients.measured, neighbours, edges, cap=self.config.cap, joint=joint)
        return FusionResult(RegionGradients(gradients.layout, fused), self._reports(told, list(gradients), used, weights, iteration))

    @torch.no_grad()
    def record(self, regions: Sequence[int], t: Sequence[int], iteration: int, gradients: RegionGradients) -> None:
        """Stores the unfused gradients of a step in these regions, replacing each region's last ones. Nothing if disabled.

        Raises:
            ResourceError: if the history would exceed the memory limit.
            ValueError: if the gradients' groups or shapes are not those of the history (a missed `remap`).
        """
        if not self.config.enabled:
            return
        if not self._history:
            self.check_memory(gradients.layout.size)
        self._history.record(regions, t, iteration, gradients)

    # Changes of the Gaussians

    @torch.no_grad()
    def remap(self, rows: Tensor, factor: Tensor) -> None:
        """Follows a densification: new row n takes `factor[n]` times old row `rows[n]`.

        A kept Gaussian has factor 1, a duplicate 1/2, a split's child 0; a pruned one does not occur.

        Args:
            rows: [N_new] int64 indices into the old rows.
            factor: [N_new].

        Raises:
            ResourceError: if the larger history would exceed the memory limit.
        """
        if self._history:
            self.check_memory(self._history.layout.with_rows(len(rows)).size)
            self._history.remap(rows, factor)

    @torch.no_grad()
    def clear_group(self, name: str) -> None:
        """Forgets one group's gradients in every region: after an opacity reset the old ones mean nothing."""
        self._history.clear_group(name)

    def forget(self) -> None:
        """Lets go of the history, and of the memory that it takes: from `stop` on nothing looks at it."""
        if self._history:
            self._history = GradientHistory(len(self._grid), STORAGE_DTYPES[self.config.storage], self.history_device)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that later fusions depend on: nested dicts of tensors and JSON-able values."""
        return self._history.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where `state_dict` was taken. ValueError if that history had another number of regions."""
        self._history.load_state_dict(state)

    # Internals

    def _weights(self, regions: Sequence[int], t: Sequence[int], iteration: int) -> np.ndarray:
        """[R, N] w_ij: they sum to 1 over the neighbours whose stored gradient has a similar timestep, or are 0 where none has."""
        c = self.config
        history, own = self._history, list(regions)
        lag = np.abs(np.array(t)[:, None] - history.t)
        # The more regions a step has, the fewer iterations a pass over the grid takes.
        age = (iteration - history.iteration) / (c.age_scale * len(self._grid) / len(own))
        log_weight = self._log_closeness[own] - lag / (c.time_scale * self._steps) - age
        log_weight[(history.iteration < 0) | (lag > c.time_window * self._steps)] = -math.inf
        highest = log_weight.max(axis=1, keepdims=True)
        weight = np.exp(log_weight - np.where(np.isfinite(highest), highest, 0))
        return weight / np.maximum(weight.sum(axis=1, keepdims=True), 1)

    def _reports(self, told: np.ndarray, groups: list[str], used: np.ndarray, weights: np.ndarray, iteration: int) -> list[FusionReport]:
        """[R] what each region's fusion was made of.

        Args:
            told: [R, G, FACTS + 2 U], as `fuse` tells it.
            groups: [G] names.
            used: [U] regions whose gradients were fused.
            weights: [R, U] w_ij.
        """
        peak, square, along, length, shrink = told[:, :, :FACTS].transpose(2, 0, 1)
        inner, stored = told[:, :, FACTS:].reshape(*peak.shape, 2, len(used)).transpose(2, 0, 3, 1)  # [R, U, G]
        capped = shrink**2 * length
        joined = np.maximum(square + 2 * shrink * along + capped, 0)
        norms = np.sqrt([square, capped, joined]) * peak
        cosines = (inner / np.maximum(np.sqrt(stored * square[:, None]), np.finfo(np.float32).tiny)).round(6)
        taken, ages = self._history.t[used].tolist(), (iteration - self._history.iteration[used]).tolist()
        reports = []
        for region, row in enumerate(weights.tolist()):
            neighbours = [
                {"region": j, "weight": weight, "t": t, "age": age, "cosine": dict(zip(groups, cosine, strict=True))}
                for j, weight, t, age, cosine in zip(used.tolist(), row, taken, ages, cosines[region].tolist(), strict=True)
                if weight > 0
            ]
            reports.append(FusionReport(neighbours, *(dict(zip(groups, norm, strict=True)) for norm in norms[:, region].tolist())))
        return reports
