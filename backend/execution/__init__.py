"""Many processes as one: tasks that are run side by side, on this computer or on a Ray cluster, behind one interface.

A task is a command that may be killed at any moment and given again: its job folder resumes. `executor` says what an executor does,
`local` and `ray_cluster` are the two there are, `child` is one process, `attended` what runs in it, `manifest` what a batch of prompts
consists of. Standard library only at import.
"""

from .executor import Executor, make_executor
from .task import Outcome, Task

__all__ = ["Executor", "Outcome", "Task", "make_executor"]
