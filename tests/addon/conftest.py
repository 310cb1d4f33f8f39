"""The add-on's modules that need no Blender are imported as Blender does: below one package, here called `cograd3d`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

if "cograd3d" not in sys.modules:
    spec = importlib.util.spec_from_file_location("cograd3d", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["cograd3d"] = package
    spec.loader.exec_module(package)
