"""One call that draws 3D Gaussians, with gsplat 1.5.3's names and conventions, and three implementations behind it.

- *gsplat*: its CUDA kernels, used only where they are already built.
- *numba*: the CPU's default; see `numba_backend`.
- *torch*: pure PyTorch on any device and in any floating-point type; see `torch_backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import CoGradError, ConfigError, SetupError
from .conventions import EPS2D, FAR_PLANE, MAX_SH_DEGREE, NEAR_PLANE, RASTERIZE_MODES, RENDER_MODES, View

IMPLEMENTATIONS = ("gsplat", "numba", "torch")


class Choice(NamedTuple):
    """An implementation and, for the log, why it was chosen."""

    name: str
    reason: str


def _refusal(name: str, device: torch.device) -> CoGradError | None:
    """Why `name` cannot draw on `device`, as an error that says what to do; None if it can."""
    if name == "numba":
        if device.type != "cpu":
            return ConfigError(f"The numba rasteriser runs on the CPU, not on {device}.", remedy="Set run.rasterizer to auto or torch.")
        if find_spec("numba") is None:
            remedy = "Run `python3 -m backend setup`, or set run.rasterizer to torch."
            return SetupError("The numba rasteriser needs the package numba.", remedy=remedy)
    elif name == "gsplat":
        if device.type != "cuda":
            return ConfigError(f"gsplat's rasteriser runs on CUDA devices, not on {device}.", remedy="Set run.rasterizer to auto.")
        from . import gsplat_backend

        if not gsplat_backend.is_built():
            return SetupError(
                "gsplat's CUDA extension is not built, and building it can take 20 minutes, so this is never done unasked.",
                remedy="Set run.rasterizer to auto or torch, or install a gsplat wheel that was built for this PyTorch.",
            )
    elif name != "torch":
        return ConfigError(f"There is no rasteriser called {name!r}.", remedy=f"Choose auto, {', '.join(IMPLEMENTATIONS)}.")
    return None


def choose_implementation(device: torch.device | str, requested: str = "auto") -> Choice:
    """The implementation for `device`: the one requested, or the fastest that is available.

    Raises:
        ConfigError: the name is unknown, or this implementation does not run on this device.
        SetupError: it would run there, but something is not installed or not built.
    """
    device = torch.device(device)
    if requested != "auto":
        if refusal := _refusal(requested, device):
            raise refusal
        return Choice(requested, "as requested")
    preferred = {"cpu": "numba", "cuda": "gsplat"}.get(device.type, "torch")
    if refusal := _refusal(preferred, device):
        return Choice("torch", refusal.message)
    return Choice(preferred, f"fastest on {device.type}")


def _check(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, backgrounds: Tensor | None, view: View) -> None:
    """Refuse wrong shapes with a message that names the argument."""
    if means.dim() < 2 or view.viewmats.dim() < 3:
        raise ValueError(
            f"means has shape {tuple(means.shape)}, viewmats {tuple(view.viewmats.shape)}: not (..., N, 3) and (..., C, 4, 4)."
        )
    batch, count, cameras = means.shape[:-2], means.shape[-2], view.viewmats.shape[-3]
    expected = {
        "means": (means, (*batch, count, 3)),
        "quats": (quats, (*batch, count, 4)),
        "scales": (scales, (*batch, count, 3)),
        "opacities": (opacities, (*batch, count)),
        "viewmats": (view.viewmats, (*batch, cameras, 4, 4)),
        "Ks": (view.Ks, (*batch, cameras, 3, 3)),
    }
    if backgrounds is not None:
        expected["backgrounds"] = (backgrounds, (*batch, cameras, 3))
    if view.sh_degree is None:
        expected["colors"] = (colors, (*batch, count, 3))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {shape}.")
    if view.sh_degree is not None:
        if not 0 <= view.sh_degree <= MAX_SH_DEGREE:
            raise ValueError(f"sh_degree is {view.sh_degree}, not 0 to {MAX_SH_DEGREE}.")
        needed = (view.sh_degree + 1) ** 2
        fits = colors.dim() == len(batch) + 3 and colors.shape[:-2] == (*batch, count) and colors.shape[-1] == 3
        if not fits or colors.shape[-2] < needed:
            wanted = ", ".join(map(str, (*batch, count, f"at least {needed}", 3)))
            raise ValueError(f"colors has shape {tuple(colors.shape)}, not ({wanted}).")


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = NEAR_PLANE,
    far_plane: float = FAR_PLANE,
    eps2d: float = EPS2D,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB+ED",
    rasterize_mode: str = "classic",
    implementation: str = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draw N Gaussians from C cameras, differentiably in the Gaussians and the backgrounds.

    Leading dimensions, the same of all tensors, are batches as in gsplat: each of them has Gaussians and cameras of its own.

    Args:
        means: [..., N, 3] centres in world space.
        quats: [..., N, 4] rotations wxyz, of any length but zero.
        scales: [..., N, 3] standard deviations (not their logarithms).
        opacities: [..., N] in 0..1 (not their logits).
        colors: [..., N, 3], or with `sh_degree` the spherical harmonics [..., N, K, 3], K >= (sh_degree + 1)^2; those give
            max(0, sum + 0.5).
        viewmats: [..., C, 4, 4] world to camera, OpenCV axes.
        Ks: [..., C, 3, 3] pinhole intrinsics in pixels.
        width, height: image size in pixels.
        backgrounds: [..., C, 3]; black if absent.
        render_mode: RGB, D (accumulated depth), ED (expected depth: accumulated / alpha), RGB+D or RGB+ED.
        rasterize_mode: classic, or antialiased (opacity compensated for `eps2d`).
        implementation: auto, gsplat, numba or torch.

    Returns:
        renders: [..., C, H, W, X], X = 3 colours and / or 1 depth as `render_mode` says. Depth is camera-space z; nothing there: 0.
        alphas: [..., C, H, W, 1].
        meta: `means2d` [..., C, N, 2] in pixels, whose `.grad` is there after the backward pass; `radii` [..., C, N, 2] int (0: not
            visible), `depths` [..., C, N], `conics` [..., C, N, 3], `opacities` [..., C, N]; `width`, `height`, `n_cameras` (C),
            `implementation`.

    A Gaussian with a number that is not finite is not drawn and gets zero gradients. Half precision is drawn, and comes back, as float32;
    float64 stays what it is with auto and torch.

    Raises:
        ValueError: a shape or a mode that does not fit.
        ConfigError, SetupError: see `choose_implementation`.
    """
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode is {render_mode!r}, not one of {', '.join(RENDER_MODES)}.")
    if rasterize_mode not in RASTERIZE_MODES:
        raise ValueError(f"rasterize_mode is {rasterize_mode!r}, not one of {', '.join(RASTERIZE_MODES)}.")
    expected_depth = render_mode.endswith("ED")
    antialiased = rasterize_mode == "antialiased"
    view = View(viewmats, Ks, width, height, near_plane, far_plane, eps2d, sh_degree, antialiased, expected_depth)
    _check(means, quats, scales, opacities, colors, backgrounds, view)
    if means.dtype in (torch.float16, torch.bfloat16):  # too coarse to project with, and beyond half's range
        means, quats, scales, opacities, colors = (tensor.float() for tensor in (means, quats, scales, opacities, colors))
    name = choose_implementation(means.device, implementation).name
    if implementation == "auto" and means.dtype != torch.float32:
        name = "torch"
    if backgrounds is None:
        backgrounds = means.new_zeros(*viewmats.shape[:-2], 3)
    rasterize = load(name)
    renders, alphas, meta = rasterize(
        means, quats, scales, opacities, colors if sh_degree is not None else colors[..., None, :], backgrounds, view
    )
    meta.update(width=width, height=height, n_cameras=viewmats.shape[-3], implementation=name)
    if render_mode == "RGB":
        renders = renders[..., :3]
    elif render_mode in ("D", "ED"):
        renders = renders[..., 3:]
    return renders, alphas, meta


def load(name: str) -> Callable[..., tuple[Tensor, Tensor, dict[str, Any]]]:
    """Import an implementation, one of `IMPLEMENTATIONS`; what draws with it."""
    return import_module(f".{name}_backend", __name__).rasterize


def warm_up() -> None:
    """Compile what the CPU's implementation compiles, so that the first run of a job does not wait for it."""
    from .numba_backend import warm_up as compile_kernels

    compile_kernels()
