"""The whole line as a user types it: a sentence to a GLB, killed and resumed, and the worker on the real pipeline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from backend import settings
from backend.embedded import vocabulary
from backend.evaluation.truth import score
from backend.job import JobFolder
from backend.meshing.turntable import read_asset
from backend.meshing.zbuffer import render_textured
from backend.protocol import JobSpec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROMPT = "a red cat"


def backend(*arguments: str, environment: dict[str, str], **options: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "backend", *arguments], cwd=ROOT, env=environment, **options)


def mesh_score(path: Path):
    asset = read_asset(path)

    def render(cameras, background):
        pairs = [render_textured(asset, camera, (background,) * 3) for camera in cameras]
        return np.stack([rgb for rgb, _ in pairs]), np.stack([alpha for _, alpha in pairs])

    return score(render, vocabulary.parse(PROMPT))


def check_asset(path: Path) -> None:
    """A closed, textured mesh that is a red cat with one face, its front at -Y in Blender, so at +Z in the file."""
    mesh = trimesh.load_mesh(path)
    assert mesh.visual.uv.shape == (len(mesh.vertices), 2)
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), dtype=float)
    assert texture.shape[0] == texture.shape[1] >= 256
    assert texture[..., 0].mean() > 2 * texture[..., 2].mean(), "it is mostly red"
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    assert mesh.is_watertight
    assert mesh.volume > 0, "the normals point outwards"
    assert len(mesh.split()) == 1, "no floating pieces"
    scored = mesh_score(path)
    assert scored.psnr > 20
    assert scored.iou > 0.85
    assert scored.janus == 0


def test_generate_writes_a_red_cat(own_home: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "cat.glb"
    run = backend("generate", PROMPT, "--quality", "draft", "--output", str(output), "--quiet", environment=own_home)
    assert run.wait(600) == 0
    check_asset(output)


def test_a_killed_run_is_resumed_to_the_same_kind_of_result(own_home: dict[str, str], tmp_path: Path) -> None:
    job, output = tmp_path / "job", tmp_path / "cat.glb"
    arguments = ("generate", PROMPT, "--quality", "draft", "--job", str(job), "--output", str(output), "--quiet")
    run = backend(*arguments, environment=own_home, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(job.glob("checkpoint/0*")):
        assert time.monotonic() < deadline
        assert run.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.2)
    time.sleep(1.5)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(30)
    assert not output.exists()
    resumed = backend("generate", "--resume", str(job), "--quiet", environment=own_home)
    assert resumed.wait(600) == 0
    lines = [json.loads(line)["iteration"] for line in (job / "trace.jsonl").read_text().splitlines()]
    assert lines == list(range(len(lines))), "every iteration once, in order"
    check_asset(output)


def test_the_worker_tells_and_obeys(own_home: dict[str, str], tmp_path: Path) -> None:
    """A client that knows nothing but the protocol: freezes a region, asks for the mesh early, reads until the end."""
    sets = ["prior.views=300", "optimizer.iterations=2000", "surface.resolution=48", "texture.size=128", "run.preview_every=0"]
    config = settings.resolve("draft", sets=sets)
    folder = JobFolder.create(tmp_path, JobSpec(prompt=PROMPT), config)
    worker = backend("worker", "--job", str(folder.path), environment=own_home, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None and worker.stdout is not None
    events = []
    for line in worker.stdout:
        event = json.loads(line)
        events.append(event)
        if event["type"] == "hello":
            worker.stdin.write(b'{"type": "weight", "regions": [0], "factor": 0}\n')
            worker.stdin.flush()
        if event["type"] == "progress" and event.get("phase") == "optimise" and event["iteration"] > 120:
            worker.stdin.write(b'{"type": "stop"}\n')
            worker.stdin.flush()
    assert worker.wait(60) == 0
    kinds = [event["type"] for event in events]
    assert kinds[0] == "hello"
    assert kinds[-1] == "bye"
    assert kinds.count("result") == 1
    regions = [event for event in events if event["type"] == "regions"][-1]
    assert regions["visits"][0] == 0
    assert regions["weight"][0] == 0
    assert 120 < events[kinds.index("result")]["iterations"] < 2000
    assert folder.asset_path.stat().st_size > 1000
