"""Proof that the environment works, run inside it: `python -m backend.verification`.

Prints one JSON object as its last line; `error` in it says what does not work. With `--facts` it only looks and computes nothing, with
`--attached` it ends when its standard input is closed.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

from . import attached

IMPORTS = (
    "torch",
    "numpy",
    "numba",
    "scipy",
    "skimage",
    "PIL",
    "safetensors.torch",
    "tokenizers",
    "transformers",
    "diffusers",
    "gsplat",
    "trimesh",
    "fast_simplification",
    "xatlas",
    "orjson",
)
"""Every package that is asked for by name; what they need themselves is imported by them."""


def facts() -> dict[str, Any]:
    """What there is to compute with: versions, devices, and the rasteriser that would be chosen."""
    import torch

    from .gaussians.rasterize import choose_implementation

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    device = "cuda" if cuda else "mps" if mps else "cpu"
    choice = choose_implementation(torch.device(device))
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "device": device,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "threads": torch.get_num_threads(),
        "rasterizer": choice.name,
        "rasterizer_reason": choice.reason,
    }


def prove() -> None:
    """Run the whole chain once, tiny: the built-in world's renderer, Gaussians drawn and differentiated, a textured mesh made of them.

    Besides proving that the compiled packages work on this processor, it compiles the numba kernels into their cache on disk, which the
    first run would otherwise spend half a minute on.
    """
    import numpy as np
    import torch

    from .cameras import Camera, orbit_camera
    from .config import GaussiansConfig, SurfaceConfig, TextureConfig
    from .embedded import bank_kernels
    from .embedded.renderer import render_channels
    from .gaussians.initialize import initialize
    from .gaussians.rasterize import warm_up
    from .gaussians.rendering import render, render_cameras, stack_cameras
    from .meshing import textured_mesh
    from .method import fusion_arithmetic

    warm_up()
    bank_kernels.warm_up()
    fusion_arithmetic.warm_up()
    if not render_channels("cat", np.zeros(1), np.zeros(1), np.full(1, 3.3), 32).any():
        raise RuntimeError("the built-in world draws nothing")
    ball = GaussiansConfig(initial="sphere", count=500, opacity=0.99, max_scale=0.3)
    model = initialize(ball, torch.Generator().manual_seed(0), torch.device("cpu"))
    viewmats, intrinsics = stack_cameras([orbit_camera(0.0, 0.0, 3.3, 40.0, 32)], model.device)
    drawn = render(model.params, viewmats, intrinsics, 32, 32)
    (drawn.rgb.sum() + drawn.alpha.sum()).backward()
    gradient = model.params["means"].grad
    if gradient is None or not bool(torch.isfinite(gradient).all()) or not bool(gradient.any()):
        raise RuntimeError("the rasteriser gives no gradients")

    def look(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rgb, alpha, depth = render_cameras(model, list(cameras))
        return rgb.numpy(), alpha[..., 0].numpy(), depth[..., 0].numpy()

    surface, texture = SurfaceConfig(resolution=24, views=6, faces=200, smoothing=2), TextureConfig(size=64, views=6, refine=1)
    mesh = textured_mesh(look, surface, texture, lambda share, phase: None, np.random.default_rng(0))
    if not len(mesh.faces) or np.abs(mesh.vertices).max() > 1.0:
        raise RuntimeError("a ball of Gaussians gave no mesh of its size")


def main(arguments: list[str]) -> int:
    """Prints the facts; returns 1 where something does not work."""
    if attached.OPTION in arguments:
        attached.end_with_standard_input()
    started = time.monotonic()
    found: dict[str, Any] = {}
    try:
        if "--facts" not in arguments:
            for name in IMPORTS:
                importlib.import_module(name)
            prove()
        found = facts()
    except Exception as error:  # whatever a broken package raises is the answer, not a failure of ours
        text = (str(error).splitlines() or [""])[0]
        found["error"] = f"{type(error).__name__}: {text}" if text else type(error).__name__
    found["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(found))
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
