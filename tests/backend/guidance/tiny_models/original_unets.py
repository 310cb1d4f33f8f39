"""Stable Diffusion's networks before its third version, under the names of the original code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding.linear_1": "camera_embed.0",
    "class_embedding.linear_2": "camera_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def unet_to_original(state: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A UNet under the names of Stable Diffusion's original code."""
    n = config["layers_per_block"]

    def place(name: str) -> str:
        stem, _, last = name.rpartition(".")
        if stem in _UNET:
            return f"{_UNET[stem]}.{last}"
        if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", name):
            side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
            number = block * (n + 1) + layer + (side == "down")
            return f"{'input' if side == 'down' else 'output'}_blocks.{number}." + (
                f"0.{resnet(rest)}" if kind == "resnets" else f"1.{rest}"
            )
        if found := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", name):
            return f"input_blocks.{(int(found[1]) + 1) * (n + 1)}.0.op.{found[2]}"
        if found := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.*)", name):
            block = int(found[1])
            after = 2 if config["up_block_types"][block].startswith("CrossAttn") else 1
            return f"output_blocks.{block * (n + 1) + n}.{after}.conv.{found[2]}"
        if found := re.fullmatch(r"mid_block\.resnets\.(\d)\.(.*)", name):
            return f"middle_block.{2 * int(found[1])}.{resnet(found[2])}"
        return name.replace("mid_block.attentions.0", "middle_block.1")

    def resnet(rest: str) -> str:
        stem, _, last = rest.rpartition(".")
        return f"{_RESNET[stem]}.{last}"

    return {place(name): tensor for name, tensor in state.items()}


def vae_to_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VAE of four levels under the names of Stable Diffusion's original code."""
    renamed = {}
    for name, tensor in state.items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda found: f"up.{3 - int(found[1])}.block.{found[2]}", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{3 - int(found[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", new)
        if "mid_block.attentions.0" in new:
            for old, short in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                new = new.replace(f"mid_block.attentions.0.{old}", f"mid.attn_1.{short}")
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        renamed[new] = tensor
    return renamed


def clip_to_openclip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP text encoder under OpenCLIP's names, its projections of one attention joined."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = name.removeprefix("text_model.")
        if ".self_attn." in new and ".out_proj." not in new:
            layer, kind = new.split(".")[2], new.rpartition(".")[2]
            stem = name.partition("self_attn.")[0] + "self_attn."
            joined = torch.cat([state[f"{stem}{letter}_proj.{kind}"] for letter in "qkv"])
            renamed[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = joined
            continue
        if new == "text_projection.weight":
            renamed["text_projection"] = tensor.T
            continue
        for old, short in (
            ("encoder.layers.", "transformer.resblocks."),
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            (".fc1.", ".c_fc."),
            (".fc2.", ".c_proj."),
            (".self_attn", ".attn"),
            ("final_layer_norm", "ln_final"),
            ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
        ):
            new = new.replace(old, short)
        renamed[new] = tensor
    return renamed
