"""Hybrid orthogonal gradient fusion (paper, section 3.4, eq. 10).

The gradient of one region's views is joined by what its neighbours' last gradients say in the directions it leaves free::

    fusion = GradientFusion(grid, config.gradient_fusion, num_train_timesteps, device)
    fused = fusion.fuse(regions, t, iteration, main, active=start <= progress < stop)
    ...                                                   # the optimiser steps with the sum of fused.gradients over the regions
    fusion.record(regions, t, iteration, main)            # the unfused gradients go to the history
    fusion.remap(rows, factor)                            # whenever Gaussians were duplicated, split or pruned

A step has R regions, each with its own timestep and gradient; the paper's has one. `gradients` are dicts from the name of a
parameter group to a tensor [R, rows, ...], one row per Gaussian.
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
from .view_grid import ViewGrid

_TINY = torch.finfo(torch.float32).tiny
_CPU_BLOCK, _GPU_BLOCK = 2**15, 2**22
"""Numbers of one stored gradient that are worked on at once."""

STORAGE_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class FusionReport:
    """What one region's fusion was made of.

    Attributes:
        neighbours: a dict for each neighbour used: `region`, `weight` (w_ij; they sum to 1), `t` and `age` (iterations) of its
            stored gradient, `cosine` {group: cosine between the stored and the main gradient}.
        norm_main: {group: norm of the main gradient}.
        norm_projected: {group: norm of the sum of projected gradients as it was added, that is, after the cap}.
        norm_uncapped: the same before the cap.
        norm_fused: {group: norm of the fused gradient}.
    """

    neighbours: list[dict[str, Any]]
    norm_main: dict[str, float]
    norm_projected: dict[str, float]
    norm_uncapped: dict[str, float]
    norm_fused: dict[str, float]


@dataclass(frozen=True)
class FusionResult:
    """What `fuse` returns.

    Attributes:
        gradients: the fused gradients, shaped as the main ones (the very same tensors where no region fused anything).
        reports: [R] what each region's was made of.
    """

    gradients: dict[str, Tensor]
    reports: list[FusionReport]


@dataclass
class _Entry:
    """When a region's stored gradient was taken."""

    t: int
    iteration: int


@dataclass
class _History:
    """One group's stored gradients: values scaled to -1..1 by each region's largest magnitude.

    Distillation gradients are often near 1e-6 and span many orders of magnitude between timesteps, while float16 is accurate
    only between 6e-5 and 65504. The scale, kept in float32, takes the magnitude out.
    """

    values: Tensor  # [N, rows, width], the storage type
    scales: Tensor  # [N], float32
    shape: tuple[int, ...]  # of one row


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
        self._device = torch.device(device)
        self.history_device = torch.device("cpu") if config.history_device == "cpu" else self._device
        self._dtype = STORAGE_DTYPES[config.storage]
        self._entries: dict[int, _Entry] = {}
        self._history: dict[str, _History] = {}

    @property
    def nbytes(self) -> int:
        """Bytes the history holds now."""
        return sum(h.values.nbytes + h.scales.nbytes for h in self._history.values())

    def required_bytes(self, numbers: int) -> int:
        """Bytes of a full history of `numbers` values a region (Gaussians times numbers per Gaussian)."""
        return len(self._grid) * numbers * self._dtype.itemsize

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
        self, regions: Sequence[int], t: Sequence[int], iteration: int, gradients: dict[str, Tensor], *, active: bool = True
    ) -> FusionResult:
        """The gradients to step with, for a step in these regions at these timesteps [R].

        The main gradients themselves where fusion is off, not `active` yet, or no neighbour has a gradient at a similar timestep.
        A step's regions do not see each other's new gradients: what is fused is the history before the step.

        Raises:
            ValueError: if the gradients' groups or shapes are not those of the history (a missed `remap`).
        """
        fusing = active and self.config.enabled
        used = [self._similar_neighbours(region, at) if fusing else [] for region, at in zip(regions, t, strict=True)]
        if not any(used):
            norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float32) for g in gradients.values()], dim=1)
            zero = dict.fromkeys(gradients, 0.0)
            by_group = [dict(zip(gradients, row, strict=True)) for row in norms.tolist()]
            return FusionResult(gradients, [FusionReport([], norm, dict(zero), dict(zero), dict(norm)) for norm in by_group])
        self._check_shapes(gradients)
        together = sorted(set().union(*used))
        weights = np.zeros((len(regions), len(together)))
        for row, region, at, own in zip(weights, regions, t, used, strict=True):
            row[np.searchsorted(together, own)] = self._weights(region, at, iteration, own, len(regions))
        return self._project(gradients, together, weights, iteration)

    @torch.no_grad()
    def record(self, regions: Sequence[int], t: Sequence[int], iteration: int, gradients: dict[str, Tensor]) -> None:
        """Stores the unfused gradients of a step in these regions, replacing each region's last ones. Nothing if disabled.

        Raises:
            ResourceError: if the history would exceed the memory limit.
            ValueError: if the gradients' groups or shapes are not those of the history (a missed `remap`).
        """
        if not self.config.enabled:
            return
        if not self._history:
            self._allocate(gradients)
        self._check_shapes(gradients)
        for name, gradient in gradients.items():
            history = self._history[name]
            stored = history.values.flatten(1)
            rows = gradient.detach().flatten(1).float()
            scales = rows.abs().amax(dim=1) if rows.numel() else rows.new_zeros(len(rows))
            rows = rows / scales.clamp(min=_TINY)[:, None]
            for region, row, scale in zip(regions, rows, scales, strict=True):  # a region that comes twice keeps its last
                stored[region], history.scales[region] = row, scale
        self._entries |= {region: _Entry(int(at), int(iteration)) for region, at in zip(regions, t, strict=True)}

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
        if not self._history:
            return
        self.check_memory(len(rows) * sum(h.values.shape[2] for h in self._history.values()))
        rows = rows.to(self.history_device)
        factor = factor.to(self.history_device, self._dtype)[None, :, None]
        for history in self._history.values():
            history.values = history.values.index_select(1, rows).mul_(factor)

    @torch.no_grad()
    def clear_group(self, name: str) -> None:
        """Forgets one group's gradients in every region: after an opacity reset the old ones mean nothing."""
        if name in self._history:
            self._history[name].values.zero_()
            self._history[name].scales.zero_()

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that later fusions depend on: nested dicts of tensors and JSON-able values."""
        return {
            "entries": [{"region": region, "t": e.t, "iteration": e.iteration} for region, e in sorted(self._entries.items())],
            "history": {name: {"values": h.values, "scales": h.scales, "shape": list(h.shape)} for name, h in self._history.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where `state_dict` was taken. ValueError if that history had another number of regions."""
        regions = {len(h["values"]) for h in state["history"].values()}
        if regions - {len(self._grid)}:
            raise ValueError(f"the saved history has {regions.pop()} regions, this grid {len(self._grid)}")
        self._history = {
            name: _History(
                h["values"].to(self.history_device, self._dtype, copy=True),
                h["scales"].to(self.history_device, copy=True),
                tuple(h["shape"]),
            )
            for name, h in state["history"].items()
        }
        self._entries = {e["region"]: _Entry(e["t"], e["iteration"]) for e in state["entries"]}

    # Internals

    def _similar_neighbours(self, region: int, t: int) -> list[int]:
        """Neighbours with a stored gradient whose timestep is at most `time_window` away."""
        window = self.config.time_window * self._steps
        return [j for j in self._grid.neighbours(region).tolist() if j in self._entries and abs(t - self._entries[j].t) <= window]

    def _weights(self, region: int, t: int, iteration: int, used: list[int], regions: int) -> np.ndarray:
        """[k] w_ij, summing to 1, in a step of so many regions: the more, the fewer iterations a pass over the grid takes."""
        c = self.config
        angle = self._grid.angles[region, used]
        lag = np.array([abs(t - self._entries[j].t) for j in used])
        age = np.array([iteration - self._entries[j].iteration for j in used])
        log_weight = -(angle**2) / (2 * c.angle_scale**2) - lag / (c.time_scale * self._steps)
        log_weight -= age / (c.age_scale * len(self._grid) / regions)
        weight = np.exp(log_weight - log_weight.max(initial=-math.inf))
        return weight / weight.sum()

    def _project(self, gradients: dict[str, Tensor], used: list[int], weights: np.ndarray, iteration: int) -> FusionResult:
        """Eq. 10 for all regions and their neighbours at once.

        Nothing leaves the device until the numbers to report are read, together, at the end. Below, G groups, R regions, U = len(used).

        Args:
            used: [U] whose stored gradients are needed.
            weights: [R, U] w_ij, 0 where j is no similar neighbour of i.
        """
        index = torch.tensor(used, device=self.history_device)
        w = torch.tensor(weights, dtype=torch.float32, device=self._device)
        main = [g.detach().flatten(1).float() for g in gradients.values()]
        # In units of the largest magnitude, squares of gradients near 1e-20 do not vanish; a zero gradient stays zero.
        peaks = torch.stack([g.abs().amax(dim=1) if g.numel() else g.new_zeros(len(g)) for g in main]).clamp(min=_TINY)
        if self.config.projection == "global":
            peaks = peaks.amax(dim=0).expand_as(peaks)
        units = [g / peak[:, None] for g, peak in zip(main, peaks, strict=True)]

        projected, inner, norms = zip(
            *(self._combined(name, index, w / peak[:, None], unit) for name, unit, peak in zip(gradients, units, peaks, strict=True)),
            strict=True,
        )

        squares = self._over_projection([torch.linalg.vecdot(u, u) for u in units])  # [G, R], as all that follows
        for _ in range(2):  # the second pass removes what rounding left of the first
            along = self._over_projection([torch.linalg.vecdot(p, u) for p, u in zip(projected, units, strict=True)])
            for p, u, c in zip(projected, units, along / squares.clamp(min=_TINY), strict=True):
                p.addcmul_(u, c[:, None], value=-1)
        uncapped = torch.stack([torch.linalg.vector_norm(p, dim=1) for p in projected])
        shrink = torch.ones_like(uncapped)
        if math.isfinite(self.config.cap):
            length = self._over_projection(list(uncapped.square())).sqrt()
            shrink = (self.config.cap * squares.sqrt() / length.clamp(min=_TINY)).clamp(max=1)
        flat = [torch.addcmul(g, p, s[:, None]) for g, p, s in zip(main, projected, shrink * peaks, strict=True)]
        fused = {name: f.view_as(g).to(g.dtype) for (name, g), f in zip(gradients.items(), flat, strict=True)}

        norm_main = torch.stack([torch.linalg.vector_norm(u, dim=1) for u in units])
        cosines = torch.stack(inner) / (torch.stack(norms)[:, None] * norm_main[..., None]).clamp(min=_TINY)  # [G, R, U]
        norm_fused = torch.stack([torch.linalg.vector_norm(f, dim=1) for f in flat])
        lengths = torch.stack([norm_main * peaks, uncapped * shrink * peaks, uncapped * peaks, norm_fused], dim=-1)
        numbers = torch.cat([lengths, cosines], dim=-1).permute(1, 2, 0).tolist()  # [R, 4 + U, G]
        reports = []
        for row, own in zip(numbers, weights, strict=True):
            by_group = [dict(zip(gradients, values, strict=True)) for values in row]
            neighbours = [
                {"region": j, "weight": float(weight), "t": entry.t, "age": iteration - entry.iteration, "cosine": cosine}
                for j, entry, weight, cosine in zip(used, map(self._entries.__getitem__, used), own, by_group[4:], strict=True)
                if weight > 0
            ]
            reports.append(FusionReport(neighbours, *by_group[:4]))
        return FusionResult(fused, reports)

    def _combined(self, name: str, index: Tensor, weights: Tensor, units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What fusing needs to know of one group's stored gradients v_j, on the parameters' device.

        They are widened to float32 a block at a time: all at once they would leave the processor's cache, or fill much of a GPU.

        Args:
            index: [U] the regions j.
            weights: [R, U] w_ij, over the units that the sums are wanted in.
            units: [R, P] u_i.

        Returns:
            sum_j w_ij v_j [R, P]; <v_j, u_i> [R, U] and |v_j| [U], both in units of v_j's own scale.
        """
        history = self._history[name]
        weights = weights * history.scales.index_select(0, index).to(self._device)
        stored = history.values.flatten(1)
        total, inner, squares = torch.empty_like(units), torch.zeros_like(weights), weights.new_zeros(len(index))
        block = _CPU_BLOCK if self._device.type == "cpu" else _GPU_BLOCK
        for start in range(0, units.shape[1], block):
            columns = slice(start, start + block)
            values = stored[:, columns].index_select(0, index).to(self._device).float()
            total[:, columns] = weights @ values
            inner += units[:, columns] @ values.T
            squares += torch.linalg.vector_norm(values, dim=1).square()
        return total, inner, squares.sqrt()

    def _over_projection(self, per_group: Sequence[Tensor]) -> Tensor:
        """[G, R] the scalars as they are, or each replaced by its region's sum where all groups are projected as one vector."""
        stacked = torch.stack(per_group)
        return stacked.sum(dim=0).expand_as(stacked) if self.config.projection == "global" else stacked

    def _allocate(self, gradients: dict[str, Tensor]) -> None:
        self.check_memory(sum(g[0].numel() for g in gradients.values()))
        n = len(self._grid)
        for name, g in gradients.items():
            shape = (n, g.shape[1], math.prod(g.shape[2:]))
            values = torch.zeros(shape, dtype=self._dtype, device=self.history_device)
            self._history[name] = _History(values, torch.zeros(n, device=self.history_device), tuple(g.shape[2:]))

    def _check_shapes(self, gradients: dict[str, Tensor]) -> None:
        expected = {name: (h.values.shape[1], *h.shape) for name, h in self._history.items()}
        given = {name: tuple(g.shape[1:]) for name, g in gradients.items()}
        if given != expected:
            raise ValueError(f"the gradients have shapes {given}, the history {expected}; remap() keeps them together")
