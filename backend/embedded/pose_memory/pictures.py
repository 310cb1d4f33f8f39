"""What the pose memory remembers: views of every object from a fixed set of directions, in two linear codes.

A picture in any colours is linear in its channels (`appearance.py`), so both codes are: the *channel code* of a view knows
nothing of colours, the *picture code* is that of the coloured picture before its backdrop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...cameras import orbit_position
from .. import vocabulary, world
from ..appearance import channel_weights
from ..learned.dataset import channel_table
from ..renderer import CHANNEL_SCALE
from ..vocabulary import Description

BACKDROPS = tuple(level for level, _ in world.BACKDROPS)
"""Grey levels of the backdrops that are remembered."""
PLAIN_WEIGHT = 4
"""Of a plain colour among the materials, where the channels' importance is weighed."""
FAINT = 0.1
"""Mean square deviation from the backdrop at which a picture's errors count half as much as a far fainter one's: in errors that a white
owl before the dark backdrop does not feel, a black one is lost."""
OVERHEAD_WEIGHT = 2.0
"""Of pictures from above, which are few and like no others."""
AROUND = 8.0
"""Degrees, standard deviation: how far around it a remembered view stands for others, which is about as far as its neighbours are."""
DIRECTIONS = 20_000
"""From which the share of those is counted of which a view's word is true."""
OVERSAMPLING, POWER_ITERATIONS = 30, 3
"""Of the randomised decompositions."""


@dataclass(frozen=True)
class Paint:
    """What decides on a description's colours: its material, and a colour, or None for the material's own."""

    colour: str | None
    material: str | None

    def table(self, backdrop: float) -> Tensor:
        """[C, 3] what each channel adds to a picture that is all backdrop."""
        weights = torch.from_numpy(channel_weights(self.colour, self.material))
        return channel_table(weights[None], torch.full((1, 3), backdrop))[0]

    @staticmethod
    def of(description: Description) -> Paint:
        """The paint of what a prompt describes."""
        return Paint(description.base_colour, description.material)


def paints() -> list[Paint]:
    """Every paint of the world."""
    named = [Paint(colour, material) for colour in vocabulary.COLOURS for material in (None, *vocabulary.MATERIALS)]
    return named + [Paint(None, material) for material in vocabulary.COLOURLESS_MATERIALS]


@dataclass(frozen=True)
class Poses:
    """The directions, the same for every object.

    Attributes:
        channels: [O, P, C, H W] uint8 views of each object.
        log_law: [P] log of how often photographs are taken from there, relative to an even spread.
        words: [P] the true view word.
        log_clarity: [P] log of the share of the views around of which that word is true, too.
    """

    channels: Tensor
    log_law: Tensor
    words: list[str]
    log_clarity: Tensor

    def __len__(self) -> int:
        return self.channels.shape[1]

    def weights(self, contrast: Tensor, chosen: Tensor) -> Tensor:
        """[n] how much errors count in pictures from poses [n] whose mean square deviation from their backdrops is contrast [n]."""
        overhead = torch.tensor([word == "overhead view" for word in self.words])[chosen]
        return FAINT / (FAINT + contrast) * torch.where(overhead, OVERHEAD_WEIGHT, 1.0)

    @staticmethod
    def render(count: int, resolution: int, *, progress: Callable[[str], None] = lambda message: None) -> Poses:
        """`count` views of every object."""
        distance = (world.DISTANCE, world.DISTANCE)
        banks = []
        for name in vocabulary.OBJECTS:
            progress(f"rendering {count} views of a {name}")
            banks.append(world.view_bank(name, count, resolution, distance=distance))
        azimuth, elevation = banks[0].azimuth, banks[0].elevation
        channels = torch.stack([torch.from_numpy(bank.channels).flatten(2) for bank in banks])
        log_law = torch.from_numpy(world.front_bias_log_weights(azimuth) + np.log(count)).float()
        return Poses(channels, log_law, view_words(azimuth, elevation), log_clarity(azimuth, elevation))


def view_words(azimuth: np.ndarray, elevation: np.ndarray) -> list[str]:
    """The true view word of each of some directions [P], in degrees."""
    return [vocabulary.view_word(a, e) for a, e in zip(azimuth, elevation, strict=True)]


def log_clarity(azimuth: np.ndarray, elevation: np.ndarray) -> Tensor:
    """[P] log of the share of the views around directions [P] (degrees) of which the same word is true."""
    others = world.bank_cameras(DIRECTIONS, (world.DISTANCE, world.DISTANCE))
    cosine = _unit_vectors(azimuth, elevation) @ _unit_vectors(others[:, 0], others[:, 1]).T
    near = np.exp(-0.5 * (np.degrees(np.arccos(cosine.clip(-1, 1))) / AROUND) ** 2)
    same = np.array(view_words(azimuth, elevation))[:, None] == np.array(view_words(others[:, 0], others[:, 1]))
    return torch.from_numpy(np.log((near * same).sum(1) / near.sum(1))).float()


def _unit_vectors(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    return np.stack([orbit_position(a, e, 1.0) for a, e in zip(azimuth, elevation, strict=True)])


@dataclass(frozen=True)
class PictureCode:
    """Principal components, about zero, of pictures in -1..1.

    Attributes:
        basis: [3 H W, K] orthonormal columns, those that count most first; rows as in a picture [3, H, W].
        energy: [K] mean squares of the coefficients.
        views: [O, P, C, 3, K] what each channel of each remembered view, in red, green and blue, adds to the code.
    """

    basis: Tensor
    energy: Tensor
    views: Tensor

    @staticmethod
    def fit(poses: Poses, count: int, pictures: Tensor, weights: Tensor) -> PictureCode:
        """The first `count` components of pictures [N, 3 H W] in -1..1, whose errors count by weights [N]."""
        weighed = pictures.float()
        weighed *= weights.sqrt()[:, None]
        basis = _strongest(weighed, count)
        energy = ((weighed @ basis).square() / weights[:, None]).mean(0)
        by_colour = basis.view(3, -1, count)
        views = [torch.einsum("vcp,rpk->vcrk", one.float() * (2 * CHANNEL_SCALE), by_colour) for one in poses.channels]
        return PictureCode(basis, energy, torch.stack(views))

    def of(self, description: Description, backdrop: float) -> Tensor:
        """[P, K] codes of the described object from every pose before a backdrop; a view word in the description changes nothing."""
        table = Paint.of(description).table(backdrop)
        views = self.views[vocabulary.OBJECTS.index(description.object)]
        return torch.einsum("pcrk,cr->pk", views, table) + self.of_nothing(backdrop)

    @cached_property
    def _white(self) -> Tensor:
        """[K] code of a white picture."""
        return self.basis.sum(0)

    def of_nothing(self, backdrop: float) -> Tensor:
        """[K] code of a backdrop alone."""
        return (2 * backdrop - 1) * self._white

    def contrast(self, description: Description, backdrop: float) -> Tensor:
        """[P] mean square deviation of the described object's pictures (-1..1) from the backdrop."""
        table = Paint.of(description).table(backdrop).flatten()
        return self.products[vocabulary.OBJECTS.index(description.object)] @ table @ table / len(self.basis)

    @cached_property
    def products(self) -> Tensor:
        """[O, P, C 3, C 3] inner products of what a view's channels add to the code."""
        views = self.views.flatten(2, 3)
        return views @ views.transpose(2, 3)


@dataclass(frozen=True)
class ChannelCode:
    """Principal components of what a view adds to picture codes, in any colours and before any backdrop.

    Attributes:
        codes: [O, P, K] of each remembered view, in units in which the mean square norm is one.
        maps: [C, 3, K, J] from a code to what each channel, in red, green and blue, adds to the picture code, less its mean.
        mean: [C, 3, J] over the views.
        weights: [O, P] how much errors count in a view, on average over paints and backdrops.
        left_out: mean square error of pictures' pixels (-1..1), within the picture code, that the code leaves.
    """

    codes: Tensor
    maps: Tensor
    mean: Tensor
    weights: Tensor
    left_out: float

    @staticmethod
    def fit(poses: Poses, picture_code: PictureCode, count: int) -> ChannelCode:
        """The first `count` components."""
        kinds = torch.stack([p.table(b) for p in paints() for b in BACKDROPS for _ in range(1 if p.material else PLAIN_WEIGHT)]).flatten(1)
        views = picture_code.views.flatten(0, 1).flatten(1, 2)  # [N, C 3, J]
        weights = _weights_in_any_paint(poses, picture_code, kinds)
        importance, vectors = torch.linalg.eigh((kinds.T @ kinds / len(kinds)).double())
        matter = importance > 1e-6 * importance.max()
        root = (vectors * importance.clamp_min(0).sqrt())[:, matter].float()
        features = torch.einsum("ncj,cm->nmj", views, root).flatten(1)
        features -= (weights @ features) / weights.sum()
        codes = features @ _strongest(weights.sqrt()[:, None] * features, count)
        left_out = (features.square().sum() - codes.square().sum()).item() / len(features) / len(picture_code.basis)
        codes /= codes.square().sum(1).mean().sqrt()
        weighed = weights[:, None] * codes
        maps = torch.einsum("nk,ncj->ckj", weighed / (weighed * codes).sum(0), views)
        mean = torch.einsum("n,ncj->cj", weights / weights.sum(), views)
        maps, mean = maps.unflatten(0, (-1, 3)), mean.unflatten(0, (-1, 3))
        codes, weights = (each.unflatten(0, poses.channels.shape[:2]) for each in (codes, weights))
        return ChannelCode(codes, maps, mean, weights, left_out)

    def tells(self, description: Description, backdrop: float) -> Tensor:
        """[P, J] what the codes of the described object tell of its picture codes, less that of the backdrop alone."""
        table = Paint.of(description).table(backdrop)
        codes = self.codes[vocabulary.OBJECTS.index(description.object)]
        return codes @ torch.einsum("cr,crkj->kj", table, self.maps) + torch.einsum("cr,crj->j", table, self.mean)

    def reads(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """What tells most of the pictures that channels in the colours [C, 3] of a table make.

        Returns:
            (functionals [R, K] of a code, each of unit variance over the views, the mean square [R] that each tells of a picture's code)
        """
        deviation = self.codes.flatten(0, 1).std(0)
        scaled = torch.einsum("cr,crkj->kj", table, self.maps) * deviation[:, None]
        left, singular, _ = torch.linalg.svd(scaled.double(), full_matrices=False)
        return (left.T / deviation).float(), singular.square().float()


def _strongest(rows: Tensor, count: int) -> Tensor:
    """[D, count] principal directions of rows [N, D] about zero. The generator of torch's randomised decomposition is seeded here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.svd_lowrank(rows, q=min(count + OVERSAMPLING, *rows.shape), niter=POWER_ITERATIONS)[2][:, :count]


def _weights_in_any_paint(poses: Poses, picture_code: PictureCode, kinds: Tensor) -> Tensor:
    """[O P] how much errors count in the views, on average over tables of colours [n, C 3]."""
    products = picture_code.products.flatten(0, 1)
    contrast = torch.einsum("nc,vcd,nd->nv", kinds, products, kinds) / len(picture_code.basis)
    chosen = torch.arange(len(poses)).repeat(len(products) // len(poses))
    return torch.stack([poses.weights(one, chosen) for one in contrast]).mean(0)


def picture(views: Tensor, description: Description, backdrop: float) -> Tensor:
    """[..., 3 H W] in -1..1 of channels [..., C, H W] uint8."""
    table = Paint.of(description).table(backdrop)
    return (2 * CHANNEL_SCALE * table.T @ views.float() + (2 * backdrop - 1)).flatten(-2)


def draw_pictures(poses: Poses, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures in -1..1, [count, 3 H W] in half precision, and weights [count].

    They are from any of the poses, before either backdrop; none shows a pair that is held out.
    """
    result = torch.empty(count, 3 * poses.channels.shape[3], dtype=torch.float16)
    chosen, levels, contrast = torch.empty(count, dtype=torch.long), torch.empty(count), torch.empty(count)
    for row in range(count):
        description = draw_description(rng)
        chosen[row], levels[row] = rng.integers(len(poses)), BACKDROPS[rng.integers(len(BACKDROPS))]
        view = poses.channels[vocabulary.OBJECTS.index(description.object), chosen[row]]
        shown = picture(view, description, levels[row].item())
        result[row], contrast[row] = shown, (shown - (2 * levels[row] - 1)).square().mean()
    return result, poses.weights(contrast, chosen)


def draw_description(rng: np.random.Generator) -> Description:
    """An object, a colour (or none: one in ten) and a material (or none: half), all evenly; never a pair that is held out."""
    colours = tuple(vocabulary.COLOURS)
    while True:
        name = vocabulary.OBJECTS[rng.integers(len(vocabulary.OBJECTS))]
        material = None if rng.random() < 0.5 else vocabulary.MATERIALS[rng.integers(len(vocabulary.MATERIALS))]
        colour = None if rng.random() < 0.1 else colours[rng.integers(len(colours))]
        description = Description(name, colour, material)
        if not description.is_held_out:
            return description
