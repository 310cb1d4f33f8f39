"""Choosing an image model, and where to look for those that are on this computer already."""

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ...backend import model_files
from ...backend.errors import CoGradError
from ...backend.models import by_hub_id
from .. import session
from ..settings.models import entry_of, shelf
from . import ordering


class COGRAD3D_OT_choose_model(bpy.types.Operator):
    """Use this image model"""

    bl_idname = "cograd3d.choose_model"
    bl_label = "Use This Image Model"
    bl_options = {"INTERNAL", "UNDO"}

    source: EnumProperty(
        name="Source",
        description="Where it comes from",
        items=(
            ("BUILTIN", "Built-in", "The model that comes with CoGrad3D"),
            ("FOLDER", "Folder", "A folder on this computer"),
            ("FILE", "File", "A file on this computer"),
            ("HUB", "Hub", "A model of the hub"),
            ("EXACT", "Built-in, Exact", "The sharper one that comes with CoGrad3D"),
        ),
        options={"SKIP_SAVE"},
    )
    value: StringProperty(name="Model", description="Folder, file or hub id. Empty: to be said in the panel", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        entry = entry_of(properties.source, properties.value, shelf.found)
        about = entry.about if entry else properties.value
        return f"{about}. Nothing is fetched before you allow it" if by_hub_id(properties.value) else about

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = context.scene.cograd3d
        name = {"FOLDER": "prior_path", "FILE": "prior_file", "HUB": "prior_hub"}.get(self.source)
        # Without a value the field is to be shown, which it is not for a model of the menu.
        if name and (self.value or entry_of(self.source, bpy.path.abspath(getattr(chosen, name)), shelf.found)):
            setattr(chosen, name, self.value)
        chosen.prior_source = self.source
        return {"FINISHED"}


class COGRAD3D_OT_model_folder_add(bpy.types.Operator):
    """Choose a folder with image models, or that of a program that uses some, such as ComfyUI or Stable Diffusion WebUI.
They are offered in the menu of image models; nothing in the folder is changed"""  # fmt: skip

    bl_idname = "cograd3d.model_folder_add"
    bl_label = "Look in a Folder"

    directory: StringProperty(name="Folder", description="The folder with the models", subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not self.directory.strip():
            self.report({"ERROR"}, "No folder was chosen. Name the one with the models.")
            return {"CANCELLED"}
        try:
            folder = model_files.add_folder(Path(bpy.path.abspath(self.directory)))
        except CoGradError as error:
            return ordering.report(self, error)
        shelf.look()
        self.report({"INFO"}, f"Looking for image models in {folder}")
        return {"FINISHED"}


class COGRAD3D_OT_model_folder_remove(bpy.types.Operator):
    """Look for image models in this folder no more. What is in it stays"""

    bl_idname = "cograd3d.model_folder_remove"
    bl_label = "Forget This Folder"

    folder: StringProperty(name="Folder", description="The folder, as it is listed", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            model_files.remove_folder(self.folder)
        except CoGradError as error:
            return ordering.report(self, error)
        shelf.look()
        return {"FINISHED"}


class COGRAD3D_OT_models_refresh(bpy.types.Operator):
    """Look for image models on this computer again"""

    bl_idname = "cograd3d.models_refresh"
    bl_label = "Look Again"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if shelf.is_looking:
            cls.poll_message_set("They are being looked for already")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        shelf.look()
        return {"FINISHED"}


CLASSES = (
    COGRAD3D_OT_choose_model,
    COGRAD3D_OT_model_folder_add,
    COGRAD3D_OT_model_folder_remove,
    COGRAD3D_OT_models_refresh,
)


def follow() -> bool:
    """Follow the search, and show what it found; called by the session's timer. Returns whether it is to come back soon: nobody waits."""
    shelf.poll()
    if shelf.has_news():
        session.redraw(preferences_too=True)
    return False


def register() -> None:
    """Register the operators, and look for models a first time where somebody may want to see them."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    session.register_poller(follow)
    if not bpy.app.background:
        shelf.look()


def unregister() -> None:
    """Undo `register`."""
    shelf.stop()
    session.unregister_poller(follow)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
