"""Adaptive region sampling (paper, section 3.2, eqs. 6 and 7).

In a loop::

    sampler = RegionSampler(grid, config.region_sampling, np.random.default_rng(seed))
    for iteration in range(iterations):
        for draw in sampler.draw(count):                 # as many regions as a step has
            ...                                          # render, guide, measure the loss at timestep t
            loss_normalised = sampler.record(draw.region, loss, t / num_train_timesteps)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import RegionSamplingConfig
from . import sampler_state
from .view_grid import ViewGrid

EPSILON = 1e-12
"""eps_stab of eq. 6; far below any loss, normalised or raw."""

LEVEL_RANGE = (0.5, 2.0)
"""Bounds of the `level` indicator: a region counts as at most twice as far from done as the average."""

LOSS_MEAN_WINDOW = 100
"""Length of the running mean that normalises a timestep bin's losses, so that it follows a falling loss."""

DEFAULT_TEMPERATURE = {"ratio": 0.1, "literal": 0.1, "level": 0.5}


@dataclass(frozen=True)
class RegionDraw:
    """One draw and what it was drawn from; the arrays are [N] float64.

    Attributes:
        region: the region drawn.
        indicator: r of eq. 6.
        probability: the distribution used, after warm-up, floor and user weights.
        weight: the user's factors.
    """

    region: int
    indicator: np.ndarray
    probability: np.ndarray
    weight: np.ndarray


class RegionSampler:
    """Draws regions in proportion to how far their loss says they still have to go.

    - Warm-up: while a region has fewer than `warmup_passes` losses, regions are drawn in round-robin passes, each pass in a
      fresh random order (uniformly among the regions the pass has not visited yet). A region frozen by the user is left out
      and caught up with when it is released.
    - Then P = (1 - floor) softmax(r / tau) + floor / N, times the user's weights, normalised. While every weight is 0 the
      weights are ignored: a run that is going on has to go on somewhere.
    - Disabled (the ablation "w/o A"): uniform from the first draw, times the user's weights.

    Args:
        grid: the regions.
        config: the settings.
        rng: source of the draws; a `Generator` whose bit generator keeps its state in plain numbers (numpy's default does).
    """

    def __init__(self, grid: ViewGrid, config: RegionSamplingConfig, rng: np.random.Generator) -> None:
        self.config = config
        self.temperature = DEFAULT_TEMPERATURE[config.indicator] if config.temperature is None else config.temperature
        self._rng = rng
        n = len(grid)
        self._azimuth = np.arange(n) % grid.azimuth_bins
        self._visits = np.zeros(n, dtype=np.int64)
        self._weights = np.ones(n)
        self._latest = np.zeros(n)
        self._recent = np.zeros((n, config.window))  # the last losses, newest last; only min(visits, window) of them are filled
        self._earlier_mean = np.zeros(n)  # of all losses but the latest
        self._level = np.zeros(n)  # moving average of all losses
        self._bin_mean = np.zeros(config.loss_bins)
        self._bin_count = np.zeros(config.loss_bins, dtype=np.int64)
        self._weigh()

    @property
    def visits(self) -> np.ndarray:
        """[N] int64 losses recorded so far, n_i."""
        return self._visits.copy()

    @property
    def levels(self) -> list[float | None]:
        """[N] moving average of each region's normalised loss; None before its first visit."""
        return [float(level) if n > 0 else None for level, n in zip(self._level, self._visits, strict=True)]

    @property
    def weights(self) -> np.ndarray:
        """[N] the user's factors, 1 unless set."""
        return self._weights.copy()

    @property
    def warmed_up(self) -> bool:
        """Whether every region that may be drawn has had its warm-up visits; always, where adaptive sampling is disabled."""
        return not self.config.enabled or bool(self._visits[self._active].min() >= self.config.warmup_passes)

    def set_weight(self, region: int, factor: float) -> None:
        """Multiplies a region's probability from now on: 0 freezes it, 1 is neutral, more boosts it.

        Raises:
            ValueError: for a negative or non-finite factor.
            IndexError: for a region outside the grid.
        """
        if not (math.isfinite(factor) and factor >= 0):
            raise ValueError(f"a region's weight must be a finite number of at least 0, not {factor}")
        self._weights[self._checked(region)] = factor
        self._weigh()

    def indicators(self) -> np.ndarray:
        """[N] the relative convergence indicator r_i; 1 while a region has fewer than two losses.

        - `literal`, eq. 6: (mean (n - 1) + L) / (mean n + eps), mean over the n - 1 losses before the latest, L.
        - `ratio`: the same over the last `window` losses and with n = `window` from the start, as if the region had always had its mean:
          one loss among few does not count for more, and one among many not for less.
        - `level`: the region's moving average of the loss over the mean of all visited regions', clipped to LEVEL_RANGE.
        """
        seen = self._visits >= 2
        r = np.ones(len(self._visits))
        if not seen.any():
            return r
        if self.config.indicator == "level":
            level = self._level / (self._level[self._visits > 0].mean() + EPSILON)
            r[seen] = np.clip(level, *LEVEL_RANGE)[seen]
            return r
        n, mean = self._visits, self._earlier_mean
        if self.config.indicator == "ratio":
            n = np.full_like(n, self.config.window)
            mean = self._recent[:, :-1].sum(axis=1) / np.clip(self._visits - 1, 1, n - 1)  # unfilled entries are 0
        r[seen] = ((mean * (n - 1) + self._latest) / (mean * n + EPSILON))[seen]
        return r

    def probabilities(self) -> np.ndarray:
        """[N] the distribution of the next draw; sums to 1."""
        return self._distribution(self.indicators(), np.zeros_like(self._visits))

    def draw(self, count: int = 1) -> list[RegionDraw]:
        """The next step's regions, and what they were drawn from.

        A systematic sample: `count` points, evenly spaced from a random start, on the probabilities laid out around the object. Each region
        comes as often as its probability says, at most once a step (twice only when every other that may be drawn has come), and the
        regions of a step stand as far around the object from each other as that allows.
        """
        indicator, weights, taken = self.indicators(), self.weights, np.zeros_like(self._visits)
        draws: list[RegionDraw] = []
        while len(draws) < count:
            probability = self._distribution(indicator, taken)
            wanted = min(count - len(draws), int(np.count_nonzero(probability)))
            order = self._around()
            shares = np.cumsum(_inclusion(probability, wanted)[order])
            points = (self._rng.random() + np.arange(wanted)) * (shares[-1] / wanted)
            chosen = order[np.searchsorted(shares, np.minimum(points, np.nextafter(shares[-1], 0)), side="right")]
            taken[chosen] += 1
            draws += [RegionDraw(region, indicator, probability, weights) for region in chosen.tolist()]
        return draws

    def record(self, region: int, loss: float, t_fraction: float) -> float:
        """Takes in the loss of a step in `region` at timestep `t_fraction` * T and returns it normalised.

        The raw distillation loss varies by orders of magnitude with the timestep. Divided by a running mean of the losses of
        its timestep bin (this one included, so a bin's first loss becomes 1) it compares regions instead.

        Raises:
            ValueError: for a loss that is negative or not finite.
        """
        if not (math.isfinite(loss) and loss >= 0):
            raise ValueError(f"a loss must be a finite number of at least 0, not {loss}")
        region = self._checked(region)
        loss = self._normalised(loss, t_fraction)
        n = self._visits[region] = self._visits[region] + 1
        if n >= 2:
            self._earlier_mean[region] += (self._latest[region] - self._earlier_mean[region]) / (n - 1)
        self._level[region] += (loss - self._level[region]) / min(n, self.config.window)
        self._latest[region] = loss
        recent = self._recent[region]
        recent[:-1] = recent[1:]
        recent[-1] = loss
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on, as JSON-able values."""
        return sampler_state.pack(self._arrays(), self._rng)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where `state_dict` was taken. ValueError if that sampler had another shape."""
        sampler_state.unpack(state, self._arrays(), self._rng)
        self._weigh()

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "visits": self._visits,
            "weights": self._weights,
            "latest": self._latest,
            "recent": self._recent,
            "earlier_mean": self._earlier_mean,
            "level": self._level,
            "bin_mean": self._bin_mean,
            "bin_count": self._bin_count,
        }

    def _checked(self, region: int) -> int:
        if not 0 <= region < len(self._visits):
            raise IndexError(f"region {region} is not in 0..{len(self._visits) - 1}")
        return region

    def _around(self) -> np.ndarray:
        """[N] the regions, azimuth after azimuth; those at one azimuth in a fresh random order."""
        return np.lexsort((self._rng.random(len(self._azimuth)), self._azimuth))

    def _weigh(self) -> None:
        """What the user's weights come to: a factor of at most 1 for each region, so that products stay in range, and who may be drawn."""
        self._factors = self._weights / self._weights.max() if self._weights.any() else np.ones_like(self._weights)
        self._active = self._factors > 0

    def _distribution(self, indicator: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """[N] the distribution of a draw, of a step that has drawn each region `taken` [N] times already."""
        factors = self._factors * (taken == taken[self._active].min())
        p = self._unweighted(indicator, taken) * factors
        total = p.sum()
        # Without a floor the softmax of all that may be drawn can underflow.
        return p / total if total > 0 else factors / factors.sum()

    def _unweighted(self, indicator: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """[N] the same before the user's weights, of all regions."""
        if not self.config.enabled:
            return np.full(len(indicator), 1.0 / len(indicator))
        if not self.warmed_up:
            visits = self._visits + taken
            return visits == visits[self._active].min()
        floor = self.config.uniform_floor
        return (1 - floor) * _softmax(indicator / self.temperature) + floor / len(indicator)

    def _normalised(self, loss: float, t_fraction: float) -> float:
        bins = self.config.loss_bins
        if bins == 0:
            return float(loss)
        b = min(max(int(t_fraction * bins), 0), bins - 1)
        self._bin_count[b] += 1
        self._bin_mean[b] += (loss - self._bin_mean[b]) / min(self._bin_count[b], LOSS_MEAN_WINDOW)
        return float(loss / self._bin_mean[b]) if self._bin_mean[b] > 0 else 1.0


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def _inclusion(probability: np.ndarray, count: int) -> np.ndarray:
    """[N] how often each region is due in a step of `count`: count times its probability, at most once; the others share the rest."""
    full = np.zeros(len(probability), dtype=bool)
    while True:
        rest = np.where(full, 0.0, probability)
        due = full + (count - full.sum()) * rest / max(rest.sum(), np.finfo(float).tiny)
        if not (due > 1).any():
            return due
        full |= due >= 1
