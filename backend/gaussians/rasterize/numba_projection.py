"""Projection and spherical harmonics, forward and backward: Gaussians to splats, and the splats' gradients back. See `numba_layout`."""

from __future__ import annotations

import math

import numpy as np

from .conventions import ALPHA_MIN, FRUSTUM_MARGIN, LARGEST, LARGEST_DETERMINANT, RADIUS_EXTENT, SH_C0
from .numba_layout import (
    CONIC_A,
    CONIC_B,
    CONIC_C,
    DEPTH,
    EXTENT_Y,
    HALF,
    INVISIBLE,
    LEAST_ALPHA,
    LEVEL,
    MEAN_X,
    MEAN_Y,
    ONE,
    OPACITY,
    RED,
    ROW,
    TILE_HEIGHT,
    TILE_WIDTH,
    TWO,
    ZERO,
    f32,
    inline,
    jit,
)

# Columns of the packed cameras [C, CAMERA].
FX, FY, CX, CY, U_LOW, U_HIGH, V_LOW, V_HIGH = range(12, 20)
EYE = 20
CAMERA = 23

_MARGIN, _RADIUS, _PER_ALPHA_MIN = f32(FRUSTUM_MARGIN), f32(RADIUS_EXTENT), f32(1 / ALPHA_MIN)
_C0 = f32(SH_C0)
_C1 = f32(0.4886025119029199)
_C2A, _C2B, _C2C, _C2D = f32(1.0925484305920792), f32(0.9461746957575601), f32(0.3153915652525201), f32(0.5462742152960396)
_C3A, _C3B, _C3C = f32(0.5900435899266435), f32(1.445305721320277), f32(2.890611442640554)
_C3D, _C3E, _C3F = f32(0.4570457994644658), f32(2.285228997322329), f32(1.865881662950577)
_C3G = f32(1.119528997770346)
_MAX_RADIUS = f32(1 << 30)
_LARGEST, _LARGEST_DETERMINANT = f32(LARGEST), f32(LARGEST_DETERMINANT)


@inline
def _rotation(w, x, y, z):
    """Rotation matrix of the unit quaternion wxyz, row by row."""
    return (
        ONE - TWO * (y * y + z * z), TWO * (x * y - w * z), TWO * (x * z + w * y),
        TWO * (x * y + w * z), ONE - TWO * (x * x + z * z), TWO * (y * z - w * x),
        TWO * (x * z - w * y), TWO * (y * z + w * x), ONE - TWO * (x * x + y * y),
    )  # fmt: skip


@inline
def _covariance(r, s0, s1, s2):
    """Upper triangle (xx, xy, xz, yy, yz, zz) of R diag(s)^2 R^T (3DGS eq. 6)."""
    a, b, c = s0 * s0, s1 * s1, s2 * s2
    return (
        a * r[0] * r[0] + b * r[1] * r[1] + c * r[2] * r[2],
        a * r[0] * r[3] + b * r[1] * r[4] + c * r[2] * r[5],
        a * r[0] * r[6] + b * r[1] * r[7] + c * r[2] * r[8],
        a * r[3] * r[3] + b * r[4] * r[4] + c * r[5] * r[5],
        a * r[3] * r[6] + b * r[4] * r[7] + c * r[5] * r[8],
        a * r[6] * r[6] + b * r[7] * r[7] + c * r[8] * r[8],
    )


@inline
def _symmetric_times(m, x, y, z):
    """Symmetric 3 x 3 matrix, given by its upper triangle, times a vector."""
    return m[0] * x + m[1] * y + m[2] * z, m[1] * x + m[3] * y + m[4] * z, m[2] * x + m[4] * y + m[5] * z


@inline
def _to_camera(camera, x, y, z):
    """World point to camera space."""
    return (
        camera[0] * x + camera[1] * y + camera[2] * z + camera[9],
        camera[3] * x + camera[4] * y + camera[5] * z + camera[10],
        camera[6] * x + camera[7] * y + camera[8] * z + camera[11],
    )


@inline
def _linearised(camera, inverse_z, u, v):
    """The two rows of J W (3DGS eq. 5): the derivative of pixel coordinates by world coordinates at the (clamped) ray (u, v, 1)."""
    gx, gy = camera[FX] * inverse_z, camera[FY] * inverse_z
    return (
        gx * (camera[0] - u * camera[6]), gx * (camera[1] - u * camera[7]), gx * (camera[2] - u * camera[8]),
        gy * (camera[3] - v * camera[6]), gy * (camera[4] - v * camera[7]), gy * (camera[5] - v * camera[8]),
    )  # fmt: skip


@jit
def _pack_cameras(viewmats, Ks, width, height):
    """[C, CAMERA]: rotation, translation, intrinsics, the bounds of the rays (u, v), the camera's centre."""
    packed = np.empty((viewmats.shape[0], CAMERA), np.float32)
    for c in range(viewmats.shape[0]):
        camera, view, K = packed[c], viewmats[c], Ks[c]
        for i in range(3):
            for j in range(3):
                camera[3 * i + j] = view[i, j]
            camera[9 + i] = view[i, 3]
            camera[EYE + i] = -(view[0, i] * view[0, 3] + view[1, i] * view[1, 3] + view[2, i] * view[2, 3])
        camera[FX], camera[FY], camera[CX], camera[CY] = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        margin_x, margin_y = _MARGIN * HALF * f32(width) / K[0, 0], _MARGIN * HALF * f32(height) / K[1, 1]
        camera[U_LOW], camera[U_HIGH] = -(K[0, 2] / K[0, 0] + margin_x), (f32(width) - K[0, 2]) / K[0, 0] + margin_x
        camera[V_LOW], camera[V_HIGH] = -(K[1, 2] / K[1, 1] + margin_y), (f32(height) - K[1, 2]) / K[1, 1] + margin_y
    return packed


@jit
def _sh_basis(degree, x, y, z, basis):
    """Real spherical harmonics up to `degree` at the unit direction, into `basis` [16] (order and signs of 3DGS)."""
    basis[0] = _C0
    if degree >= 1:
        basis[1], basis[2], basis[3] = -_C1 * y, _C1 * z, -_C1 * x
    if degree >= 2:
        basis[4], basis[5] = TWO * _C2D * x * y, -_C2A * y * z
        basis[6] = _C2B * z * z - _C2C
        basis[7], basis[8] = -_C2A * x * z, _C2D * (x * x - y * y)
    if degree >= 3:
        xx, yy, zz = x * x, y * y, z * z
        basis[9], basis[10] = -_C3A * y * (f32(3) * xx - yy), _C3C * x * y * z
        basis[11], basis[12] = y * (_C3D - _C3E * zz), z * (_C3F * zz - _C3G)
        basis[13], basis[14] = x * (_C3D - _C3E * zz), _C3B * z * (xx - yy)
        basis[15] = -_C3A * x * (xx - f32(3) * yy)


@jit
def _sh_basis_gradient(degree, x, y, z, gradient):
    """Derivatives of `_sh_basis` by x, y and z, into `gradient` [16, 3]; the first row (a constant) is never touched."""
    if degree >= 1:
        gradient[1:4] = ZERO
        gradient[1, 1], gradient[2, 2], gradient[3, 0] = -_C1, _C1, -_C1
    if degree >= 2:
        gradient[4:9] = ZERO
        gradient[4, 0], gradient[4, 1] = TWO * _C2D * y, TWO * _C2D * x
        gradient[5, 1], gradient[5, 2] = -_C2A * z, -_C2A * y
        gradient[6, 2] = TWO * _C2B * z
        gradient[7, 0], gradient[7, 2] = -_C2A * z, -_C2A * x
        gradient[8, 0], gradient[8, 1] = TWO * _C2D * x, -TWO * _C2D * y
    if degree >= 3:
        gradient[9:16] = ZERO
        xx, yy, zz = x * x, y * y, z * z
        gradient[9, 0], gradient[9, 1] = -f32(6) * _C3A * x * y, -f32(3) * _C3A * (xx - yy)
        gradient[10, 0], gradient[10, 1], gradient[10, 2] = _C3C * y * z, _C3C * x * z, _C3C * x * y
        gradient[11, 1], gradient[11, 2] = _C3D - _C3E * zz, -TWO * _C3E * y * z
        gradient[12, 2] = f32(3) * _C3F * zz - _C3G
        gradient[13, 0], gradient[13, 2] = _C3D - _C3E * zz, -TWO * _C3E * x * z
        gradient[14, 0], gradient[14, 1], gradient[14, 2] = TWO * _C3B * x * z, -TWO * _C3B * y * z, _C3B * (xx - yy)
        gradient[15, 0], gradient[15, 1] = -f32(3) * _C3A * (xx - yy), f32(6) * _C3A * x * y


@inline
def _touched_tiles(mean, extent, pixels, tile):
    """First and end of the tiles along one axis whose pixel centres lie within `extent` of `mean`."""
    first = int(max(mean - extent - HALF, ZERO))
    last = int(min(mean + extent - HALF, f32(pixels) - ONE))
    if mean + extent < HALF or first > last:
        return 0, 0
    return first // tile, last // tile + 1


@jit
def project(
    start, stop, means, quats, scales, opacities, colors, degree, viewmats, Ks, width, height, eps2d, near, far, antialiased,
    splats, radii, tiles, keys,
):  # fmt: skip
    """Project Gaussians `start` to `stop`, numbered through all batches, into their batch's cameras.

    Args:
        means, quats, scales, opacities: [B N, 3], [B N, 4], [B N, 3], [B N].
        colors: [B N, K, 3] spherical harmonics, or with `degree` -1 [B N, 1, 3] colours.
        splats: [C, N, SPLAT], out; rows of Gaussians that are not visible hold zeros.
        radii: [C, N, 2] int32, out: half extents in pixels, 0 if not visible.
        tiles: [C, N, 4] int32, out: first and end column, first and end row of the tiles that the splat touches.
        keys: [C, N] uint64, out: depth, then index, so that sorted keys are the splats front to back, ties by index;
            `INVISIBLE` if not visible.

    A Gaussian with a number that is not finite or beyond `LARGEST`, or with a zero quaternion, is not visible.
    """
    cameras = _pack_cameras(viewmats, Ks, width, height)
    basis = np.empty(16, np.float32)
    harmonics = (degree + 1) * (degree + 1) if degree >= 0 else 1
    n = splats.shape[1]
    share = cameras.shape[0] * n // max(means.shape[0], 1)  # cameras of a batch
    for i in range(start, stop):
        batch, own = i // n, i % n
        x, y, z = means[i, 0], means[i, 1], means[i, 2]
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
        norm = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        size = abs(x) + abs(y) + abs(z) + abs(s0) + abs(s1) + abs(s2) + norm + abs(opacities[i])
        for k in range(harmonics):
            size += abs(colors[i, k, 0]) + abs(colors[i, k, 1]) + abs(colors[i, k, 2])
        # A comparison, because isfinite(a + b) is computed as (a + b) - (a + b), which "reassoc" may shorten.
        usable = size < _LARGEST and norm > ZERO
        if usable:
            inverse_norm = ONE / norm
            rotation = _rotation(qw * inverse_norm, qx * inverse_norm, qy * inverse_norm, qz * inverse_norm)
            covariance = _covariance(rotation, s0, s1, s2)
        for c in range(batch * share, (batch + 1) * share):
            camera, splat = cameras[c], splats[c, own]
            splat[:] = ZERO
            radii[c, own, 0] = radii[c, own, 1] = 0
            tiles[c, own] = 0
            keys[c, own] = INVISIBLE
            if not usable:
                continue
            px, py, pz = _to_camera(camera, x, y, z)
            if not (near < pz < far):
                continue
            inverse_z = ONE / pz
            u, v = px * inverse_z, py * inverse_z
            t = _linearised(camera, inverse_z, min(max(u, camera[U_LOW]), camera[U_HIGH]), min(max(v, camera[V_LOW]), camera[V_HIGH]))
            m0, m1, m2 = _symmetric_times(covariance, t[0], t[1], t[2])
            n0, n1, n2 = _symmetric_times(covariance, t[3], t[4], t[5])
            xx, xy, yy = t[0] * m0 + t[1] * m1 + t[2] * m2, t[3] * m0 + t[4] * m1 + t[5] * m2, t[3] * n0 + t[4] * n1 + t[5] * n2
            sharp = xx * yy - xy * xy
            xx += eps2d
            yy += eps2d
            determinant = xx * yy - xy * xy
            if not (ZERO < determinant < _LARGEST_DETERMINANT):
                continue
            opacity = opacities[i]
            if antialiased:
                opacity *= math.sqrt(max(sharp / determinant, ZERO))
            if opacity < LEAST_ALPHA:
                continue
            level = math.log(opacity * _PER_ALPHA_MIN)
            extent = math.sqrt(TWO * level)
            radius_x = math.ceil(min(extent, _RADIUS) * math.sqrt(xx))
            radius_y = math.ceil(min(extent, _RADIUS) * math.sqrt(yy))
            mean_x, mean_y = camera[FX] * u + camera[CX], camera[FY] * v + camera[CY]
            if not (mean_x + radius_x > ZERO and mean_x - radius_x < width and mean_y + radius_y > ZERO and mean_y - radius_y < height):
                continue
            extent_x, extent_y = extent * math.sqrt(xx), extent * math.sqrt(yy)
            tiles[c, own, 0], tiles[c, own, 1] = _touched_tiles(mean_x, extent_x, width, TILE_WIDTH)
            tiles[c, own, 2], tiles[c, own, 3] = _touched_tiles(mean_y, extent_y, height, TILE_HEIGHT)
            radii[c, own, 0], radii[c, own, 1] = np.int32(min(radius_x, _MAX_RADIUS)), np.int32(min(radius_y, _MAX_RADIUS))
            keys[c, own] = (np.uint64(f32(pz).view(np.uint32)) << np.uint64(32)) | np.uint64(own)
            splat[MEAN_X], splat[MEAN_Y] = mean_x, mean_y
            splat[CONIC_A], splat[CONIC_B], splat[CONIC_C] = yy / determinant, -xy / determinant, xx / determinant
            splat[OPACITY], splat[DEPTH], splat[LEVEL], splat[EXTENT_Y] = opacity, pz, level, extent_y
            if degree < 0:
                for k in range(3):
                    splat[RED + k] = colors[i, 0, k]
            else:
                if degree > 0:
                    dx, dy, dz = x - camera[EYE], y - camera[EYE + 1], z - camera[EYE + 2]
                    inverse_length = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
                    _sh_basis(degree, dx * inverse_length, dy * inverse_length, dz * inverse_length, basis)
                else:
                    basis[0] = _C0
                for k in range(3):
                    value = HALF
                    for h in range(harmonics):
                        value += basis[h] * colors[i, h, k]
                    splat[RED + k] = max(value, ZERO)


@jit
def project_backward(
    start, stop, means, quats, scales, opacities, colors, degree, viewmats, Ks, width, height, eps2d, antialiased,
    splats, row_offsets, rows,
    v_means, v_quats, v_scales, v_opacities, v_colors, v_means2d,
):  # fmt: skip
    """Gradients of Gaussians `start` to `stop`, numbered through all batches, summed over tiles and their batch's cameras.

    Args:
        rows: [pairs, ROW] from `composite_backward`.
        v_means [B N, 3], v_quats [B N, 4], v_scales [B N, 3], v_opacities [B N], v_colors [B N, K, 3], v_means2d [C, N, 2]: zeros on
            entry.
    """
    n = splats.shape[1]
    cameras = _pack_cameras(viewmats, Ks, width, height)
    basis = np.empty(16, np.float32)
    basis_gradient = np.empty((16, 3), np.float32)
    harmonics = (degree + 1) * (degree + 1)
    total = np.empty(ROW, np.float32)
    share = cameras.shape[0] * n // max(means.shape[0], 1)  # cameras of a batch
    for i in range(start, stop):
        batch, own = i // n, i % n
        visible = False
        for c in range(batch * share, (batch + 1) * share):
            visible |= row_offsets[c * n + own + 1] > row_offsets[c * n + own]
        if not visible:
            continue
        x, y, z = means[i, 0], means[i, 1], means[i, 2]
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
        inverse_norm = ONE / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        qw, qx, qy, qz = qw * inverse_norm, qx * inverse_norm, qy * inverse_norm, qz * inverse_norm
        R = _rotation(qw, qx, qy, qz)
        covariance = _covariance(R, s0, s1, s2)
        v_mean_x, v_mean_y, v_mean_z = ZERO, ZERO, ZERO
        v_opacity = ZERO
        # Of the covariance, as a full symmetric matrix: entries (i, j) and (j, i) are two variables with the same gradient.
        v00, v01, v02, v11, v12, v22 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
        for c in range(batch * share, (batch + 1) * share):
            first, end = row_offsets[c * n + own], row_offsets[c * n + own + 1]
            if first == end:
                continue
            total[:] = ZERO
            for row in range(first, end):
                for j in range(ROW):
                    total[j] += rows[row, j]
            camera, splat = cameras[c], splats[c, own]
            A, B, C, opacity = splat[CONIC_A], splat[CONIC_B], splat[CONIC_C], splat[OPACITY]

            # sigma = (A dx^2 + C dy^2) / 2 + B dx dy, d alpha / d sigma = -alpha.
            v_x, v_y = -opacity * (A * total[1] + B * total[2]), -opacity * (B * total[1] + C * total[2])
            v_means2d[c, own, 0], v_means2d[c, own, 1] = v_x, v_y
            v_A, v_B_half, v_C = -HALF * opacity * total[3], -HALF * opacity * total[4], -HALF * opacity * total[5]

            # Conic Q = S^-1: v_S = -Q v_Q Q.
            p00, p01, p10, p11 = A * v_A + B * v_B_half, A * v_B_half + B * v_C, B * v_A + C * v_B_half, B * v_B_half + C * v_C
            v_xx, v_xy, v_yy = -(p00 * A + p01 * B), -(p00 * B + p01 * C), -(p10 * B + p11 * C)
            if antialiased:
                # rho^2 = det(S - eps I) / det S, so d rho^2 / dS = (1 - rho^2) Q - eps det(Q) I.
                compensation = opacity / opacities[i]
                v_opacity += total[0] * compensation
                factor = HALF * total[0] * opacities[i] / max(compensation, f32(1e-6))
                remainder, shift = ONE - compensation * compensation, eps2d * (A * C - B * B)
                v_xx += factor * (remainder * A - shift)
                v_xy += factor * remainder * B
                v_yy += factor * (remainder * C - shift)
            else:
                v_opacity += total[0]

            # S = T Sigma T^t with T = J W, rows t0 t1 t2 and t3 t4 t5.
            px, py, pz = _to_camera(camera, x, y, z)
            inverse_z = ONE / pz
            u, v = px * inverse_z, py * inverse_z
            u_clamped, v_clamped = min(max(u, camera[U_LOW]), camera[U_HIGH]), min(max(v, camera[V_LOW]), camera[V_HIGH])
            t = _linearised(camera, inverse_z, u_clamped, v_clamped)
            v00 += v_xx * t[0] * t[0] + TWO * v_xy * t[0] * t[3] + v_yy * t[3] * t[3]
            v01 += v_xx * t[0] * t[1] + v_xy * (t[0] * t[4] + t[1] * t[3]) + v_yy * t[3] * t[4]
            v02 += v_xx * t[0] * t[2] + v_xy * (t[0] * t[5] + t[2] * t[3]) + v_yy * t[3] * t[5]
            v11 += v_xx * t[1] * t[1] + TWO * v_xy * t[1] * t[4] + v_yy * t[4] * t[4]
            v12 += v_xx * t[1] * t[2] + v_xy * (t[1] * t[5] + t[2] * t[4]) + v_yy * t[4] * t[5]
            v22 += v_xx * t[2] * t[2] + TWO * v_xy * t[2] * t[5] + v_yy * t[5] * t[5]
            m0, m1, m2 = _symmetric_times(covariance, t[0], t[1], t[2])
            n0, n1, n2 = _symmetric_times(covariance, t[3], t[4], t[5])
            g0, g1, g2 = TWO * (v_xx * m0 + v_xy * n0), TWO * (v_xx * m1 + v_xy * n1), TWO * (v_xx * m2 + v_xy * n2)
            h0, h1, h2 = TWO * (v_xy * m0 + v_yy * n0), TWO * (v_xy * m1 + v_yy * n1), TWO * (v_xy * m2 + v_yy * n2)

            # T depends on 1 / z and on the ray (u, v) where that is not clamped; so does the centre, always.
            v_inverse_z = pz * (t[0] * g0 + t[1] * g1 + t[2] * g2 + t[3] * h0 + t[4] * h1 + t[5] * h2)
            v_u, v_v = camera[FX] * v_x, camera[FY] * v_y
            if u == u_clamped:
                v_u -= camera[FX] * inverse_z * (camera[6] * g0 + camera[7] * g1 + camera[8] * g2)
            if v == v_clamped:
                v_v -= camera[FY] * inverse_z * (camera[6] * h0 + camera[7] * h1 + camera[8] * h2)
            v_px, v_py = v_u * inverse_z, v_v * inverse_z
            v_pz = total[9] - inverse_z * inverse_z * (v_inverse_z + v_u * px + v_v * py)
            v_mean_x += camera[0] * v_px + camera[3] * v_py + camera[6] * v_pz
            v_mean_y += camera[1] * v_px + camera[4] * v_py + camera[7] * v_pz
            v_mean_z += camera[2] * v_px + camera[5] * v_py + camera[8] * v_pz

            if degree < 0:
                for k in range(3):
                    v_colors[i, 0, k] += total[6 + k]
                continue
            for k in range(3):
                if splat[RED + k] <= ZERO:
                    total[6 + k] = ZERO
                v_colors[i, 0, k] += _C0 * total[6 + k]
            if degree > 0:
                dx, dy, dz = x - camera[EYE], y - camera[EYE + 1], z - camera[EYE + 2]
                inverse_length = ONE / math.sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx * inverse_length, dy * inverse_length, dz * inverse_length
                _sh_basis(degree, dx, dy, dz, basis)
                _sh_basis_gradient(degree, dx, dy, dz, basis_gradient)
                v_dx, v_dy, v_dz = ZERO, ZERO, ZERO
                for h in range(1, harmonics):
                    v_basis = ZERO
                    for k in range(3):
                        v_colors[i, h, k] += basis[h] * total[6 + k]
                        v_basis += colors[i, h, k] * total[6 + k]
                    v_dx += v_basis * basis_gradient[h, 0]
                    v_dy += v_basis * basis_gradient[h, 1]
                    v_dz += v_basis * basis_gradient[h, 2]
                along = v_dx * dx + v_dy * dy + v_dz * dz
                v_mean_x += (v_dx - along * dx) * inverse_length
                v_mean_y += (v_dy - along * dy) * inverse_length
                v_mean_z += (v_dz - along * dz) * inverse_length

        v_means[i, 0], v_means[i, 1], v_means[i, 2] = v_mean_x, v_mean_y, v_mean_z
        v_opacities[i] = v_opacity

        # Sigma = M M^t with M = R diag(s): v_M = 2 v_Sigma M, column j of it is s_j times column j of P = 2 v_Sigma R.
        v_sigma = (v00, v01, v02, v11, v12, v22)
        p0, p3, p6 = _symmetric_times(v_sigma, R[0], R[3], R[6])
        p1, p4, p7 = _symmetric_times(v_sigma, R[1], R[4], R[7])
        p2, p5, p8 = _symmetric_times(v_sigma, R[2], R[5], R[8])
        v_scales[i, 0] = TWO * s0 * (R[0] * p0 + R[3] * p3 + R[6] * p6)
        v_scales[i, 1] = TWO * s1 * (R[1] * p1 + R[4] * p4 + R[7] * p7)
        v_scales[i, 2] = TWO * s2 * (R[2] * p2 + R[5] * p5 + R[8] * p8)
        a, b, d = TWO * s0 * s0, TWO * s1 * s1, TWO * s2 * s2
        p0, p3, p6, p1, p4, p7, p2, p5, p8 = a * p0, a * p3, a * p6, b * p1, b * p4, b * p7, d * p2, d * p5, d * p8
        v_w = TWO * (qx * (p7 - p5) + qy * (p2 - p6) + qz * (p3 - p1))
        v_x = TWO * (qy * (p1 + p3) + qz * (p2 + p6) + qw * (p7 - p5) - TWO * qx * (p4 + p8))
        v_y = TWO * (qx * (p1 + p3) + qz * (p5 + p7) + qw * (p2 - p6) - TWO * qy * (p0 + p8))
        v_z = TWO * (qx * (p2 + p6) + qy * (p5 + p7) + qw * (p3 - p1) - TWO * qz * (p0 + p4))
        along = v_w * qw + v_x * qx + v_y * qy + v_z * qz
        v_quats[i, 0], v_quats[i, 1] = (v_w - along * qw) * inverse_norm, (v_x - along * qx) * inverse_norm
        v_quats[i, 2], v_quats[i, 3] = (v_y - along * qy) * inverse_norm, (v_z - along * qz) * inverse_norm
