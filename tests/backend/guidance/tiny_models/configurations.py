"""Image models of every family: their published configurations with shrunken widths."""

from __future__ import annotations

from typing import Any

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
