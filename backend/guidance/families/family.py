"""What a family of image models has to say about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ...errors import PriorError
from ..kinds import ORIGINAL_PREFIX, SUPPORTED, Kind
from ..prior import Conditioning
from ..text_encoders import TextLoader


class Family(ABC):
    """A family of image models.

    Attributes:
        kind: what it consists of.
        flow: whether it is trained by flow matching.
        views_per_prediction: see `DiffusionPrior`.
    """

    kind: ClassVar[Kind]
    flow: ClassVar[bool] = False
    views_per_prediction: ClassVar[int] = 1

    @classmethod
    def from_index(cls, index: Mapping[str, Any]) -> Family:
        """The family as this pipeline has it."""
        return cls()

    def network_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """The denoiser's configuration in diffusers' terms."""
        return config

    def convert(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
        """The denoiser's tensors from the names of the original code (without `ORIGINAL_PREFIX`) to diffusers'; may empty `tensors`."""
        raise NotImplementedError

    def is_original(self, config: Mapping[str, Any]) -> bool:
        """Whether a pipeline folder keeps its denoiser under the names of the original code."""
        return False

    def channels(self, z_channels: int) -> tuple[int, tuple[int, ...]]:
        """(what the denoiser takes, what it may give) for z of so many channels."""
        return z_channels, (z_channels,)

    def check(self, config: Mapping[str, Any], z_channels: int, source: Path) -> None:
        """Refuses a denoiser that needs more than the noisy z and the text: inpainting, depth and image-to-image variants do.

        Raises:
            PriorError: it does.
        """
        takes, gives = config["in_channels"], config.get("out_channels") or config["in_channels"]
        expected, possible = self.channels(z_channels)
        if takes != expected or gives not in possible:
            raise PriorError(
                f"The denoiser of '{source}' takes {takes} and gives {gives} channels instead of {expected}: "
                "it is not a plain text-to-image model.",
                remedy=SUPPORTED,
            )

    def prepare(self, denoiser: Any) -> Callable[[Tensor], Tensor] | None:
        """Changes to the denoiser before its first use.

        Returns:
            What it wants done, once, to the embeddings [B, tokens, width] that `embed` gives; None: nothing.
        """
        return None

    def image_size(self, config: Mapping[str, Any]) -> int:
        """z's pixels along an edge in the images that it was trained on."""
        return config["sample_size"]

    def granularity(self, config: Mapping[str, Any]) -> int:
        """What the denoiser's input must be a multiple of along its edges: UNets halve it between levels, transformers cut patches."""
        if "block_out_channels" in config:
            return 2 ** (len(config["block_out_channels"]) - 1)
        return config.get("patch_size") or 1

    def image_tokens(self, config: Mapping[str, Any]) -> int:
        """Tokens of an image, where the noise schedule depends on it."""
        return 0

    @abstractmethod
    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Fields of `PriorDefaults`, for images of `size` pixels along an edge."""

    @abstractmethod
    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Named tensors [B, ...] of the prompts; `texts` follows the kind's `encoders`, None where an optional one is absent."""

    def place_cameras(self, conditioning: Conditioning, viewmats: Tensor) -> Conditioning:
        """See `DiffusionPrior`."""
        return conditioning

    @abstractmethod
    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        """The denoiser's prediction, like `sample`.

        Args:
            sample: [B, c, h, w] in the denoiser's arithmetic.
            time: [B] timesteps (long), or sigma in 0..1 (float32) of a flow-matching model.
            conditioning: what `embed` and `place_cameras` gave.
            pixels: height and width of the image.
        """


def check_conditions(
    config: Mapping[str, Any], source: Path, *, added: tuple[str | None, ...] = (None,), classes: str | None = None
) -> None:
    """Refuses a UNet that must be told other things than these.

    Args:
        added: possible values of `addition_embed_type`.
        classes: the value of `class_embed_type`.

    Raises:
        PriorError: it needs others.
    """
    has_others = config.get("addition_embed_type") not in added or config.get("class_embed_type") != classes
    if has_others or config.get("time_cond_proj_dim") is not None:
        raise PriorError(f"The denoiser of '{source}' needs conditions besides the text.", remedy=SUPPORTED)


def convert_unet(tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """A UNet from the names of Stable Diffusion's original code to diffusers'."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return convert_ldm_unet_checkpoint({ORIGINAL_PREFIX + name: tensor for name, tensor in tensors.items()}, config)
