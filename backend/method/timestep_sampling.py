"""Hybrid adaptive timestep sampling (paper, section 3.3, eq. 8), and the schedules of other methods.

A global baseline falls through the noise levels as the run proceeds; a local state per region shifts it: a region whose
loss rises goes back to higher noise, where structure is decided, relative to its neighbours::

    sampler = TimestepSampler(grid, config.timestep_sampling, alphas_cumprod, np.random.default_rng(seed))
    draw = sampler.sample(region, progress)              # draw.t is the timestep to use
    sampler.record(region, loss_normalised)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import TimestepConfig, extremes, value_at
from ..errors import ConfigError
from ..guidance.prior import PriorDefaults
from . import sampler_state
from .view_grid import ViewGrid

DREAMTIME_PLATEAU = (0.5, 0.8)
DREAMTIME_DEVIATIONS = (0.1, 0.3)
"""DreamTime's weight of timesteps (Huang et al. 2024): 1 on the plateau, Gaussian below and above it; shares of T."""

MIN_LOSSES = 3
"""Losses a region needs before eq. 8 moves its state: the second difference takes three."""


def settled(config: TimestepConfig, recommended: PriorDefaults) -> TimestepConfig:
    """The settings with numbers for `start` and `end`: where the prior recommends to begin and to stop, as far as that is permitted.

    Raises:
        ConfigError: if the timesteps would not fall from the one to the other.
    """
    start = min(recommended.t_start, extremes(config.clip_high)[1]) if config.start is None else config.start
    end = max(recommended.t_end, extremes(config.clip_low)[0]) if config.end is None else config.end
    if config.enabled and config.mode != "uniform" and start <= end:
        if config.start is None:
            raise ConfigError(
                f"timestep_sampling.end ({end:g}) must be below {start:g}, where this image model's timesteps start.",
                remedy="Lower it, or set timestep_sampling.start too.",
            )
        raise ConfigError(
            f"timestep_sampling.start ({start:g}) must be above {end:g}, where this image model's timesteps end.",
            remedy="Raise it, or set timestep_sampling.end too.",
        )
    return replace(config, start=start, end=end)


@dataclass(frozen=True)
class TimestepDraw:
    """A timestep and how it came about; all in timesteps, 0..T-1.

    Attributes:
        t: the timestep drawn, uniform around t_mix clipped to the permitted range, then clipped again.
        t_global: the baseline at this progress.
        t_local: the region's own state, before this step.
        t_neighbourhood: the bounded local adjustment; t_mix = t_global + t_neighbourhood.
        t_mix: the mixed timestep, before it is clipped to the permitted range.
    """

    t: int
    t_global: float
    t_local: float
    t_neighbourhood: float
    t_mix: float


class TimestepSampler:
    """Draws the diffusion timestep for a region.

    Modes:

    - `hybrid`: the whole of section 3.3;
    - `annealed`: its global baseline and the jitter alone (t_local stays 0);
    - `sqrt`: t = start - (start - end) sqrt(progress) and the jitter (HiFA, Zhu, Zhuang and Koyejo 2024);
    - `dreamtime`: t falls from start to end so that each is stayed with as long as its weight says (DreamTime), and the jitter;
    - `uniform`, and disabled (the ablation "w/o B"): uniform over the permitted range, t_global and t_mix being its middle.

    The permitted range may itself change over the run.

    Args:
        grid: the regions and their neighbours.
        config: the settings, in fractions of T, `settled`.
        alphas_cumprod: [T] the prior's cumulative alphas, strictly falling.
        rng: source of the jitter.

    Raises:
        ConfigError: if `alphas_cumprod` does not fall strictly within 0..1.
    """

    def __init__(self, grid: ViewGrid, config: TimestepConfig, alphas_cumprod: np.ndarray, rng: np.random.Generator) -> None:
        if config.start is None or config.end is None:
            raise ValueError("the settings are not settled: start or end is None")
        self.config = config
        self._start, self._end = config.start, config.end
        self._rng = rng
        self._steps = len(alphas_cumprod)
        self._times = np.arange(self._steps, dtype=np.float64)
        self._log_snr = _log_snr(np.asarray(alphas_cumprod, dtype=np.float64))
        self._rising = -self._log_snr  # the log-SNR falls with t, and interp wants a rising axis
        self._first, self._last = (min(edge * self._steps, self._steps - 1) for edge in (self._start, self._end))
        self._highest, self._lowest = np.interp([self._first, self._last], self._times, self._log_snr).tolist()
        self._dreamtime = _dreamtime_shares(self._log_snr, self._start, self._end) if config.mode == "dreamtime" else None
        self._neighbours = [grid.neighbours(region) for region in range(len(grid))]
        self._neighbour_weights = [_inverse_distance_weights(grid.angles[region, self._neighbours[region]]) for region in range(len(grid))]
        n = len(grid)
        self._t_local = np.zeros(n)
        self._count = np.zeros(n, dtype=np.int64)
        self._ema = np.zeros(n)
        self._losses = np.zeros((n, MIN_LOSSES))  # newest last

    @property
    def t_local(self) -> np.ndarray:
        """[N] the regions' local states, in timesteps."""
        return self._t_local * self._steps

    def bounds(self, progress: float) -> tuple[int, int]:
        """The lowest and the highest timestep that is permitted at this progress."""
        return self._to_timestep(0.0, progress), self._to_timestep(1.0, progress)

    def global_timestep(self, progress: float) -> float:
        """The baseline from `start` at progress 0 to `end` at progress 1, in (fractional) timesteps.

        `hybrid` and `annealed`: linear in log-SNR; the others as the class says.
        """
        progress = min(max(progress, 0.0), 1.0)
        if self.config.mode == "sqrt":
            return self._first - (self._first - self._last) * math.sqrt(progress)
        if self._dreamtime is not None:
            times, shares = self._dreamtime
            return float(np.interp(progress, shares, times))
        target = self._highest + progress * (self._lowest - self._highest)
        return float(np.interp(-target, self._rising, self._times))

    def sample(self, region: int, progress: float) -> TimestepDraw:
        """The timestep for a step in `region` at this progress (0 at the first iteration, 1 at the end)."""
        c = self.config
        low, high = value_at(c.clip_low, progress), value_at(c.clip_high, progress)
        if not c.enabled or c.mode == "uniform":
            middle = (low + high) / 2 * self._steps
            t = self._to_timestep(self._rng.uniform(low, high), progress)
            return TimestepDraw(t, middle, 0.0, 0.0, middle)
        t_global = self.global_timestep(progress) / self._steps
        local = float(self._t_local[region])
        adjustment = self._adjustment(region) if c.mode == "hybrid" else 0.0
        t_mix = t_global + adjustment
        t_base = min(max(t_mix, low), high)
        t = self._to_timestep(self._rng.uniform(t_base - c.jitter, t_base + c.jitter), progress)
        return TimestepDraw(t, t_global * self._steps, local * self._steps, adjustment * self._steps, t_mix * self._steps)

    def record(self, region: int, loss_normalised: float) -> None:
        """Takes in the loss of a step in `region` and moves its local state by eq. 8.

        With the losses L'' , L', L (newest last) and their moving average M, which includes L:
        u = clip(max_update (a1 (L - L') + a2 (L - 2 L' + L'') + a3 (L - M)) / M, +-max_update); t_local <- m t_local + u.

        Raises:
            ValueError: for a loss that is negative or not finite.
        """
        if not (math.isfinite(loss_normalised) and loss_normalised >= 0):
            raise ValueError(f"a loss must be a finite number of at least 0, not {loss_normalised}")
        c = self.config
        if not c.enabled or c.mode != "hybrid":
            return
        self._count[region] += 1
        ema = self._ema[region]
        ema = loss_normalised if self._count[region] == 1 else c.loss_ema * ema + (1 - c.loss_ema) * loss_normalised
        self._ema[region] = ema
        losses = self._losses[region]
        losses[:-1] = losses[1:]
        losses[-1] = loss_normalised
        if self._count[region] < MIN_LOSSES or ema == 0:
            return
        before_last, last, latest = losses.tolist()
        features = (latest - last, latest - 2 * last + before_last, latest - ema)
        u = c.max_update * sum(gain * feature for gain, feature in zip(c.gains, features, strict=True)) / ema
        u = min(max(u, -c.max_update), c.max_update)
        self._t_local[region] = c.momentum * self._t_local[region] + u

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws depend on, as JSON-able values."""
        return sampler_state.pack(self._arrays(), self._rng)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues exactly where `state_dict` was taken. ValueError if that sampler had another shape."""
        sampler_state.unpack(state, self._arrays(), self._rng)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "t_local": self._t_local,
            "count": self._count,
            "ema": self._ema,
            "losses": self._losses,
        }

    def _adjustment(self, region: int) -> float:
        """The bounded local part, as a fraction of T."""
        c = self.config
        consensus = float(self._neighbour_weights[region] @ self._t_local[self._neighbours[region]])
        own = float(self._t_local[region])
        combined = own - consensus if c.neighbourhood == "deviation" else own + consensus
        return min(max(c.local_weight * combined, -c.adjustment_cap), c.adjustment_cap)

    def _to_timestep(self, fraction: float, progress: float) -> int:
        """The nearest timestep that is permitted at this progress."""
        fraction = min(max(fraction, value_at(self.config.clip_low, progress)), value_at(self.config.clip_high, progress))
        return min(round(fraction * self._steps), self._steps - 1)


def _dreamtime_shares(log_snr: np.ndarray, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """(timesteps falling from start to end, share of the run that is over when each is reached).

    The weight of t is W_d W_p: the noise over the signal, times the prior weight of `DREAMTIME_PLATEAU`.
    """
    steps = len(log_snr)
    t = np.arange(steps)
    low, high = (edge * steps for edge in DREAMTIME_PLATEAU)
    below, above = (deviation * steps for deviation in DREAMTIME_DEVIATIONS)
    distance = np.where(t < low, (low - t) / below, np.where(t > high, (t - high) / above, 0.0))
    weight = np.exp(-0.5 * log_snr) * np.exp(-0.5 * distance**2)
    first, last = (min(round(edge * steps), steps - 1) for edge in (start, end))
    times = np.arange(first, last - 1, -1)
    over = np.concatenate([[0.0], np.cumsum(weight[times[:-1]])])
    return times.astype(np.float64), over / over[-1]


def _log_snr(alphas_cumprod: np.ndarray) -> np.ndarray:
    """[T] log(abar / (1 - abar)), strictly falling; a schedule that ends in pure noise (abar = 0) stays finite."""
    a = alphas_cumprod
    if a.ndim != 1 or len(a) < 2 or not (np.all(np.diff(a) < 0) and a[0] <= 1 and a[-1] >= 0):
        raise ConfigError(
            "The prior's noise schedule does not fall strictly from 1 towards 0.", remedy="Use another prior or another scheduler for it."
        )
    tiny = 1e-12
    a = np.clip(a, tiny, 1 - tiny)
    return np.log(a) - np.log1p(-a)


def _inverse_distance_weights(angles: np.ndarray) -> np.ndarray:
    """[k] weights proportional to 1 / angle, normalised to 1.

    Another shell in the same direction (angle 0) counts as much as the nearest neighbour in angle.
    """
    positive = angles[angles > 1e-6]
    nearest = positive.min() if len(positive) else 1.0
    inverse = 1.0 / np.maximum(angles, nearest)
    return inverse / inverse.sum()
