"""`models`: the image models that there are: built in, on this computer, and worth having."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from .. import machine, model_files
from ..config import DEFAULT_PRIOR
from ..embedded import vocabulary
from ..model_files import ModelFile, Scan
from ..models import CATALOGUE, Model, recommend
from ..request import BUILTIN_PRIORS
from ..wording import command_line

_ALLOW = "--set prior.allow_download=true"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Models are looked for in the cache of the hub's libraries and in the folders that you name once: a folder with models, or that\n"
        "of a program that uses some (ComfyUI, Stable Diffusion WebUI, InvokeAI). Blender looks in the same ones. Nothing is downloaded."
    )
    parser.add_argument("--add-folder", type=Path, action="append", metavar="DIR", help="look in this folder from now on; repeatable")
    parser.add_argument("--remove-folder", type=Path, action="append", metavar="DIR", help="look in it no more; what it holds stays")
    parser.add_argument("--json", action="store_true", help="as a JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    for folder in args.remove_folder or ():
        model_files.remove_folder(folder)
    for folder in args.add_folder or ():
        model_files.add_folder(folder)
    gpus, found = machine.gpus(), model_files.scan()
    best = recommend(gpus)
    print(_as_json(gpus, found, best) if args.json else "\n".join(_report(gpus, found, best)))
    return 0


def _report(gpus: list[machine.Gpu], found: Scan, best: Model | None) -> Iterable[str]:
    yield "Built in:"
    for name in BUILTIN_PRIORS:
        yield from _entry(name, *_of_builtin(name))
    yield ""
    yield "On this computer:"
    for model in found.models:
        yield from _entry(model.title, model.describe(), command_line(["--prior", model.name]))
    if not found.models:
        yield "  none found"
    yield from _where(found)
    yield ""
    yield "Worth having, from the hub (sizes as published, memory by estimate):"
    here = {model.name for model in found.models}
    for entry in CATALOGUE:
        yield from _entry(
            entry.title,
            entry.good_for,
            entry.cost(),
            entry.terms(),
            f"--prior {entry.hub_id}" + ("  (on this computer already)" if entry.hub_id in here else f" {_ALLOW}"),
            mark="*" if entry == best else " ",
        )
    yield ""
    yield "Where a licence is to be accepted: on the model's page of the hub; then log in here with `hf auth login`, or set HF_TOKEN."
    yield _verdict(gpus, best)


def _of_builtin(name: str) -> tuple[str, ...]:
    """What is said of a built-in model."""
    if name == "builtin":
        return (f"short for {DEFAULT_PRIOR}",)
    if name == "builtin:exact":
        return ("knows the same words by pictures of the objects themselves: sharper eyes and patterns",)
    words = f"{len(vocabulary.OBJECTS)} objects, {len(vocabulary.COLOURS)} colours, {len(vocabulary.MATERIALS)} materials"
    return (f"the default: a small diffusion model that knows {words}", "no download, no GPU")


def _entry(title: str, *lines: str, mark: str = " ") -> Iterable[str]:
    yield f"{mark} {title}"
    yield from (f"      {line}" for line in lines)


def _where(found: Scan) -> Iterable[str]:
    """What else was seen, and where."""
    if found.left_out:
        yield f"  left out: {', '.join(f'{count} {what}' for what, count in sorted(found.left_out.items()))}"
    if not found.is_complete:
        yield "  not everything was looked at: name a folder with fewer files in it"
    yield f"  looked in: {', '.join(map(str, (model_files.hub_cache(), *model_files.folders())))}"
    yield "  `--add-folder DIR` names another one, such as that of ComfyUI"


def _verdict(gpus: list[machine.Gpu], best: Model | None) -> str:
    if not gpus:
        return "No GPU was found here: the built-in model is the one to use."
    names = ", ".join(gpu.name + (f" ({gpu.memory / machine.GIB:.0f} GB)" if gpu.memory else "") for gpu in gpus)
    if best is None:
        return f"{names}: too little memory for these; the built-in model is the one to use."
    return f"* the one for this computer: {names}"


def _as_json(gpus: list[machine.Gpu], found: Scan, best: Model | None) -> str:
    def as_dict(model: ModelFile | Model | machine.Gpu) -> dict[str, object]:
        return dataclasses.asdict(model)

    return json.dumps(
        {
            "builtin": list(BUILTIN_PRIORS),
            "found": [as_dict(model) for model in found.models],
            "left_out": dict(found.left_out),
            "complete": found.is_complete,
            "looked_in": [str(path) for path in (model_files.hub_cache(), *model_files.folders())],
            "gpus": [as_dict(gpu) for gpu in gpus],
            "recommended": [as_dict(model) | {"for_this_computer": model == best} for model in CATALOGUE],
        },
        indent=2,
    )
