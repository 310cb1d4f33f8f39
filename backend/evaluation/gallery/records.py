"""The figures of the gallery: one record a run, kept in a CSV file that later runs add to.

Standard library only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import atomic_write_text

UNKNOWN = math.nan
"""A measure that was not taken: its model was not given, or the result has no such thing."""


_ADDED = {"clip_b32_model", "clip_l14_model", "vqa_score_model", "image_reward_model", "clip_b32_angles", "clip_l14_angles"}
"""Columns that were added later: files of before lack them, and are read all the same."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run and what it was worth. Measures without a value are NaN.

    Attributes:
        variant: what was run, a name of `variants`.
        prompt, seed: for what, and from which beginning.
        prior, reliability: the diffusion model, and the share of calls in which the exact one obeys view words.
        quality, budget: the quality preset, and the predictions every run of the comparison was allowed.
        fingerprint: of the settings and of what they ran on; runs are repeated when it changes.
        iterations, predictions: what the run took.
        judge: fingerprint of the model that gave the alignment scores; those of different ones cannot be compared.
        alignment, alignment_std: image-text score of the renders, mean over angles and its standard deviation over them.
        alignment_angles: the score at each angle, of which `statistics.angle_std` makes the paper's std: the mean over angles of the
            standard deviation over runs.
        clip_b32, clip_l14, vqa_score, image_reward: the paper's own scores, where their models were given.
        clip_b32_angles, clip_l14_angles: these at each angle.
        clip_b32_model, clip_l14_model, vqa_score_model, image_reward_model: these models, as they were named.
        psnr, ssim, iou: against the true object at views no camera visited, the result turned about Z as fits best, by at most 45 degrees.
        psnr_fixed, iou_fixed: as it stands.
        chamfer: mean distance between the surfaces, both ways averaged, in world units (objects fill about a unit sphere).
        janus: share of the views from behind that show the front.
        azimuth_error: degrees, mean over a ring of views.
        wrong_views: share of a ring's views that resemble a true view more than 45 degrees away most.
        view_change: how much neighbouring views of a ring differ, relative to the true object's; 1 is right, 0 the same from everywhere.
        seconds, memory: of the optimisation, and the peak in MiB of the process that ended it.
    """

    variant: str
    prompt: str
    seed: int
    prior: str
    reliability: float
    quality: str
    budget: int
    fingerprint: str
    iterations: int
    predictions: int
    judge: str = ""
    alignment: float = UNKNOWN
    alignment_std: float = UNKNOWN
    alignment_angles: tuple[float, ...] = ()
    clip_b32: float = UNKNOWN
    clip_b32_angles: tuple[float, ...] = ()
    clip_b32_model: str = ""
    clip_l14: float = UNKNOWN
    clip_l14_angles: tuple[float, ...] = ()
    clip_l14_model: str = ""
    vqa_score: float = UNKNOWN
    vqa_score_model: str = ""
    image_reward: float = UNKNOWN
    image_reward_model: str = ""
    psnr: float = UNKNOWN
    ssim: float = UNKNOWN
    iou: float = UNKNOWN
    psnr_fixed: float = UNKNOWN
    iou_fixed: float = UNKNOWN
    chamfer: float = UNKNOWN
    janus: float = UNKNOWN
    azimuth_error: float = UNKNOWN
    wrong_views: float = UNKNOWN
    view_change: float = UNKNOWN
    seconds: float = UNKNOWN
    memory: float = UNKNOWN

    @property
    def key(self) -> tuple[str, str, int, str, float, str, int]:
        """What identifies the run: a newer record of the same key replaces an older one."""
        return self.variant, self.prompt, self.seed, self.prior, self.reliability, self.quality, self.budget


JUDGEMENTS = {
    "judge": ("alignment", "alignment_std", "alignment_angles"),
    "clip_b32_model": ("clip_b32", "clip_b32_angles"),
    "clip_l14_model": ("clip_l14", "clip_l14_angles"),
    "vqa_score_model": ("vqa_score",),
    "image_reward_model": ("image_reward",),
}
"""Fields that name a model, and what it said: scores of different models cannot be compared."""


def judges_of(records: Iterable[Record], field: str) -> list[str]:
    """The models that a field of `JUDGEMENTS` names, one for each record that has a score of it."""
    return [getattr(record, field) for record in records if not math.isnan(getattr(record, JUDGEMENTS[field][0]))]


def of_one_judge(records: Sequence[Record]) -> list[Record]:
    """The records, with the scores of the model that judged most of them, the first of several, and no other's; for each kind of score."""
    heard = list(records)
    for field, scores in JUDGEMENTS.items():
        judged = judges_of(records, field)
        if len(set(judged)) > 1:
            chosen = max(judged, key=judged.count)
            nothing: dict[str, Any] = {name: () if name.endswith("_angles") else UNKNOWN for name in scores}
            heard = [record if getattr(record, field) == chosen else replace(record, **nothing) for record in heard]
    return heard


def read_records(path: Path) -> list[Record]:
    """All records of a CSV file, none if it does not exist.

    Raises:
        InputError: it is no such file.
    """
    try:
        text = path.read_text("utf-8-sig")  # spreadsheets put a mark at its beginning
        return [_from_cells(row) for row in csv.DictReader(io.StringIO(text))]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise InputError(f"{path} holds no records of a gallery: {error}.", remedy="Name another file; this one stays as it is.") from error


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes the records, sorted, the last of each key."""
    latest = {record.key: record for record in records}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Record)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_to_cells(latest[key]) for key in sorted(latest))
    atomic_write_text(path, text.getvalue())


def _to_cells(record: Record) -> dict[str, str]:
    cells = {name: _cell(value) for name, value in asdict(record).items()}
    return cells | {"reliability": repr(record.reliability).removesuffix(".0")}  # to the last digit: the key has it


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(_cell(item) for item in value)
    return str(value)


def _from_cells(row: Mapping[str, str | None]) -> Record:
    """Columns of another version are ignored, and an earlier one's files lack `_ADDED`. Raises `KeyError` or `ValueError`."""
    values: dict[str, object] = {}
    for field in fields(Record):
        cell = row.get(field.name, "") if field.name in _ADDED else row[field.name]
        if cell is None:
            raise ValueError(f"a line ends before its {field.name}")
        if field.type == "float":
            values[field.name] = float(cell) if cell else UNKNOWN
        elif field.type == "int":
            values[field.name] = int(cell)
        elif field.type == "str":
            values[field.name] = cell
        else:
            values[field.name] = tuple(float(item) for item in cell.split())
    return Record(**values)  # type: ignore[arg-type]  # the annotations are strings, read above
