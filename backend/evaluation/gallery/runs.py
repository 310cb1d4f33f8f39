"""The gallery's runs: planned alike for every variant, each a folder that can be left and taken up again.

::

    <folder>/run.json       what is run, with every setting
    <folder>/<job>/         its job folder
    <folder>/turntable.png  the result from all sides
    <folder>/record.json    its figures; last of all, so that a run that has it is done
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__, settings
from ...config import GenerationConfig
from ...embedded import vocabulary
from ...errors import UsageError
from ...files import atomic_write_json
from ...job import JobFolder, slug
from ...memory import peak_bytes
from ...protocol import JobSpec
from ...wording import command_line
from ..work_folders import job_in
from .records import UNKNOWN, Record
from .variants import Variant

if TYPE_CHECKING:
    from ...guidance.prior import DiffusionPrior

RUN_FILE, RECORD_FILE, STRIP_FILE = "run.json", "record.json", "turntable.png"
MEASURES = 2
"""Counts up whenever what is measured changes, so that records of before are measured anew."""
ALWAYS = ("run.preview_every=0",)
"""Settings of every run, which change no result."""


@dataclass(frozen=True)
class Terms:
    """What all runs of a comparison share.

    Attributes:
        prior, reliability: the diffusion model, and how often the exact one obeys view words.
        quality: the quality preset.
        sets: settings on top of everything, `section.name=value`.
    """

    prior: str
    reliability: float
    quality: str
    sets: tuple[str, ...] = ()

    @property
    def assignments(self) -> tuple[str, ...]:
        """All of them as settings."""
        return (f"prior.name={self.prior}", f"prior.reliability={self.reliability}", *ALWAYS, *self.sets)


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        record: what identifies it, without figures.
        config: every setting.
        folder: where it is done.
    """

    record: Record
    config: GenerationConfig
    folder: Path


def plan(
    variants: Sequence[Variant],
    pairs: Iterable[tuple[str, int]],
    terms: Terms,
    reference: Variant,
    prior: DiffusionPrior,
    work: Path,
) -> list[Run]:
    """All runs, those of one (prompt, seed) together: comparisons are complete as early as can be.

    Every variant may ask the prior for as many predictions as `reference` does in the quality's number of iterations.

    Raises:
        PromptError: a prompt that the built-in world has no true object for.
        ConfigError: settings that do not go together.
        UsageError: a variant that one iteration of would exceed the budget.
    """
    from ...embedded import world
    from ..distil import rows_per_iteration

    whole = reference.config(terms.quality, terms.assignments)
    budget = round(whole.optimizer.iterations * rows_per_iteration(whole, prior))
    affordable = []
    for variant in variants:
        config = variant.config(terms.quality, terms.assignments)
        rows = rows_per_iteration(config, prior)
        iterations = round(budget / rows)
        if iterations < 1:
            raise UsageError(f"{budget} predictions are not enough for one iteration of {variant.name}.", remedy="Raise --iterations.")
        affordable.append((variant, replace(config, optimizer=replace(config.optimizer, iterations=iterations)), round(iterations * rows)))
    runs = []
    for prompt, seed in pairs:
        vocabulary.parse(prompt)
        for variant, config, predictions in affordable:
            config = replace(config, run=replace(config.run, seed=seed))
            record = Record(
                variant=variant.name,
                prompt=prompt,
                seed=seed,
                prior=terms.prior,
                reliability=terms.reliability,
                quality=terms.quality,
                budget=budget,
                fingerprint=_fingerprint(config, prior, world.version()),
                iterations=config.optimizer.iterations,
                predictions=predictions,
            )
            runs.append(Run(record, config, work / _folder_name(record)))
    return runs


def _fingerprint(config: GenerationConfig, prior: DiffusionPrior, world: str) -> str:
    """Of everything that decides the figures: settings, weights, world, versions. The device does not, nor do settings of what is off.

    Where noise levels start and end, Perp-Neg's weight and that of translucency count by their value, whoever of settings, prior and rule
    says so.
    """
    from ...guidance.rules import Rule
    from ...method.optimizer import settled_opacity_entropy
    from ...method.timestep_sampling import settled

    timesteps = settled(config.timestep_sampling, prior.recommended)
    guidance = replace(config.guidance, perp_neg=Rule.settled_perp_neg(config.guidance))
    optimizer = replace(config.optimizer, opacity_entropy=settled_opacity_entropy(config.optimizer, prior.recommended))
    values = settings.to_dict(replace(config, timestep_sampling=timesteps, guidance=guidance, optimizer=optimizer))
    values["run"].pop("device", None)
    if not config.gradient_fusion.enabled:
        values["gradient_fusion"] = {"enabled": False}
    text = json.dumps([values, prior.fingerprint, world, __version__, MEASURES], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _folder_name(record: Record) -> str:
    return f"{slug(record.variant)}-{name_of(record.prompt)}-{record.seed}-{record.fingerprint}"


def name_of(prompt: str) -> str:
    """A prompt as part of a file name, no two alike: where its slug does not say it all, a hash does."""
    name = slug(prompt)
    return name if name.replace("-", " ") == prompt else f"{name}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"


def prepare(run: Run) -> None:
    """Writes down what `perform` is to do; a folder that has it stays as it is."""
    if not (run.folder / RUN_FILE).exists():
        run.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_json(run.folder / RUN_FILE, {"record": _plain(run.record), "config": settings.to_dict(run.config)})


def finished(folder: Path) -> Record | None:
    """The record of a run that is done."""
    try:
        return _record(json.loads((folder / RECORD_FILE).read_bytes()))
    except FileNotFoundError:
        return None


def perform(folder: Path, take_measures: Callable[[JobFolder, vocabulary.Description], dict[str, Any]]) -> int:
    """Does what `run.json` says, from wherever it was left, and measures the result. Returns an exit code.

    Args:
        take_measures: the figures of a finished job, by the names of `Record`'s fields.
    """
    from ...progress import run_with_progress

    asked = json.loads((folder / RUN_FILE).read_bytes())
    planned, config = _record(asked["record"]), settings.from_dict(asked["config"])
    record = finished(folder) or planned  # what was measured before by scores that are not asked for now is as true as it was
    memory = record.memory
    job = job_in(folder) or JobFolder.create(folder, JobSpec(prompt=record.prompt, quality=record.quality), config)
    if job.state.status != "finished":
        exit_code = run_with_progress(job, "quiet", resume=command_line(["python3", "-m", "backend", "evaluate", "run", str(folder)]))
        if exit_code != 0:
            return exit_code
        memory = peak_bytes() / 2**20
    figures = take_measures(job, vocabulary.parse(record.prompt))
    done = replace(record, seconds=optimisation_seconds(job), memory=memory, **figures)
    atomic_write_json(folder / RECORD_FILE, _plain(done))
    return 0


def optimisation_seconds(job: JobFolder) -> float:
    """How long the optimisation took, to the second; unknown if it was interrupted, or if the clock was set back meanwhile."""
    from datetime import datetime

    moments: dict[str, list[datetime]] = {}
    for event in job.read_events():
        if event["type"] == "phase":
            moments.setdefault(event["name"], []).append(datetime.fromisoformat(event["time"]))
    began, ended = moments.get("optimise", []), moments.get("surface", [])
    seconds = (ended[0] - began[0]).total_seconds() if len(began) == len(ended) == 1 else UNKNOWN
    return seconds if seconds >= 0 else UNKNOWN


def _plain(record: Record) -> dict[str, Any]:
    """For JSON, which has no NaN."""
    return {name: None if value != value else value for name, value in asdict(record).items()}


def _record(values: dict[str, Any]) -> Record:
    """What `_plain` returned, by whatever version. Raises `TypeError` where what identifies a run is missing."""
    known = {name: UNKNOWN if value is None else value for name, value in values.items() if name in Record.__dataclass_fields__}
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return Record(**fields)
