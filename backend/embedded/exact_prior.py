"""The exact prior: the closed-form optimal denoiser over the built-in world's views.

Over a finite set of images the minimum-mean-square-error denoiser needs no training: E[x | x_t, words] is the mean of
the images that fit the words, weighted by how well each explains x_t. It is a 2D diffusion prior like any other: it
sees a noisy picture, a noise level and words, never a camera or a shape, and it makes two-faced objects when the view
words are missing or unreliable (`reliability`).

Every view v is linear in the object's appearance m (colour and material, the channel weights W) and in the colour b
of its plain background, in display space scaled to -1..1, for each of the three colour channels c:

    x_vmc = M_vmc + h_v b_c,    M_vmc = 2 sum_k W_mkc C_vk - 1,    h_v = 2 (1 - A_v)

with C_vk the view's scalar channels and A_v its coverage. A picture is taken before one of a few nearly neutral backdrops,
each a Gaussian over b, correlated between the colour channels because a backdrop varies mostly in brightness. In a basis
whose first axis is grey the components of b are independent, so each is integrated out in closed form. An appearance
before a backdrop is one hypothesis m. The likelihoods need only the inner
products of x_t with the channels and of the channels with each other: no picture is ever composed to be compared, and
any colour, material and background costs the same memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..guidance.prior import Conditioning, DiffusionPrior, PriorDefaults
from ..view_words import VIEW_DIRECTIONS, view_direction
from . import bank_kernels, vocabulary, world
from .appearance import channel_weights, description_weights
from .renderer import CHANNEL_SCALE, CHANNELS, FOV
from .vocabulary import Description
from .world import BACKDROP_TINT, BACKDROPS, DISTANCE, FRONT_BIAS_SHARE, FRONT_BIAS_WIDTH

RESOLUTIONS = (64, 128)

GREY_BASIS = torch.tensor([[1 / 3**0.5] * 3, [1 / 2**0.5, -1 / 2**0.5, 0.0], [1 / 6**0.5, 1 / 6**0.5, -2 / 6**0.5]], dtype=torch.float64)
"""[3, 3] orthonormal rows: grey, and two directions of colour."""
ONES = GREY_BASIS @ torch.ones(3, dtype=torch.float64)
CHUNK = 64
"""Views that are widened from 8 bits to floats at once while a bank is prepared."""
NEGLIGIBLE = 1e-6
"""Views whose posterior weight is below this share of the largest are left out of the mean."""


@dataclass(frozen=True)
class _Bank:
    """One object's views at one resolution, sorted by view direction.

    Attributes:
        channels: [V, K, P] uint8, alpha first; value = byte * CHANNEL_SCALE.
        kinds: [K] which of the renderer's `CHANNELS` these are: only those that some wanted appearance uses.
        gram: [V, K, K] float64 inner products of the channels (in values).
        sums: [V, K] float64 sums over the pixels.
        log_prior: [V] float64, the photographs' front bias.
        segments: rows of each view direction.
    """

    channels: Tensor
    kinds: tuple[int, ...]
    gram: Tensor
    sums: Tensor
    log_prior: Tensor
    segments: dict[str, slice]

    def hypotheses(self, appearances: Tensor, segment: str | None) -> _Hypotheses:
        """The views from one direction, or from all, in each of the appearances [A, all channels, 3] before each backdrop."""
        rows = self.segments[segment] if segment else slice(None)
        weights, backdrops = _before_backdrops(appearances[:, self.kinds])
        return _Hypotheses(self.channels[rows], weights, backdrops, self.gram[rows], self.sums[rows], self.log_prior[rows])


@dataclass(frozen=True)
class _Hypotheses:
    """Views of one object, each in some appearances before some backdrops: what a noisy picture may show.

    Colours are in the grey basis. M and h are those of the module's text; alpha is channel 0.

    Attributes:
        channels: [V, K, P] uint8.
        weights: [M, K, 3] the appearances.
        backdrops: [2, M, 3] mean and standard deviation of b under each.
        gram, sums, log_prior: as in `_Bank`, of these views.
    """

    channels: Tensor
    weights: Tensor
    backdrops: Tensor
    gram: Tensor
    sums: Tensor
    log_prior: Tensor

    @property
    def pixels(self) -> int:
        return self.channels.shape[2]

    @property
    def images(self) -> np.ndarray:
        """[V K, P] the channels, one image a row."""
        return self.channels.flatten(0, 1).numpy()

    @cached_property
    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """<M, M> [V, M, 3], <h, M> [V, M, 3] and <h, h> [V, 1, 1]: all that does not depend on the noisy picture."""
        weights, gram, sums, pixels = self.weights, self.gram, self.sums, self.pixels
        w_sum = torch.einsum("mkc,vk->vmc", weights, sums)
        m_m = 4 * torch.einsum("mkc,vkl,mlc->vmc", weights, gram, weights) - 4 * ONES * w_sum + ONES**2 * pixels
        covered = 2 * torch.einsum("mkc,vk->vmc", weights, gram[:, 0]) - ONES * sums[:, :1, None]
        h_m = 2 * (2 * w_sum - ONES * pixels) - 2 * covered
        return m_m, h_m, (4 * (pixels - 2 * sums[:, 0] + gram[:, 0, 0]))[:, None, None]

    def explain(self, z: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """How well each explains z [B, 3, P].

        Returns:
            log evidence [B, V, M], up to a constant of the row; posterior mean of the background [B, V, M, 3].
        """
        columns = (z.flatten(0, 1) * CHANNEL_SCALE).numpy()
        products = torch.from_numpy(bank_kernels.inner_products(self.images, columns))
        products = products.view(*self.channels.shape[:2], *z.shape[:2]).permute(2, 0, 1, 3).double()  # <C_vk, z_c>: [B, V, K, 3]
        totals = z.sum(2, dtype=torch.float64)[:, None, None]  # [B, 1, 1, 3]
        z_m = 2 * torch.einsum("mkc,bvkc->bvmc", self.weights, products) - ONES * totals
        z_h = 2 * (totals - products[:, :, None, 0])
        m_m, h_m, h_h = self.constants

        signal, noise = alpha_bar.sqrt().view(-1, 1, 1, 1), (1 - alpha_bar).view(-1, 1, 1, 1)
        mean, prior_precision = self.backdrops[0], self.backdrops[1] ** -2
        precision = signal**2 * h_h / noise + prior_precision
        background = (signal * (z_h - signal * h_m) / noise + mean * prior_precision) / precision
        misfit = (signal**2 * m_m - 2 * signal * z_m) / noise
        backdrop = precision * background**2 - prior_precision * mean**2 - (precision / prior_precision).log()
        evidence = 0.5 * (backdrop - misfit).sum(3)
        return evidence + self.log_prior[:, None], background

    def mix(self, posterior: Tensor, background: Tensor) -> Tensor:
        """sum_vm p_vm x_vm for posterior [B, V, M] and background [B, V, M, 3]: [B, 3, P]."""
        keep = torch.nonzero((posterior > NEGLIGIBLE * posterior.amax((1, 2), keepdim=True)).any(2).any(0)).flatten()
        posterior, background = posterior[:, keep], background[:, keep]
        expected_background = posterior[..., None] * background
        coefficients = 2 * torch.einsum("bvm,mkc->bcvk", posterior, self.weights)
        coefficients[..., 0] -= 2 * expected_background.sum(2).transpose(1, 2)
        scaled = (coefficients.flatten(0, 1).flatten(1) * CHANNEL_SCALE).float()
        kinds = self.channels.shape[1]
        rows = (keep[:, None] * kinds + torch.arange(kinds)).flatten()
        mean = torch.from_numpy(bank_kernels.weighted_sum(self.images, rows.numpy(), scaled.numpy()))
        constant = 2 * expected_background.sum((1, 2)) - ONES * posterior.sum((1, 2))[:, None]
        return mean.view(-1, 3, self.pixels) + constant.float()[..., None]


class ExactPrior(DiffusionPrior):
    """The optimal denoiser of the built-in world, on the CPU.

    Args:
        reliability: probability with which one call obeys a prompt's view word; the others ignore it.
        seed: of the draws that decide it.
        views: views an object.
        progress: told what is being prepared.
    """

    cost_power = 1.0  # a step at 128 pixels takes 1.7 to 2 times as long as one at 64

    def __init__(
        self,
        *,
        reliability: float = 1.0,
        seed: int = 0,
        views: int = 2000,
        progress: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.name = "builtin:exact"
        self.fingerprint = _fingerprint(views)
        self.device = torch.device("cpu")
        self.reliability = reliability
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()
        self.recommended = PriorDefaults(
            guidance_scale=1.0,
            weighting="x0",
            clamp=1.5,
            t_start=0.75,
            fov=FOV,
            distance=(DISTANCE, DISTANCE),
            resolutions=RESOLUTIONS,
            backdrops=BACKDROPS,
        )
        self._views = views
        self._progress = progress
        self._generator = torch.Generator().manual_seed(seed)
        self._described: dict[str, Description | None] = {}
        self._banks: dict[tuple[str, int], _Bank] = {}
        self._fitting: dict[tuple[Description | None, bool, int], list[_Hypotheses]] = {}

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Reads the words and prepares the views of the objects they name. The empty prompt is every view of those objects."""
        for prompt in prompts:
            self._described[prompt] = vocabulary.parse(prompt) if prompt.strip() else None
        self._fitting.clear()  # what the empty prompt means depends on the others
        kinds = self._kinds()
        for name in self._objects():
            if (name, RESOLUTIONS[0]) not in self._banks or self._banks[name, RESOLUTIONS[0]].kinds != kinds:
                self._progress(f"preparing {self._views} views of a {name}")
                self._load(name, kinds)
        return Conditioning(tuple(prompts))

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def decode(self, z: Tensor) -> Tensor:
        return (z * 0.5 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        alpha_bar = self.alphas_cumprod[t].double()
        x0 = torch.empty_like(z_t)
        for rows, description, obeys in self._group(conditioning):
            x0[rows] = self._posterior_mean(z_t[rows], alpha_bar[rows], description, obeys)
        root = alpha_bar.sqrt().float().view(-1, 1, 1, 1)
        return (z_t - root * x0) / (1 - alpha_bar).sqrt().float().view(-1, 1, 1, 1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])

    def _objects(self) -> list[str]:
        return sorted({description.object for description in self._described.values() if description})

    def _group(self, conditioning: Conditioning) -> list[tuple[list[int], Description | None, bool]]:
        """Rows that ask for the same views, together: (rows, description, whether the view word is obeyed)."""
        obeys = (torch.rand(len(conditioning), generator=self._generator) < self.reliability).tolist()
        groups: dict[tuple[str, bool], list[int]] = {}
        for row, prompt in enumerate(conditioning.prompts):
            groups.setdefault((prompt, obeys[row]), []).append(row)
        return [(rows, self._described[prompt], obeyed) for (prompt, obeyed), rows in groups.items()]

    def _kinds(self) -> tuple[int, ...]:
        """The channels that the described appearances need, coverage first."""
        used = torch.cat([_appearances(description) for description in self._described.values()]).abs().amax((0, 2)) > 0
        return (0, *torch.nonzero(used).flatten().tolist())

    def _load(self, name: str, kinds: tuple[int, ...]) -> None:
        """Fills the banks of one object at every resolution."""
        views = world.view_bank(name, self._views, max(RESOLUTIONS), distance=(DISTANCE, DISTANCE), kinds=kinds)
        directions = np.array([VIEW_DIRECTIONS.index(view_direction(a, e)) for a, e in zip(views.azimuth, views.elevation, strict=True)])
        order = np.argsort(directions, kind="stable")
        edges = np.searchsorted(directions[order], np.arange(len(VIEW_DIRECTIONS) + 1))
        segments = {word: slice(int(edges[i]), int(edges[i + 1])) for i, word in enumerate(VIEW_DIRECTIONS)}
        log_prior = torch.from_numpy(np.asarray(world.front_bias_log_weights(views.azimuth[order]), dtype=np.float64))
        finest = torch.from_numpy(views.channels[order])
        for resolution in RESOLUTIONS:
            channels = _shrink(finest, resolution).flatten(2)
            self._banks[name, resolution] = _Bank(channels, kinds, *_moments(channels), log_prior, segments)

    def _hypotheses(self, description: Description | None, obeys: bool, resolution: int) -> list[_Hypotheses]:
        """Everything that fits the words, object by object."""
        if (description, obeys, resolution) not in self._fitting:
            names = [description.object] if description else self._objects()
            segment = description.view.removesuffix(" view") if description and description.view and obeys else None
            self._fitting[description, obeys, resolution] = [
                self._banks[name, resolution].hypotheses(_appearances(description), segment) for name in names
            ]
        return self._fitting[description, obeys, resolution]

    def _posterior_mean(self, z_t: Tensor, alpha_bar: Tensor, description: Description | None, obeys: bool) -> Tensor:
        """E[x | z_t, words] for z_t [B, 3, H, W]."""
        batch, _, height, width = z_t.shape
        if height != width or height not in RESOLUTIONS:
            raise ValueError(f"the exact prior knows views of {RESOLUTIONS} pixels, not {height} x {width}")
        z = torch.einsum("dc,bcp->bdp", GREY_BASIS.float(), z_t.reshape(batch, 3, -1))
        fitting = self._hypotheses(description, obeys, height)
        evidence, backgrounds = zip(*(hypotheses.explain(z, alpha_bar) for hypotheses in fitting), strict=True)
        total = torch.logsumexp(torch.cat([part.flatten(1) for part in evidence], 1), 1)
        mean = torch.zeros_like(z)
        for hypotheses, log_weight, background in zip(fitting, evidence, backgrounds, strict=True):
            mean += hypotheses.mix((log_weight - total.view(-1, 1, 1)).exp(), background)
        return torch.einsum("dc,bdp->bcp", GREY_BASIS.float(), mean).view_as(z_t)


def _fingerprint(views: int) -> str:
    """It has no weights: the version of the world, and how many photographs are taken of it, from where, and before what."""
    photographs = views, DISTANCE, FRONT_BIAS_SHARE, FRONT_BIAS_WIDTH, BACKDROPS, BACKDROP_TINT
    return hashlib.sha256(f"{world.version()}-{photographs}".encode()).hexdigest()[:16]


def _moments(channels: Tensor) -> tuple[Tensor, Tensor]:
    """(inner products of a view's channels [V, K, K], their sums over the pixels [V, K]), float64."""
    gram, sums = [], []
    for part in channels.split(CHUNK):
        values = part.float() * CHANNEL_SCALE
        gram.append((values @ values.transpose(1, 2)).double())
        sums.append(values.sum(2, dtype=torch.float64))
    return torch.cat(gram), torch.cat(sums)


def _shrink(channels: Tensor, resolution: int) -> Tensor:
    """Views [V, K, H, W] at a lower resolution, by averaging blocks of pixels."""
    factor = channels.shape[-1] // resolution
    if factor == 1:
        return channels
    return torch.cat([F.avg_pool2d(part.float(), factor).round().to(torch.uint8) for part in channels.split(CHUNK)])


def _appearances(description: Description | None) -> Tensor:
    """[M, K, 3] channel weights of every appearance that fits the words: the described one, or plain paint in any colour."""
    if description is not None:
        return torch.from_numpy(description_weights(description))[None].double()
    return torch.stack([torch.from_numpy(channel_weights(colour, None)) for colour in vocabulary.COLOURS]).double()


def _before_backdrops(appearances: Tensor) -> tuple[Tensor, Tensor]:
    """Every appearance [A, K, 3] before every backdrop, in the grey basis: (weights [M, K, 3], mean and deviation of b [2, M, 3])."""
    weights = (appearances @ GREY_BASIS.T).repeat_interleave(len(BACKDROPS), 0)
    level, deviation = torch.tensor(BACKDROPS, dtype=torch.float64).T
    variance = BACKDROP_TINT**2 + deviation[:, None] ** 2 * ONES**2
    return weights, torch.stack([level[:, None] * ONES, variance.sqrt()]).repeat(1, len(appearances), 1)


assert CHANNELS[0] == "alpha", "the closed form above takes coverage from channel 0"
