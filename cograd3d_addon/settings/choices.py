"""The whole panel as plain values: the request that it makes, and how a request looks in the panel again. No bpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...backend import settings
from ...backend.config import DEFAULT_PRIOR, PERP_NEG_OF_RULES, GenerationConfig
from ...backend.errors import ConfigError, PriorError
from ...backend.protocol import JobSpec
from ...backend.request import BUILTIN_PRIORS, BUILTIN_SHAPES, make_request
from .controls import ELSEWHERE

QUALITIES = ("draft", "normal", "high")
"""From quick to fine."""

BUILTIN_SOURCES = {"BUILTIN": DEFAULT_PRIOR, "EXACT": "builtin:exact"}
"""The built-in image models and their names for the backend; the first is its default."""

TEXTURE_SIZES = (256, 512, 1024, 2048, 4096, 8192)
"""Pixels that the panel offers; any other size can still be among the changed settings."""


@dataclass(kw_only=True)
class Choices:
    """What the user chose.

    Attributes:
        prompt, negative_prompt: as typed; may hold line ends.
        prior_source: BUILTIN, EXACT, FOLDER, FILE or HUB.
        prior_path: the folder or the file.
        prior_hub: the hub id.
        allow_download: consent to fetch it, or what a file lacks.
        quality, method: names of presets.
        seed: of everything random.
        faces: face budget, 0: as the quality says.
        texture_size: pixels, 0: as the quality says.
        overrides: the changed advanced settings by dotted name.
        without: parts of the method that were switched off by name; only runs from the command line have these.
    """

    prompt: str = ""
    negative_prompt: str = ""
    prior_source: str = "BUILTIN"
    prior_path: str = ""
    prior_hub: str = ""
    allow_download: bool = False
    quality: str = "normal"
    method: str = "cograd3d"
    seed: int = 0
    faces: int = 0
    texture_size: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    @property
    def is_builtin(self) -> bool:
        """Whether a built-in image model is asked, which knows few words."""
        return self.prior_source in BUILTIN_SOURCES

    def prior(self) -> str:
        """The image model's name for the backend. Raises `PriorError` if none was chosen."""
        if self.is_builtin:
            return BUILTIN_SOURCES[self.prior_source]
        name = (self.prior_hub if self.prior_source == "HUB" else self.prior_path).strip()
        if not name:
            what = {"FOLDER": "folder", "FILE": "file", "HUB": "model on the hub"}[self.prior_source]
            raise PriorError(f"No {what} is chosen as image model.", remedy="Choose one, or use the built-in image model.")
        return name

    def all_changes(self) -> dict[str, Any]:
        """The changed advanced settings, and those numbers of the panel that are settings too, by dotted name."""
        values = dict(self.overrides)
        if self.faces:
            values["surface.faces"] = self.faces
        if self.texture_size:
            values["texture.size"] = self.texture_size
        return values

    def all_overrides(self, initial: Path | None = None) -> dict[str, Any]:
        """Every setting that differs from the presets, by dotted name.

        Args:
            initial: mesh to start from, in place of the first shape that the settings name.
        """
        values: dict[str, Any] = {**self.all_changes(), "run.seed": self.seed}
        if (prior := self.prior()) != DEFAULT_PRIOR:
            values["prior.name"] = prior
        if self.prior_source in ("HUB", "FILE") and self.allow_download:
            values["prior.allow_download"] = True
        if initial is not None:
            values["gaussians.initial"] = str(initial)
        return values

    def request(self, initial: Path | None = None) -> tuple[JobSpec, GenerationConfig]:
        """What to order. Raises `ConfigError` or `PriorError`."""
        return make_request(
            one_line(self.prompt),
            negative_prompt=one_line(self.negative_prompt),
            quality=self.quality,
            method=self.method,
            overrides=self.all_overrides(initial),
            without=self.without,
        )


def one_line(text: str) -> str:
    """A prompt without line ends and double spaces; Blender's text box makes both."""
    return " ".join(text.split())


def choices_of(spec: JobSpec, config: Mapping[str, Any]) -> Choices:
    """The panel's choices that give a job's request again.

    What came from a settings file, or was switched off by name, becomes a change in the advanced settings: the file may be gone. A
    refinement gives what the result that it refines was asked for: it cannot be ordered from the panel.

    Args:
        spec: what was asked for.
        config: the job's `config.json`; settings that a model recommended are filled in there, and are not taken over.
    """
    quality = spec.quality if spec.quality in settings.presets("quality") else "normal"
    method = spec.method if spec.method in settings.presets("method") else "cograd3d"
    values = dict(spec.overrides)
    if spec.settings_file:
        values = _differences(config, quality, method) | values
    for component in spec.without:
        values[f"{settings.COMPONENTS.get(component, component)}.enabled"] = False
    if spec.initial and not spec.refines:
        values["gaussians.initial"] = spec.initial
    source, path, hub = _prior_choice(str(values.get("prior.name", DEFAULT_PRIOR)))
    texture_size = int(values.get("texture.size", 0))
    elsewhere = set(ELSEWHERE)
    if texture_size not in TEXTURE_SIZES:
        texture_size = 0
        elsewhere.discard("texture.size")
    return Choices(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        prior_source=source,
        prior_path=path,
        prior_hub=hub,
        quality=quality,
        method=method,
        seed=int(values.get("run.seed", config.get("run", {}).get("seed", 0))),
        faces=int(values.get("surface.faces", 0)),
        texture_size=texture_size,
        overrides={path: value for path, value in values.items() if path not in elsewhere and path in settings.catalogue()},
    )


def _prior_choice(name: str) -> tuple[str, str, str]:
    """(source, path, hub id) of an image model's name."""
    if name in BUILTIN_PRIORS:
        return ("EXACT" if name == BUILTIN_SOURCES["EXACT"] else "BUILTIN"), "", ""
    path = Path(name)
    if name.lower().endswith(".safetensors"):
        return "FILE", name, ""
    return ("FOLDER", name, "") if path.is_absolute() or path.exists() else ("HUB", "", name)


def _differences(config: Mapping[str, Any], quality: str, method: str) -> dict[str, Any]:
    """The settings in which a run differed from its presets; none where its configuration cannot be understood."""
    try:
        sections = GenerationConfig.sections()
        run = settings.to_dict(settings.from_dict({name: values for name, values in config.items() if name in sections}))
    except ConfigError:
        return {}
    presets = settings.to_dict(settings.resolve(quality, method))
    for values in (presets, run):  # the rule, unlike a model, is known: what it fills in can be told from what was asked for
        if values["guidance"]["perp_neg"] is None:
            values["guidance"]["perp_neg"] = PERP_NEG_OF_RULES.get(run["guidance"]["rule"], 0.0)
    optional = {path for path, setting in settings.catalogue().items() if setting.default is None or setting.default == "auto"}
    optional.discard("guidance.perp_neg")
    return {
        path: value
        for section, values in run.items()
        for name, value in values.items()
        if (path := f"{section}.{name}") not in optional and value != presets[section][name]
    }


def lower_quality(quality: str) -> str | None:
    """The next quicker quality; None below draft."""
    index = QUALITIES.index(quality) if quality in QUALITIES else 1
    return QUALITIES[index - 1] if index else None


def refusal(choices: Choices, *, wants_object: bool, has_object: bool, hint: str, problem: tuple[str, str] | None) -> str:
    """Why nothing can be generated with these choices, in a sentence without its full stop; empty if it can. Costs next to nothing.

    Args:
        choices: everything but what only the disk knows.
        wants_object, has_object: whether to start from the selected object, and whether a mesh is selected.
        hint: what the built-in image model says about the prompt; empty where it understands.
        problem: message and remedy of a setting that cannot be.
    """
    reason = ""
    if not choices.prompt.strip():
        reason = "Say what to make first: type a prompt"
    elif hint:
        reason = hint
    elif problem is not None:
        reason = f"A changed setting cannot be: {problem[0]}"
    elif wants_object and not has_object:
        reason = "Select the mesh object to start from, or start from nothing"
    elif wants_object and choices.overrides.get("gaussians.initial", "blob") not in BUILTIN_SHAPES:
        reason = "Two first shapes are chosen: reset Shape in the advanced settings, or start from nothing"
    else:
        try:
            choices.prior()
        except PriorError as error:
            reason = f"{error.message} {error.remedy}"
    return reason.rstrip(".")
