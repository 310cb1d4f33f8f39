"""Which Blender a job belongs to: `claim.json` in the job folder. No bpy.

The job folder says what became of a run, but not who wants it. A claim says which Blender ordered it, so that after a reload of the add-on
that very Blender goes on with its queue and its workers, while another one that looks into the same folder leaves them alone.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from ...backend.files import atomic_write_json
from ...backend.wire import LineError, from_fields
from .child import pid_is_alive

__all__ = ["Claim", "read_claim", "write_claim"]

_FILE = "claim.json"
_VARIABLE = "COGRAD3D_SESSION"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who ordered a job.

    Attributes:
        host: the machine's name.
        blender: number of the Blender process.
        session: names that process among all that had or will have the number.
        worker: number of the worker process that was started last; 0: none, or it has ended. Its own number once it has said it: what
            was started may be a launcher (that of a virtual environment on Windows).
        waits_since: when the job began to wait for its turn, seconds since 1970; 0: it does not wait.
    """

    host: str
    blender: int
    session: str
    worker: int = 0
    waits_since: float = 0.0

    @classmethod
    def mine(cls, *, worker: int = 0, waits_since: float = 0.0) -> Claim:
        """A claim of this process."""
        return cls(host=socket.gethostname(), blender=os.getpid(), session=_session(), worker=worker, waits_since=waits_since)

    @property
    def is_queued(self) -> bool:
        """Whether the job waits for its turn."""
        return self.waits_since > 0

    @property
    def is_mine(self) -> bool:
        """Whether this very process ordered the job."""
        return self.is_of_this_machine and self.session == _session()

    @property
    def is_of_this_machine(self) -> bool:
        """Whether the process numbers mean anything here."""
        return self.host == socket.gethostname()

    @property
    def has_worker(self) -> bool:
        """Whether a worker that this process started is there, if only just."""
        return self.is_mine and pid_is_alive(self.worker)

    @property
    def waits_elsewhere(self) -> bool:
        """Whether the job waits for its turn in another Blender on this machine, which is still there."""
        return self.is_queued and self.is_of_this_machine and not self.is_mine and not self.is_abandoned

    @property
    def is_abandoned(self) -> bool:
        """Whether the Blender that ordered the job is known to be gone."""
        return self.is_of_this_machine and not self.is_mine and (self.blender == os.getpid() or not pid_is_alive(self.blender))


def _session() -> str:
    """Names this process. It is kept where a reload of the add-on does not reach: in the environment, with the process's own number, since
    children inherit that.
    """
    pid, _, _ = os.environ.get(_VARIABLE, "").partition("-")
    if pid != str(os.getpid()):
        os.environ[_VARIABLE] = f"{os.getpid()}-{secrets.token_hex(8)}"
    return os.environ[_VARIABLE]


def read_claim(job: Path) -> Claim | None:
    """The claim on a job folder; None if there is none that can be read."""
    try:
        value = json.loads((job / _FILE).read_bytes())
        return from_fields(Claim, value, "claim") if isinstance(value, dict) else None
    except (OSError, ValueError, RecursionError, LineError):
        return None


def write_claim(job: Path, claim: Claim) -> None:
    """Put a claim on a job folder. Raises `OutputError`."""
    atomic_write_json(job / _FILE, asdict(claim), durable=False)
