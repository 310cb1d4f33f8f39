"""A worker around a job that takes no time: `python fake_worker.py FOLDER JOB`, the real wire, folder and control, a made-up run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from backend import protocol
from backend.errors import PriorError
from backend.job import JobFolder
from backend.worker import run_worker

STEPS = 400


def steps(folder, emit, control, *, pace=0.005, total=STEPS):
    """A run as the pipeline's, honouring everything; goes on from its last checkpoint."""
    checkpoint = folder.latest_checkpoint()
    iteration = checkpoint.iteration if checkpoint else 0
    weights = np.ones(4)

    def save():
        folder.write_checkpoint(iteration, {"x": np.full(3, iteration, np.float32)}, {})
        emit(protocol.CheckpointWritten(iteration=iteration))

    def tell_regions():
        emit(
            protocol.Regions(
                iteration=iteration, azimuth=(0, 90, 180, 270), elevation=(0,) * 4, distance=(3,) * 4, loss=(1,) * 4, weight=weights
            )
        )

    def serve():
        if changed := control.take_weights(4):
            for region, factor in changed.items():
                weights[region] = factor
            tell_regions()
        for region in control.take_previews(4):
            image = "preview.png" if region < 0 else f"views/region-{region:03d}.png"
            emit(protocol.PreviewReady(iteration=iteration, image=image, region=region))

    folder.truncate_trace(iteration)
    emit(protocol.Phase(name="optimise"))
    while iteration < total and not control.should_stop:
        control.wait_if_paused(lambda paused: emit(protocol.Paused(paused=paused)), serve)
        if control.should_cancel:
            save()
        control.raise_if_cancelled()
        serve()
        time.sleep(pace)
        folder.append_trace({"iteration": iteration})
        iteration += 1
        emit(protocol.Progress(iteration=iteration, total=total, loss=1 / iteration))
        tell_regions()
        if iteration % 50 == 0:
            save()
    emit(protocol.Phase(name="surface"))
    emit(protocol.Result(asset="asset.glb", iterations=iteration))


def quick(folder, emit, control):
    """A short run."""
    steps(folder, emit, control, pace=0, total=60)


def unhurried(folder, emit, control):
    """A run that lasts for several redraws of a live display, which are at most ten a second."""
    steps(folder, emit, control, pace=0.01, total=60)


def long(folder, emit, control):
    """A run that lasts longer than any test."""
    steps(folder, emit, control, pace=0.05, total=10_000)


def noisy(folder, emit, control):
    """A run whose libraries print."""
    print("printed by Python", flush=True)
    os.write(1, b"printed by a native library without a line end")
    subprocess.run(["echo", "printed by a child"], check=True)
    print("an unfinished line", end="")
    quick(folder, emit, control)


def greedy(folder, emit, control):
    """A run with a library that reads standard input."""
    assert sys.stdin.read() == ""
    steps(folder, emit, control)


def stuck(folder, emit, control):
    """A run that listens to nobody."""
    emit(protocol.Phase(name="prior"))
    time.sleep(60)


def stuck_saved(folder, emit, control):
    """As `stuck`, where every step is saved already."""
    control.has_unsaved = False
    stuck(folder, emit, control)


def refused(folder, emit, control):
    """A run that a user can mend."""
    raise PriorError("There is no prior here.", remedy="Put one there.")


def broken(folder, emit, control):
    """A run with a bug."""
    steps(folder, emit, control, pace=0, total=50)
    raise ZeroDivisionError("a bug")


def incomplete(folder, emit, control):
    """A run in an environment that lacks a package."""
    raise ModuleNotFoundError("No module named 'numpy'", name="numpy")


def outdated(folder, emit, control):
    """A run in an environment of which a package cannot be loaded."""
    raise ImportError("libcudart.so.12: cannot open shared object file")


def misnamed(folder, emit, control):
    """A run with a bug that no installation mends."""
    raise ImportError("cannot import name 'x' from 'backend.y'", name="backend.y")


def starved(folder, emit, control):
    """A run without memory."""
    raise MemoryError


def flood(folder, emit, control):
    """A run that tells far more than anybody reads."""
    for iteration in range(20_000):
        emit(protocol.Progress(iteration=iteration, total=20_000))
    (folder.path / "flooded").write_text("")
    emit(protocol.Result(asset="asset.glb"))


if __name__ == "__main__":
    from backend import worker

    for limit in ("GRACE_SECONDS", "SAVED_GRACE_SECONDS", "READER_SECONDS"):
        setattr(worker, limit, float(os.environ.get(limit, getattr(worker, limit))))
    sys.exit(run_worker(JobFolder(Path(sys.argv[1])).path, globals()[sys.argv[2]]))
