"""Keys and values that are made of text once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from backend.guidance.text_projections import take_text_projections
from tests.backend.guidance.tiny_models.pipelines import tiny_unet

WIDTH = 12


def unet_with_one_cross_attention(**changes: Any) -> Any:
    """The form of the learned built-in prior."""
    torch.manual_seed(0)
    config = {
        "sample_size": 4,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8,),
        "norm_num_groups": 1,
        "layers_per_block": 0,
        "down_block_types": ("DownBlock2D",),
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D",),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
    }
    return UNet2DConditionModel(**config | changes).eval().requires_grad_(False)


def said(unet: Any, text: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return unet(noise, torch.tensor([5, 500]), encoder_hidden_states=text, return_dict=False)[0]


def test_the_denoiser_says_the_same() -> None:
    unet, text = unet_with_one_cross_attention(), torch.randn(2, 7, WIDTH)
    before = said(unet, text)
    assert (before - said(unet, text.flip(0))).abs().max() > 1e-3, "it does not read"
    project = take_text_projections(unet)
    assert project is not None
    torch.testing.assert_close(said(unet, project(text)), before)


def test_nothing_is_left_to_do_at_every_step() -> None:
    unet = unet_with_one_cross_attention()
    take_text_projections(unet)
    assert not [name for name, module in unet.named_modules() if isinstance(module, nn.Linear) and module.in_features == WIDTH]


def test_prompts_can_be_blended() -> None:
    project = take_text_projections(unet_with_one_cross_attention())
    assert project is not None
    one, other = torch.randn(2, 1, 7, WIDTH)
    torch.testing.assert_close(project(torch.lerp(one, other, 0.3)), torch.lerp(project(one), project(other), 0.3))


def normalised() -> Any:
    unet = unet_with_one_cross_attention()
    for module in unet.modules():
        if getattr(module, "is_cross_attention", False):
            module.norm_cross = nn.LayerNorm(WIDTH)
    return unet


@pytest.mark.parametrize(
    "unet",
    [
        lambda: tiny_unet(4, 16),
        lambda: unet_with_one_cross_attention(encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj"),
        lambda: unet_with_one_cross_attention(addition_embed_type="text", addition_embed_type_num_heads=2),
        normalised,
    ],
    ids=["several", "text is projected before", "text is added to the time", "text is normalised"],
)
def test_other_denoisers_stay_as_they_are(unet: Any) -> None:
    network = unet()
    names = list(network.state_dict())
    assert take_text_projections(network) is None
    assert list(network.state_dict()) == names
