"""A gallery that nobody ran: records, traces and strips with known properties, for tests of statistics and report."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from backend import settings
from backend.evaluation.gallery.records import Record
from backend.job import slug

PROMPTS = ("a red cat", "a blue car", "a green robot", "a wooden chair")
FRAMES, SIZE = 12, 128
LEVELS = {
    "dreamfusion": (20.0, 0.50, 150.0),
    "luciddreamer": (24.0, 0.20, 310.0),
    "cograd3d": (26.0, 0.05, 180.0),
    "w/o A": (25.2, 0.10, 175.0),
    "w/o B": (23.5, 0.20, 178.0),
    "cograd3d: no cap": (25.9, 0.06, 181.0),
}
"""PSNR, Janus rate and seconds about which each variant's runs lie."""
GROUPS = ("means", "scales", "quats", "opacities", "colours")


def record(variant: str = "cograd3d", prompt: str = PROMPTS[0], seed: int = 0, **measures) -> Record:
    """A record with the given measures and no others."""
    terms = {"prior": "builtin:exact", "reliability": 1.0, "quality": "draft", "budget": 1600, "iterations": 400, "predictions": 1600}
    return Record(variant=variant, prompt=prompt, seed=seed, fingerprint="0" * 12, **(terms | measures))


def records(levels=LEVELS, prompts=PROMPTS, seeds=2, **terms) -> list[Record]:
    """Records of all, each measured as the built-in world allows; deterministic."""
    made = []
    for variant, (psnr, janus, seconds) in levels.items():
        rng = np.random.default_rng(hash_of(variant))
        for index, prompt in enumerate(prompts):
            for seed in range(seeds):
                quality = psnr + 1.5 * math.sin(index) + rng.normal(0, 0.5)
                angles = tuple((0.25 + 0.004 * quality + rng.normal(0, 0.01, FRAMES)).tolist())
                figures = {
                    "alignment": float(np.mean(angles)),
                    "alignment_std": float(np.std(angles)),
                    "alignment_angles": angles,
                    "psnr": quality,
                    "ssim": 0.6 + quality / 100,
                    "iou": min(0.99, 0.6 + quality / 80),
                    "psnr_fixed": quality - 0.8,
                    "iou_fixed": 0.55 + quality / 80,
                    "chamfer": 0.6 / quality,
                    "janus": float(np.clip(janus + rng.normal(0, 0.05), 0, 1)),
                    "azimuth_error": 60 * janus + rng.uniform(0, 4),
                    "wrong_views": float(np.clip(janus / 2 + rng.normal(0, 0.03), 0, 1)),
                    "view_change": 1 - janus + rng.normal(0, 0.03),
                    "seconds": seconds + rng.normal(0, 6),
                    "memory": 900.0,
                }
                made.append(record(variant, prompt, seed, **(figures | terms)))
    return made


def hash_of(text: str) -> int:
    """The same in every process, which `hash` is not."""
    return zlib.crc32(text.encode())


def write_strip(path: Path, number: int) -> Path:
    """A cube-like thing from twelve sides, its colour by the number."""
    rng = np.random.default_rng(number)
    colour = tuple(int(c) for c in rng.integers(40, 220, 3))
    sheet = Image.new("RGB", (FRAMES * SIZE, SIZE), "#f0f0f0")
    pen = ImageDraw.Draw(sheet)
    for frame in range(FRAMES):
        turn = 2 * math.pi * frame / FRAMES
        half = 34 + 10 * abs(math.sin(2 * turn))
        middle = frame * SIZE + SIZE / 2
        pen.rectangle((middle - half, 38, middle + half, 104), fill=colour)
        if math.cos(turn) > 0:
            pen.ellipse((middle + 30 * math.sin(turn) - 7, 52, middle + 30 * math.sin(turn) + 7, 66), fill="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def write_trace(folder: Path, number: int = 0, iterations: int = 300, fusing: bool = True, uniform: bool = False) -> Path:
    """A job folder's `trace.jsonl`, with the fields of `Distillation.step`, and its `config.json`."""
    rng = np.random.default_rng(number)
    config = settings.resolve("draft")
    bins, edges = config.grid.azimuth_bins, config.grid.elevation_edges
    count = bins * (len(edges) - 1)
    hard = 1 + 0.5 * np.sin(np.arange(count) / 3)
    lines = []
    for k in range(iterations):
        progress = k / iterations
        share = np.full(count, 1 / count) if uniform else hard / hard.sum()
        region = int(rng.choice(count, p=share))
        t_global = 850 - 750 * progress
        neighbours = []
        if fusing and progress > 0.2:
            neighbours = [
                {
                    "region": (region + 1 + j) % count,
                    "weight": 0.5,
                    "t": 300,
                    "age": 5,
                    "cosine": {g: float(rng.normal(0.4, 0.2)) for g in GROUPS},
                }
                for j in range(int(rng.integers(0, 4)))
            ]
        main = {g: float(rng.uniform(1, 2)) * 1e-5 for g in GROUPS}
        added = {g: 0.6 * main[g] if neighbours else 0.0 for g in GROUPS}
        lines.append(
            {
                "iteration": k,
                "region": region,
                "azimuth": 30.0 * (region % bins),
                "elevation": 0.0,
                "distance": 3.3,
                "loss": 0.1,
                "loss_normalised": float((1 + (hard[region] - 1) * (1 - progress)) * rng.uniform(0.8, 1.2)),
                "indicator": hard.tolist(),
                "probability": share.tolist(),
                "weight": [1.0] * count,
                "t": int(np.clip(rng.uniform(20, 980) if uniform else t_global + rng.normal(0, 60), 20, 980)),
                "t_global": 500.0 if uniform else t_global,
                "t_local": 0.0,
                "t_neighbourhood": 0.0,
                "t_mix": t_global,
                "neighbours": neighbours,
                "norm_main": main,
                "norm_projected": added,
                "norm_fused": {g: math.hypot(main[g], added[g]) for g in GROUPS},
                "gaussians": 2000,
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings.to_dict(config)), "utf-8")
    (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder / "trace.jsonl"


def gallery(work: Path, levels=LEVELS, prompts=PROMPTS, traced=("cograd3d", "w/o A", "dreamfusion")) -> dict:
    """What `write_report` wants to know besides the folder, with files in `work`."""
    made = records(levels, prompts)
    keys = [(each.variant, each.prompt, each.seed) for each in made]
    return {
        "records": made,
        "variants": list(levels),
        "reference": "cograd3d",
        "title": "A gallery that nobody ran",
        "command": "python3 -m backend evaluate gallery --report there",
        "machine": "Linux, 2 cores",
        "strips": {key: write_strip(work / f"{index}" / "turntable.png", index) for index, key in enumerate(keys)},
        "truths": {prompt: write_strip(work / f"truth-{slug(prompt)}.png", 1000 + index) for index, prompt in enumerate(prompts)},
        "traces": {
            key: write_trace(work / f"{index}" / "job", index, fusing=key[0] != "dreamfusion", uniform=key[0] != "cograd3d")
            for index, key in enumerate(keys)
            if key[0] in traced and key[2] == 0
        },
    }
