"""The transformers of Stable Diffusion 3 and FLUX, under the names of their original code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def sd3_to_original(state: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A Stable Diffusion 3 transformer under the names of its original code."""

    def joined(stem: str, letters: tuple[str, ...], kind: str) -> Tensor:
        return torch.cat([state[f"{stem}.{letter}.{kind}"] for letter in letters])

    def swapped(tensor: Tensor) -> Tensor:
        first, second = tensor.chunk(2)
        return torch.cat([second, first])

    plain = {
        "pos_embed.proj": "x_embedder.proj",
        "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
        "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
        "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
        "context_embedder": "context_embedder",
        "proj_out": "final_layer.linear",
    }
    out = {"pos_embed": state["pos_embed.pos_embed"]}
    for kind in ("weight", "bias"):
        out |= {f"{new}.{kind}": state[f"{old}.{kind}"] for old, new in plain.items()}
        out[f"final_layer.adaLN_modulation.1.{kind}"] = swapped(state[f"norm_out.linear.{kind}"])
        for i in range(config["num_layers"]):
            old, image, text = f"transformer_blocks.{i}", f"joint_blocks.{i}.x_block", f"joint_blocks.{i}.context_block"
            last = i == config["num_layers"] - 1
            out[f"{image}.attn.qkv.{kind}"] = joined(f"{old}.attn", ("to_q", "to_k", "to_v"), kind)
            out[f"{text}.attn.qkv.{kind}"] = joined(f"{old}.attn", ("add_q_proj", "add_k_proj", "add_v_proj"), kind)
            out[f"{image}.attn.proj.{kind}"] = state[f"{old}.attn.to_out.0.{kind}"]
            out[f"{image}.adaLN_modulation.1.{kind}"] = state[f"{old}.norm1.linear.{kind}"]
            modulation = state[f"{old}.norm1_context.linear.{kind}"]
            out[f"{text}.adaLN_modulation.1.{kind}"] = swapped(modulation) if last else modulation
            for number, layer in ((1, "0.proj"), (2, "2")):
                out[f"{image}.mlp.fc{number}.{kind}"] = state[f"{old}.ff.net.{layer}.{kind}"]
                if not last:
                    out[f"{text}.mlp.fc{number}.{kind}"] = state[f"{old}.ff_context.net.{layer}.{kind}"]
            if not last:
                out[f"{text}.attn.proj.{kind}"] = state[f"{old}.attn.to_add_out.{kind}"]
            if i in config["dual_attention_layers"]:
                out[f"{image}.attn2.qkv.{kind}"] = joined(f"{old}.attn2", ("to_q", "to_k", "to_v"), kind)
                out[f"{image}.attn2.proj.{kind}"] = state[f"{old}.attn2.to_out.0.{kind}"]
            if config["qk_norm"] and kind == "weight":
                for letter in "qk":
                    out[f"{image}.attn.ln_{letter}.weight"] = state[f"{old}.attn.norm_{letter}.weight"]
                    out[f"{text}.attn.ln_{letter}.weight"] = state[f"{old}.attn.norm_added_{letter}.weight"]
                    if i in config["dual_attention_layers"]:
                        out[f"{image}.attn2.ln_{letter}.weight"] = state[f"{old}.attn2.norm_{letter}.weight"]
    return out


def flux_to_original(state: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A FLUX transformer under the names of its original code."""
    plain = {
        "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
        "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
        "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
        "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
        "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
        "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
        "context_embedder": "txt_in",
        "x_embedder": "img_in",
        "proj_out": "final_layer.linear",
        "norm_out.linear": "final_layer.adaLN_modulation.1",
    }
    out: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        out |= {f"{new}.{kind}": state[f"{old}.{kind}"] for old, new in plain.items() if f"{old}.{kind}" in state}
        for i in range(config["num_layers"]):
            old, new = f"transformer_blocks.{i}", f"double_blocks.{i}"
            for side, norm, qkv, proj, ff in (
                ("img", "norm1", ("to_q", "to_k", "to_v"), "to_out.0", "ff"),
                ("txt", "norm1_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context"),
            ):
                out[f"{new}.{side}_mod.lin.{kind}"] = state[f"{old}.{norm}.linear.{kind}"]
                out[f"{new}.{side}_attn.qkv.{kind}"] = torch.cat([state[f"{old}.attn.{name}.{kind}"] for name in qkv])
                out[f"{new}.{side}_attn.proj.{kind}"] = state[f"{old}.attn.{proj}.{kind}"]
                out[f"{new}.{side}_mlp.0.{kind}"] = state[f"{old}.{ff}.net.0.proj.{kind}"]
                out[f"{new}.{side}_mlp.2.{kind}"] = state[f"{old}.{ff}.net.2.{kind}"]
        for i in range(config["num_single_layers"]):
            old, new = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
            out[f"{new}.modulation.lin.{kind}"] = state[f"{old}.norm.linear.{kind}"]
            names = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
            out[f"{new}.linear1.{kind}"] = torch.cat([state[f"{old}.{name}.{kind}"] for name in names])
            out[f"{new}.linear2.{kind}"] = state[f"{old}.proj_out.{kind}"]
    for letter, word in (("q", "query"), ("k", "key")):
        for i in range(config["num_layers"]):
            old, new = f"transformer_blocks.{i}.attn", f"double_blocks.{i}"
            out[f"{new}.img_attn.norm.{word}_norm.scale"] = state[f"{old}.norm_{letter}.weight"]
            out[f"{new}.txt_attn.norm.{word}_norm.scale"] = state[f"{old}.norm_added_{letter}.weight"]
        for i in range(config["num_single_layers"]):
            out[f"single_blocks.{i}.norm.{word}_norm.scale"] = state[f"single_transformer_blocks.{i}.attn.norm_{letter}.weight"]
    return out
