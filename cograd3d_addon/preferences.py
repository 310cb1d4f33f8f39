"""The extension's preferences: where things live, what happens when Blender quits, and how the regions look."""

import os
from pathlib import Path

import bpy
from bpy.props import EnumProperty, FloatProperty, FloatVectorProperty, IntProperty, StringProperty

from ..backend import environment, machine, model_files
from . import setup
from .package import ROOT_PACKAGE
from .settings.models import shelf, summary

_PATHS = ("environment_location", "setup_python", "own_python", "jobs_folder")


def _path_changed(preferences: "CoGradPreferences", context: bpy.types.Context) -> None:
    """Paths relative to the open file become absolute at once: preferences belong to no file, and when Blender starts none is open."""
    for name in _PATHS:
        path = getattr(preferences, name).strip()
        if path.startswith("//"):
            setattr(preferences, name, os.path.abspath(bpy.path.abspath(path)))  # which calls this again
            return
    preferences.choose_environment()


class CoGradPreferences(bpy.types.AddonPreferences):
    """Settings that belong to this computer, not to a file."""

    bl_idname = ROOT_PACKAGE

    environment_location: StringProperty(
        name="Folder",
        description="Where CoGrad3D keeps the Python packages that its generator needs (about 2 GB, 6 GB with an NVIDIA GPU). "
        "Empty: the folder used last, which at first is the system's folder for application data. "
        "Changing it moves nothing: set up again, and remove the old folder first",
        subtype="DIR_PATH",
        update=_path_changed,
    )
    setup_python: StringProperty(
        name="Make It With",
        description="A Python 3.11, 3.12 or 3.13 to make the environment from. Empty: Blender's own",
        subtype="FILE_PATH",
        update=_path_changed,
    )
    own_python: StringProperty(
        name="Existing Python",
        description="A Python that has everything the generator needs already, used instead of the folder above. "
        "It is tried out once before it is used, and never changed",
        subtype="FILE_PATH",
        update=_path_changed,
    )
    jobs_folder: StringProperty(
        name="Jobs",
        description="Where the folders of running and finished jobs are kept. Empty: the system's folder for application data",
        subtype="DIR_PATH",
        update=_path_changed,
    )
    on_quit: EnumProperty(
        name="When Blender Quits",
        description="What becomes of a job that is running when Blender is closed",
        items=(
            ("STOP", "Pause the Job", "The job saves its state and ends; Blender offers to continue it next time", 0),
            ("KEEP", "Keep It Running", "The job goes on without Blender; the result is there when Blender is started again", 1),
        ),
        default="STOP",
    )
    max_running: IntProperty(
        name="Jobs at a Time",
        description="How many jobs may run at the same time; the others wait. More than one shares the processor, the GPU and the memory",
        min=1,
        max=4,
        default=1,
    )
    preview_points: IntProperty(
        name="Preview Points",
        description="How many points the preview in the viewport has at most. Fewer are drawn faster",
        min=1_000,
        max=1_000_000,
        soft_max=200_000,
        default=50_000,
    )
    colour_scale: EnumProperty(
        name="Colours",
        description="Colours of the little cameras around the asset, from little left to do to much left to do",
        items=(
            ("VIRIDIS", "Viridis", "Violet over green to yellow; even steps, told apart with every kind of colour blindness", 0),
            ("CIVIDIS", "Cividis", "Blue to yellow; looks the same to people with and without red-green colour blindness", 1),
            ("INFERNO", "Inferno", "Black over red to pale yellow; the strongest differences in brightness", 2),
            ("CUSTOM", "Custom", "From one colour of your choice to another", 3),
        ),
        default="VIRIDIS",
    )
    colour_low: FloatVectorProperty(
        name="Low",
        description="Colour of the low end of the scale",
        subtype="COLOR_GAMMA",
        size=3,
        min=0.0,
        max=1.0,
        default=(0.20, 0.42, 0.78),
    )
    colour_high: FloatVectorProperty(
        name="High",
        description="Colour of the high end of the scale",
        subtype="COLOR_GAMMA",
        size=3,
        min=0.0,
        max=1.0,
        default=(1.00, 0.76, 0.16),
    )
    frustum_size: FloatProperty(
        name="Camera Size",
        description="Size of the little cameras around the asset, as a factor",
        min=0.1,
        max=5.0,
        soft_min=0.3,
        soft_max=2.0,
        default=1.0,
    )
    gizmo_line_width: FloatProperty(
        name="Line Width",
        description="Width of the little cameras' lines, in pixels before the interface's scale",
        min=1.0,
        max=8.0,
        default=2.0,
        subtype="PIXEL",
    )

    def choose_environment(self) -> None:
        """Make the environment that is set here the one that workers run in."""
        setup.supervisor.choose(location=_path(self.environment_location), own_python=_path(self.own_python))

    def jobs_path(self) -> Path:
        """The folder of the job folders."""
        from ..backend.request import jobs_folder

        return _path(self.jobs_folder) or jobs_folder()

    def base_python(self) -> Path | None:
        """The Python that the environment is made from; None for Blender's own."""
        return _path(self.setup_python)

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's preferences of this extension."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        self._draw_environment(_group(layout, "Generator", "CONSOLE"), context)
        self._draw_models(_group(layout, "Image Models on This Computer", "IMAGE_DATA"), context)
        self._draw_jobs(_group(layout, "Jobs", "FILE_CACHE"))
        self._draw_viewport(_group(layout, "Viewport", "VIEW3D"))
        self._draw_disk(_group(layout, "On Disk", "DISK_DRIVE"), context)

    def _draw_environment(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        from .ui.environment import draw_environment_in_full

        draw_environment_in_full(layout, context)
        situation = setup.supervisor.situation
        column = layout.column()
        column.enabled = not situation.phase.is_busy
        own = column.column()
        own.active = not situation.is_existing
        own.prop(self, "environment_location", placeholder=str(situation.root or ""))
        own.prop(self, "setup_python")
        row = own.row()
        row.operator("cograd3d.environment_setup_offline", icon="FILE_FOLDER")
        column.prop(self, "own_python")

    def _draw_models(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        from .ui.text import draw_paragraph

        draw_paragraph(layout, context, "Looking..." if shelf.is_looking else summary(shelf.found))
        layout.label(text=str(model_files.hub_cache()), icon="FILE_FOLDER", translate=False)
        for folder in shelf.found.folders if shelf.found else ():
            row = layout.row()
            row.label(text=str(folder), icon="FILE_FOLDER", translate=False)
            row.operator("cograd3d.model_folder_remove", text="", icon="X").folder = str(folder)
        row = layout.row()
        row.operator("cograd3d.model_folder_add", text="Look in a Folder...", icon="ADD")
        row.operator("cograd3d.models_refresh", icon="FILE_REFRESH")

    def _draw_jobs(self, layout: bpy.types.UILayout) -> None:
        layout.prop(self, "jobs_folder", placeholder=str(self.jobs_path()))
        layout.prop(self, "max_running")
        layout.prop(self, "on_quit", expand=False)

    def _draw_viewport(self, layout: bpy.types.UILayout) -> None:
        layout.prop(self, "colour_scale")
        if self.colour_scale == "CUSTOM":
            row = layout.row()
            row.prop(self, "colour_low", text="From")
            row.prop(self, "colour_high", text="To")
        layout.prop(self, "frustum_size")
        layout.prop(self, "gizmo_line_width")
        layout.prop(self, "preview_points")

    def _draw_disk(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        from .ui.text import draw_paragraph

        root, jobs, cache = setup.supervisor.situation.root, self.jobs_path(), environment.cache_folder()
        rows = (
            ("Generator", "ENVIRONMENT", root, (root,)),
            ("Jobs", "JOBS", jobs, (jobs,)),
            ("Cache", "CACHE", cache, environment.cache_parts()),
        )
        setup.disk_usage.keep_counted([part for *_, parts in rows for part in parts if part is not None])
        for name, which, folder, parts in rows:
            if folder is None:
                continue
            sizes = [setup.disk_usage.get(part) for part in parts if part is not None]
            size = None if None in sizes else sum(part or 0 for part in sizes)
            split = layout.split(factor=0.65)
            split.label(text=f"{name}: {folder}", icon="FILE_FOLDER")
            row = split.row(align=True)
            row.label(text="counting..." if size is None else machine.format_bytes(size))
            row.operator("cograd3d.open_folder", text="", icon="FILEBROWSER").which = which
            row.operator(_REMOVERS[which], text="", icon="TRASH")
        left = "Uninstalling the extension leaves these three; remove them here. The prompts used last stay as well, in a small file: "
        draw_paragraph(layout, context, f'{left}"Forget These Prompts" below the clock beside the prompt removes them.', icon="INFO")


_REMOVERS = {
    "ENVIRONMENT": "cograd3d.environment_remove",
    "JOBS": "cograd3d.jobs_remove_all",
    "CACHE": "cograd3d.cache_remove",
}


def _group(layout: bpy.types.UILayout, title: str, icon: str) -> bpy.types.UILayout:
    """A titled box."""
    box = layout.box()
    box.label(text=title, icon=icon)
    return box.column()


def _path(text: str) -> Path | None:
    """An absolute path; None for an empty one, and for one that was relative (`//`) to a file that nobody knows any more."""
    text = text.strip()
    return Path(text).expanduser().absolute() if text and not text.startswith("//") else None


def register() -> None:
    """Called first of all modules.

    Raises:
        RuntimeError: Blender keeps no preferences for the extension, as where `--addons` switched it on for once.
    """
    if ROOT_PACKAGE not in bpy.context.preferences.addons:
        raise RuntimeError("CoGrad3D keeps its choices in the preferences. Enable it there, under Add-ons, and leave it out of --addons.")
    bpy.utils.register_class(CoGradPreferences)
    try:
        preferences = bpy.context.preferences.addons[ROOT_PACKAGE].preferences
        for name in _PATHS:
            if getattr(preferences, name).strip().startswith("//"):  # stored by an earlier version
                preferences.property_unset(name)
        preferences.choose_environment()
    except Exception:
        unregister()
        raise


def unregister() -> None:
    """Undo `register`, and end a process that is at work on the environment."""
    setup.supervisor.close()
    setup.disk_usage.close()
    bpy.utils.unregister_class(CoGradPreferences)
