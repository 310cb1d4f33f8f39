"""What a user can do about an error, as buttons. No bpy."""

from __future__ import annotations

import enum

from ...backend.errors import (
    CoGradError,
    ConfigError,
    InputError,
    JobError,
    OutputError,
    PriorError,
    PromptError,
    ProtocolError,
    ResourceError,
    SetupError,
    SurfaceError,
    UsageError,
)
from .choices import lower_quality


class Action(enum.Enum):
    """Something that a button does: (operator, text, icon)."""

    ENVIRONMENT = "cograd3d.show_environment", "Look at the Environment", "PREFERENCES"
    CHOOSE_PRIOR = "cograd3d.choose_prior", "Choose an Image Model", "IMAGE_DATA"
    LOWER_QUALITY = "cograd3d.retry_lower", "Try Again at Lower Quality", "TRIA_DOWN"
    LOWER_PANEL = "cograd3d.lower_quality", "Lower the Quality", "TRIA_DOWN"
    RESUME = "cograd3d.resume", "Continue", "PLAY"
    START_ANEW = "cograd3d.reproduce", "Start Anew", "FILE_REFRESH"
    NEW_SEED = "cograd3d.retry_seed", "Try Another Seed", "FILE_REFRESH"
    COPY_SETTINGS = "cograd3d.copy_settings", "Change the Settings", "PASTEDOWN"
    OPEN_FOLDER = "cograd3d.open_job_folder", "Open the Folder", "FILE_FOLDER"
    OPEN_LOG = "cograd3d.open_log", "Open the Log", "TEXT"

    @property
    def operator(self) -> str:
        return self.value[0]

    @property
    def label(self) -> str:
        return self.value[1]

    @property
    def icon(self) -> str:
        return self.value[2]

    @property
    def needs_job(self) -> bool:
        """Whether the operator takes a `job`."""
        return self not in (Action.ENVIRONMENT, Action.CHOOSE_PRIOR, Action.LOWER_PANEL)


REMEDIES: dict[str, tuple[Action, ...]] = {
    UsageError.code: (Action.ENVIRONMENT, Action.OPEN_LOG),
    PromptError.code: (Action.COPY_SETTINGS,),
    ConfigError.code: (Action.COPY_SETTINGS,),
    PriorError.code: (Action.CHOOSE_PRIOR, Action.RESUME, Action.OPEN_LOG),
    SetupError.code: (Action.ENVIRONMENT, Action.RESUME, Action.OPEN_LOG),
    JobError.code: (Action.START_ANEW, Action.OPEN_FOLDER),
    OutputError.code: (Action.RESUME, Action.OPEN_FOLDER),
    ResourceError.code: (Action.LOWER_QUALITY, Action.RESUME, Action.OPEN_LOG),
    InputError.code: (Action.COPY_SETTINGS,),
    ProtocolError.code: (Action.ENVIRONMENT, Action.OPEN_LOG),
    SurfaceError.code: (Action.NEW_SEED, Action.COPY_SETTINGS, Action.OPEN_LOG),
    CoGradError.code: (Action.RESUME, Action.START_ANEW, Action.OPEN_LOG),
    "start": (Action.ENVIRONMENT, Action.RESUME, Action.OPEN_LOG),  # the worker did not start
    "gone": (Action.START_ANEW,),  # its folder
    "killed": (Action.RESUME, Action.LOWER_QUALITY, Action.OPEN_LOG),  # from outside, most often for its memory
}
"""By the error's code, the most promising first."""


IN_PANEL: dict[str, tuple[Action, ...]] = {
    PriorError.code: (Action.CHOOSE_PRIOR,),
    SetupError.code: (Action.ENVIRONMENT,),
    ResourceError.code: (Action.LOWER_PANEL,),
    OutputError.code: (Action.ENVIRONMENT,),  # where the jobs' folder is chosen
}
"""By the code of an error that came before there was a job."""


def panel_actions(code: str, quality: str) -> tuple[Action, ...]:
    """The buttons below an error that kept the panel's choices, of this quality, from being ordered."""
    useless = {Action.LOWER_PANEL} if lower_quality(quality) is None else set()
    return tuple(action for action in IN_PANEL.get(code, ()) if action not in useless)


def actions(code: str, quality: str, *, is_resumable: bool = True, has_log: bool = True) -> tuple[Action, ...]:
    """The buttons below an error.

    Args:
        code: of the error; an unknown one counts as a general failure.
        quality: of the job.
        is_resumable: whether the job can be taken up.
        has_log: whether the job has a log.
    """
    useless = set()
    if not is_resumable:
        useless.add(Action.RESUME)
    if lower_quality(quality) is None:
        useless.add(Action.LOWER_QUALITY)
    if not has_log:
        useless.add(Action.OPEN_LOG)
    return tuple(action for action in REMEDIES.get(code, REMEDIES[CoGradError.code]) if action not in useless)
