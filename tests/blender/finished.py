"""A finished job to test with: a real run at draft quality, made once and kept in the cache for as long as the backend's sources stay."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

JOB = "2026-01-01-a-golden-teapot-0a1b2c"
"""Name of the job's folder. A teapot has no symmetry that could hide a mirrored or turned import, nor has its texture by this prior."""

_REQUEST = ("a golden teapot", "--quality", "draft", "--seed", "1", "--prior", "builtin:exact")


def make_finished_job(python: str, temporary: Path) -> Path:
    """The folder of the finished job, not to be changed: copy it.

    Args:
        python: that of an environment for workers.
        temporary: where the job goes if $COGRAD3D_CACHE names no folder that outlives this run.
    """
    cache = os.environ.get("COGRAD3D_CACHE")
    root = Path(cache) / "test-jobs" / _fingerprint() if cache else temporary
    if not (root / JOB).is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".") as unfinished:
            folder = Path(unfinished) / JOB
            command = [python, "-m", "backend", "generate", *_REQUEST, "--job", str(folder)]
            run = subprocess.run(command, cwd=ROOT, env=_environ(), capture_output=True, text=True, timeout=600, check=False)
            if run.returncode:
                raise RuntimeError(f"the run ended with {run.returncode}:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}")
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # most of the bytes
            try:
                folder.rename(root / JOB)
            except OSError:
                if not (root / JOB).is_dir():  # else another test run was faster
                    raise
    return root / JOB


def _fingerprint() -> str:
    """Of everything that the run depends on, the environment left out."""
    digest = hashlib.sha256(repr(_REQUEST).encode())
    for path in sorted((ROOT / "backend").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _environ() -> dict[str, str]:
    """Without what is Blender's own, which would be wrong for another Python."""
    unwanted = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | {"OMP_WAIT_POLICY": "PASSIVE"}
