"""What the user can do with finished jobs and with the objects made from them."""

import dataclasses
import os
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ...backend import settings
from ...backend.errors import CoGradError
from .. import session
from ..importing import assets, automatic, exporting, metadata
from ..importing.results import check_replaceable, import_onto, is_linked, is_result
from ..importing.undo import obstacle
from ..jobs import Job, JobStatus
from .ordering import order, report


def _job(operator: bpy.types.Operator) -> Job | None:
    """The job that the operator names, else the selected one."""
    session.look_for_jobs()
    return session.manager().get(operator.job) if operator.job else session.selected_job()


def _finished_job(operator: bpy.types.Operator) -> Job | None:
    """The same, if it has a result; says so if not."""
    job = _job(operator)
    if job is None:
        operator.report({"ERROR"}, "There is no such job. Choose a finished one from the list of jobs.")
        return None
    if job.status is not JobStatus.FINISHED:
        operator.report({"ERROR"}, "The job has no result yet. Choose a finished one.")
        return None
    return job


def _is_object_mode(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    if context.mode != "OBJECT":
        cls.poll_message_set("Go back to Object Mode first: the import would not be one undo step")
        return False
    return True


def _is_result_active(cls: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    if not is_result(context.active_object):
        cls.poll_message_set("Select an object that was made by CoGrad3D")
        return False
    return True


def _select(context: bpy.types.Context, thing: bpy.types.Object) -> None:
    """As Blender's importers do; an object in a hidden collection cannot be selected."""
    context.view_layer.update()  # else it does not know yet what was linked just now
    if thing.name in context.view_layer.objects:
        for other in context.view_layer.objects.selected[:]:
            other.select_set(False)
        context.view_layer.objects.active = thing
        if thing.visible_get():
            thing.select_set(True)


class COGRAD3D_OT_import_result(bpy.types.Operator):
    """Put the finished mesh into the scene, with its material and texture. A refined result replaces the object that it refines"""

    bl_idname = "cograd3d.import_result"
    bl_label = "Import Result"
    bl_options = {"REGISTER", "UNDO"}

    job: StringProperty(name="Job", description="Folder name of the job; empty: the selected one", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        session.look_for_jobs()
        job = session.selected_job()
        if job is not None and job.status is not JobStatus.FINISHED and session.has_timer():  # a script may name another one
            what_to_do = "continue it, or choose a finished one" if job.status.is_over else "wait until it is done"
            cls.poll_message_set(f"The job has no result yet: {what_to_do}")
            return False
        return _is_object_mode(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = _finished_job(self)
        if job is None:
            return {"CANCELLED"}
        try:
            thing = automatic.bring(job, context.scene)
        except CoGradError as error:
            return report(self, error)
        automatic.forget(job.id)
        _select(context, thing)
        return {"FINISHED"}


class COGRAD3D_OT_bring_result(bpy.types.Operator):
    """Put a result into the scene that it was ordered from, as happens by itself when its job is done"""

    bl_idname = "cograd3d.bring_result"
    bl_label = "Import Finished Result"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    job: StringProperty(name="Job", description="Folder name of the job", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if reason := obstacle():
            cls.poll_message_set(f"It {reason}")
        return not reason

    def execute(self, context: bpy.types.Context) -> set[str]:
        return {"FINISHED"} if automatic.bring_ordered(self.job) else {"CANCELLED"}

    def draw(self, context: bpy.types.Context) -> None:
        """In Adjust Last Operation, which has nothing to adjust here: what came."""
        job = session.manager().get(self.job)
        self.layout.label(text=job.spec.prompt if job is not None else self.job)


class COGRAD3D_OT_import_onto(bpy.types.Operator):
    """Replace mesh, material and texture of the active object by this result; place, modifiers and parents stay"""

    bl_idname = "cograd3d.import_onto"
    bl_label = "Import onto Active Object"
    bl_options = {"REGISTER", "UNDO"}

    job: StringProperty(name="Job", description="Folder name of the job; empty: the selected one", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _is_object_mode(cls, context) and _is_result_active(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        job = _finished_job(self)
        if job is None:
            return {"CANCELLED"}
        try:
            check_replaceable(context.active_object)
            import_onto(job.folder, context.active_object)
        except CoGradError as error:
            return report(self, error)
        automatic.forget(job.id)
        return {"FINISHED"}


class COGRAD3D_OT_copy_object_settings(bpy.types.Operator):
    """Fill the panel with the prompt and the settings that made the active object"""

    bl_idname = "cograd3d.copy_object_settings"
    bl_label = "Copy Settings"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _is_result_active(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        from ..settings.choices import choices_of

        try:
            spec, config = metadata.request_of(context.active_object[metadata.KEY])
        except CoGradError as error:
            return report(self, error)
        if lost := context.scene.cograd3d.take(choices_of(spec, config)):
            self.report({"WARNING"}, lost)
        else:
            self.report({"INFO"}, "Prompt and settings are in the panel")
        return {"FINISHED"}


class COGRAD3D_OT_reproduce_object(bpy.types.Operator):
    """Generate the active object again, with every setting as it was then. It is put where the panel says"""

    bl_idname = "cograd3d.reproduce_object"
    bl_label = "Reproduce"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _is_result_active(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            spec, config = metadata.request_of(context.active_object[metadata.KEY])
            order(context, dataclasses.replace(spec, outputs=(), overwrite=False, refines=""), settings.from_dict(config))
        except CoGradError as error:
            return report(self, error)
        return {"FINISHED"}


class COGRAD3D_OT_show_views(bpy.types.Operator):
    """Show the little cameras around the active object, coloured by how its views fared"""

    bl_idname = "cograd3d.show_views"
    bl_label = "Show Views"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _is_result_active(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        job_id = str(context.active_object[metadata.KEY].get("job", ""))
        session.select_job(job_id if session.manager().get(job_id) is not None else "")
        context.window_manager.cograd3d.show_regions = True
        session.redraw()
        return {"FINISHED"}


class COGRAD3D_OT_mark_asset(bpy.types.Operator):
    """Mark the active object as an asset, with a picture, the prompt as description, and tags"""

    bl_idname = "cograd3d.mark_asset"
    bl_label = "Mark as Asset"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not _is_result_active(cls, context):
            return False
        if is_linked(context.active_object):
            cls.poll_message_set("It is linked from another file: mark it there")
            return False
        if context.active_object.asset_data is not None:
            cls.poll_message_set("It is an asset already")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        assets.mark_as_asset(context.active_object, session.manager().root)
        return {"FINISHED"}


class COGRAD3D_OT_export_result(bpy.types.Operator):
    """Export the active object with Blender's own exporter, with the options that keep all it has"""

    bl_idname = "cograd3d.export_result"
    bl_label = "Export"
    bl_options = {"REGISTER"}

    format: EnumProperty(
        name="Format",
        description="The kind of file",
        items=[(exporter.format, exporter.label, exporter.explanation) for exporter in exporting.EXPORTERS.values()],
    )
    filepath: StringProperty(name="File", description="Where to write it", subtype="FILE_PATH", options={"SKIP_SAVE"})
    check_existing: BoolProperty(
        name="Confirm Overwrite", description="Warn before an existing file is replaced", default=True, options={"HIDDEN"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        return exporting.EXPORTERS[properties.format].explanation

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _is_object_mode(cls, context) and _is_result_active(cls, context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for the file in Blender's file browser; it suggests the object's name, beside the .blend file."""
        if not self.filepath:
            folder = Path(bpy.data.filepath).parent if bpy.data.filepath else Path.home()
            self.filepath = str(folder / bpy.path.clean_name(context.active_object.name))
        self.check(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def check(self, context: bpy.types.Context) -> bool:
        """The file browser asks: does the name go with the format? Returns whether it had to be changed."""
        if not os.path.basename(self.filepath):
            return False  # nothing but a folder: no name is made of it
        path = str(self._path())
        changed, self.filepath = path != self.filepath, path
        return changed

    def _path(self) -> Path:
        suffix = exporting.EXPORTERS[self.format].suffix
        path = bpy.path.abspath(self.filepath)
        for exporter in exporting.EXPORTERS.values():
            path = path.removesuffix(exporter.suffix)
        return Path(path + suffix)

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not os.path.basename(self.filepath):
            self.report({"ERROR"}, "No file was chosen. Give it a name.")
            return {"CANCELLED"}
        path = self._path()
        try:
            exporting.export(context.active_object, exporting.EXPORTERS[self.format], path)
        except CoGradError as error:
            return report(self, error)
        self.report({"INFO"}, f"Exported {path.name}")
        return {"FINISHED"}


class COGRAD3D_MT_export(bpy.types.Menu):
    """Export the active object; the upper formats keep its texture"""

    bl_idname = "COGRAD3D_MT_export"
    bl_label = "Export"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        for keeps_texture in (True, False):
            layout.label(text="With Texture" if keeps_texture else "Mesh Only", icon="TEXTURE" if keeps_texture else "MESH_DATA")
            for exporter in exporting.EXPORTERS.values():
                if exporter.keeps_texture is keeps_texture and exporter.find() is not None:
                    layout.operator("cograd3d.export_result", text=exporter.label).format = exporter.format
            if keeps_texture:
                layout.separator()


_CLASSES = (
    COGRAD3D_OT_import_result,
    COGRAD3D_OT_bring_result,
    COGRAD3D_OT_import_onto,
    COGRAD3D_OT_copy_object_settings,
    COGRAD3D_OT_reproduce_object,
    COGRAD3D_OT_show_views,
    COGRAD3D_OT_mark_asset,
    COGRAD3D_OT_export_result,
    COGRAD3D_MT_export,
)

register, unregister = bpy.utils.register_classes_factory(_CLASSES)
