"""What the user chose (`Scene.cograd3d`, saved with the file) and how the panel looks now (`WindowManager.cograd3d`, not saved).

The advanced settings are made from `backend.config`. None of them is stored: each reads and writes `CoGradSettings.overrides`, the one text
that holds what the user changed, so that all others follow the quality and the method.
"""

import math
import os
import secrets
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from ..backend.preflight import LONGEST_PROMPT
from ..backend.settings import presets
from .settings import consent, overrides
from .settings.choices import QUALITIES, TEXTURE_SIZES, Choices
from .settings.controls import LARGEST, SECTIONS, Control, Kind, sections
from .settings.methods import methods
from .viewport import measures

# --- Advanced settings: one group a section


def _owner(group: bpy.types.PropertyGroup) -> "CoGradSettings":
    """The settings that an advanced group belongs to."""
    return group.id_data.cograd3d


def _value(group: bpy.types.PropertyGroup, control: Control) -> Any:
    owner = _owner(group)
    return overrides.effective(owner.overrides, control, owner.quality, owner.method)


def _change(group: bpy.types.PropertyGroup, control: Control, value: Any) -> None:
    owner = _owner(group)
    owner.overrides = overrides.change(owner.overrides, control, value, owner.quality, owner.method)


def _is_special(control: Control, value: Any) -> bool:
    return bool(control.special_label) and value == control.special


def _number(control: Control, group: bpy.types.PropertyGroup) -> float:
    """The number of a setting; where it is left open, the number it would begin with."""
    value = _value(group, control)
    return value if isinstance(value, int | float) and math.isfinite(value) else control.start


def _schedule_text(group: bpy.types.PropertyGroup, control: Control) -> str:
    """A schedule as text; where it is left open, the number it would begin with."""
    value = _value(group, control)
    return overrides.schedule_text(control.start if value is None else value)


def _schedule_setter(control: Control) -> Callable[[bpy.types.PropertyGroup, str], None]:
    return lambda group, text: _change(group, control, overrides.parse_schedule(control, text))


def _property(control: Control) -> Any:
    """The bpy property of a setting."""
    common: dict[str, Any] = {"name": control.label, "description": control.explanation, "options": set()}

    def store(group: bpy.types.PropertyGroup, value: Any) -> None:
        _change(group, control, value)

    if control.kind is Kind.SWITCH:
        return BoolProperty(**common, get=lambda group: bool(_value(group, control)), set=store)
    if control.kind is Kind.CHOICE:
        values = [value for value, _ in control.choices]

        def index(group: bpy.types.PropertyGroup) -> int:
            value = _value(group, control)
            return values.index(value) if value in values else 0

        return EnumProperty(
            **common,
            items=[(value, label, control.explanation, number) for number, (value, label) in enumerate(control.choices)],
            get=index,
            set=lambda group, number: _change(group, control, values[number]),
        )
    if control.kind is Kind.WHOLE:
        whole_limits = {"min": int(control.low or 0), "max": int(min(control.high or LARGEST, LARGEST))}
        return IntProperty(**common, **whole_limits, get=lambda group: int(_number(control, group)), set=store)
    if control.kind is Kind.NUMBER:
        limits = {name: limit for name, limit in (("min", control.low), ("max", control.high)) if limit is not None}
        return FloatProperty(**common, **limits, precision=4, step=1, get=lambda group: float(_number(control, group)), set=store)
    if control.kind is Kind.LIST:
        return StringProperty(
            **common,
            get=lambda group: overrides.list_text(_value(group, control)),
            set=lambda group, text: _change(group, control, overrides.parse_list(control, text)),
        )
    if control.kind is Kind.SCHEDULE:
        return StringProperty(**common, get=lambda group: _schedule_text(group, control), set=_schedule_setter(control))

    def store_text(group: bpy.types.PropertyGroup, text: str) -> None:
        if text.strip():
            _change(group, control, text.strip())
        else:
            _owner(group).overrides = overrides.reset(_owner(group).overrides, control.path)

    return StringProperty(**common, get=lambda group: str(_value(group, control)), set=store_text)


def _special_property(control: Control) -> Any:
    """The checkbox beside a number that may be left open."""

    def store(group: bpy.types.PropertyGroup, is_open: bool) -> None:
        _change(group, control, control.special if is_open else control.start)

    return BoolProperty(
        name=control.special_label,
        description=control.explanation,
        options=set(),
        get=lambda group: _is_special(control, _value(group, control)),
        set=store,
    )


def special_name(control: Control) -> str:
    """The name of the checkbox's property."""
    return f"{control.name}_open"


def _section_class(section: str, controls: tuple[Control, ...]) -> type:
    members: dict[str, Callable[..., Any]] = {}
    for control in controls:
        members[control.name] = _property(control)
        if control.special_label:
            members[special_name(control)] = _special_property(control)
    name = f"CoGrad{section.title().replace('_', '')}Settings"
    return type(name, (bpy.types.PropertyGroup,), {"__doc__": f"{SECTIONS[section]}.", "__module__": __name__, "__annotations__": members})


_SECTION_CLASSES = {section: _section_class(section, controls) for section, controls in sections().items()}

CoGradAdvanced = type(
    "CoGradAdvanced",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "Every other setting of a run, a group a section.",
        "__module__": __name__,
        "__annotations__": {
            section: PointerProperty(type=kind, name=SECTIONS[section], description=f"Settings of the section {section}")
            for section, kind in _SECTION_CLASSES.items()
        },
    },
)


# --- The scene


# A file stores what was chosen from a menu as a number. Each item says its own, and keeps it whatever comes before it in a later version;
# one that is taken out leaves a gap.

_Item = tuple[str, str, str, int]
_QUALITY_NUMBERS = {"draft": 0, "normal": 1, "high": 2}
_TEXTURE_NUMBERS = {256: 1, 512: 2, 1024: 3, 2048: 4, 4096: 5, 8192: 6}


def _quality_items() -> list[_Item]:
    described = presets("quality")
    return [(name, name.title(), described[name], _QUALITY_NUMBERS[name]) for name in QUALITIES]


def _method_items() -> list[_Item]:
    return [(each.name, each.label, ". ".join((each.description, *each.details[:1])), each.number) for each in methods().values()]


def _texture_items() -> list[_Item]:
    as_quality = ("0", "As the Quality Says", "512 for draft, 1024 for normal, 2048 for high", 0)
    return [as_quality, *((str(size), f"{size} px", f"{size} × {size} pixels", _TEXTURE_NUMBERS[size]) for size in TEXTURE_SIZES)]


def _absolute(path: str) -> str:
    """A path that Blender shows, `//` (the folder of the current file) resolved; empty for an empty one."""
    return os.path.abspath(os.path.expanduser(bpy.path.abspath(path.strip()))) if path.strip() else ""


_keys: dict[int, str] = {}
"""The keys that scenes have, or had before something was undone, by their `session_uid`, of which Blender gives none twice."""


def _can_be_filled(settings: "CoGradSettings", candidate: bpy.types.Object) -> bool:
    return candidate.type in {"MESH", "EMPTY", "CURVE", "SURFACE", "META", "FONT"}


class CoGradSettings(bpy.types.PropertyGroup):
    """What is asked for."""

    prompt: StringProperty(
        name="Prompt",
        description=f"What to make, in a sentence: at most {LONGEST_PROMPT:,} characters",
        options={"TEXTEDIT_UPDATE"},
    )
    negative_prompt: StringProperty(
        name="Avoid",
        description="What the result should not look like. Empty: nothing in particular",
        options={"TEXTEDIT_UPDATE"},
    )
    prior_source: EnumProperty(
        name="Image Model",
        description="The model that knows what things look like",
        items=(
            ("BUILTIN", "Built-in", "Knows 24 objects, 12 colours and 4 materials; needs no download", 0),
            (
                "EXACT",
                "Built-in, Exact",
                "Knows the same words, with sharper eyes and patterns; needs no download",
                4,
            ),
            ("FOLDER", "Folder", "A diffusers folder on this computer", 1),
            ("FILE", "File", "A .safetensors file on this computer", 2),
            ("HUB", "From the Hub", "A model by its name on the Hugging Face hub, fetched once and then kept", 3),
        ),
        default="BUILTIN",
    )
    prior_path: StringProperty(
        name="Folder",
        description="The folder of the image model, the one that holds model_index.json",
        subtype="DIR_PATH",
    )
    prior_file: StringProperty(
        name="File",
        description="The image model's .safetensors file",
        subtype="FILE_PATH",
    )
    prior_hub: StringProperty(
        name="Name",
        description="The model's name on the hub, owner/model",
    )
    allow_download: BoolProperty(
        name="Allow Download",
        description="Fetch the model, or what a file lacks, if it is not on this computer yet. It may be several gigabytes; it is fetched "
        "once and then kept. "
        "Asked anew for every model, and whenever Blender starts",
        options={"SKIP_PRESET"},
        get=lambda self: consent.is_allowed(self.fetched()),
        set=lambda self, yes: consent.allow(self.fetched(), yes),
    )
    quality: EnumProperty(
        name="Quality",
        description="How much time goes into shape and texture",
        items=_quality_items(),
        default="normal",
    )
    method: EnumProperty(
        name="Method",
        description="Which variant of the method shapes the result. For comparisons; CoGrad3D is the one to use",
        items=_method_items(),
        default="cograd3d",
    )
    seed: IntProperty(
        name="Seed",
        description="Another number gives another result for the same prompt; the same number gives the same again",
        min=0,
        max=LARGEST,
        default=0,
    )
    faces: IntProperty(
        name="Faces",
        description="How many faces the mesh may have. 0: as the quality says",
        min=0,
        max=2_000_000,
        default=0,
    )
    texture_size: EnumProperty(
        name="Texture",
        description="Width and height of the texture, pixels",
        items=_texture_items(),
        default="0",
    )
    initial_source: EnumProperty(
        name="Start From",
        description="The first shape, which the run then changes",
        items=(
            ("NONE", "Nothing", "A shapeless cloud", 0),
            ("SELECTED", "Selected Object", "The selected mesh as it stands, turned and sized; its front should face -Y", 1),
        ),
        default="NONE",
    )
    height: FloatProperty(
        name="Height",
        description="How tall the result is to stand in the scene",
        subtype="DISTANCE",
        unit="LENGTH",
        min=0.001,
        soft_max=100.0,
        default=1.0,
    )
    fit_object: PointerProperty(
        name="Fit To",
        description="A placeholder: the result is made as large as fits into its box, and stands where it stands, turned as it is. "
        "Empty: at the 3D cursor, as tall as Height says",
        type=bpy.types.Object,
        poll=_can_be_filled,
    )
    import_when_done: BoolProperty(
        name="Import When Done",
        description="Put the finished mesh into the scene by itself. Otherwise import it from the list of jobs",
        default=True,
    )
    overrides: StringProperty(
        name="Changed Settings",
        description="The advanced settings that were changed, as JSON",
        options={"HIDDEN"},
    )
    key: StringProperty(
        name="Key",
        description="What jobs know the scene by if it is renamed",
        options={"HIDDEN", "SKIP_PRESET"},
    )
    advanced: PointerProperty(type=CoGradAdvanced, name="Advanced", description="Every other setting of a run")

    def ensure_key(self) -> str:
        """The scene's key, made now if it has none. That is no undo step, so that undo may take it away: the scene then gets it again."""
        uid = self.id_data.session_uid
        self.key = _keys[uid] = self.key or _keys.get(uid) or secrets.token_hex(8)
        return self.key

    def fetched(self) -> str:
        """The model that consent to a download is for: a hub id, or a file, which may lack what the hub has."""
        return _absolute(self.prior_file) if self.prior_source == "FILE" else self.prior_hub.strip()

    def choices(self) -> Choices:
        """What is chosen, as plain values; paths absolute."""
        path = self.prior_file if self.prior_source == "FILE" else self.prior_path
        return Choices(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            prior_source=self.prior_source,
            prior_path=_absolute(path),
            prior_hub=self.prior_hub,
            allow_download=self.allow_download,
            quality=self.quality,
            method=self.method,
            seed=self.seed,
            faces=self.faces,
            texture_size=int(self.texture_size),
            overrides=overrides.read(self.overrides),
        )

    def take(self, choices: Choices) -> str:
        """Choose what plain values say; where the result is to stand does not change. Returns what the panel cannot hold, in sentences for
        the user; empty if it holds all.
        """
        self.prompt = choices.prompt
        self.negative_prompt = choices.negative_prompt
        self.prior_source = choices.prior_source
        self.prior_hub = choices.prior_hub
        self.prior_file = choices.prior_path if choices.prior_source == "FILE" else ""
        self.prior_path = choices.prior_path if choices.prior_source == "FOLDER" else ""
        self.quality = choices.quality
        self.method = choices.method
        self.seed = min(choices.seed, LARGEST)
        self.faces = choices.faces
        self.texture_size = str(choices.texture_size)
        self.initial_source = "NONE"
        self.overrides = overrides.write(choices.overrides)
        if choices.seed <= LARGEST:
            return ""
        return f"The panel cannot hold the seed {choices.seed} and has {LARGEST} now: Run Again and Reproduce keep the seed as it is."


# --- The window manager


class CoGradJobItem(bpy.types.PropertyGroup):
    """A line of the list of jobs; `name` is the job's id. Everything shown is read from the job itself."""


def _job_chosen(interface: "CoGradInterface", context: bpy.types.Context) -> None:
    from . import session

    if 0 <= interface.active_job < len(interface.jobs):
        chosen, selected = interface.jobs[interface.active_job].name, session.selected_job()
        if selected is None or selected.id != chosen:
            session.select_job(chosen)
            session.redraw()


class CoGradInterface(bpy.types.PropertyGroup):
    """How the panel looks now. Blender forgets this when a file is opened; what matters lives in `session`."""

    jobs: CollectionProperty(type=CoGradJobItem, name="Jobs", description="The jobs, newest first")
    active_job: IntProperty(name="Job", description="The selected job", default=-1, update=_job_chosen)
    job_filter: EnumProperty(
        name="Show",
        description="Which jobs the list shows",
        items=(
            ("ALL", "All Jobs", "Every job", 0),
            ("ACTIVE", "Waiting and Running", "Jobs that wait, run or are paused", 1),
            ("FINISHED", "Finished", "Jobs with a result", 2),
            ("UNFINISHED", "Without Result", "Jobs that failed, were cancelled or interrupted", 3),
        ),
        default="ALL",
    )
    measure: EnumProperty(
        name="Show",
        description="What the colours of the little cameras around the asset mean",
        items=measures.enum_items(),
        default=measures.DEFAULT,
    )
    show_regions: BoolProperty(
        name="Show Regions",
        description="Show a little camera for every view of the asset that the run looks at",
        default=True,
    )


_CLASSES = (*_SECTION_CLASSES.values(), CoGradAdvanced, CoGradSettings, CoGradJobItem, CoGradInterface)


def register() -> None:
    """Add `Scene.cograd3d` and `WindowManager.cograd3d`."""
    for kind in _CLASSES:
        bpy.utils.register_class(kind)
    bpy.types.Scene.cograd3d = PointerProperty(type=CoGradSettings, name="CoGrad3D", description="What CoGrad3D is to generate")
    bpy.types.WindowManager.cograd3d = PointerProperty(type=CoGradInterface, name="CoGrad3D", description="How CoGrad3D's panel looks now")


def unregister() -> None:
    """Undo `register`; what a file has stored stays in it."""
    del bpy.types.WindowManager.cograd3d
    del bpy.types.Scene.cograd3d
    for kind in reversed(_CLASSES):
        bpy.utils.unregister_class(kind)
