"""The constants and conventions that the three implementations share: those of gsplat 1.5.3, written down once.

A later gsplat changes some of them (1.6 bounds alpha by 0.99): they belong to a version, so they are not tunable settings.

Conventions: quaternions are wxyz and normalised inside; view matrices are world to camera in OpenCV axes; the centre of
pixel (x, y) lies at (x + 0.5, y + 0.5); alpha of a splat at a pixel is o exp(-sigma), sigma = (a dx^2 + c dy^2) / 2 + b dx dy
with the conic (a, b, c), the inverse of the projected covariance plus `eps2d` on its diagonal (EWA splatting, Zwicker et
al. 2002; 3DGS, Kerbl et al. 2023, section 4).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

ALPHA_MAX = 0.999
"""Bound on one splat's alpha at a pixel (gsplat/cuda/csrc/RasterizeToPixels3DGSFwd.cu)."""

ALPHA_MIN = 1.0 / 255.0
"""Fainter contributions are skipped (ALPHA_THRESHOLD in gsplat/cuda/include/Common.h)."""

TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished before the splat that would bring its transmittance to this or below (RasterizeToPixels3DGSFwd.cu)."""

EPS2D = 0.3
"""Added to the diagonal of the projected covariance, pixels^2: no splat is thinner than a pixel (gsplat/rendering.py)."""

RADIUS_EXTENT = 3.33
"""A splat's radius in standard deviations; less where its opacity reaches 1/255 earlier: sqrt(2 ln(255 o)) (ProjectionEWA3DGSFused.cu,
after Radl et al. 2024, StopThePop, section B.2)."""

FRUSTUM_MARGIN = 0.3
"""The projection is linearised at most this share of the half field of view outside the image (persp_proj in Utils.cuh)."""

NEAR_PLANE = 0.01
FAR_PLANE = 1e10

DEPTH_ALPHA_MIN = 1e-10
"""Expected depth is accumulated depth / max(alpha, this) (gsplat/rendering.py)."""

LARGEST = 1e15
"""A Gaussian with a number beyond this, or none at all (NaN), is not drawn: its square would overflow float32. Ours, not gsplat's."""

LARGEST_DETERMINANT = 1e24
"""Of a projected covariance, pixels^4; what is larger is not drawn, for the same reason."""

MAX_SH_DEGREE = 3

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")


class View(NamedTuple):
    """What a render call asks for besides the Gaussians; the implementations take it as one argument.

    Attributes:
        viewmats: [..., C, 4, 4] world to camera, OpenCV axes.
        Ks: [..., C, 3, 3] pinhole intrinsics, pixels.
        width, height: image size in pixels.
        near_plane, far_plane: camera-space z outside of which Gaussians are skipped.
        eps2d: see `EPS2D`.
        sh_degree: degree of the spherical harmonics to use, or None: colours are given as they are.
        antialiased: opacities are scaled by sqrt(det S / det(S + eps2d I)) (Mip-Splatting, Yu et al. 2024).
        expected_depth: the depth channel is divided by alpha.
    """

    viewmats: Tensor
    Ks: Tensor
    width: int
    height: int
    near_plane: float
    far_plane: float
    eps2d: float
    sh_degree: int | None
    antialiased: bool
    expected_depth: bool
