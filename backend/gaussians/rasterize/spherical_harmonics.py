"""Real spherical harmonics up to degree 3, in the order and with the signs of 3DGS.

Sloan 2013, Efficient Spherical Harmonic Evaluation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conventions import SH_C0


def spherical_harmonics(degree: int, directions: Tensor, coefficients: Tensor) -> Tensor:
    """Sums of harmonics, [..., N, 3].

    Args:
        degree: 0 to 3.
        directions: [..., N, 3], of any length; from the camera to the Gaussian.
        coefficients: [..., N, K, 3], K >= (degree + 1)^2; its leading dimensions are such as spread over those of the directions.
    """
    if degree == 0:
        return (SH_C0 * coefficients[..., 0, :]).expand(directions.shape)
    basis = _basis(degree, torch.nn.functional.normalize(directions, dim=-1))
    return torch.einsum("...nk,...nkd->...nd", basis, coefficients[..., : basis.shape[-1], :])


def _basis(degree: int, directions: Tensor) -> Tensor:
    """[..., (degree + 1)^2] at unit directions [..., 3]."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0), -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        values += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.9461746957575601 * z * z - 0.3153915652525201,
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            y * (0.4570457994644658 - 2.285228997322329 * z * z),
            z * (1.865881662950577 * z * z - 1.119528997770346),
            x * (0.4570457994644658 - 2.285228997322329 * z * z),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(values, dim=-1)
