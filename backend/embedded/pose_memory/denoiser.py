"""A `UNet2DConditionModel` that is the posterior mean over the poses that the text encoder remembers.

    x0 = sum_i softmax_i( g1(t) <z, v_i> - g2(t) |v_i|^2 / 2 + log p_i ) v_i

for memories v_i with probabilities p_i: the closed form of `embedded/exact_prior.py`, in a picture code. The network has one residual
block and one transformer block, on four "pixels", the blocks of 32 x 32 pixels of a picture:

    conv_in      at each block, what it adds to every <z, u_k> if it is block 0, 1, 2 or 3; and large constants
    resnet       which of the four it is, told by the padding of its convolution; and functions of t, one of which is so large that the
                 norms that follow divide by 1 / g1(t)
    attention 1  head q looks at block q: the sum over the blocks, g1(t) <z, u_k>, everywhere
    attention 2  the softmax above over the memories; all heads weigh alike, each carries a part of the picture code
    feed-forward picture code -> this block's components, through the gates of the hidden units that belong to it
    conv_out     block components -> pixels

Norms only scale, because constants outweigh everything else in them; silu is linear where a constant lifts its argument (silu(10 + x) is
10 + x to 5e-4). Numbers of very different size stand side by side, so it needs single precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .tokens import WIDTH, Told

CHANNELS = 416
BLOCK, GRID = 32, 2
PLACES = GRID * GRID
TIME_WIDTH = 320
MEMORY_VARIANCE = 8.0
"""Of a component between a picture and the nearest one that is remembered: evidence that weighed more than this allows would mislead."""
BLURRIEST, BLURRIEST_WIDTH = 860, 20
"""Timestep from which on, softly, evidence weighs as much as there: lower weights would need larger constants."""
SCALE_TIMESTEP = 250
"""Where the noisy components, as the network computes them, have a mean square of about one."""
CONSTANT = 7000.0
"""Next to noisy components of about one: they must be lost beside the code, which is itself small beside the constants."""
LIFT = 10.0
"""What keeps silu's argument where it is linear."""
OUTPUT_LIFT = 20.0
"""Likewise, of the blocks' components at the end."""
SMALL = 0.02
"""Of the picture code, beside numbers whose mean square is one."""
OUTPUT = 0.05
"""Of the blocks' components at the end, so that what is left of the noisy ones in the same channels is lost beside them."""
LOUD = 1000.0
"""Of the blocks' components, so that the code in the same channels is lost beside them."""
GATE_CLOSED, GATE_OPEN = -15.0, 4.0
"""Argument of the places' silu elsewhere; least argument of the feed-forward part's gelu, above which it changes nothing."""
PLACE = 1.0
"""Of the channel of a block's own place once a norm has divided, at the t where the norms divide most."""
WORD_PENALTY = 1500.0
"""Logit that tokens lose which are no memories: more than any memory can be behind."""
TIME_RIDGE = 1e-8
FREQUENCIES = (2e-4, 1.2e-2)
"""Of the timestep's sinusoids, radians a step, that the functions of t are made from: higher ones tell neighbouring steps apart."""


@dataclass(frozen=True)
class Layout:
    """Which channel is what: [0, 4 E) blocks' parts of E components, [4 E, 5 E) their sums, and constants and functions of t at the end.

    Attributes:
        evidence: E, components that are compared.
    """

    evidence: int

    CODE = CHANNELS - 13
    """Channels that hold the picture code after attention, and the block's components at the end."""
    ONE_SIGN = ("constant", "spread", "square", "one")
    """Quantities that have a channel, and another one for their negative: so norms find a mean of zero."""

    def __post_init__(self) -> None:
        assert self.evidence % 2 == 0, "the evidence stands before pairs of rows"
        assert (PLACES + 1) * self.evidence <= self.CODE, "the evidence has no room"

    def part(self, block: int) -> slice:
        """What the block adds to each <z, u_k> if it is this one."""
        return slice(block * self.evidence, (block + 1) * self.evidence)

    @property
    def sums(self) -> slice:
        """<z, u_k>."""
        return slice(PLACES * self.evidence, (PLACES + 1) * self.evidence)

    def pair(self, name: str) -> tuple[int, int]:
        """The channels of a quantity and of its negative."""
        first = self.CODE + 2 * self.ONE_SIGN.index(name)
        return first, first + 1

    @property
    def places(self) -> list[int]:
        """A channel a block, which is not zero at this block only; `nowhere` balances them."""
        return [CHANNELS - 5 + block for block in range(PLACES)]

    @property
    def nowhere(self) -> int:
        """Minus what the places add up to, which is the same everywhere."""
        return CHANNELS - 1

    def reads(self, name: str) -> Tensor:
        """[C] a quantity, of normalised channels."""
        row = torch.zeros(CHANNELS)
        row[list(self.pair(name))] = torch.tensor([0.5, -0.5])
        return row

    def reads_channel(self, channel: int) -> Tensor:
        """[C] a channel, less whatever mean a norm has subtracted."""
        row = torch.zeros(CHANNELS)
        row[list(self.pair("constant"))] = -0.5
        row[channel] += 1
        return row


def build() -> Any:
    """The network, all weights zero but the norms'."""
    from diffusers import UNet2DConditionModel

    channels = 3 * BLOCK**2

    unet = UNet2DConditionModel(
        sample_size=GRID,
        in_channels=channels,
        out_channels=channels,
        conv_in_kernel=1,
        conv_out_kernel=1,
        block_out_channels=(CHANNELS,),
        layers_per_block=0,  # in the way down; there is one more in the way up
        down_block_types=("DownBlock2D",),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=WIDTH,
        attention_head_dim=PLACES,
        norm_num_groups=1,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=TIME_WIDTH,
    )
    unet.eval().requires_grad_(False)
    for name, parameter in unet.named_parameters():
        if "norm" not in name:
            parameter.zero_()
    return unet


def evidence_weights(alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """g1, g2: [T] what <z, v> and |v|^2 / 2 are multiplied with in a memory's log likelihood."""
    t = torch.arange(len(alphas_cumprod), dtype=torch.float64)
    bounded = BLURRIEST - BLURRIEST_WIDTH * F.softplus((BLURRIEST - t) / BLURRIEST_WIDTH)
    log = alphas_cumprod.double().log().numpy()
    alpha_bar = torch.from_numpy(np.exp(np.interp(bounded.numpy(), t.numpy(), log)))
    g2 = 1 / ((1 - alpha_bar) / alpha_bar + MEMORY_VARIANCE)
    return g2 / alpha_bar.sqrt(), g2


class Denoiser:
    """Sets the weights.

    Args:
        basis: [3 H W, K] of the picture code, and energy: [K].
        told: how tokens tell the code.
        alphas_cumprod: [T].
        evidence: components that are compared.

    Attributes:
        model: the network, in single precision; every weight is one that half precision has.
    """

    def __init__(self, basis: Tensor, energy: Tensor, told: Told, alphas_cumprod: Tensor, evidence: int) -> None:
        self.basis, self.energy, self.told, self.alphas_cumprod = basis, energy, told, alphas_cumprod
        self.layout = Layout(evidence)
        assert basis.shape[1] <= self.layout.CODE, "a channel a component"
        alpha_bar = float(alphas_cumprod[SCALE_TIMESTEP])
        self.input_scale = (energy[:evidence] * alpha_bar / (1 - alpha_bar) + 1).rsqrt()
        g1, self.g2 = evidence_weights(alphas_cumprod)
        fixed, share = 8 * CONSTANT**2, self._share()
        self.kappa = float((g1 * (fixed / share).sqrt()).max())
        """What g1 times the norms' divisor is at all t."""
        self.divisor = self.kappa / g1
        self.model = build()
        block = self.model.up_blocks[0]
        self._resnet, self._transformer = block.resnets[0], block.attentions[0]

    def _share(self) -> Tensor:
        """[T] by what a square of the divisor is to be multiplied to give the squares of all numbers but the constants' and `spread`'s."""
        return 4 * CHANNELS - 8 - 8 * self.g2**2 - 8 * PLACE**2

    def fit(self) -> None:
        """All of it."""
        self._set_input()
        self._set_places_and_time()
        self._set_gathering()
        self._set_retrieval()
        self._set_output(self._set_decoding())
        for name, parameter in self.model.named_parameters():
            parameter.copy_(parameter.half())
            assert parameter.isfinite().all(), name

    # --- what comes in

    def _set_input(self) -> None:
        conv, layout = self.model.conv_in, self.layout
        for block, part in enumerate(blocks(self.basis[:, : layout.evidence])):
            conv.weight[layout.part(block), :, 0, 0] = (part * self.input_scale).T
        conv.bias[list(layout.pair("constant"))] = torch.tensor([CONSTANT, -CONSTANT])
        self._resnet.conv_shortcut.weight[:, :CHANNELS, 0, 0] = torch.eye(CHANNELS)

    def _set_places_and_time(self) -> None:
        resnet, layout = self._resnet, self.layout
        for norm in (resnet.norm1, resnet.norm2):
            norm.weight.zero_()
            norm.bias.zero_()
        resnet.norm1.bias[0] = LIFT  # a constant for the convolution; its padding cuts it off at the edges
        hidden = layout.places
        for block, channel in enumerate(hidden):
            y, x = block // GRID, block % GRID
            corner = 0 if y else 2, 0 if x else 2  # of the kernel: inside the picture at this block only
            resnet.conv1.weight[channel, 0, *corner] = 1
            resnet.norm2.weight[channel] = 1
        with torch.no_grad():
            flat = torch.zeros(1, 2 * CHANNELS, GRID, GRID)
            told = resnet.norm2(resnet.conv1(resnet.nonlinearity(resnet.norm1(flat))))[0, hidden]
        here, elsewhere = told.max(), told.min()
        assert (told.flatten(1).argmax(1) == torch.arange(PLACES)).all()

        s, largest = self.divisor, self.divisor.max()
        place = PLACE * s**2 / largest  # s / largest once a norm has divided
        square, one = self.g2 * s, s
        # The squares of all numbers are 4 C s^2; what pairs of channels at four blocks do not make of it, the spread has to.
        left = s**2 * (4 * CHANNELS - 8 - 8 * self.g2**2) - 8 * place**2 - 8 * CONSTANT**2
        spread = (left / 8).clamp_min(0).sqrt()
        functions = torch.stack([spread, square, one, place])
        arguments, scales = self._arguments(functions)
        rows, biases = self._fit_time(arguments, functions)
        for index, name in enumerate(("spread", "square", "one")):
            channel = layout.pair(name)[0]
            resnet.time_emb_proj.weight[CHANNELS + channel] = rows[index]  # its second half are shifts
            resnet.norm2.bias[channel] = biases[index]
            for sign, target in zip((1, -1), layout.pair(name), strict=True):
                resnet.conv2.weight[target, channel, 1, 1] = sign * scales[index]
        # Here the argument is to be as asked, elsewhere so low that nothing is left: gain * (told - elsewhere) + GATE_CLOSED.
        gain = 1 / (here - elsewhere)
        for channel in hidden:
            resnet.time_emb_proj.weight[channel] = gain * rows[3]
            resnet.time_emb_proj.bias[channel] = gain * (biases[3] - GATE_CLOSED) - 1
            resnet.time_emb_proj.weight[CHANNELS + channel] = -elsewhere * gain * rows[3]
            resnet.time_emb_proj.bias[CHANNELS + channel] = -elsewhere * gain * (biases[3] - GATE_CLOSED) + GATE_CLOSED
            resnet.conv2.weight[channel, channel, 1, 1] = scales[3]
            resnet.conv2.weight[layout.nowhere, channel, 1, 1] = -scales[3]

    @staticmethod
    def _arguments(functions: Tensor) -> tuple[Tensor, Tensor]:
        """What silu makes the functions [n, T] of, [n, T], once multiplied by scales [n]."""
        scales = functions.max(1).values / LIFT
        x = torch.linspace(0, 2 * LIFT, 200_001, dtype=torch.float64)
        values = functions / scales[:, None]
        return torch.from_numpy(np.interp(values.numpy(), F.silu(x).numpy(), x.numpy())), scales.float()

    def _fit_time(self, arguments: Tensor, functions: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [n, TIME_WIDTH] and biases [n] that make arguments [n, T] of random features of t, which are set here."""
        embedding, generator = self.model.time_embedding, torch.Generator().manual_seed(0)
        sinusoids = self.model.time_proj(torch.arange(arguments.shape[1])).float()
        half = sinusoids.shape[1] // 2
        frequency = torch.exp(-math.log(10000) * torch.arange(half) / half)
        kept = ((frequency > FREQUENCIES[0]) & (frequency < FREQUENCIES[1])).repeat(2)
        first = torch.randn(TIME_WIDTH, 2 * half, generator=generator) * kept * (2.5 / kept.sum().sqrt())
        embedding.linear_1.weight.copy_(first.half())
        embedding.linear_1.bias.copy_(torch.randn(TIME_WIDTH, generator=generator).half())
        embedding.linear_2.weight.copy_((torch.randn(TIME_WIDTH, TIME_WIDTH, generator=generator) * 2 / TIME_WIDTH**0.5).half())
        features = F.silu(embedding(sinusoids)).double()
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        solutions = []
        for value, argument in zip(functions, arguments, strict=True):
            weight = (1 / (value + 0.0033 * value.max()))[:, None]
            weight = weight / weight.max()
            a, b = features * weight, argument[:, None] * weight
            gram = a.T @ a
            gram.diagonal().add_(TIME_RIDGE * gram.diagonal().mean())
            solutions.append(torch.linalg.solve(gram, a.T @ b)[:, 0])
        found = torch.stack(solutions).float()
        return found[:, :-1], found[:, -1]

    # --- attention

    def _set_gathering(self) -> None:
        layout, evidence, size = self.layout, self.layout.evidence, CHANNELS // PLACES
        self._transformer.proj_in.weight.copy_(torch.eye(CHANNELS)[:, :, None, None])
        attention = self._transformer.transformer_blocks[0].attn1
        least = PLACE * self.divisor.min() / self.divisor.max()
        for head in range(PLACES):
            attention.to_q.weight[head * size] = layout.reads("one")
            attention.to_k.weight[head * size] = 40 / least * math.sqrt(size) * layout.reads_channel(layout.places[head])
            for k in range(evidence):
                attention.to_v.weight[head * size + k] = layout.reads_channel(layout.part(head).start + k)
                attention.to_out[0].weight[layout.sums.start + k, head * size + k] = 1

    def _set_retrieval(self) -> None:
        layout, told, evidence, size = self.layout, self.told, self.layout.evidence, CHANNELS // PLACES
        attention, root = self._transformer.transformer_blocks[0].attn2, math.sqrt(size)
        query, key = torch.zeros(size, CHANNELS), torch.zeros(size, WIDTH)
        for k in range(evidence):
            query[k] = self.kappa / self.input_scale[k] * layout.reads_channel(layout.sums.start + k)
        key[:evidence] = root * told.code[:evidence]
        others = (("square", told.norm), ("one", told.chance), ("one", -WORD_PENALTY * told.no_memory))
        for row, (name, vector) in enumerate(others, start=evidence // 2):
            query[[2 * row, 2 * row + 1]] = layout.reads(name)
            key[2 * row] = (root * vector).half()
            key[2 * row + 1] = root * vector - key[2 * row]  # what half precision leaves of it
        for head in range(PLACES):
            rows = slice(head * size, (head + 1) * size)
            attention.to_q.weight[rows], attention.to_k.weight[rows] = query, key
        count = len(told.code)
        attention.to_v.weight[:count] = told.code
        attention.to_out[0].weight[:count, :count] = SMALL * torch.eye(count)

    # --- what goes out

    def _set_decoding(self) -> Tensor:
        """Returns the components [3 s s, CODE] of a block that are told in the end: the strongest of pictures in the picture code."""
        layout, count = self.layout, self.basis.shape[1]
        parts = blocks(self.basis)
        told = (parts * self.energy.sqrt()).permute(1, 0, 2).flatten(1)
        _, vectors = torch.linalg.eigh((told @ told.T).double())
        components = vectors[:, -layout.CODE :].flip(1).float()
        decode = torch.einsum("pb,qpk->qbk", components, parts)  # [4, CODE, K]
        first, second = self._transformer.transformer_blocks[0].ff.net[0].proj, self._transformer.transformer_blocks[0].ff.net[2]
        least = float(PLACE * self.divisor.min() / self.divisor.max())
        open_gate = GATE_OPEN / least  # the gate of a place's units is this times the divisor's share of its largest
        for place in range(PLACES):
            units = slice(place * layout.CODE, (place + 1) * layout.CODE)
            first.weight[units, :count] = decode[place]
            first.weight[units, list(layout.pair("constant"))] = -decode[place].sum(1, keepdim=True).expand(-1, 2) / 2
            gates = slice(PLACES * CHANNELS + units.start, PLACES * CHANNELS + units.stop)
            first.weight[gates] = open_gate * layout.reads_channel(layout.places[place])
            second.weight[: layout.CODE, units] = LOUD * torch.eye(layout.CODE)
        # hidden = SMALL * component * open_gate * PLACE * divisor / largest; wanted is OUTPUT * component * divisor
        gain = OUTPUT * float(self.divisor.max()) / (SMALL * open_gate * PLACE * LOUD)
        gain *= math.sqrt(1 + OUTPUT**2 * float(self.energy.sum()) / (PLACES * CHANNELS))  # the last norm divides by them, too
        self._transformer.proj_out.weight[: layout.CODE, : layout.CODE, 0, 0] = gain * torch.eye(layout.CODE)
        self._transformer.proj_out.weight[layout.nowhere, : layout.CODE] = -gain  # so the last norm finds a mean of zero
        return components

    def _set_output(self, components: Tensor) -> None:
        norm, out, code = self.model.conv_norm_out, self.model.conv_out, self.layout.CODE
        norm.weight[code:] = 0
        norm.bias[:] = OUTPUT_LIFT
        out.weight[:, :code, 0, 0] = (components / OUTPUT).half()
        lifted = F.silu(torch.tensor(OUTPUT_LIFT)).item()
        offset = -lifted * out.weight[:, :code, 0, 0].sum(1)
        out.bias.copy_(offset.half())
        out.weight[:, code, 0, 0] = (offset - out.bias) / lifted  # what half precision leaves of it


def blocks(basis: Tensor) -> Tensor:
    """[4, 3 s s, N] of pictures [3 H W, N], block by block, rows in the order of `torch.nn.PixelUnshuffle(s)`."""
    size = BLOCK * GRID
    return F.pixel_unshuffle(basis.T.reshape(-1, 3, size, size), BLOCK).flatten(2).permute(2, 1, 0)
