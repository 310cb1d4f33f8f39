"""How each setting of a run is shown: its kind of control, its label, its explanation and its range. No bpy."""

from __future__ import annotations

import enum
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...backend import settings
from ...backend.config import GenerationConfig

ELSEWHERE = frozenset({"prior.name", "prior.allow_download", "surface.faces", "texture.size", "run.seed"})
"""Settings that the main panel has already."""

SECTIONS = {
    "prior": "Image Model",
    "guidance": "Guidance",
    "grid": "View Regions",
    "region_sampling": "Which Region Next",
    "timestep_sampling": "Noise Levels",
    "gradient_fusion": "Agreement of Neighbours",
    "gaussians": "First Shape",
    "densification": "Growing Detail",
    "optimizer": "Shaping",
    "surface": "Surface",
    "texture": "Texture Painting",
    "run": "Computer",
}
"""The sections in words."""

LABELS = {
    "prior.dtype": "Precision",
    "prior.views": "Pictures Known",
    "prior.compile": "Compile",
    "prior.memory": "Save Memory",
    "prior.small_vae": "Small Image Encoder",
    "prior.small_vae_until": "Small Encoder Until",
    "guidance.rule": "Rule",
    "guidance.scale": "Prompt Strength",
    "guidance.nominal_scale": "Strength as Published",
    "guidance.weighting": "Weight of a Level",
    "guidance.clamp": "Gradient Limit",
    "guidance.view_prompts": "Name the View",
    "guidance.blend_views": "Blend View Words",
    "guidance.perp_neg": "Perp-Neg",
    "guidance.asd_shift": "ASD: Shift",
    "guidance.cds_gap": "CDS: Gap",
    "guidance.ism_step": "ISM: Interval",
    "guidance.ism_stride": "ISM: Stride",
    "guidance.hifa_steps": "HiFA: Steps",
    "guidance.hifa_image_weight": "HiFA: Image Weight",
    "guidance.vsd_rate": "VSD: Rate",
    "grid.fov": "Field of View",
    "grid.cameras": "Views of a Step",
    "region_sampling.uniform_floor": "Even Share",
    "region_sampling.loss_bins": "Loss Bins",
    "region_sampling.weights": "Region Factors",
    "region_sampling.warmup_passes": "Warm-Up Passes",
    "timestep_sampling.loss_ema": "Loss Smoothing",
    "gradient_fusion.cap": "Strength Limit",
    "gradient_fusion.memory_limit_gib": "Memory Limit (GiB)",
    "gaussians.sh_degree": "View-Dependent Colour",
    "gaussians.initial": "Shape",
    "gaussians.grow": "Grown Around Each",
    "optimizer.views": "Cameras per Step",
    "optimizer.lr_means": "Rate: Positions",
    "optimizer.lr_scales": "Rate: Sizes",
    "optimizer.lr_quats": "Rate: Rotations",
    "optimizer.lr_opacities": "Rate: Opacities",
    "optimizer.lr_sh0": "Rate: Base Colours",
    "optimizer.lr_shN": "Rate: View-Dependent",
    "optimizer.lr_end": "Rate: Final Share",
    "optimizer.betas": "Adam Betas",
}
"""Labels that a setting's name alone would not give."""

ABBREVIATIONS = {
    "sds": "SDS",
    "perp_neg": "Perp-Neg",
    "asd": "ASD",
    "cds": "CDS",
    "ism": "ISM",
    "hifa": "HiFA",
    "vsd": "VSD",
    "csd": "CSD",
    "x0": "x0",
    "cpu": "CPU",
}
"""Choices that are not written with a capital first letter."""

STARTS = {
    "guidance.scale": 30.0,
    "guidance.nominal_scale": 100.0,
    "guidance.clamp": 1.0,
    "guidance.perp_neg": 1.0,
    "grid.fov": 40.0,
    "region_sampling.temperature": 0.1,
    "timestep_sampling.start": 0.98,
    "gradient_fusion.cap": 0.5,
}
"""Where a number begins when the user takes it over from the model or the rule, or limits what had no limit."""

LEFT_OPEN = {"guidance.perp_neg": "As the Rule Has It"}
"""What the checkbox of a setting says that is left to something else than the model."""

_SCHEDULE_HELP = ". A number, or points of progress and value: [0, 2], [1, 8] runs from 2 at the first step to 8 at the last"

LARGEST = 2**31 - 1
"""Blender's integers end here."""


class Kind(enum.Enum):
    """What sort of control shows a setting."""

    SWITCH = enum.auto()
    WHOLE = enum.auto()
    NUMBER = enum.auto()
    CHOICE = enum.auto()
    TEXT = enum.auto()
    LIST = enum.auto()  # numbers, written as text
    SCHEDULE = enum.auto()  # a number, or points of progress and value, written as text


@dataclass(frozen=True)
class Control:
    """One setting as the panel shows it.

    Attributes:
        path: its dotted name, `section.name`.
        kind: the sort of control.
        label, explanation: in words; the explanation names the path too, as the command line uses it.
        low, high: inclusive range, None where open.
        choices: (value, label) of each choice.
        special: the value that is not a number but a checkbox beside it: None ("as the model recommends") or infinity ("no limit").
        special_label: that checkbox; empty if there is none.
        start: the number shown when the checkbox is taken away.
    """

    path: str
    kind: Kind
    label: str
    explanation: str
    low: float | None = None
    high: float | None = None
    choices: tuple[tuple[str, str], ...] = ()
    special: float | None = None
    special_label: str = ""
    start: float = 0.0

    @property
    def section(self) -> str:
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        return self.path.partition(".")[2]


@cache
def controls() -> dict[str, Control]:
    """Every setting that the panel does not show elsewhere, by path, in the order of `backend.config`."""
    return {path: _control(setting) for path, setting in settings.catalogue().items() if path not in ELSEWHERE}


@cache
def sections() -> dict[str, tuple[Control, ...]]:
    """The controls of each section, in order."""
    return {name: tuple(c for c in controls().values() if c.section == name) for name in GenerationConfig.sections()}


def _control(setting: settings.Setting) -> Control:
    kind, optional = _without_none(setting.type)
    is_schedule = settings.is_schedule(setting.type)
    left_open = LEFT_OPEN.get(setting.path, "As the Model Recommends")
    special, special_label = (None, left_open) if optional else (float("inf"), "No Limit") if setting.infinite else (None, "")
    return Control(
        path=setting.path,
        kind=Kind.SCHEDULE if is_schedule else _kind(kind, setting.choices),
        label=LABELS.get(setting.path) or setting.name.replace("_", " ").title(),
        explanation=f"{setting.help[:1].upper()}{setting.help[1:]}{_SCHEDULE_HELP if is_schedule else ''}  [{setting.path}]",
        low=setting.low,
        high=setting.high,
        choices=tuple((choice, ABBREVIATIONS.get(choice) or choice[:1].upper() + choice[1:]) for choice in setting.choices),
        special=special,
        special_label=special_label,
        start=STARTS.get(setting.path, 0.0),
    )


def _without_none(kind: Any) -> tuple[Any, bool]:
    """A type without `| None`, and whether it had that; of a schedule, the type of its points."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        arguments = typing.get_args(kind)
        return next(argument for argument in reversed(arguments) if argument is not type(None)), type(None) in arguments
    return kind, False


def has_pairs(control: Control) -> bool:
    """Whether a list is one of pairs: `[0, 2]` alone is then one pair, and not two entries."""
    return typing.get_origin(typing.get_args(_without_none(settings.catalogue()[control.path].type)[0])[0]) is tuple


def _kind(kind: Any, choices: tuple[str, ...]) -> Kind:
    if typing.get_origin(kind) is tuple:
        return Kind.LIST
    if choices:
        return Kind.CHOICE
    return {bool: Kind.SWITCH, int: Kind.WHOLE, float: Kind.NUMBER, str: Kind.TEXT}[kind]
