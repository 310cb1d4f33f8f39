"""`evaluate prior`: does the learned prior draw what it is asked for? Its samples, named by a classifier of true pictures; and its errors.

Three sets of prompts, each from all four sides: pairs of object and colour that training has shown, pairs that it never
showed, and materials. The table also has the classifier's accuracy on true pictures: no sample can be expected to do
better.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ...guidance.prior import DiffusionPrior
    from ..vocabulary import Description
    from .dataset import Examples

SETS = ("seen", "held out", "materials")
QUESTIONS = ("object", "colour", "material", "view")
TIMESTEPS = (100, 400, 600, 700, 780)
"""At which errors are measured: levels that annealing passes through with the built-in priors, and one above."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the report."""
    parser.add_argument("prior", type=Path, help="pipeline folder")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where samples.json, table.md and the sheets go")
    parser.add_argument("--scale", type=float, help="classifier-free guidance (default: as the prior recommends)")
    parser.add_argument("--steps", type=int, default=25, help="sampling steps (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=36, help="pairs a set, each drawn from four sides (default: %(default)s)")
    parser.add_argument(
        "--views", type=int, default=1500, help="rendered views an object that the classifier learns from (default: %(default)s)"
    )
    parser.add_argument("--pictures", type=int, default=480, help="pictures that errors are measured on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and the noise (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="processor cores to use (default: all)")


def run(args: argparse.Namespace) -> int:
    """Samples, judges, writes the report and prints its table."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import numpy as np
    import torch

    from ... import machine
    from ...files import atomic_write_json, atomic_write_text, make_folder
    from ...guidance.diffusers_prior import load_diffusers_prior
    from .classifier import accuracy, cached_classifier
    from .dataset import WorldDataset
    from .sampling import save_sheet

    make_folder(args.output)
    prior = load_diffusers_prior(args.prior, device=torch.device("cpu"))
    scale = prior.recommended.guidance_scale if args.scale is None else args.scale
    dataset = WorldDataset(args.views, np.random.default_rng(args.seed), held_out=frozenset())
    torch.set_num_threads(args.threads or machine.cores())  # numba, which has rendered, shares its threads with torch
    judge = cached_classifier(dataset, progress=print)
    ceiling = accuracy(judge, dataset)
    rows: list[dict[str, object]] = []
    for name, descriptions in prompt_sets(args.pairs, np.random.default_rng(args.seed)).items():
        pictures = sample(prior, descriptions, scale, args.steps, torch.Generator().manual_seed(args.seed))
        rows += [{"set": name, "prompt": d.text, **judged(d, named)} for d, named in zip(descriptions, judge.name(pictures), strict=True)]
        four = len(descriptions) // 4
        sheet = [pictures[8 * k : 8 * k + 8] for k in range((four + 1) // 2)]
        titles = [" | ".join(d.text for d in descriptions[8 * k : 8 * k + 8 : 4]).replace(", front view", "") for k in range(len(sheet))]
        save_sheet(args.output / f"{name.replace(' ', '-')}.png", sheet, titles)
    errors = {}
    for backdrops, varied in (("varied", True), ("two", False)):
        dataset.rng = np.random.default_rng(args.seed)  # whatever the classifier has drawn
        examples = dataset.draw(args.pictures, varied=varied)
        errors[backdrops] = denoising_errors(prior, examples, torch.Generator().manual_seed(args.seed))
    report = f"{table(rows, ceiling)}\n{error_table(errors)}"
    figures = {"scale": scale, "steps": args.steps, "classifier": ceiling, "errors": errors, "samples": rows}
    atomic_write_json(args.output / "samples.json", figures)
    atomic_write_text(args.output / "table.md", report)
    print(report)
    return 0


def prompt_sets(pairs: int, rng: np.random.Generator) -> dict[str, list[Description]]:
    """Descriptions of each set: at most this many pairs, each with all four view words in turn.

    The generator chooses the pairs.
    """
    from .. import vocabulary as words

    every = [(name, colour) for name in words.OBJECTS for colour in words.COLOURS]
    chosen = {
        "seen": [words.Description(*pair) for pair in every if pair not in words.HELD_OUT],
        "held out": [words.Description(*pair) for pair in sorted(words.HELD_OUT)],
        "materials": [
            words.Description(name, None, material)
            for name in words.OBJECTS
            for material in words.MATERIALS
            if not words.Description(name, None, material).is_held_out
        ],
    }
    result = {}
    for name, descriptions in chosen.items():
        some = sorted(rng.permutation(len(descriptions))[:pairs].tolist())
        result[name] = [
            words.Description(descriptions[i].object, descriptions[i].colour, descriptions[i].material, view)
            for i in some
            for view in words.VIEW_WORDS
        ]
    return result


def sample(
    prior: DiffusionPrior, descriptions: Sequence[Description], scale: float, steps: int, generator: torch.Generator, batch: int = 32
) -> torch.Tensor:
    """[B, 3, H, W] one picture a description."""
    import torch

    from .sampling import ddim

    size = prior.recommended.resolutions[-1]
    texts = [description.text for description in descriptions]
    return torch.cat([ddim(prior, texts[i : i + batch], (3, size, size), scale, steps, generator) for i in range(0, len(texts), batch)])


def denoising_errors(prior: DiffusionPrior, examples: Examples, generator: torch.Generator, batch: int = 32) -> list[float]:
    """Mean square errors of x0 in -1..1 at each of `TIMESTEPS`, the examples' true view words named. The generator draws the noise."""
    import torch

    texts = [dataclasses.replace(d, view=word).text for d, word in zip(examples.descriptions, examples.view_words, strict=True)]
    result = []
    for time in TIMESTEPS:
        alpha_bar, total = prior.alphas_cumprod[time], 0.0
        for first in range(0, len(texts), batch):
            pictures = examples.images[first : first + batch]
            z = alpha_bar.sqrt() * pictures + (1 - alpha_bar).sqrt() * torch.randn(pictures.shape, generator=generator)
            conditioning = prior.encode_prompts(texts[first : first + batch])
            noise = prior.predict_noise(z, torch.full((len(z),), time), conditioning)
            total += ((z - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt() - pictures).square().sum().item()
        result.append(total / examples.images.numel())
    return result


def judged(description: Description, named: dict[str, str]) -> dict[str, bool | None]:
    """Whether each question is answered as was asked; None where the prompt does not say."""
    asked = {
        "object": description.object,
        "colour": description.base_colour,
        "material": description.material or "plain",
        "view": description.view,
    }
    return {question: None if asked[question] is None else named[question] == asked[question] for question in QUESTIONS}


def table(rows: Sequence[Mapping[str, object]], ceiling: dict[str, float]) -> str:
    """The share of right answers as a Markdown table: a line a set, then a line a view word over all sets."""
    lines = ["| samples | count | object | colour | material | view word | object and colour |", "|---|---|---|---|---|---|---|"]
    groups: dict[str, list[Mapping[str, object]]] = {name: [row for row in rows if row["set"] == name] for name in SETS}
    by_view = defaultdict(list)
    for row in rows:
        by_view[str(row["prompt"]).rpartition(", ")[2]].append(row)
    for name, members in [*groups.items(), *by_view.items()]:
        if members:
            both = [row["object"] and row["colour"] is not False for row in members]
            shares = [_share([row[question] for row in members]) for question in QUESTIONS]
            lines.append(f"| {name} | {len(members)} | {' | '.join(shares)} | {_share(both)} |")
    lines.append(f"| true pictures | | {' | '.join(f'{ceiling[question]:.1%}' for question in QUESTIONS)} | |")
    return "\n".join(lines) + "\n"


def error_table(errors: Mapping[str, Sequence[float]]) -> str:
    """Mean square errors as a Markdown table: a line for each way that backdrops were drawn."""
    lines = [f"| backdrops | {' | '.join(f't = {time}' for time in TIMESTEPS)} |", "|---" * (1 + len(TIMESTEPS)) + "|"]
    lines += [f"| {backdrops} | {' | '.join(f'{value:.4f}' for value in values)} |" for backdrops, values in errors.items()]
    return "\n".join(lines) + "\n"


def _share(answers: Sequence[object]) -> str:
    known = [bool(answer) for answer in answers if answer is not None]
    return f"{sum(known) / len(known):.1%}" if known else ""
