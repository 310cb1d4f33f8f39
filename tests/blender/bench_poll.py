"""What a tick of Blender's timer costs while a worker talks: everything that `session.poll` does, in Blender itself, without a window.

    python3 -m nox -s poll

or in a Python that has `bpy`, such as that of the session `wheel-4.5`:

    .nox/wheel-4-5/bin/python -m tests.blender.bench_poll --check

A child process sends 20 statistics of 288 regions a second, with all measures, and as many progress events, through a real pipe; every
three seconds it writes a preview, whose Gaussians grow in number, so that they become an object in the scene. The job is shown, one of
its views is selected, the file holds an earlier asset, and 30 jobs of earlier days lie in the folder. `poll` is called as often as the
timer would.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import os
import pstats
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from backend.gaussians.splat_file import write_splats
from backend.job import JobFolder
from backend.protocol import Bye, Hello, JobSpec, Phase, PreviewReady, Progress, Regions, Result, encode_line
from tests.screen import made_up

MEDIAN_BUDGET, P99_BUDGET = 1.0, 5.0
"""Milliseconds that a tick may take."""

PREVIEW_EVERY = 3.0
EARLIER_JOBS = 30


# --- The worker's side


def region_line(regions: int, iteration: int, dice: random.Random) -> bytes:
    """A region event as the pipeline sends it."""

    def numbers() -> tuple[float, ...]:
        return tuple(dice.random() for _ in range(regions))

    loss = tuple(None if value < 0.1 else value for value in numbers())
    event = Regions(
        iteration=iteration, current=iteration % regions, azimuth=numbers(), elevation=numbers(), distance=numbers(), loss=loss,
        indicator=loss, probability=numbers(), weight=(1.0,) * regions, visits=tuple(range(regions)), timestep=numbers(),
    )  # fmt: skip
    return encode_line(event)


def write_preview(folder: JobFolder, gaussians: int, seed: int) -> None:
    """A ball of Gaussians."""
    dice = np.random.default_rng(seed)
    means = dice.normal(size=(gaussians, 3))
    means *= 0.7 / np.linalg.norm(means, axis=1, keepdims=True)
    groups = {
        "means": means, "sh0": dice.normal(size=(gaussians, 1, 3)), "opacities": np.full(gaussians, 2.0),
        "scales": np.full((gaussians, 3), -4.0), "quats": np.tile([1.0, 0.0, 0.0, 0.0], (gaussians, 1)),
    }  # fmt: skip
    write_splats(folder.preview_splats_path, {name: values.astype(np.float32) for name, values in groups.items()})


def talk(folder: JobFolder, *, regions: int, rate: float, seconds: float, gaussians: int) -> None:
    """Play a run."""
    dice = random.Random(0)
    lines = [region_line(regions, iteration, dice) for iteration in range(8)]
    total, out = int(rate * seconds), sys.stdout.buffer
    out.write(encode_line(Hello(protocol=1)) + encode_line(Phase(name="optimise")))
    began = time.monotonic()
    for count in range(total):
        time.sleep(max(0.0, began + count / rate - time.monotonic()))
        head, _, rest = lines[count % len(lines)].partition(b'"iteration": ')
        out.write(head + b'"iteration": %d' % count + rest.lstrip(b"0123456789"))
        out.write(encode_line(Progress(iteration=count, total=total)))
        if count % int(rate * PREVIEW_EVERY) == 0:
            write_preview(folder, gaussians * (total + count) // (2 * total), count)
            out.write(encode_line(PreviewReady(iteration=count, splats=folder.preview_splats_path.name)))
        out.flush()
    out.write(encode_line(Result(asset="asset.glb")) + encode_line(Bye(reason="finished")))
    out.flush()


# --- Blender's side


@dataclass(frozen=True)
class Measured:
    """Milliseconds of every tick, what of it this thread itself worked (the rest it waited for a processor or for Python's lock), those of
    ticks that showed a preview, and how many statistics were read in the meantime.
    """

    ticks: list[float]
    worked: list[float]
    with_previews: list[float]
    events: int

    @property
    def median(self) -> float:
        return statistics.median(self.ticks)

    @property
    def p99(self) -> float:
        return percentile_99(self.ticks)

    def __str__(self) -> str:
        return (
            f"{len(self.ticks)} ticks, {self.events} region events read, {len(self.with_previews)} previews shown\n"
            f"a tick:           {line(self.ticks)}\n"
            f"of that at work:  {line(self.worked)}\n"
            f"with a preview:   {line(self.with_previews)}"
        )


def percentile_99(milliseconds: Sequence[float]) -> float:
    return statistics.quantiles(milliseconds, n=100, method="inclusive")[98]


def line(milliseconds: Sequence[float]) -> str:
    median, worst = statistics.median(milliseconds), max(milliseconds)
    return f"median {median:5.2f} ms, 99th percentile {percentile_99(milliseconds):5.2f} ms, worst {worst:5.2f} ms"


@contextmanager
def extension(folder: Path) -> Iterator[str]:
    """The extension from its zip, enabled in a profile of its own; its name. Nothing outside `folder` is touched."""
    os.environ |= {"COGRAD3D_JOBS": str(folder / "jobs"), "XDG_DATA_HOME": str(folder / "data")}
    if "BLENDER_USER_RESOURCES" not in os.environ:  # must stand before Blender starts, which in the wheel is the import of bpy
        if "bpy" in sys.modules:
            sys.exit("Set BLENDER_USER_RESOURCES to an empty folder: this installs into the profile that it finds.")
        os.environ["BLENDER_USER_RESOURCES"] = str(folder / "profile")
    import bpy

    from tests.blender.extension_zip import EXTENSION, extension_zip

    zip_file = extension_zip(folder, bpy.app.binary_path or None)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.ops.extensions.package_install_files(filepath=str(zip_file), repo="user_default", enable_on_install=True)
    try:
        yield EXTENSION
    finally:
        bpy.ops.preferences.addon_disable(module=EXTENSION)


def measure(args: argparse.Namespace, profile: cProfile.Profile | None = None) -> Measured:
    """Play it in this Blender."""
    with tempfile.TemporaryDirectory(prefix="cograd3d-bench-") as temporary, extension(Path(temporary)) as package:
        import bpy

        def load(name: str) -> ModuleType:
            return importlib.import_module(f"{package}.{name}")

        session, preview = load("cograd3d_addon.session"), load("cograd3d_addon.importing.preview")
        worker, python = Path(temporary, "worker"), os.environ.get("COGRAD3D_TEST_PYTHON") or sys.executable
        worker.write_text(f'#!/bin/sh\nexec "{python}" "{Path(__file__).resolve()}" {" ".join(worker_arguments(args))} --talk "$6"\n')
        worker.chmod(0o755)
        os.environ["COGRAD3D_PYTHON"] = str(worker)  # called as: PYTHON -P -m backend.cli worker --job FOLDER
        load("cograd3d_addon.setup").supervisor.refresh()
        for number in range(EARLIER_JOBS):
            JobFolder.create(Path(temporary, "jobs"), JobSpec(prompt=f"a red cat {number}"), {})
        bpy.ops.mesh.primitive_cube_add()
        bpy.context.active_object["cograd3d"] = made_up.metadata(load, 288)
        job = start(load)
        told: list[str] = []
        session.subscribe(lambda of, event: told.append(event.type))
        ticks, worked, with_previews = [], [], []
        before = None
        while not job.status.is_over:
            if profile is not None:
                profile.enable()
            began, at_work = time.perf_counter(), time.thread_time()
            session.poll()
            cost = 1000 * (time.perf_counter() - began)
            worked.append(1000 * (time.thread_time() - at_work))
            if profile is not None:
                profile.disable()
            ticks.append(cost)
            shown = first_corner(preview.object_of(job.id))
            if shown not in (None, before):
                with_previews.append(worked[-1])
            before = shown
            time.sleep(max(0.0, session.BUSY_INTERVAL - cost / 1000))
        assert job.status.value == "finished", job.error
        return Measured(ticks, worked, with_previews, told.count("regions"))


def first_corner(thing: Any) -> tuple[float, ...] | None:
    """A place that is another one in every preview; None where there is none."""
    return None if thing is None or not thing.data.vertices else tuple(thing.data.vertices[0].co)


def worker_arguments(args: argparse.Namespace) -> list[str]:
    return [f"--{name}={getattr(args, name)}" for name in ("regions", "rate", "seconds", "gaussians")]


def start(load: Any) -> Any:
    """Order the run, wait for its first words, and select one of its views."""
    import bpy

    session, sources = load("cograd3d_addon.session"), load("cograd3d_addon.viewport.sources")
    spec, config = load("backend.request").make_request("a red cat", quality="draft", overrides={"grid.fov": 40.0})
    extra = {load("cograd3d_addon.placement").PLACEMENT_FILE: load("cograd3d_addon.importing").order_for(bpy.context.scene)}
    bpy.context.scene.cograd3d.import_when_done = False
    job = session.manager().submit(spec, config, extra=extra)
    session.select_job(job.id)
    deadline = time.monotonic() + 30
    while job.regions is None:
        session.poll()
        assert time.monotonic() < deadline and not job.status.is_over, f"the worker did not begin: {job.error}\n{job.log_tail()}"
        time.sleep(0.01)
    bpy.context.active_object.select_set(False)
    bpy.ops.cograd3d.region_step(to="WORST")
    assert sources.shown(bpy.context).live and sources.selected(sources.shown(bpy.context)).active >= 0
    return job


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--regions", type=int, default=288)
    parser.add_argument("--rate", type=float, default=20.0, help="statistics a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--gaussians", type=int, default=8_000, help="of the last preview; the first has half as many")
    parser.add_argument("--profile", action="store_true", help="print what the time is spent on; the ticks take longer")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 above {MEDIAN_BUDGET} ms median or {P99_BUDGET} ms p99")
    parser.add_argument("--talk", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else None)
    if args.talk:
        talk(JobFolder(args.talk), regions=args.regions, rate=args.rate, seconds=args.seconds, gaussians=args.gaussians)
        return 0
    profile = cProfile.Profile() if args.profile else None
    measured = measure(args, profile)
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    print(measured, flush=True)
    return int(args.check and (measured.median > MEDIAN_BUDGET or measured.p99 > P99_BUDGET))


if __name__ == "__main__":
    sys.exit(main())
