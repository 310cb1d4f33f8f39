"""What spherical harmonics look like."""

import torch
from torch import Tensor


def seen_colours(sh0: Tensor) -> Tensor:
    """The colours that constant coefficients are seen as: max(0, sh0 / (2 sqrt(pi)) + 0.5)."""
    return torch.clamp_min(sh0 / (2 * torch.pi**0.5) + 0.5, 0.0)
