"""What is needed to order a run, from whatever program: a request made of plain values, and the refusal of what can be known to fail.

Nothing here installs, loads or writes anything. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import environment, preflight, settings
from .config import NO_SMALL_VAE, GenerationConfig
from .embedded import vocabulary
from .errors import InputError, JobError, PriorError
from .files import absolute
from .guidance.kinds import is_hub_id
from .job import JobFolder
from .meshing.glb_header import refuse_compressed
from .protocol import JobSpec

BUILTIN_PRIORS: tuple[str, ...] = ("builtin:learned", "builtin:exact", "builtin")
"""Names of image models that need no file, the last short for the first; whatever else is named is a folder, a file or a hub id."""

BUILTIN_SHAPES: tuple[str, ...] = ("blob", "sphere")
"""Initial shapes that need no file."""

SHAPE_FILES: tuple[str, ...] = (".obj", ".ply", ".glb", ".stl", ".xyz")
"""Files that an initial shape may come from."""


_MAY_NAME_FILES = {"prior.name": BUILTIN_PRIORS, "prior.small_vae": (NO_SMALL_VAE,), "gaussians.initial": BUILTIN_SHAPES}
"""Settings that name a file or folder, and the values of theirs that never do."""


def jobs_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where job folders are made that nobody asked for by name: $COGRAD3D_JOBS, else `jobs` in the data folder."""
    if environ.get("COGRAD3D_JOBS"):
        return Path(environ["COGRAD3D_JOBS"]).expanduser().absolute()
    return environment.data_folder(environ) / "jobs"


def make_request(
    prompt: str,
    *,
    negative_prompt: str = "",
    quality: str = "normal",
    method: str = "cograd3d",
    overrides: Mapping[str, Any] | None = None,
    settings_file: Path | str | None = None,
    without: Sequence[str] = (),
    outputs: Sequence[Path | str] = (),
    overwrite: bool = False,
    origins: Mapping[str, str] | None = None,
) -> tuple[JobSpec, GenerationConfig]:
    """What was asked for, as it was asked and with every setting resolved.

    Files and folders become absolute paths, so that a run can be resumed from anywhere.

    Args:
        prompt: what to make.
        negative_prompt: what to stay away from.
        quality, method: names of presets.
        overrides: values of settings by their dotted name, `{"optimizer.iterations": 400}`; stronger than presets and file.
        settings_file: a TOML file with settings.
        without: parts of the method to switch off, by the names of `settings.COMPONENTS`.
        outputs: files the asset is copied to.
        overwrite: whether those may replace existing files.
        origins: by the name of an override, what to call it in an error message (`{"run.seed": "--seed -1"}`).

    Raises:
        ConfigError: an unknown preset, setting or part, a value out of its range, a file that cannot be read.
    """
    values = {name: _absolute_if_file(name, value) for name, value in (overrides or {}).items()}
    config = settings.resolve(quality, method, settings_file, without=without, overrides=values, origins=origins)
    spec = JobSpec(
        prompt=prompt,
        negative_prompt=negative_prompt,
        quality=quality,
        method=method,
        initial=config.gaussians.initial if "gaussians.initial" in values else "",
        overrides={name: settings.plain(value) for name, value in values.items()},
        without=tuple(without),
        settings_file=str(absolute(settings_file)) if settings_file else "",
        outputs=tuple(str(absolute(path)) for path in outputs),
        overwrite=overwrite,
    )
    return spec, config


def check_request(spec: JobSpec, config: GenerationConfig, folder: Path) -> None:
    """Refuse a run that cannot work.

    Args:
        spec, config: from `make_request`.
        folder: where its job folder is to be made; need not exist yet.

    Raises:
        PromptError: the prompt is empty, too long, no text, or beyond the built-in image model.
        PriorError: there is no such image model, or it is a file that is not opened.
        InputError: the initial shape is no file that can be read, or is compressed.
        OutputError: an output exists, has no known format or cannot be written, or nothing can be written to `folder`.
        ResourceError: too little memory or disk.
    """
    check_outputs(spec.outputs, overwrite=spec.overwrite)
    preflight.check_prompt(spec.prompt)
    if spec.negative_prompt:
        preflight.check_prompt(spec.negative_prompt, "negative prompt")
    if config.prior.name in BUILTIN_PRIORS:
        _check_words(spec)
    else:
        _check_prior(config.prior.name)
    _check_small_vae(config.prior.small_vae)
    _check_shape(config.gaussians.initial)
    _check_room(folder, spec.quality, config.prior.name)


def check_resume(job: JobFolder, outputs: Sequence[Path | str] | None = None, *, overwrite: bool = False) -> None:
    """Refuse to go on with a run that cannot go on.

    Args:
        job: the run's folder.
        outputs: files the asset is copied to, in place of those of the request.
        overwrite: whether those may replace existing files. A finished run replaces its own results.

    Raises:
        JobError: another process works on it, or it is damaged or from a newer version.
        OutputError, ResourceError: as `check_request`.
    """
    if job.in_use:
        raise JobError(f"Another process is working on {job.path}.", remedy="Wait until it is done, or end it first.")
    spec, finished = job.spec, job.state.status == "finished"
    if outputs is None:
        check_outputs(spec.outputs, overwrite=overwrite or spec.overwrite or finished)
    else:
        check_outputs(outputs, overwrite=overwrite)
    try:
        prior = job.config["prior"]["name"]
    except (KeyError, TypeError) as error:
        raise job.damaged(job.config_path) from error
    _check_room(job.path, spec.quality, prior)


def check_outputs(outputs: Sequence[Path | str], *, overwrite: bool) -> None:
    """Refuse files that could not be written at the end. Raises `OutputError` or `ResourceError`."""
    for path in outputs:
        preflight.check_output(absolute(path), overwrite=overwrite)


def _absolute_if_file(name: str, value: Any) -> Any:
    """The value of a setting; as an absolute path where it names a file or folder that exists."""
    if name not in _MAY_NAME_FILES or not isinstance(value, str) or not value or value in _MAY_NAME_FILES[name]:
        return value
    path = absolute(value)
    return str(path) if path.exists() else value


def _check_words(spec: JobSpec) -> None:
    vocabulary.parse(spec.prompt)
    if spec.negative_prompt:
        vocabulary.parse(spec.negative_prompt)


def _check_prior(name: str) -> None:
    path = Path(os.path.expanduser(name))
    if not path.exists() and not is_hub_id(name):
        raise PriorError(
            f"There is no image model {name}.",
            remedy="Name an existing folder or .safetensors file, a hub id such as owner/model, or builtin.",
        )
    if path.is_file() and path.suffix.lower() != ".safetensors":
        raise PriorError(
            f"{path} is no .safetensors file.",
            remedy="Other formats can carry programs and are not opened; convert it, or choose another model.",
        )


def _check_small_vae(name: str) -> None:
    if name != NO_SMALL_VAE and not Path(os.path.expanduser(name)).is_dir() and not is_hub_id(name):
        raise PriorError(
            f"There is no small image encoder {name}.",
            remedy="Name the folder of a diffusers AutoencoderTiny in prior.small_vae, or none.",
        )


def _check_shape(name: str) -> None:
    if name in BUILTIN_SHAPES:
        return
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() not in SHAPE_FILES:
        raise InputError(
            f"{name} is no shape to start from.",
            remedy=f"Choose {', '.join(BUILTIN_SHAPES)}, or a file that ends in {', '.join(SHAPE_FILES)}.",
        )
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy="Check the name of the shape to start from.")
    if path.suffix.lower() == ".glb":
        refuse_compressed(path)


def _check_room(folder: Path, quality: str, prior: str) -> None:
    preflight.check_writable(folder)
    preflight.check_disk(folder, preflight.JOB_BYTES)
    preflight.check_memory(quality, builtin_prior=prior in BUILTIN_PRIORS)
