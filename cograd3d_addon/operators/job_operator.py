"""What all operators on one job have in common."""

from collections.abc import Callable
from typing import ClassVar

import bpy
from bpy.props import StringProperty

from ...backend.errors import CoGradError, JobError
from .. import session
from ..jobs import Job
from .ordering import report


class JobOperator:
    """An operator on the job that the panel shows, or on the one it is given."""

    poll_message_set: ClassVar[Callable[[str], None]]  # of bpy.types.Operator

    job: StringProperty(name="Job", description="Name of the job's folder; empty: the job that the panel shows", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        session.look_for_jobs()
        job = session.selected_job()
        reason = cls.why_not(job) if job is not None else "No job is selected"
        # A script may name another job than the one that is shown, and polling does not know which.
        if reason and (session.has_timer() or all(cls.why_not(other) for other in session.manager().jobs)):
            cls.poll_message_set(reason)
            return False
        return True

    @classmethod
    def why_not(cls, job: Job) -> str:
        """Why this cannot be done with a job, in a sentence without its full stop; empty if it can."""
        return ""

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            job = session.manager().get(self.job) if self.job else session.selected_job()
            if job is None:
                raise JobError("There is no such job any more.", remedy="Choose another one from the list.")
            if reason := self.why_not(job):  # `poll` has asked about the job that the panel shows
                raise JobError(f"{reason}.", remedy="Choose another one from the list.")
            self.act(context, job)
        except CoGradError as error:
            return report(self, error)
        session.redraw()
        return {"FINISHED"}

    def act(self, context: bpy.types.Context, job: Job) -> None:
        """Do it. Raises `CoGradError`."""
        raise NotImplementedError
