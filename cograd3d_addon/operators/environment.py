"""What the user can do with CoGrad3D's Python environment, and with the folders that live outside Blender."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import bpy
from bpy.props import BoolProperty, StringProperty

from ...backend import machine
from ...backend.errors import CoGradError
from .. import narration, session
from ..package import preferences
from ..setup import Phase, disk_usage, supervisor
from ..setup.task import Options
from ..setup.words import in_blender
from ..ui.text import draw_paragraph

SET_UP_LABELS = {Phase.INTERRUPTED: "Continue", Phase.OUTDATED: "Update", Phase.DAMAGED: "Repair", Phase.FAILED: "Try Again"}
"""How the button that completes the environment is called, by what is wrong with it; otherwise "Set Up"."""

_OFFLINE = (
    "Blender was started without network access"
    if bpy.app.online_access_override
    else "Blender may not use the network: allow it in Preferences > System"
)


def is_offline() -> bool:
    """Whether something would have to be downloaded and must not."""
    return supervisor.situation.needs_network and not bpy.app.online_access


def wait_for_environment() -> None:
    """Without a window, follow what is being done to the environment until that is over."""
    session.work_until(lambda: not supervisor.situation.phase.is_busy, lambda: narration.of_environment(supervisor.situation))


def _begun(operator: bpy.types.Operator) -> set[str]:
    """What an operator returns that has begun something with the environment. Without a window that is awaited: nothing would follow it."""
    wait_for_environment()
    situation = supervisor.situation
    if not session.has_timer() and situation.phase in (Phase.FAILED, Phase.DAMAGED):
        operator.report({"ERROR"}, f"{situation.message} {situation.remedy}".strip())
        return {"CANCELLED"}
    return {"FINISHED"}


def _report(operator: bpy.types.Operator, error: CoGradError) -> set[str]:
    operator.report({"ERROR"}, in_blender(str(error)))
    return {"CANCELLED"}


class _EnvironmentOperator:
    """What all operators that start a process have in common."""

    poll_message_set: ClassVar[Callable[[str], None]]  # of bpy.types.Operator

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if supervisor.situation.phase.is_busy:
            cls.poll_message_set("The environment is being worked on already")
            return False
        return cls._poll(context)

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        return True

    @classmethod
    def _is_unused(cls) -> bool:
        if session.manager().running:
            cls.poll_message_set("A job is running in it: wait until it is done, or cancel it")
            return False
        return True

    @classmethod
    def _is_our_own(cls) -> bool:
        if supervisor.situation.is_existing:
            cls.poll_message_set("An existing Python is used instead")
            return False
        return True


def _options(context: bpy.types.Context, *, wheels: Path | None = None, allow_cuda: bool = False, repair: bool = False) -> Options:
    return Options(wheels=wheels, python=preferences(context).base_python(), allow_cuda=allow_cuda, repair=repair)


class COGRAD3D_OT_environment_setup(_EnvironmentOperator, bpy.types.Operator):
    """Download and install PyTorch and the other Python packages that CoGrad3D's generator needs, into a folder of their own.
Blender's own Python and the system's stay as they are"""  # fmt: skip

    bl_idname = "cograd3d.environment_setup"
    bl_label = "Set Up CoGrad3D"

    allow_cuda: BoolProperty(
        name="PyTorch for NVIDIA GPUs",
        description="Take PyTorch's large build for NVIDIA GPUs although no such GPU was found here",
        options={"SKIP_SAVE"},
    )

    problem = ""
    """Why what is chosen cannot be installed."""

    _WIDTH = 440

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        if supervisor.situation.phase is Phase.FOREIGN:
            cls.poll_message_set("That folder belongs to something else: choose another one in the preferences of CoGrad3D")
            return False
        if is_offline():
            cls.poll_message_set(_OFFLINE)
            return False
        return cls._is_our_own() and cls._is_unused()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        try:
            self.make_plan(context)
        except CoGradError as error:
            return _report(self, error)
        label = SET_UP_LABELS.get(supervisor.situation.phase, "Set Up")
        return context.window_manager.invoke_props_dialog(self, width=self._WIDTH, title="Set Up CoGrad3D", confirm_text=label)

    def make_plan(self, context: bpy.types.Context) -> None:
        """Have `plan` be for what is chosen and known now. Raises `CoGradError`."""
        self.planned_for = self.allow_cuda, supervisor.gpus
        self.plan = supervisor.plan(_options(context, allow_cuda=self.allow_cuda))

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        if self.planned_for != (self.allow_cuda, supervisor.gpus):
            self.problem = ""
            try:
                self.make_plan(context)
            except CoGradError as error:
                self.problem = in_blender(str(error))
        if self.problem:
            draw_paragraph(column, context, self.problem, icon="ERROR", width=self._WIDTH)
            column.prop(self, "allow_cuda")
            return
        plan = self.plan
        what = "an NVIDIA GPU" if plan.build == "cuda" else "this computer's processor"
        column.label(text=f"PyTorch for {what}, and what else the generator needs.")
        if supervisor.gpus is None and not self.allow_cuda:
            column.label(text="An NVIDIA GPU is still being looked for: with one, it is several times as much.", icon="SORTTIME")
        facts = column.column(align=True)
        if not supervisor.situation.needs_network:
            facts.label(text="Everything is downloaded; it is only tried out.", icon="CHECKMARK")
        elif plan.state.status.value == "absent":
            facts.label(text=f"About {machine.format_bytes(plan.download_bytes)} are downloaded: this needs the network.", icon="URL")
        else:
            facts.label(text="What is missing is downloaded: this needs the network.", icon="URL")
        facts.label(text=f"It takes {machine.format_bytes(plan.installed_bytes)} of disk, in this folder:", icon="DISK_DRIVE")
        facts.label(text=str(plan.environment.root), icon="FILE_FOLDER")
        column.label(text="It takes some minutes, in which you can go on working.")
        if not supervisor.gpus and sys.platform != "darwin":
            column.prop(self, "allow_cuda")

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            self.make_plan(context)  # which refuses what does not fit on the disk
            supervisor.install(_options(context, allow_cuda=self.allow_cuda))
        except CoGradError as error:
            return _report(self, error)
        return _begun(self)


class COGRAD3D_OT_environment_setup_offline(_EnvironmentOperator, bpy.types.Operator):
    """Install from a folder of wheels (.whl files), without a network.
On a computer of the same kind with a network, "python3 -m backend setup --download-wheels FOLDER" fills one"""  # fmt: skip

    bl_idname = "cograd3d.environment_setup_offline"
    bl_label = "Install from a Folder of Wheels"

    directory: StringProperty(name="Folder", description="The folder with the wheels", subtype="DIR_PATH", options={"SKIP_SAVE", "HIDDEN"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        return cls._is_our_own() and cls._is_unused()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        wheels = Path(bpy.path.abspath(self.directory))
        try:
            supervisor.plan(Options(wheels=wheels))
            supervisor.install(_options(context, wheels=wheels))
        except CoGradError as error:
            return _report(self, error)
        return _begun(self)


class COGRAD3D_OT_environment_choose_python(_EnvironmentOperator, bpy.types.Operator):
    """Use a Python that has PyTorch and everything else the generator needs already; it is tried out first, and never changed"""

    bl_idname = "cograd3d.environment_choose_python"
    bl_label = "Use an Existing Python"

    filepath: StringProperty(name="Python", description="The Python program, for example bin/python of a virtual environment",
                             subtype="FILE_PATH", options={"SKIP_SAVE", "HIDDEN"})  # fmt: skip

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not Path(bpy.path.abspath(self.filepath)).is_file():
            self.report({"ERROR"}, f"{self.filepath or 'This'} is no file. Choose the Python program itself.")
            return {"CANCELLED"}
        preferences(context).own_python = self.filepath  # which has it tried out
        context.preferences.is_dirty = True
        return _begun(self)


class COGRAD3D_OT_environment_forget_python(_EnvironmentOperator, bpy.types.Operator):
    """Use the environment that CoGrad3D installs for itself again; the Python chosen before stays as it is"""

    bl_idname = "cograd3d.environment_forget_python"
    bl_label = "Stop Using This Python"

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        if not preferences(context).own_python:
            cls.poll_message_set("No existing Python was chosen")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        preferences(context).own_python = ""
        context.preferences.is_dirty = True
        return {"FINISHED"}


class COGRAD3D_OT_environment_cancel(bpy.types.Operator):
    """End what is being done to the environment. What was downloaded is kept, and "Continue" goes on from there"""

    bl_idname = "cograd3d.environment_cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        phase = supervisor.situation.phase
        if phase is Phase.REMOVING:
            cls.poll_message_set("A removal that was begun has to come to its end")
            return False
        if not phase.is_busy:
            cls.poll_message_set("Nothing is being done to the environment")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        supervisor.cancel()
        return {"FINISHED"}


class COGRAD3D_OT_environment_verify(_EnvironmentOperator, bpy.types.Operator):
    """Try everything out: import every package, draw and differentiate, make a tiny asset. Takes a minute or less, in the background"""

    bl_idname = "cograd3d.environment_verify"
    bl_label = "Try It Out"

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        if supervisor.situation.can_verify:
            return True
        cls.poll_message_set("It is not complete yet: set it up first")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            supervisor.verify()
        except CoGradError as error:
            return _report(self, error)
        return _begun(self)


class COGRAD3D_OT_environment_repair(_EnvironmentOperator, bpy.types.Operator):
    """Look at every installed file, download what is missing or damaged, and try everything out; made anew if that does not help"""

    bl_idname = "cograd3d.environment_repair"
    bl_label = "Repair"

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        if not supervisor.situation.can_remove:
            cls.poll_message_set("There is nothing to repair yet")
            return False
        if not bpy.app.online_access:
            cls.poll_message_set(_OFFLINE)
            return False
        return cls._is_our_own() and cls._is_unused()

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            supervisor.install(_options(context, repair=True))
        except CoGradError as error:
            return _report(self, error)
        return _begun(self)


class COGRAD3D_OT_environment_remove(_EnvironmentOperator, bpy.types.Operator):
    """Delete CoGrad3D's Python environment from the disk. Jobs and their results stay"""

    bl_idname = "cograd3d.environment_remove"
    bl_label = "Remove"

    @classmethod
    def _poll(cls, context: bpy.types.Context) -> bool:
        if not supervisor.situation.can_remove:
            cls.poll_message_set("There is nothing to remove")
            return False
        return cls._is_unused()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        message = f"Everything in {supervisor.situation.root} is deleted. It can be downloaded again."
        return context.window_manager.invoke_confirm(
            self, event, title="Remove CoGrad3D's environment?", message=message, confirm_text="Remove", icon="WARNING"
        )

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            supervisor.remove()
        except CoGradError as error:
            return _report(self, error)
        return _begun(self)


class COGRAD3D_OT_environment_refresh(bpy.types.Operator):
    """Look at the environment anew, after something was changed outside Blender"""

    bl_idname = "cograd3d.environment_refresh"
    bl_label = "Look Again"

    def execute(self, context: bpy.types.Context) -> set[str]:
        supervisor.forgive()
        return {"FINISHED"}


CLASSES = (
    COGRAD3D_OT_environment_setup,
    COGRAD3D_OT_environment_setup_offline,
    COGRAD3D_OT_environment_choose_python,
    COGRAD3D_OT_environment_forget_python,
    COGRAD3D_OT_environment_cancel,
    COGRAD3D_OT_environment_verify,
    COGRAD3D_OT_environment_repair,
    COGRAD3D_OT_environment_remove,
    COGRAD3D_OT_environment_refresh,
)


def follow() -> bool:
    """Follow what is being done to the environment, and show it; called by the session's timer. Returns whether it is to come back soon."""
    is_busy = supervisor.situation.phase.is_busy
    changed = supervisor.poll()
    if changed and not supervisor.situation.phase.is_busy:
        disk_usage.outdated()
    if disk_usage.has_news() or changed:
        session.redraw(preferences_too=True)
    return is_busy


def register() -> None:
    """Register the operators, and follow the environment from now on."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    session.register_poller(follow)


def unregister() -> None:
    """Undo `register`."""
    session.unregister_poller(follow)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
