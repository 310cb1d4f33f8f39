"""What the kernels of `numba_projection` and `numba_compositing` share: the tiles, the columns of their arrays, how they are compiled.

All are serial kernels that `kernel_threads` spreads over threads: a share of the work is a range of Gaussians, or every `step`-th tile or
camera. Images are cut into tiles. Sums over tiles and cameras are taken per Gaussian in a fixed order, so that the result is the same bit
for bit on any number of threads.

Shapes: B batches, C cameras, C / B of each batch, N Gaussians a batch, T tiles an image, K spherical harmonics, H x W pixels. Gaussians
are numbered through over the batches for projection, and within their batch everywhere else. float32 throughout.

Kernels hold these constants, and those of `conventions`, as they were when compiled, and numba's cache on disk notices changes of a
kernel's own file only: after a change here, delete what is in NUMBA_CACHE_DIR (`environment.child_environ` says which folder that is).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .conventions import ALPHA_MIN

TILE_WIDTH, TILE_HEIGHT = 64, 16

# Columns of `splats` [C, N, SPLAT], a Gaussian as one camera sees it.
# LEVEL: sigma at which alpha falls to ALPHA_MIN. EXTENT_Y: half the height of that ellipse, pixels.
MEAN_X, MEAN_Y, CONIC_A, CONIC_B, CONIC_C, OPACITY, RED, GREEN, BLUE, DEPTH, LEVEL, EXTENT_Y = range(12)
SPLAT = 12

# Columns of `rows` [pairs, ROW], what one tile contributes to a splat's gradient: with g the derivative by the splat's opacity at a
# pixel, sums of g, g dx, g dy, g dx^2, g dx dy, g dy^2 (all that position and conic need); then those by the four channels.
ROW = 10

INVISIBLE = np.uint64(0xFFFFFFFFFFFFFFFF)
"""The key of a Gaussian that a camera does not see: behind all others."""

f32 = np.float32
ZERO, HALF, ONE, TWO = f32(0), f32(0.5), f32(1), f32(2)
LEAST_ALPHA = f32(ALPHA_MIN)

# NaN and infinity keep their meaning (no "nnan", no "ninf"): rows that are not finite are found by testing for it.
jit = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})
inline = njit(inline="always", error_model="numpy")
