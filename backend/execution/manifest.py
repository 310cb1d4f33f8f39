"""What a batch consists of, on disk: `batch.json` finds the job folder of a prompt again, `summary.csv` says what became of all.

::

    <output>/
      batch.json  summary.csv  job.lock
      001-a-red-cat.glb
      jobs/<date>-<slug>-<id>/     a job folder each (job.py)
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from .. import settings
from ..config import GenerationConfig
from ..errors import ConfigError, JobError
from ..files import atomic_write_json, atomic_write_text
from ..job import JobFolder, slug
from ..protocol import JobSpec
from ..wire import LineError, from_fields

__all__ = ["MANIFEST_FILE", "SUMMARY_FILE", "BatchJob", "Manifest", "SummaryRow", "write_summary"]

MANIFEST_FILE = "batch.json"
SUMMARY_FILE = "summary.csv"
JOBS_FOLDER = "jobs"

_SEPARATE = ("run.seed", "prior.name")
"""Settings that the manifest lists by themselves, so that it makes no difference by which option they were given, or whether."""
_INCIDENTAL = ("prior.allow_download", "prior.compile", "prior.memory", "run.checkpoint_every", "run.device", "run.preview_every")
"""Settings of how a job is done and not of what it makes: with others it is the same job, which goes on with them."""


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One prompt with one seed and one set of settings, and what was made of it so far.

    Attributes:
        number: from 1; it keeps it, and its asset's name, whatever happens to the file of prompts.
        prompt, seed, prior, quality, method, settings: what was asked for; two jobs never agree in all of them but `_INCIDENTAL`.
        folder: its job folder, relative to the batch's; empty before it is made.
        asset: the name of its asset in the batch's folder.
        assets: all such names that were asked for so far, which differ in their format.
        attempts, seconds: processes started for it that have ended, and how long they ran together.
        gaussians, faces: of the result; 0 before there is one.
    """

    number: int
    prompt: str
    seed: int
    prior: str
    quality: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    asset: str = ""
    assets: tuple[str, ...] = ()
    attempts: int = 0
    seconds: float = 0.0
    gaussians: int = 0
    faces: int = 0

    @classmethod
    def of(cls, spec: JobSpec, config: GenerationConfig, number: int) -> BatchJob:
        """The job that a request asks for."""
        return cls(
            number=number,
            prompt=spec.prompt,
            seed=config.run.seed,
            prior=config.prior.name,
            quality=spec.quality,
            method=spec.method,
            settings={name: value for name, value in spec.overrides.items() if name not in _SEPARATE},
        )

    @property
    def identity(self) -> str:
        """The same for two jobs that would make the same."""
        telling = {name: value for name, value in self.settings.items() if name not in _INCIDENTAL}
        return json.dumps([self.prompt, self.seed, self.prior, self.quality, self.method, telling], sort_keys=True)

    def asset_name(self, suffix: str) -> str:
        """`001-a-red-cat.glb`."""
        return f"{self.number:03d}-{slug(self.prompt)}.{suffix}"


class Manifest:
    """The jobs of a batch's folder, by their identity."""

    VERSION: ClassVar[int] = 1

    def __init__(self, root: Path, jobs: Iterable[BatchJob] = ()) -> None:
        self.root = root
        self.jobs = {job.identity: job for job in jobs}

    @classmethod
    def read(cls, root: Path) -> Manifest:
        """That of a folder; empty where there is none. Raises `JobError` if it cannot be read, is damaged or from a newer version."""
        path = root / MANIFEST_FILE
        damaged = JobError(f"{path} is damaged.", remedy="Choose another folder for this batch; what this one holds stays as it is.")
        try:
            document = json.loads(path.read_bytes())
            version, entries = document["version"], document["jobs"]
            if version > cls.VERSION:
                raise JobError(f"{path} was made by a newer version of CoGrad3D.", remedy="Update CoGrad3D, or choose another folder.")
            return cls(root, [from_fields(BatchJob, entry, "batch job") for entry in entries])
        except FileNotFoundError:
            return cls(root)
        except OSError as error:
            raise JobError(f"{path} cannot be read: {error.strerror or error}.", remedy="Check the permissions of that file.") from error
        except (ValueError, KeyError, TypeError, RecursionError, LineError) as error:
            raise damaged from error

    def write(self) -> None:
        """Keep it on disk. Raises `OutputError`."""
        jobs = [dataclasses.asdict(job) for job in self.jobs.values()]
        atomic_write_json(self.root / MANIFEST_FILE, {"version": self.VERSION, "jobs": jobs})

    def planned(self, spec: JobSpec, config: GenerationConfig, suffix: str) -> BatchJob:
        """The job for a request: the one that there is, else a new one with the next number, from now on in this manifest."""
        job = BatchJob.of(spec, config, 1 + max((job.number for job in self.jobs.values()), default=0))
        job = self.jobs.get(job.identity, job)
        name = job.asset_name(suffix)
        others = [other for other in (*job.assets, job.asset) if other not in ("", name)]
        return self.put(dataclasses.replace(job, asset=name, assets=(*dict.fromkeys(others), name)))

    def put(self, job: BatchJob) -> BatchJob:
        """Replace what is known of a job."""
        self.jobs[job.identity] = job
        return job

    def asset(self, job: BatchJob) -> Path:
        """Where its asset is to be."""
        return self.root / job.asset

    def folder(self, job: BatchJob) -> JobFolder | None:
        """Its job folder; None where there is none that can be read, so that a new one has to be made."""
        try:
            return JobFolder.open(self.root / job.folder) if job.folder else None
        except JobError:
            return None

    def make_folder(self, job: BatchJob, spec: JobSpec, config: GenerationConfig) -> BatchJob:
        """The job with a folder that asks for its asset: the one it has, or a new one. Raises `OutputError`."""
        outputs = (str(self.asset(job)),)
        folder = self.folder(job)
        if folder is None:
            spec = dataclasses.replace(spec, outputs=outputs, overwrite=True)
            folder = JobFolder.create(self.root / JOBS_FOLDER, spec, config)
            return self.put(dataclasses.replace(job, folder=folder.path.relative_to(self.root).as_posix(), attempts=0, seconds=0.0))
        if folder.spec.outputs != outputs:  # another format is asked for, or the batch was moved
            folder.write_spec(dataclasses.replace(folder.spec, outputs=outputs))
        with contextlib.suppress(ConfigError):  # of an earlier version: the run says what it does not know
            before = settings.from_dict(folder.config)
            now = settings.changed(before, {name: attrgetter(name)(config) for name in _INCIDENTAL})
            if now != before:
                folder.write_config(now)
        return job


@dataclass(frozen=True)
class SummaryRow:
    """A line of `summary.csv`; its fields are the columns."""

    number: int
    prompt: str
    seed: int
    prior: str
    quality: str
    method: str
    status: str
    seconds: float
    attempts: int
    asset: str
    gaussians: int
    faces: int
    error: str


def write_summary(path: Path, rows: Iterable[SummaryRow]) -> None:
    """Write `summary.csv`. Raises `OutputError`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(column.name for column in dataclasses.fields(SummaryRow))
    table.writerows(dataclasses.astuple(row) for row in rows)
    atomic_write_text(path, text.getvalue())
