"""A worker whose run stands still, `python grid_worker.py --job FOLDER`: the real wire, folder and control, a made-up grid of 36 regions.

It tells its statistics, then waits; every change of weights goes into the trace and back to whoever listens, as in a real run.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from backend import protocol
from backend.job import JobFolder
from backend.method.view_grid import ViewGrid
from backend.worker import run_worker
from tests.screen import made_up


def stand_still(folder, emit, control):
    centers = ViewGrid(*made_up.GRIDS[36]).centers
    weight = np.ones(len(centers))
    iteration = made_up.ITERATION

    def tell():
        values = made_up.statistics(centers, iteration) | {"weight": tuple(weight.tolist()), "current": 7}
        folder.append_trace({"iteration": iteration, "weight": weight.tolist()})
        emit(protocol.Regions(**values))

    emit(protocol.Phase(name="optimise"))
    emit(protocol.Progress(iteration=iteration, total=10 * iteration))
    tell()
    while not control.should_stop:
        control.raise_if_cancelled()
        if changed := control.take_weights(len(weight)):
            iteration += 10
            weight[list(changed)] = list(changed.values())
            emit(protocol.Progress(iteration=iteration, total=10 * made_up.ITERATION))
            tell()
        time.sleep(0.02)
    emit(protocol.Result(asset="asset.glb", iterations=iteration))


if __name__ == "__main__":
    sys.exit(run_worker(JobFolder(Path(sys.argv[sys.argv.index("--job") + 1])).path, stand_still))
