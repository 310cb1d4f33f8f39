"""Results and previews of jobs as objects in the scene.

`glb`, `gaussian_mesh`, `anchors`, `metadata` and `reader` need no bpy; `results` imports, `preview` shows what is growing, `automatic`
imports what is done, `standing` says where a job's asset stands, `placing` where the next one will, `assets` and `exporting` are for what
comes after.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..registration import parts

if TYPE_CHECKING:
    import bpy
    import numpy as np

    from ..jobs import Job

register, unregister = parts(__package__, ("placing", "automatic", "preview"))


def is_result(thing: bpy.types.Object | None) -> bool:
    """Whether an object was imported from a job."""
    from .results import is_result

    return is_result(thing)


def world_frame(thing: bpy.types.Object) -> np.ndarray:
    """[4, 4] the backend's world to the scene, for an imported object as it stands."""
    from .results import world_frame

    return world_frame(thing)


def order_for(scene: bpy.types.Scene, like: Path | None = None, improves: str = "") -> dict[str, Any]:
    """What a job that is started from this scene gets as `blender.json` (`placement.PLACEMENT_FILE`); its place is that of the job in the
    folder `like`, or as the scene's settings say. `improves`: the object that it is to improve, by name.
    """
    from .placing import order_for

    return order_for(scene, like, improves)


def state(job: Job) -> str:
    """What became of a job's import, for the panel; empty if there is nothing to say."""
    from .automatic import state

    return state(job)
