"""How a prior's networks share the memory there is: the modes of `prior.memory`, and what each of them does.

Results are the same in every mode up to rounding; what differs is what is held at one time. Beyond what a mode decides, text encoders
are freed once the prompts are embedded, and half precision is `prior.dtype`'s matter. The VAE's own tiling is not used: it
begins above the size that a model was made for, which is never exceeded here, and below it would change the gradients.

=========  ============================  ======================================  ==============================================
mode       the denoiser gets             for the backward pass the encoder       the networks
=========  ============================  ======================================  ==============================================
`high`     all rows at once              keeps everything                        stay where they compute
`normal`   all rows at once              keeps nothing, and computes one view    stay where they compute
                                         at a time again
`low`      one row (one group of views   likewise, block by block                compute in turns; the others wait in main
           where a model sees several)                                           memory
=========  ============================  ======================================  ==============================================

In `low` a Mac's GPU computes attention in slices too; elsewhere torch's attention needs no memory that slicing would save. Where
the processor computes, or a GPU shares its memory, there is nowhere to wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import machine
from ..memory import is_out_of_memory
from .prior import Conditioning

log = logging.getLogger(__name__)

MODES = ("high", "normal", "low")
"""From the fastest to the one that needs least."""

ASSUMED_VIEWS = 4
"""Views of a step and, with a negative prompt each, half its rows, for which `auto` makes room: the default of `optimizer.views`."""
RESERVE = 2**30
"""Bytes left to the Gaussians, the history of gradients and torch's caches."""
USABLE = 0.9
"""Share of the free memory that is planned with."""
KEPT_BY_ENCODER = 13.1
"""Numbers that a VAE's encoder keeps for its backward pass for each channel and pixel of each level: measured on Stable Diffusion's."""
HELD_BY_DENOISER = 55
"""Numbers that a denoiser holds at its peak for each pixel of z and channel of its first level: measured on Stable Diffusion 1.5's."""


@dataclass(frozen=True)
class Plan:
    """What a mode does on one kind of device.

    Attributes:
        one_row: the denoiser gets one row, or one group of views that are predicted together, at a time.
        one_view: the encoder and the decoder get one picture at a time.
        recompute: the encoder's activations are computed again in the backward pass instead of being kept.
        by_block: within that, block by block.
        offload: only the network that computes is on the device.
        slice_attention: the denoiser computes attention in slices.
    """

    one_row: bool = False
    one_view: bool = False
    recompute: bool = False
    by_block: bool = False
    offload: bool = False
    slice_attention: bool = False


def plan(mode: str, device: torch.device) -> Plan:
    """What the mode does there."""
    if mode == "high":
        return Plan()
    if mode == "normal":
        return Plan(one_view=True, recompute=True)
    return Plan(
        one_row=True,
        one_view=True,
        recompute=True,
        by_block=True,
        offload=has_own_memory(device),
        slice_attention=device.type == "mps",
    )


def has_own_memory(device: torch.device) -> bool:
    """Whether what is not on the device waits in another memory."""
    return device.type not in ("cpu", "mps")


def lower_mode(mode: str) -> str | None:
    """The mode that needs less; None where there is none."""
    following = MODES[MODES.index(mode) + 1 :] if mode in MODES else ()
    return following[0] if following else None


class Networks:
    """A denoiser and a VAE, used within the memory that a mode permits.

    Args:
        denoiser: a frozen network.
        vae: a frozen diffusers AutoencoderKL; None for a model in pixel space.
        device: where they compute.
        mode: one of `MODES`.
        group: rows of the denoiser that must stay together.
        move: puts a network on a device.
    """

    def __init__(
        self,
        denoiser: Any,
        vae: Any | None,
        device: torch.device,
        mode: str,
        *,
        group: int = 1,
        move: Callable[[Any, torch.device], object] = lambda network, device: network.to(device),
    ) -> None:
        self.denoiser, self.vae, self.device = denoiser, vae, device
        self._group, self._move = group, move
        self.use(mode)

    def use(self, mode: str) -> None:
        """Changes the mode, between two steps."""
        self.mode, self.plan = mode, plan(mode, self.device)
        self._present: Any = None  # the one on the device, where they take turns
        for network in (self.denoiser, self.vae):
            if network is not None:
                self._move(network, torch.device("cpu") if self.plan.offload else self.device)
        if self.vae is not None and getattr(self.vae, "_supports_gradient_checkpointing", False):
            if self.plan.by_block:  # in diffusers it depends on gradients being wanted, and not on training mode
                self.vae.enable_gradient_checkpointing()
            else:
                self.vae.disable_gradient_checkpointing()
        if self.plan.slice_attention and self._group == 1 and hasattr(self.denoiser, "set_attention_slice"):
            self.denoiser.set_attention_slice("auto")  # it would replace the attention by which views see each other

    def predict(self, ask: Callable[[Tensor, Tensor, Conditioning], Tensor], z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """`ask(z_t, t, conditioning)`, which runs the denoiser, for B rows, as many at a time as the mode permits."""
        self._bring(self.denoiser)
        count = self._group if self.plan.one_row else len(z_t)
        if count >= len(z_t):
            return ask(z_t, t, conditioning)
        parts = [slice(start, start + count) for start in range(0, len(z_t), count)]
        return torch.cat([ask(z_t[rows], t[rows], conditioning.select(range(rows.start, min(rows.stop, len(z_t))))) for rows in parts])

    def encode(self, ask: Callable[[Tensor], Tensor], images: Tensor, network: Any | None) -> Tensor:
        """`ask(images)`, which runs an encoder on pictures [B, ...], differentiably.

        Args:
            network: what it needs on the device; None for an encoder that is always there.
        """

        def ask_one(part: Tensor) -> Tensor:  # runs again in the backward pass, when the denoiser may have taken the encoder's place
            self._bring(network)
            return ask(part)

        parts = images.split(1) if self.plan.one_view else (images,)
        worthwhile = self.plan.recompute and (len(parts) > 1 or self.plan.by_block)
        if worthwhile and torch.is_grad_enabled() and images.requires_grad:
            again = partial(checkpoint, ask_one, use_reentrant=False, preserve_rng_state=False)
            return _joined([again(part) for part in parts])
        return _joined([ask_one(part) for part in parts])

    def decode(self, ask: Callable[[Tensor], Tensor], z: Tensor, network: Any | None) -> Tensor:
        """`ask(z)`, which runs a decoder on z [B, ...]; no gradient."""
        self._bring(network)
        return _joined([ask(part) for part in (z.split(1) if self.plan.one_view else (z,))])

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, the networks wait in main memory, and others have the device to themselves."""
        networks = [network for network in (self.denoiser, self.vae) if network is not None]
        for network in networks:
            self._move(network, torch.device("cpu"))
        self._present = None
        try:
            yield
        finally:
            if not self.plan.offload:
                for network in networks:
                    self._move(network, self.device)

    def _bring(self, network: Any) -> None:
        """Makes sure that a network is on the device; the others leave it where they have to take turns."""
        if not self.plan.offload or network is self._present or network is None:
            return
        if self._present is not None:
            self._move(self._present, torch.device("cpu"))
        self._move(network, self.device)
        self._present = network


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


# Which mode


def choose_mode(requested: str, device: torch.device, denoiser: Any, vae: Any | None, size: int, *, free: int | None = None) -> str:
    """The mode that `prior.memory` asks for; for `auto` the fastest that fits.

    A mode fits if weights, working memory (`required_bytes`) and a reserve of 1 GiB for everything else are within nine tenths of the
    memory that is free on the device now; on a CPU the weights are in memory already. `low` is taken where nothing fits, and
    `normal` where nobody can tell what is free. What was estimated wrongly is found out when memory runs out, and the run steps down.

    Args:
        requested: a mode, or `auto`.
        denoiser, vae: the networks, still in main memory.
        size: pixels along an edge of the pictures.
        free: bytes; measured where not given.
    """
    if requested != "auto":
        return requested
    free = free_bytes(device) if free is None else free
    if free is None:
        return "normal"
    for mode in MODES[:-1]:
        if required_bytes(mode, device, denoiser, vae, size) + RESERVE <= USABLE * free:
            return mode
    return MODES[-1]


def required_bytes(mode: str, device: torch.device, denoiser: Any, vae: Any | None, size: int, views: int = ASSUMED_VIEWS) -> int:
    """Bytes that a prior will take in a mode beside what it holds already: weights on a GPU, and what a step needs at its peak."""
    does = plan(mode, device)
    weights = [0] if device.type == "cpu" else [_weight_bytes(network) for network in (denoiser, vae) if network is not None]
    rows = 1 if does.one_row else 2 * views
    predicting = rows * _denoiser_bytes(denoiser, vae, size)
    encoding = _encoder_bytes(vae, size)
    kept = 0 if does.recompute else views * encoding
    differentiating = encoding // 2 if does.by_block else encoding if does.one_view else views * encoding
    return (max(weights) if does.offload else sum(weights)) + max(kept + predicting, differentiating)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device now; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return machine.memory()[1]


def vae_factor(vae: Any | None) -> int:
    """How many pixels of a picture a pixel of z has along an edge."""
    return 1 if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)


def _weight_bytes(network: Any) -> int:
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def _encoder_bytes(vae: Any | None, size: int) -> int:
    """What the encoder keeps for the backward pass of one picture: pixels fall by four from level to level."""
    if vae is None:
        return 0
    channels = sum(count / 4**level for level, count in enumerate(vae.config.block_out_channels))
    return int(KEPT_BY_ENCODER * channels * size**2 * vae.dtype.itemsize)


def _denoiser_bytes(denoiser: Any, vae: Any | None, size: int) -> int:
    """What the denoiser holds at its peak for one row."""
    config = denoiser.config
    places = (size / vae_factor(vae) / (config.get("patch_size") or 1)) ** 2
    if "block_out_channels" in config:
        channels = config["block_out_channels"][0]
    else:
        channels = config["num_attention_heads"] * config["attention_head_dim"]
        if vae is not None:  # FLUX is given its patches ready made, as channels
            places *= vae.config.latent_channels / config["in_channels"]
    return int(HELD_BY_DENOISER * channels * places * denoiser.dtype.itemsize)


# Compilation


def compile_network(network: Any, warn: Callable[[str], None]) -> None:
    """Lets torch compile a network at its first call; where that fails, says so once and goes on without.

    Raises:
        Nothing itself; the network's own errors, and the lack of memory, pass through.
    """
    eager = network.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            give_up(error)
        return eager(*args, **kwargs)

    def give_up(error: Exception) -> None:
        log.warning("the denoiser cannot be compiled", exc_info=error)
        network.forward = eager
        warn("The image model cannot be compiled on this machine, and runs as it is.")

    try:
        compiled = torch.compile(eager)
    except Exception as error:
        give_up(error)
    else:
        network.forward = forward
