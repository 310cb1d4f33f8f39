"""What a denoiser makes of its prompts at every step alike, made once a prompt.

A cross-attention reads keys and values from text by two fixed linear maps. Networks that paint from 77 tokens onto thousands of pixels
spend next to nothing on them. The built-in learned prior reads 912 tokens for the four of its picture: they were two
thirds of its work when they were 448.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def take_text_projections(denoiser: Any) -> Callable[[Tensor], Tensor] | None:
    """Takes the maps from text to keys and values out of a UNet that has one cross-attention.

    From then on the UNet wants, in the place of text embeddings [B, tokens, width], what is returned here makes of them:
    [B, tokens, keys and values], linear in the embeddings, so that prompts can still be blended.

    Returns:
        None, and the UNet is as it was, if it has several cross-attentions (all of their keys and values together are larger than the
        embeddings) or does more with text than to attend to it.
    """
    reading = [module for module in denoiser.modules() if getattr(module, "is_cross_attention", False)]
    does_more = denoiser.config.get("encoder_hid_dim_type") is not None or denoiser.config.get("addition_embed_type") is not None
    if len(reading) != 1 or does_more or reading[0].norm_cross:
        return None
    (attention,) = reading
    projections = _KeysAndValues(attention.to_k, attention.to_v)
    attention.to_k = _Columns(0, projections.keys.out_features)
    attention.to_v = _Columns(projections.keys.out_features, projections.keys.out_features + projections.values.out_features)
    return projections


class _KeysAndValues(nn.Module):
    """Both maps of a cross-attention, side by side."""

    def __init__(self, keys: nn.Linear, values: nn.Linear) -> None:
        super().__init__()
        self.keys, self.values = keys, values

    def forward(self, text: Tensor) -> Tensor:
        self.to(text.device)
        return torch.cat([self.keys(text), self.values(text)], dim=-1)


class _Columns(nn.Module):
    """Those of its input's last dimension from one to another: a map that has been applied already."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.columns = slice(start, stop)

    def forward(self, projected: Tensor) -> Tensor:
        return projected[..., self.columns]
