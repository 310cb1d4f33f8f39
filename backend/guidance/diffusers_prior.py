"""Any image model in the diffusers format as a `DiffusionPrior`: Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, FLUX.1, DeepFloyd IF,
MVDream, and the built-in learned prior.

A prior comes from a local pipeline folder (`model_index.json` and a folder a component), from a single `.safetensors`
file as other tools keep them, or, with consent, from the hub. Latent (with a VAE) and pixel-space models (without one)
are read alike; a model that predicts the noise, the velocity (Salimans and Ho 2022), the image or a flow's velocity is asked
through one conversion to the noise. Weights are read from safetensors only: nothing is ever unpickled, and no code from a
model's folder is run. Safety checker and feature extractor are not loaded.

`families` knows what each kind of model consists of and how it is asked, `pipeline_files` and `hub` what lies on disk and where it
comes from, `pipeline_components` and `single_file` make networks of it, and here they become a prior.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import NO_SMALL_VAE
from ..errors import PriorError
from ..memory import is_out_of_memory
from .hub import hub_folder
from .kinds import is_hub_id
from .memory import Networks, choose_mode, compile_network, has_own_memory, vae_factor
from .noise_schedule import FLOW, flow_input, to_noise
from .pipeline_components import LOADING_ERRORS, Components, from_folder, quiet_libraries
from .pipeline_files import COPY_AGAIN, MissingFileError, combined_fingerprint, first_line, read_extra
from .prior import Conditioning, DiffusionPrior
from .recommended import with_recommended
from .single_file import from_single_file
from .small_vae import SmallVae, load_small_vae

SAME_READING = 1e-3
"""Embeddings that differ by no more than this share of their length are those of the same words."""


class DiffusersPrior(DiffusionPrior):
    """A frozen diffusers model.

    z is the latent [B, c, h, w] scaled as the denoiser expects it, or, in pixel space, the image [B, 3, H, W] in -1..1.

    Args:
        memory: a mode of `guidance.memory`, or auto.
        compiled: whether torch compiles the denoiser.
        small_vae: encodes and decodes in the place of the model's own VAE until the run's progress is `small_vae_until`.

    Attributes:
        networks: the denoiser and the VAE.
    """

    def __init__(
        self,
        name: str,
        parts: Components,
        device: torch.device,
        *,
        memory: str = "normal",
        compiled: bool = False,
        small_vae: SmallVae | None = None,
        small_vae_until: float = 0.0,
    ) -> None:
        self.name = name
        self.device = device
        self.family = parts.family
        self.views_per_prediction = parts.family.views_per_prediction
        self.fingerprint = parts.fingerprint if small_vae is None else combined_fingerprint(parts.fingerprint, small_vae.fingerprint)
        self.alphas_cumprod = parts.alphas_cumprod.to(device)
        self.prediction_type = parts.prediction_type
        # Tensor cores want channels last; on CPUs group normalisation is slower that way by more than the convolutions gain.
        self._layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self._denoiser = self._frozen(parts.denoiser)
        self._vae = None if parts.vae is None else self._frozen(parts.vae)
        self._small_vae, self._small_vae_until = small_vae, small_vae_until
        self._project = self.family.prepare(self._denoiser)
        self._unshuffle = parts.pixel_unshuffle
        self._texts = parts.texts
        self._rephrase = parts.rephrase
        self._embeddings: dict[str, dict[str, Tensor]] = {}
        self._factor = self._unshuffle  # pixels of an image along the edge of one of the denoiser's
        self._latent_shift, self._latent_scale = 0.0, 1.0  # z = (latent - shift) * scale
        if self._vae is not None:
            self._factor *= vae_factor(self._vae)
            self._latent_scale = self._vae.config.scaling_factor
            self._latent_shift = getattr(self._vae.config, "shift_factor", None) or 0.0
        config = self._denoiser.config
        size = self.family.image_size(config)
        if type(size) is not int or size < 1:
            raise PriorError(
                f"The {self.family.kind.denoiser} of '{name}' has {size!r} as its sample_size, no size of images.", remedy=COPY_AGAIN
            )
        size *= self._factor
        multiple = self._factor * self.family.granularity(config)
        self.recommended = with_recommended(self.family.recommended(config, size) | {"resolution_multiple": multiple}, parts.recommended)
        self.memory = choose_mode(memory, device, self._denoiser, self._vae, self.recommended.resolutions[-1])
        self.networks = Networks(self._denoiser, self._vae, device, self.memory, group=self.views_per_prediction)
        self._warnings: list[str] = []
        if compiled:
            compile_network(self._denoiser, self._warnings.append)

    def _frozen(self, network: Any) -> Any:
        return network.requires_grad_(False).eval().to(memory_format=self._layout)

    def use_memory(self, mode: str) -> None:
        """See `DiffusionPrior`."""
        self.networks.use(mode)
        self.memory = mode

    def take_warnings(self) -> list[str]:
        """See `DiffusionPrior`."""
        taken, self._warnings[:] = list(self._warnings), []
        return taken

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The family's tensors, as the denoiser wants them. The text encoders are freed afterwards, and what they gave is kept."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._embeddings]
        if new:
            texts = [self._rephrase(prompt) for prompt in new]
            tensors = self._embed(texts)
            if _are_some_cut_off(texts, tensors):
                self._warnings.append(
                    "The prompt is longer than the image model reads: its last words, such as those for the view, make no difference. "
                    "Say it in fewer words, or the object may get several faces."
                )
            tensors = {name: tensor.to(self.device, self._denoiser.dtype) for name, tensor in tensors.items()}
            if self._project is not None:
                tensors["embeddings"] = self._project(tensors["embeddings"])
            for row, prompt in enumerate(new):
                self._embeddings[prompt] = {name: tensor[row] for name, tensor in tensors.items()}
        rows = [self._embeddings[prompt] for prompt in prompts]
        return Conditioning(tuple(prompts), {name: torch.stack([row[name] for row in rows]) for name in rows[0]})

    def _embed(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The family's tensors; where the text encoders find no room beside the other networks, those step aside meanwhile.

        Where there is none even so, as for T5 on GPUs of less than 12 GB, prompts are read by the processor: once, in a minute or two.
        """
        with quiet_libraries(), torch.no_grad():
            try:
                return self.family.embed(self._texts, texts, self._denoiser.config)
            except Exception as error:
                if not self._is_room_elsewhere(error):
                    raise
            # Out here, because the error's frames hold what the failed attempt had allocated.
            with self.networks.aside():
                try:
                    return self.family.embed(self._texts, texts, self._denoiser.config)
                except Exception as error:
                    if not self._is_room_elsewhere(error):
                        raise
            self._warnings.append("The text encoders found no room on the GPU: the processor has read the prompts, which takes longer.")
            read_here = [None if load is None else load.on(torch.device("cpu")) for load in self._texts]
            return self.family.embed(read_here, texts, self._denoiser.config)

    def _is_room_elsewhere(self, error: Exception) -> bool:
        return is_out_of_memory(error) and has_own_memory(self.networks.device)

    def place_cameras(self, conditioning: Conditioning, viewmats: Tensor) -> Conditioning:
        """See `DiffusionPrior`."""
        return self.family.place_cameras(conditioning, viewmats)

    def encode_images(self, images: Tensor) -> Tensor:
        """z of images. A size that does not serve (`PriorDefaults.serves`) is resized to the largest recommended (bilinear, antialiased).

        Latents are the posterior's mean, not a sample: the renderings' gradient needs no noise of the encoder's.
        """
        height, width = images.shape[-2:]
        if height != width or not self.recommended.serves(height):
            size = self.recommended.resolutions[-1]
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        pixels = images * 2 - 1
        if self._vae is None:
            return pixels
        if (small := self._small_vae_now()) is not None:
            return self.networks.encode(small.encode, pixels, None)
        return self.networks.encode(self._encode, pixels, self._vae)

    def _small_vae_now(self) -> SmallVae | None:
        """The small VAE at those steps that are its own: a function of the progress, so that a resumed run switches where it would have."""
        return self._small_vae if self.progress < self._small_vae_until else None

    def _encode(self, pixels: Tensor) -> Tensor:
        assert self._vae is not None
        mean = self._vae.encode(pixels.to(self._vae.dtype)).latent_dist.mode().float()
        return (mean - self._latent_shift) * self._latent_scale

    @torch.no_grad()
    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """See `DiffusionPrior`."""
        return self.networks.predict(self._predict, z_t, t, conditioning)

    def _predict(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        alpha_bar = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        sample, time = z_t, t
        if self.prediction_type == FLOW:
            sample, sigma = flow_input(z_t, alpha_bar)
            time = sigma.flatten()
        if self._unshuffle > 1:
            sample = F.pixel_unshuffle(sample, self._unshuffle)
        sample = sample.to(self._denoiser.dtype, memory_format=self._layout)
        pixels = sample.shape[-2] * self._factor, sample.shape[-1] * self._factor
        with _unrounded(self._denoiser.dtype):
            prediction = self.family.predict(self._denoiser, sample, time, conditioning.tensors, pixels).float()
        if self._unshuffle > 1:
            prediction = F.pixel_shuffle(prediction, self._unshuffle)
        return to_noise(prediction, z_t, alpha_bar, self.prediction_type)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """See `DiffusionPrior`."""
        if (small := self._small_vae_now()) is not None:
            z = self.networks.decode(small.decode, z, None)
        elif self._vae is not None:
            z = self.networks.decode(self._decode, z, self._vae)
        return (z * 0.5 + 0.5).clamp(0, 1)

    def _decode(self, z: Tensor) -> Tensor:
        assert self._vae is not None
        return self._vae.decode((z / self._latent_scale + self._latent_shift).to(self._vae.dtype), return_dict=False)[0].float()


def load_diffusers_prior(
    source: str | Path,
    *,
    device: torch.device,
    name: str = "",
    dtype: str = "auto",
    allow_download: bool = False,
    memory: str = "normal",
    compiled: bool = False,
    small_vae: str = NO_SMALL_VAE,
    small_vae_until: float = 0.5,
    progress: Callable[[str], None] = lambda message: None,
) -> DiffusersPrior:
    """Reads a model.

    Args:
        source: pipeline folder, `.safetensors` file, or hub id ("owner/name").
        device: where it runs.
        name: what the prior is called; the source unless given.
        dtype: `float32`, `float16`, `bfloat16`, or `auto`: what a pipeline folder asks for, else what suits the device (`choose_dtype`).
        allow_download: whether missing files may be fetched from the hub. Without it, no connection is made.
        memory: see `guidance.memory`.
        compiled: whether torch compiles the denoiser.
        small_vae: folder of an AutoencoderTiny that stands in for the model's VAE (a model in pixel space has none, and does without).
        small_vae_until: the progress until which it does.
        progress: told what is being read or fetched.

    Raises:
        PriorError: it cannot be found, read, or used.
    """
    arithmetic = choose_dtype(dtype, device)
    path = Path(source).expanduser()
    with quiet_libraries(), _malformed_is_refused(source):
        if path.is_dir():
            progress(f"reading the model {name or path.name}")
            parts = from_folder(path, choose_dtype(dtype, device, read_extra(path).get("dtype")), device)
        elif path.is_file():
            progress(f"reading the model {path.name}")
            parts = from_single_file(path, arithmetic, device, allow_download)
        elif is_hub_id(str(source)):
            progress(f"fetching the model {source}" if allow_download else f"reading the model {source}")
            folder = hub_folder(str(source), half=arithmetic != torch.float32, allow_download=allow_download)
            try:
                parts = from_folder(folder, choose_dtype(dtype, device, read_extra(folder).get("dtype")), device)
            except MissingFileError as error:
                remedy = "Allow downloads, to fetch the rest of it."
                if allow_download:
                    remedy = "Check the connection, or choose a model that has this file."
                raise PriorError(f"Of the model '{source}' not everything is on this computer: {error.message}", remedy=remedy) from error
        else:
            raise PriorError(
                f"There is no model at '{source}'.", remedy="Give a pipeline folder, a .safetensors file, or a hub id such as owner/name."
            )
        small = None if small_vae == NO_SMALL_VAE or parts.vae is None else load_small_vae(small_vae, parts.vae, device)
    return DiffusersPrior(
        name or str(source), parts, device, memory=memory, compiled=compiled, small_vae=small, small_vae_until=small_vae_until
    )


def _are_some_cut_off(texts: Sequence[str], embeddings: Mapping[str, Tensor]) -> bool:
    """Whether prompts of different words [B] were read alike, whatever is said of them [B, ...]: then they differ where nobody reads."""

    def alike(first: Tensor, second: Tensor) -> bool:
        return bool((first - second).norm() <= SAME_READING * first.norm())  # in a batch the same words need not give the same bits

    words = [text.casefold().split() for text in texts]
    return any(
        words[i] != words[j] and all(alike(tensor[i].float(), tensor[j].float()) for tensor in embeddings.values())
        for i, j in combinations(range(len(texts)), 2)
    )


@contextlib.contextmanager
def _malformed_is_refused(source: str | Path) -> Iterator[None]:
    """What the libraries, and we, stumble over in configurations that make no sense becomes a `PriorError`; a lack of memory stays one."""
    try:
        yield
    except (*LOADING_ERRORS, ArithmeticError) as error:
        if isinstance(error, OSError) or is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise PriorError(f"The files of the model '{source}' do not fit together ({reason}).", remedy=COPY_AGAIN) from error


@contextlib.contextmanager
def _unrounded(dtype: torch.dtype) -> Iterator[None]:
    """Single precision is single precision: GPUs would round what enters a convolution to the ten bits of TF32, which a model that asks for
    float32 may not bear.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before and dtype != torch.float32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def choose_dtype(requested: str, device: torch.device, needed: str | None = None) -> torch.dtype:
    """The denoiser's arithmetic: as requested, or half precision on accelerators and on processors with bfloat16 units, else single.

    Args:
        requested: one of `pipeline_files.DTYPES`, or auto.
        device: where the denoiser computes.
        needed: what the model says that auto has to be; None if it says nothing.
    """
    if requested == "auto" and needed is not None:
        requested = needed
    if requested != "auto":
        return getattr(torch, requested)
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else torch.float32
