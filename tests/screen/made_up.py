"""Made-up statistics of view grids, always the same: what tests draw instead of waiting for a run. No bpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

GRIDS: Mapping[int, tuple[int, tuple[float, ...], tuple[float, ...]]] = {
    36: (12, (-10.0, 10.0, 30.0, 60.0), (3.3, 3.3)),
    72: (12, (-10.0, 10.0, 30.0, 60.0), (3.0, 3.6, 4.2)),
    288: (36, (-30.0, -15.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0), (3.3, 3.3)),
}
"""By the number of regions: azimuth bins, edges of the elevation bands and of the shells. 36 is what the backend does by itself."""

ITERATION = 400


def statistics(centers: np.ndarray, iteration: int = ITERATION) -> dict[str, Any]:
    """The fields of a `Regions` event for a grid with these centres ([N, 3] azimuth, elevation, distance).

    The back lags behind the front, and most of all where it is seen from above; one region has never been visited.
    """
    azimuth, elevation, _ = np.radians(centers).T
    lag = 1.0 - 0.35 * np.cos(azimuth) + 0.25 * np.sin(elevation)
    visits = np.rint(iteration / len(centers) * (1.5 + np.sin(3 * azimuth))).astype(int)
    visits[-1] = 0
    columns = {
        "azimuth": centers[:, 0], "elevation": centers[:, 1], "distance": centers[:, 2], "loss": 0.8 * lag, "indicator": 0.9 + 0.1 * lag,
        "probability": lag / lag.sum(), "weight": np.ones(len(centers)), "timestep": 0.05 * np.sin(azimuth),
    }  # fmt: skip
    values = {name: tuple(float(x) for x in column) for name, column in columns.items()}
    values["loss"] = (*values["loss"][:-1], None)
    return values | {"iteration": iteration, "current": -1, "visits": tuple(visits.tolist())}


def metadata(
    load: Callable[[str], ModuleType], regions: int = 36, *, uuid: str = "made-up", prompt: str = "a bronze monkey"
) -> dict[str, Any]:
    """What an object 1 m tall with its origin in its middle carries that was made by a job whose folder is gone.

    Args:
        load: gives modules of the extension, such as "backend.protocol".
        regions: one of `GRIDS`.
    """
    protocol, history = load("backend.protocol"), load("cograd3d_addon.jobs").RegionHistory()
    grid = load("backend.method.view_grid").ViewGrid(*GRIDS[regions])
    for iteration in range(40, ITERATION + 1, 40):
        history.append(protocol.Regions(**statistics(grid.centers, iteration)))
    return {
        "uuid": uuid, "prompt": prompt, "job": f"deleted-{uuid}", "history": history.to_json(),
        "regions": load("backend.wire").to_json(protocol.Regions(**statistics(grid.centers))),
        "matrix": np.diag([2 / 3, 2 / 3, 2 / 3, 1.0]).ravel().tolist(), "fov": 40.0,
    }  # fmt: skip
