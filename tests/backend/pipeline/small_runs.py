"""Runs on the built-in exact prior, small."""

from __future__ import annotations

from pathlib import Path

from backend import settings
from backend.config import GenerationConfig
from backend.control import Control
from backend.job import JobFolder
from backend.pipeline import run_job
from backend.protocol import JobSpec, Result

SMALL = (
    "prior.name=builtin:exact",
    "prior.views=150",
    "gaussians.count=400",
    "densification.max_count=600",
    "densification.every=10",
    "optimizer.iterations=90",
    "optimizer.views=2",
    "optimizer.resolution_steps=[[0.0, 64]]",
    "run.checkpoint_every=20",
    "run.preview_every=0",
    "surface.resolution=48",
    "surface.views=12",
    "surface.faces=1000",
    "texture.size=128",
    "texture.views=8",
    "texture.refine=0",
)


def config(*sets: str) -> GenerationConfig:
    return settings.resolve("draft", sets=[*SMALL, *sets])


def make_job(root: Path, settled: GenerationConfig, **spec: object) -> JobFolder:
    return JobFolder.create(root, JobSpec(prompt="a red cat", **spec), settled)


def execute(folder: JobFolder, settled: GenerationConfig, control: Control | None = None, emit=lambda event: None) -> Result:
    with folder.lock():
        return run_job(folder, settled, folder.spec, emit, control or Control())
