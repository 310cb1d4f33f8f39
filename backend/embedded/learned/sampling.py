"""Pictures from a diffusion prior, and sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...files import atomic_path
from ...guidance.prior import DiffusionPrior


@torch.no_grad()
def ddim(
    prior: DiffusionPrior, prompts: Sequence[str], shape: tuple[int, int, int], scale: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Deterministic sampling (Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12 with sigma = 0).

    Args:
        prior: any prior.
        prompts: one a picture.
        shape: of z, without the batch.
        scale: s in e_u + s (e_c - e_u).
        steps: noise levels, evenly spaced from T - 1 down.
        generator: of the initial noise (on the CPU).

    Returns:
        [B, 3, H, W] in 0..1.
    """
    guided = scale != 1  # at 1 the answer to no words cancels out
    conditioning = prior.encode_prompts([*prompts, *([""] * len(prompts))] if guided else list(prompts))
    z = torch.randn(len(prompts), *shape, generator=generator).to(prior.device)
    times = np.linspace(prior.num_train_timesteps - 1, 0, steps, endpoint=False).round().astype(int).tolist()
    for index, time in enumerate(times):
        asked = torch.cat([z, z]) if guided else z
        noise = prior.predict_noise(asked, torch.full((len(asked),), time, device=prior.device), conditioning)
        if guided:
            conditional, unconditional = noise.chunk(2)
            noise = unconditional + scale * (conditional - unconditional)
        now = prior.alphas_cumprod[time]
        following = prior.alphas_cumprod[times[index + 1]] if index + 1 < steps else torch.ones(())
        clean = (z - (1 - now).sqrt() * noise) / now.sqrt()
        z = following.sqrt() * clean + (1 - following).sqrt() * noise
    return prior.decode(z)


def save_sheet(path: Path, rows: Sequence[Tensor], labels: Sequence[str] = (), zoom: int = 2) -> None:
    """Writes rows of pictures [B, 3, H, W] in 0..1 as one PNG, each row under its label."""
    height, width = rows[0].shape[-2] * zoom, rows[0].shape[-1] * zoom
    head = 14 if labels else 0
    sheet = Image.new("RGB", (max(len(row) for row in rows) * width, len(rows) * (height + head)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        top = i * (height + head)
        if labels:
            pen.text((3, top + 1), labels[i], fill="black")
        for j, picture in enumerate(row):
            pixels = (picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
            sheet.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST), (j * width, top + head))
    with atomic_path(path, durable=False) as temporary:
        sheet.save(temporary)
