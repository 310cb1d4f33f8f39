"""gsplat's own CUDA kernels, used only where they are already built.

gsplat compiles its extension when it is imported, as soon as it finds a CUDA compiler: minutes, and tens of gigabytes. So whether it is
built is read from the disk, without importing it, and it is imported with the compiler hidden.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...errors import SetupError
from .conventions import View
from .torch_backend import without_unusable

_EXTENSION = "gsplat_cuda"
"""Name of the extension that gsplat builds on demand, in PyTorch's folder for extensions."""


def _package_folder() -> Path | None:
    spec = find_spec("gsplat")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _prebuilt() -> bool:
    """Whether the installed package came with its extension (`gsplat.csrc`)."""
    folder = _package_folder()
    return folder is not None and any((folder / f"csrc{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)


def _built_on_demand() -> Path | None:
    """The extension that an earlier, explicit build left behind."""
    if _package_folder() is None or not torch.cuda.is_available():
        return None
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        from torch.utils.cpp_extension import get_default_build_root

        version = f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
        cuda = (torch.version.cuda or "cpu").replace(".", "")
        root = os.path.join(get_default_build_root(), f"{version}_{'cu' + cuda if torch.version.cuda else cuda}")
    library = Path(root) / _EXTENSION / f"{_EXTENSION}.so"
    return library if library.is_file() else None


@lru_cache(maxsize=1)
def is_built() -> bool:
    """Whether gsplat's kernels can be used without compiling anything. Imports nothing of gsplat."""
    return torch.cuda.is_available() and (_prebuilt() or _built_on_demand() is not None)


@contextmanager
def _no_compiler() -> Iterator[None]:
    """Hide the CUDA compiler from gsplat's loader: it then prints a notice, which is swallowed, and goes on without its extension."""
    from torch.utils import cpp_extension

    find = cpp_extension._find_cuda_home
    cpp_extension._find_cuda_home = lambda: None
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        cpp_extension._find_cuda_home = find


def import_quietly(name: str) -> ModuleType:
    """Import a module of gsplat such that nothing is compiled and nothing printed; works without any GPU.

    Raises:
        SetupError: gsplat is not installed.
    """
    if "gsplat" in sys.modules:
        return importlib.import_module(name)
    if _package_folder() is None:
        raise SetupError("The package gsplat is not installed.", remedy="Run `python3 -m backend setup`.")
    with _no_compiler():
        module = importlib.import_module(name)
    if not _prebuilt() and (library := _built_on_demand()) is not None:
        _load_extension(library)
    return module


def _load_extension(library: Path) -> None:
    """Hand an extension that is already on disk to gsplat's loader module, which looks it up on every call."""
    spec = spec_from_file_location(_EXTENSION, library)
    assert spec is not None and spec.loader is not None
    extension = module_from_spec(spec)
    spec.loader.exec_module(extension)
    importlib.import_module("gsplat.cuda._backend")._C = extension  # type: ignore[attr-defined]


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, backgrounds: Tensor, view: View
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Renders [..., C, H, W, 4] (red, green, blue, depth), alphas [..., C, H, W, 1] and meta. `colors` is [..., N, K, 3]."""
    gsplat = import_quietly("gsplat")
    means, quats, scales, opacities, colors = without_unusable(means, quats, scales, opacities, colors)
    renders, alphas, meta = gsplat.rasterization(
        means,
        quats,
        scales,
        opacities,
        colors if view.sh_degree is not None else colors[..., 0, :],
        view.viewmats.to(means),
        view.Ks.to(means),
        view.width,
        view.height,
        near_plane=view.near_plane,
        far_plane=view.far_plane,
        eps2d=view.eps2d,
        sh_degree=view.sh_degree,
        packed=False,
        backgrounds=backgrounds.to(means),
        render_mode="RGB+ED" if view.expected_depth else "RGB+D",
        rasterize_mode="antialiased" if view.antialiased else "classic",
    )
    if meta["means2d"].requires_grad:
        meta["means2d"].retain_grad()
    return renders, alphas, {name: meta[name] for name in ("means2d", "conics", "depths", "opacities", "radii")}
