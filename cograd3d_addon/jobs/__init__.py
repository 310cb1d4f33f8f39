"""The running jobs as Blender sees them: start, follow, steer, take up again. No bpy.

`manager` holds them all and is what the rest of the add-on talks to; `job` is one of them; `run` looks after one that is alive, through a
`channel`: pipes to a worker that was started here (`child`, `pipes`), or the job folder's files for one that was not. `watch` says which
folders are new or changed, `disk` what one holds, `claim` which Blender it belongs to, `history` how the regions fared.
"""

from __future__ import annotations

from .history import MEASURES, RegionHistory
from .job import Job, JobStatus
from .manager import JobManager, end_waiting
from .run import Patience
from .worker_command import worker_command

__all__ = ["MEASURES", "Job", "JobManager", "JobStatus", "Patience", "RegionHistory", "end_waiting", "worker_command"]
