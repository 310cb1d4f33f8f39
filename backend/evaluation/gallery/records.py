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

from ...errors import InputError
from ...files import atomic_write_text

UNKNOWN = math.nan
"""A measure that was not taken: its model was not given, or the result has no such thing."""


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
        clip_b32, clip_b32_std, clip_l14, clip_l14_std, vqa_score, image_reward: the paper's own scores, where their models were given.
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
    clip_b32_std: float = UNKNOWN
    clip_l14: float = UNKNOWN
    clip_l14_std: float = UNKNOWN
    vqa_score: float = UNKNOWN
    image_reward: float = UNKNOWN
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


def of_one_judge(records: Sequence[Record]) -> list[Record]:
    """The records, with the alignment scores of the model that judged most of them, the first of several, and no other's."""
    judged = [record.judge for record in records if not math.isnan(record.alignment)]
    if len(set(judged)) < 2:
        return list(records)
    chosen = max(judged, key=judged.count)
    return [
        record if record.judge == chosen else replace(record, alignment=UNKNOWN, alignment_std=UNKNOWN, alignment_angles=())
        for record in records
    ]


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
    """Every column must be there; those of a later version are ignored. Raises `KeyError` or `ValueError`."""
    values: dict[str, object] = {}
    for field in fields(Record):
        cell = row[field.name]
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
