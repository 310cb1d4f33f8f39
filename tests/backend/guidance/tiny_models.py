"""Image models of every family: their published configurations with shrunken widths and random weights, as the libraries save them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from backend.embedded.learned.model import build_tokenizer

CPU = torch.device("cpu")
CLIP_WIDTH, CLIP_TOKENS = 32, 16
T5_WIDTH = 32
PIXELS = 64
"""Size of the pictures that these models are said to be made for."""

UNET_15 = {
    "act_fn": "silu",
    "attention_head_dim": 4,  # 8
    "block_out_channels": [8, 16, 32, 32],  # 320, 640, 1280, 1280
    "cross_attention_dim": CLIP_WIDTH,  # 768
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_num_groups": 4,  # 32
    "out_channels": 4,
    "sample_size": 8,  # 64
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "use_linear_projection": False,
}
UNET_21 = UNET_15 | {"attention_head_dim": [1, 2, 4, 4], "use_linear_projection": True}  # 5, 10, 20, 20
UNET_XL = UNET_15 | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,  # 256
    "attention_head_dim": [1, 2, 4],  # 5, 10, 20
    "block_out_channels": [8, 16, 32],  # 320, 640, 1280
    "cross_attention_dim": 2 * CLIP_WIDTH,  # 2048
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "projection_class_embeddings_input_dim": 6 * 8 + CLIP_WIDTH,  # 6 * 256 + 1280
    "sample_size": 16,  # 128
    "transformer_layers_per_block": [1, 2, 2],  # 1, 2, 10
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
UNET_MVDREAM = UNET_21 | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
ORIGINAL_MVDREAM = {  # its published configuration names these
    "_class_name": "MultiViewUNetModel",
    "attention_resolutions": [4, 2, 1],
    "camera_dim": 16,
    "channel_mult": [1, 2, 4, 4],
    "context_dim": CLIP_WIDTH,  # 1024
    "image_size": 8,  # 32
    "in_channels": 4,
    "model_channels": 32,  # 320
    "num_head_channels": 32,  # 64
    "num_res_blocks": 2,
    "out_channels": 4,
    "transformer_depth": 1,
}
UNET_IF = {
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,  # 64
    "attention_head_dim": 4,  # 64
    "block_out_channels": [8, 16, 16, 16],  # 704, 1408, 2112, 2816
    "cross_attention_dim": 32,  # 2816
    "cross_attention_norm": "group_norm",
    "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
    "encoder_hid_dim": T5_WIDTH,  # 4096
    "in_channels": 3,
    "layers_per_block": 1,  # 3
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "norm_num_groups": 4,  # 32
    "out_channels": 6,
    "resnet_skip_time_act": True,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 64,
    "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
}
TRANSFORMER_3 = {
    "attention_head_dim": 16,  # 64
    "caption_projection_dim": 32,  # 1536
    "in_channels": 16,
    "joint_attention_dim": 2 * CLIP_WIDTH + 8,  # 4096, likewise wider than both CLIPs
    "num_attention_heads": 2,  # 24
    "num_layers": 2,  # 24
    "out_channels": 16,
    "patch_size": 2,
    "pooled_projection_dim": 2 * CLIP_WIDTH,  # 2048
    "pos_embed_max_size": 12,  # 192
    "sample_size": 16,  # 128
}
TRANSFORMER_35 = TRANSFORMER_3 | {"dual_attention_layers": [0], "qk_norm": "rms_norm"}  # of 3.5 medium: 0 to 12
TRANSFORMER_FLUX = {
    "attention_head_dim": 16,  # 128
    "axes_dims_rope": [4, 6, 6],  # 16, 56, 56
    "guidance_embeds": True,
    "in_channels": 64,
    "joint_attention_dim": T5_WIDTH,  # 4096
    "num_attention_heads": 2,  # 24
    "num_layers": 1,  # 19
    "num_single_layers": 1,  # 38
    "patch_size": 1,
    "pooled_projection_dim": CLIP_WIDTH,  # 768
}
VAE = {
    "block_out_channels": [4, 4, 8, 8],  # 128, 256, 512, 512
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 4,  # 32
    "scaling_factor": 0.18215,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
VAE_XL = VAE | {"scaling_factor": 0.13025}
VAE_3 = VAE | {
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
VAE_FLUX = VAE_3 | {"scaling_factor": 0.3611, "shift_factor": 0.1159}

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "sd15": {"_class_name": "PNDMScheduler", **BETAS},
    "sd21": {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", **BETAS},
    "sdxl": {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon", **BETAS},
    "mvdream": {"_class_name": "DDIMScheduler", "prediction_type": "epsilon", **BETAS},
    "deepfloyd": {
        "_class_name": "DDPMScheduler",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "epsilon",
        "thresholding": True,
        "variance_type": "learned_range",
    },
    "sd3": {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    "flux": {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": True,
    },
}
SCHEDULERS["sd35"] = SCHEDULERS["sd3"]

CLIP, PROJECTED, T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
KINDS: dict[str, dict[str, Any]] = {
    "sd15": {"pipeline": "StableDiffusionPipeline", "unet": UNET_15, "vae": VAE, "texts": (CLIP,)},
    "sd21": {"pipeline": "StableDiffusionPipeline", "unet": UNET_21, "vae": VAE, "texts": (CLIP,)},
    "sdxl": {"pipeline": "StableDiffusionXLPipeline", "unet": UNET_XL, "vae": VAE_XL, "texts": (CLIP, PROJECTED)},
    "deepfloyd": {"pipeline": "IFPipeline", "unet": UNET_IF, "vae": None, "texts": (T5,)},
    "mvdream": {"pipeline": "MVDreamPipeline", "unet": UNET_MVDREAM, "vae": VAE, "texts": (CLIP,)},
    "sd3": {"pipeline": "StableDiffusion3Pipeline", "transformer": TRANSFORMER_3, "vae": VAE_3, "texts": (PROJECTED, PROJECTED, T5)},
    "sd35": {"pipeline": "StableDiffusion3Pipeline", "transformer": TRANSFORMER_35, "vae": VAE_3, "texts": (PROJECTED, PROJECTED, T5)},
    "flux": {"pipeline": "FluxPipeline", "transformer": TRANSFORMER_FLUX, "vae": VAE_FLUX, "texts": (CLIP, T5)},
}
TRANSFORMERS = {"sd3": "SD3Transformer2DModel", "sd35": "SD3Transformer2DModel", "flux": "FluxTransformer2DModel"}


def denoiser(kind: str, **changes: Any) -> Any:
    import diffusers

    if kind in TRANSFORMERS:
        return getattr(diffusers, TRANSFORMERS[kind])(**(KINDS[kind]["transformer"] | changes))
    return diffusers.UNet2DConditionModel(**(KINDS[kind]["unet"] | changes))


def text_encoder(cls: str, vocabulary: int, width: int = CLIP_WIDTH, layers: int = 2) -> Any:
    import transformers

    if cls == T5:
        config: Any = transformers.T5Config(
            vocab_size=vocabulary, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
        )
    else:
        sizes = {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2}
        ids = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
        config = transformers.CLIPTextConfig(
            vocab_size=vocabulary, max_position_embeddings=CLIP_TOKENS, projection_dim=width, **sizes, **ids
        )
    return getattr(transformers, cls)(config)


T5_PIECES = [
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    ("\u2581", -4.0),
    ("\u2581cat", -3.0),
    ("\u2581red", -3.5),
    *((c, -6.0) for c in "abcdefghijklmnopqrstuvwxyz,"),
]


def t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=list(T5_PIECES), extra_ids=0, additional_special_tokens=["<extra_id_0>"])


def sentencepiece_model() -> bytes:
    """`T5_PIECES` in SentencePiece's own format."""

    def field(number: int, value: bytes) -> bytes:
        size, length = len(value), b""
        while size >= 128:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + value

    def piece(text: str, score: float) -> bytes:
        return field(1, text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + bytes([3 << 3, 1])

    return b"".join(field(1, piece(*entry)) for entry in T5_PIECES) + field(2, field(1, b"x" * 200)) + field(3, field(1, b"identity"))


def write_model(folder: Path, kind: str, *, index: Mapping[str, Any] | None = None, extra: bool = True, **changes: Any) -> Path:
    """A pipeline folder.

    Args:
        index: changes to model_index.json.
        extra: whether a cograd3d.json says that the model is made for small pictures.
        changes: changes to the denoiser's configuration.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    what = KINDS[kind]
    network = denoiser(kind, **changes)
    name = "transformer" if kind in TRANSFORMERS else "unet"
    entries: dict[str, Any] = {"_class_name": what["pipeline"], name: ["diffusers", type(network).__name__]}
    network.save_pretrained(folder / name)
    if what["vae"]:
        AutoencoderKL(**what["vae"]).save_pretrained(folder / "vae")
        entries["vae"] = ["diffusers", "AutoencoderKL"]
    for number, cls in enumerate(what["texts"]):
        suffix = f"_{number + 1}" if number else ""
        tokenizer = t5_tokenizer() if cls == T5 else build_tokenizer()
        tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
        width = what["transformer"]["joint_attention_dim"] if cls == T5 and kind in TRANSFORMERS else CLIP_WIDTH
        text_encoder(cls, len(tokenizer), width).save_pretrained(folder / f"text_encoder{suffix}")
        entries |= {f"text_encoder{suffix}": ["transformers", cls], f"tokenizer{suffix}": ["transformers", type(tokenizer).__name__]}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULERS[kind]))
    entries |= {"scheduler": ["diffusers", SCHEDULERS[kind]["_class_name"]], "safety_checker": [None, None], **(index or {})}
    (folder / "model_index.json").write_text(json.dumps(entries))
    if extra:
        (folder / "cograd3d.json").write_text(json.dumps({"format": 1, "recommended": {"resolutions": [PIXELS]}}))
    return folder


def write_single_file(folder: Path, kind: str, path: Path, *, without: tuple[str, ...] = ()) -> Path:
    """A pipeline folder's networks in one file under the names of the original code.

    Args:
        without: components to leave out; with all but the denoiser left out, its names have no prefix either.
    """
    from safetensors.torch import load_file

    def load(component: str) -> dict[str, Tensor]:
        (file,) = (folder / component).glob("*.safetensors")
        return load_file(file)

    name = "transformer" if kind in TRANSFORMERS else "unet"
    config = json.loads((folder / name / "config.json").read_text())
    network = sd3_to_original(load(name), config) if kind in TRANSFORMERS else unet_to_original(load(name), config)
    texts = [f"text_encoder{suffix}" for suffix in ("", "_2", "_3")[: len(KINDS[kind]["texts"])]]
    alone = {"vae", *texts} <= set(without)
    tensors = {("" if alone else "model.diffusion_model.") + key: value for key, value in network.items()}
    if "vae" not in without:
        tensors |= {f"first_stage_model.{key}": value for key, value in vae_to_original(load("vae")).items()}
    for component, cls, prefix in zip(texts, KINDS[kind]["texts"], TEXT_PREFIXES[kind], strict=True):
        if component not in without:
            state = load(component)
            if prefix.endswith(".model."):
                state = clip_to_openclip(state)
            elif cls != T5:
                state = {
                    key if key.startswith(("text_model.", "text_projection")) else f"text_model.{key}": value
                    for key, value in state.items()
                }
            tensors |= {prefix + key: value for key, value in state.items()}
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    return path


TEXT_PREFIXES = {
    "sd15": ("cond_stage_model.transformer.",),
    "sd21": ("cond_stage_model.model.",),
    "mvdream": ("cond_stage_model.model.",),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    "sd3": ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", "text_encoders.t5xxl.transformer."),
}
TEXT_PREFIXES["sd35"] = TEXT_PREFIXES["sd3"]

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


def load(source: Path | str, **options: Any) -> Any:
    from backend.guidance.diffusers_prior import load_diffusers_prior

    return load_diffusers_prior(source, device=CPU, **({"dtype": "float32"} | options))
