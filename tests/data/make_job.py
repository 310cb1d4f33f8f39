"""Makes tests/data/cat, the finished job that the tests of importing use: a real run, cut down to what they read.

    COGRAD3D_PYTHON=<the environment's python> python3 tests/data/make_job.py

Its pictures are those of the worker, so that a render of the imported mesh can be held against them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from backend.gaussians.splat_file import read_splats, write_splats  # noqa: E402

FILES = ("spec.json", "config.json", "state.json", "made_by.json", "regions.json", "asset.glb")
REGIONS = (0, 10, 20, 33)
GAUSSIANS = 800
OPTIONS = ("--quality", "draft", "--set", "surface.faces=2000", "--set", "texture.size=128")


def main() -> None:
    target = Path(__file__).parent / "cat"
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job"
        subprocess.run([sys.executable, "-m", "backend", "generate", "a red cat", *OPTIONS, "--job", str(job)], cwd=ROOT, check=True)
        shutil.rmtree(target, ignore_errors=True)
        (target / "views").mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(job / name, target / name)
        for region in REGIONS:
            name = f"views/region-{region:03d}.png"
            shutil.copyfile(job / name, target / name)
        groups = read_splats(job / "preview.ply")
        opaque = np.sort(np.argsort(-groups["opacities"])[:GAUSSIANS])
        write_splats(target / "preview.ply", {name: values[opaque] for name, values in groups.items()})
    state = json.loads((target / "state.json").read_text())
    print(f"{target.relative_to(ROOT)}: {state['status']}, {sum(p.stat().st_size for p in target.rglob('*') if p.is_file()):,} bytes")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
