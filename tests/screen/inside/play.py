"""Runs in Blender: play the scenario that the driver names, write what it recorded, and quit.

A scenario file has `scenario(stage)`, a generator: it yields the seconds until it wants to go on, during which Blender draws and works.
"""

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parents[1]))

from inside.stage import Stage


def load_scenario(file: Path):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scenario


def main() -> None:
    folder = Path(os.environ["COGRAD3D_OUTCOME"])
    stage = Stage(folder, Path(os.environ["COGRAD3D_SCREEN"]), json.loads(os.environ["COGRAD3D_SCENARIO_ARGUMENTS"]))
    steps = None

    def finish(failure: str) -> None:
        if failure:
            print(failure, flush=True)
            stage.screenshot("failure")
        temporary = folder / "outcome.tmp"
        temporary.write_text(json.dumps({"values": stage.values, "failure": failure}), encoding="utf-8")
        temporary.replace(folder / "outcome.json")
        bpy.ops.wm.quit_blender()

    def tick() -> float | None:
        nonlocal steps
        try:
            if steps is None:
                steps = load_scenario(Path(os.environ["COGRAD3D_SCENARIO"]))(stage)
            return next(steps)
        except StopIteration:
            finish("")
        except Exception:
            finish(traceback.format_exc())
        return None

    bpy.app.timers.register(tick, first_interval=0.1, persistent=True)  # persistent: a scenario may open files


main()
