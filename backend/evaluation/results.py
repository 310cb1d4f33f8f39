"""`evaluate results`: generates a fixed list of prompts, measures each against its true object, and writes it up.

Every prompt is a job of its own in a work folder, so an interrupted evaluation goes on with the prompt at which it stopped;
what was asked for with other settings is none of it. Standard library only at import, so that the command line can show its help before
an environment stands.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from .. import __version__, machine, settings
from ..config import DEFAULT_PRIOR
from ..embedded import vocabulary
from ..errors import OutputError
from ..files import atomic_path, atomic_write_json, atomic_write_text, make_folder
from .work_folders import WorkFolders

if TYPE_CHECKING:
    from .measure import Row

PROMPTS = (
    "a red cat",
    "a purple dog",
    "a blue car",
    "a white pig",
    "a striped yellow bus",
    "a green robot",
    "a spotted brown owl",
    "a wooden chair",
    "a golden teapot",
    "a turquoise rabbit",
    "a pink elephant",
    "a red mug",
)
"""Twelve objects in ten colours and all four materials; purple dog, white pig, green robot, turquoise rabbit, pink elephant and
red mug are pairs that the learned prior never saw."""

OVERVIEW_COLUMNS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `evaluate results`."""
    output_help = "the report, an .md file; pictures go into a folder beside it"
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"), help=output_help)
    parser.add_argument("--work", type=Path, default=Path("results-work"), help="where the jobs live; finished ones are not repeated")
    parser.add_argument("--prior", default=DEFAULT_PRIOR, help="prior to use (%(default)s)")
    parser.add_argument("--quality", default="normal", choices=("draft", "normal", "high"))
    parser.add_argument("--prompts", nargs="+", default=list(PROMPTS), metavar="PROMPT", help="other prompts of the built-in world")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="SECTION.NAME=VALUE", help="override a setting")
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Runs what is missing and writes the report. Raises `PromptError` for a prompt that the built-in world has no true object for."""
    from .measure import Row, measure, write_overview

    for prompt in args.prompts:
        vocabulary.parse(prompt)
    sets = [f"prior.name={args.prior}", f"run.seed={args.seed}", *args.sets]
    config = settings.resolve(args.quality, sets=sets)
    pictures = _pictures_beside(args.output)
    make_folder(pictures)
    work = WorkFolders(args.work, args.quality, config)
    rows, folders = [], [work.folder(prompt) for prompt in args.prompts]
    for index, (prompt, folder) in enumerate(zip(args.prompts, folders, strict=True)):
        record = folder / "row.json"
        if not record.exists():
            make_folder(folder)
            atomic_write_json(record, asdict(measure(prompt, config, args.quality, folder)))
        row = Row(**json.loads(record.read_text("utf-8")))
        rows.append(row)
        with atomic_path(pictures / f"{index:02d}.png") as path:
            shutil.copyfile(folder / "sheet.png", path)
        print(f"{prompt}: mesh {row.mesh_psnr:.1f} dB, IoU {row.mesh_iou:.3f}, Janus {row.janus:.2f}, {row.seconds:.0f} s", flush=True)
    write_overview([folder / "portrait.png" for folder in folders], OVERVIEW_COLUMNS, pictures / "overview.png")
    atomic_write_text(args.output, report(rows, args, pictures.name))
    return 0


def _pictures_beside(output: Path) -> Path:
    """The folder of a report's pictures: its name without the ending."""
    if output.suffix.lower() != ".md" or output.is_dir():
        raise OutputError(f"{output} is no name for a report in Markdown.", remedy=f"Give a file: --output {output / 'results.md'}")
    return output.with_suffix("")


def report(rows: Sequence[Row], args: argparse.Namespace, folder: str) -> str:
    """The Markdown write-up of the rows."""
    mean = {f.name: fmean(getattr(row, f.name) for row in rows) for f in fields(rows[0]) if f.type == "float"}
    lines = [
        f"# Results with {args.prior}",
        "",
        f"`{command_line(args)}`, version {__version__}, on {machine.describe()}.",
        "",
        "Truth is the object that the words name, rendered at 24 views (128 px, three elevations) that no camera of the optimiser",
        'visited, in the frame that the prompt\'s front fixes. "Front view" means any view within 45 degrees of the front, so no word',
        'pins the frame to the degree: "turned" is the best agreement with the result turned about Z by up to 45 degrees. Janus is the',
        "share of the views from behind, on a ring of 24, that resemble a frontal true view most. Mesh against Gaussians: 12 further",
        "views at 256 px. Time is that of the whole job, from loading the prior to the files.",
        "",
        "| prompt | Gaussians | mesh | mesh, turned | Janus | azimuth error | mesh against Gaussians | Gaussians | faces | closed | time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_table_row(row) for row in rows),
        "| **mean** | " + " | ".join(f"**{cell}**" for cell in _scores(mean)) + f" | | | | {mean['seconds']:.0f} s |",
        "",
        "\\* an object-colour pair that the learned prior never saw in training.",
        "",
        "Each picture: the true object, the Gaussians, the mesh.",
        "",
    ]
    for index, row in enumerate(rows):
        lines += [f"**{row.prompt}**", "", f"![{row.prompt}]({folder}/{index:02d}.png)", ""]
    return "\n".join(lines)


def command_line(args: argparse.Namespace) -> str:
    """The command that makes these figures, wherever they are written."""
    words = ["python3", "-m", "backend", "evaluate", "results", "--prior", args.prior, "--quality", args.quality, "--seed", str(args.seed)]
    words += [] if args.prompts == list(PROMPTS) else ["--prompts", *args.prompts]
    return shlex.join([*words, *(word for assignment in args.sets for word in ("--set", assignment))])


def _scores(values: Mapping[str, float]) -> list[str]:
    """The table's cells that are measures, of one row or of the mean."""
    return [
        f"{values['gaussians_psnr']:.1f} dB, {values['gaussians_iou']:.3f}",
        f"{values['mesh_psnr']:.1f} dB, {values['mesh_iou']:.3f}",
        f"{values['turned_psnr']:.1f} dB, {values['turned_iou']:.3f} ({values['turn']:+.1f}°)",
        f"{values['janus']:.2f}",
        f"{values['azimuth_error']:.1f}°",
        f"{values['agreement_psnr']:.1f} dB, {values['agreement_iou']:.3f}",
    ]


def _table_row(row: Row) -> str:
    prompt = f"{row.prompt} *" if row.held_out else row.prompt
    counts = [str(row.gaussians), str(row.faces), "yes" if row.watertight else "no", f"{row.seconds:.0f} s"]
    return "| " + " | ".join([prompt, *_scores(asdict(row)), *counts]) + " |"
