"""MVDream (Shi et al. 2023) and models of its form: four views of one object, predicted together, each for its own camera.

The network is Stable Diffusion 2's UNet with two changes. Its self-attention runs over the tokens of all four views at once, and a
camera is embedded (16 numbers -> linear, SiLU, linear) and added to the embedding of the timestep. Both are had with diffusers' own
UNet: its projected class embedding is that embedding, and hooks fold the views into the token axis around each self-attention,
whatever computes it.

Three layouts are read: a pipeline folder of that UNet (`class_embed_type` "projection" of 16 inputs), a folder whose unet is a
`MultiViewUNetModel` under the names of the original code, and a single file in those names. No code from a model's folder is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import PriorError
from ..kinds import MULTI_VIEW_UNET, MVDREAM, SUPPORTED
from ..prior import Conditioning
from ..text_encoders import TextLoader, encode
from .family import Family, check_conditions, convert_unet

VIEWS = 4


class MultiView(Family):
    """Four views a prediction: rows of a batch come in fours, which stand evenly around the object at one elevation."""

    kind = MVDREAM
    views_per_prediction = VIEWS

    def is_original(self, config: Mapping[str, Any]) -> bool:
        return config.get("_class_name") == MULTI_VIEW_UNET or "model_channels" in config

    def network_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """The UNet that the original configuration describes."""
        if not self.is_original(config):
            return config
        try:
            widths = [config["model_channels"] * factor for factor in config["channel_mult"]]
            attended = [2**level in config["attention_resolutions"] for level in range(len(widths))]
            return {
                "sample_size": config["image_size"],
                "in_channels": config["in_channels"],
                "out_channels": config["out_channels"],
                "block_out_channels": widths,
                "layers_per_block": config["num_res_blocks"],
                "down_block_types": ["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attended],
                "up_block_types": ["CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attended)],
                "attention_head_dim": [width // config["num_head_channels"] for width in widths],  # which diffusers reads as their number
                "transformer_layers_per_block": config.get("transformer_depth", 1),
                "cross_attention_dim": config["context_dim"],
                "use_linear_projection": True,
                "class_embed_type": "projection",
                "projection_class_embeddings_input_dim": config["camera_dim"],
            }
        except (KeyError, TypeError) as error:
            raise PriorError(f"The configuration of this multi-view UNet lacks {error}.", remedy=SUPPORTED) from error

    def convert(self, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
        renamed = {name.replace("camera_embed.", "label_emb.0."): tensor for name, tensor in tensors.items()}
        return convert_unet(renamed, config)

    def check(self, config: Mapping[str, Any], z_channels: int, source: Path) -> None:
        super().check(config, z_channels, source)
        check_conditions(config, source, classes="projection")

    def prepare(self, denoiser: Any) -> None:
        """Joins the views in every self-attention."""
        for name, module in denoiser.named_modules():
            if name.endswith(".attn1"):
                module.register_forward_pre_hook(_fold)
                module.register_forward_hook(_unfold)

    def recommended(self, config: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Scale 50, as published. The model saw objects as large as the picture: half their size is 0.8 to 1 times the distance by the
        tangent of half the field of view; the far end of that, and somewhat beyond, keeps the unit ball inside the picture."""
        return {
            "guidance_scale": 50.0,
            "weighting": "sds",
            "clamp": 0.0,
            "distance": (2.75, 3.1),
            "resolutions": (size,),
            "view_words": False,
        }

    def embed(self, texts: Sequence[TextLoader | None], prompts: Sequence[str], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """`embeddings` [B, tokens, width]."""
        (load,) = texts
        assert load is not None
        return {"embeddings": encode(load, prompts).last_hidden_state}

    def place_cameras(self, conditioning: Conditioning, viewmats: Tensor) -> Conditioning:
        """Adds `cameras` [B, 16]."""
        embeddings = conditioning.tensors["embeddings"]
        cameras = camera_numbers(viewmats).to(embeddings.device, embeddings.dtype)
        return Conditioning(conditioning.prompts, conditioning.tensors | {"cameras": cameras})

    def predict(self, denoiser: Any, sample: Tensor, time: Tensor, conditioning: Mapping[str, Tensor], pixels: tuple[int, int]) -> Tensor:
        if len(sample) % VIEWS or "cameras" not in conditioning:
            raise PriorError(
                f"A multi-view model was asked for {len(sample)} views{'' if 'cameras' in conditioning else ' without their cameras'}.",
                remedy=f"It predicts {VIEWS} views at a time, for known cameras: set optimizer.views to a multiple of {VIEWS}.",
            )
        return denoiser(
            sample,
            time,
            encoder_hidden_states=conditioning["embeddings"],
            class_labels=conditioning["cameras"],
            return_dict=False,
        )[0]


def camera_numbers(viewmats: Tensor) -> Tensor:
    """[B, 16] what MVDream is told of cameras, from OpenCV world-to-camera matrices [B, 4, 4].

    Camera-to-world matrices, row by row, with the camera's axes as OpenGL and Blender have them (x right, y up, z backwards) and its
    place moved to the unit sphere. Its world is Blender's, as ours is: Z up, azimuth 0 at -Y.
    """
    cameras = torch.linalg.inv(viewmats.cpu().double())  # not every device has double precision
    cameras[:, :3, 1:3] *= -1
    cameras[:, :3, 3] /= cameras[:, :3, 3].norm(dim=1, keepdim=True).clamp_min(1e-8)
    return cameras.flatten(1).float()


def _fold(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """[B, tokens, width] to [B / 4, 4 tokens, width]."""
    states = args[0]
    return states.reshape(len(states) // VIEWS, VIEWS * states.shape[1], states.shape[2]), *args[1:]


def _unfold(module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.reshape(len(output) * VIEWS, output.shape[1] // VIEWS, output.shape[2])
