"""What asks before it acts: setting up, and discarding a job. Both are called off first, and then confirmed."""

import os

import bpy
import numpy as np


def scenario(stage):
    session = stage.module("cograd3d_addon.session")
    supervisor = stage.module("cograd3d_addon.setup").supervisor

    # A computer on which nothing is installed yet, and an installer that only waits
    os.environ.pop("COGRAD3D_PYTHON", None)
    os.environ["COGRAD3D_ENV"] = str(stage.folder / "env")
    stage.module("cograd3d_addon.setup.supervision").setup_command = lambda *arguments, location: ["sleep", "600"]
    supervisor.refresh()
    bpy.context.preferences.system.use_online_access = True
    yield from stage.open_panel()

    button = yield from stage.find_button("bpy.ops.cograd3d.environment_setup(")
    stage.record(plan_pixels=(yield from opened(stage, button)))
    stage.screenshot("plan")
    yield from answer(stage, "ESC")
    stage.record(after_escape=str(supervisor.situation.phase))
    yield from opened(stage, button)
    yield from answer(stage, "RET")
    yield from stage.wait_for(lambda: str(supervisor.situation.phase) != "absent", "the installation")
    stage.record(after_confirmation=str(supervisor.situation.phase))
    yield from stage.press("cograd3d.environment_cancel")
    yield from stage.wait_for(lambda: not supervisor.situation.phase.is_busy, "the end of the installation")

    # Without an environment a job fails at once
    job = session.manager().submit(*stage.module("backend.request").make_request("a red cat", quality="draft"))
    yield from stage.wait_for(lambda: job.status.is_over, "the job's end")
    session.select_job(job.id)
    yield from stage.settle(1.0)
    button = yield from stage.find_button("bpy.ops.cograd3d.discard_job(")
    stage.record(discard_pixels=(yield from opened(stage, button)))
    stage.screenshot("discard")
    yield from answer(stage, "ESC")
    stage.record(kept=job.path.is_dir() and session.manager().get(job.id) is job)
    yield from opened(stage, button)
    yield from answer(stage, "RET")
    yield from stage.wait_for(lambda: session.manager().get(job.id) is None, "the job to be gone")
    stage.record(gone=not job.path.exists())


def opened(stage, place):
    """Click this place in the side panel; how many pixels of the window change while the mouse stays there."""
    yield from stage.move(*place, "UI")
    yield 0.5
    before = stage.pixels()
    yield from stage.click(*place, "UI")
    yield 1.0
    return int((np.abs(stage.pixels().astype(int) - before).max(axis=2) > 12).sum())


def answer(stage, key):
    """Press a key where the mouse is, which is in the dialog."""
    window = stage.window
    for value in ("PRESS", "RELEASE"):
        window.event_simulate(type=key, value=value, x=stage.mouse[0], y=stage.mouse[1])
        yield 0.2
    yield from stage.move(5, 5)  # else the button that was clicked stays the active one
    yield from stage.settle(0.5)
