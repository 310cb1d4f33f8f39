"""What gradient fusion remembers: each region's last gradient, in 16 bits, as the Gaussians come and go (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .fusion_arithmetic import store
from .region_gradients import Layout, RegionGradients


class GradientHistory:
    """The last gradient taken in each region, and when it was taken.

    Values are scaled to -1..1 by the largest magnitude of their region and group: distillation gradients are often near 1e-6 and span
    many orders of magnitude between timesteps, while float16 is accurate only between 6e-5 and 65504. The scale, kept in float32, takes
    the magnitude out.

    Args:
        regions: their number N.
        dtype: of the stored values.
        device: where they are kept.

    Attributes:
        layout: of the S stored numbers a region; no groups before the first record.
        values: [N, S].
        scales: [N, G] float32.
        t, iteration: [N] when each gradient was taken; -1: there is none.
    """

    def __init__(self, regions: int, dtype: torch.dtype, device: torch.device) -> None:
        self.layout = Layout({})
        self.values = torch.zeros(regions, 0, dtype=dtype, device=device)
        self.scales = torch.zeros(regions, 0, device=device)
        self.t, self.iteration = np.full((2, regions), -1)

    def __bool__(self) -> bool:
        """Whether anything was ever recorded."""
        return bool(self.layout.shapes)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes

    def check(self, gradients: RegionGradients) -> None:
        """Raises ValueError unless the gradients' groups and shapes are those of the history."""
        if gradients.layout != self.layout:
            raise ValueError(
                f"the gradients have shapes {gradients.layout.shapes}, the history {self.layout.shapes}; remap() keeps them together"
            )

    def record(self, regions: Sequence[int], t: Sequence[int], iteration: int, gradients: RegionGradients) -> None:
        """Replaces the gradients of these regions; of a region that comes twice the last one is kept."""
        if not self:
            self.layout = gradients.layout
            self.values = self.values.new_zeros(len(self.t), self.layout.size)
            self.scales = self.scales.new_zeros(len(self.t), len(self.layout.shapes))
        self.check(gradients)
        last = {region: row for row, region in enumerate(regions)}
        flat, (peaks, _) = gradients.flat, gradients.measured
        if len(last) < len(regions):
            flat, peaks = flat[list(last.values())], peaks[list(last.values())]
        index = torch.tensor(list(last), device=self.values.device)
        store(flat, peaks, self.layout.edges, self.values, index)
        self.scales.index_copy_(0, index, peaks.to(self.scales.device))
        self.t[list(regions)], self.iteration[list(regions)] = t, iteration

    def remap(self, rows: Tensor, factor: Tensor) -> None:
        """New row n takes `factor[n]` times old row `rows[n]`, both [N_new]."""
        rows, factor = rows.to(self.values.device), factor.to(self.values.device, self.values.dtype)
        layout = self.layout.with_rows(len(rows))
        values = self.values.new_empty(len(self.t), layout.size)
        for new, old in zip(layout.split(values).values(), self.layout.split(self.values).values(), strict=True):
            torch.mul(old.index_select(1, rows), factor.view(1, -1, *[1] * (old.dim() - 2)), out=new)
        self.layout, self.values = layout, values

    def clear_group(self, name: str) -> None:
        """Forgets one group's gradients in every region."""
        if name in self.layout.shapes:
            self.layout.split(self.values)[name].zero_()
            self.scales[:, list(self.layout.shapes).index(name)] = 0

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts of tensors and JSON-able values."""
        parts = zip(self.layout.split(self.values).items(), self.scales.unbind(dim=1), strict=True)
        return {
            "entries": [
                {"region": region, "t": int(self.t[region]), "iteration": int(self.iteration[region])}
                for region in np.flatnonzero(self.iteration >= 0).tolist()
            ],
            "history": {
                name: {
                    "values": part.reshape(*part.shape[:2], prod(part.shape[2:])),
                    "scales": scales.contiguous(),
                    "shape": list(part.shape[2:]),
                }
                for (name, part), scales in parts
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned. ValueError if that had another number of regions."""
        groups = state["history"]
        if wrong := {len(group["values"]) for group in groups.values()} - {len(self.t)}:
            raise ValueError(f"the saved history has {wrong.pop()} regions, this grid {len(self.t)}")
        self.layout = Layout({name: (group["values"].shape[1], *group["shape"]) for name, group in groups.items()})
        self.values = self._joined([group["values"].flatten(1) for group in groups.values()], self.values)
        self.scales = self._joined([group["scales"][:, None] for group in groups.values()], self.scales)
        self.t[:], self.iteration[:] = -1, -1
        for entry in state["entries"]:
            self.t[entry["region"]], self.iteration[entry["region"]] = entry["t"], entry["iteration"]

    def _joined(self, parts: list[Tensor], like: Tensor) -> Tensor:
        return torch.cat([part.to(like) for part in parts], dim=1) if parts else like.new_zeros(len(self.t), 0)
