"""The buttons of the panel. None of them waits: answers come through `timer.py`."""

from functools import partial

import bpy
from bpy.props import EnumProperty, StringProperty

from . import importing, refining, state
from .client import ServerError

ENDS = (
    ("stop", "Stop and Keep", "End the run now and import what it has"),
    ("cancel", "Cancel", "End the run now and import nothing"),
)
"""How a run can be ended: action of the server, name, what it does."""


def _fields(form, recipe):
    """Return what the form asks for, as fields of a job."""
    if not form.prompt.strip():
        raise ServerError("The prompt is empty.", "Say what to make, such as: a red mushroom")
    return {
        "prompt": form.prompt.strip(),
        "negative_prompt": form.negative_prompt.strip(),
        "recipe": recipe,
        "quality": form.quality or None,
        "seed": form.seed,
    }


class Asking:
    """An operator whose failures are reported with their fix."""

    def execute(self, context):
        try:
            self.carry_out(context)
        except ServerError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DREAMLAB_OT_connect(Asking, bpy.types.Operator):
    """Ask whether a dreamlab server answers, what it offers and which runs it has"""

    bl_idname = "dreamlab.connect"
    bl_label = "Test Connection"

    def carry_out(self, context):
        state.open_session(context).connect()


class DREAMLAB_OT_generate(Asking, bpy.types.Operator):
    """Make a model from the prompt; it appears at the 3D cursor when it is done"""

    bl_idname = "dreamlab.generate"
    bl_label = "Generate"

    def carry_out(self, context):
        form = context.scene.dreamlab
        state.open_session(context).submit(_fields(form, form.recipe))


class DREAMLAB_OT_refine(Asking, bpy.types.Operator):
    """Send the selected meshes, and put what the recipe makes of them in their place"""

    bl_idname = "dreamlab.refine"
    bl_label = "Refine Selected Mesh"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if context.mode != "OBJECT" or not refining.selected_meshes(context):
            cls.poll_message_set("Select a mesh in Object Mode")
            return False
        return True

    def carry_out(self, context):
        session, form = state.open_session(context), context.scene.dreamlab
        fields = _fields(form, form.refine_recipe)
        parts = refining.selected_meshes(context)
        path = session.new_file("selection.glb")
        low, high = refining.export_parts(context, parts, path)
        ticket = refining.remember(context.scene, parts, low, high)
        session.submit(fields, model=path, ticket=ticket, settled=partial(refining.settle, ticket))


class DREAMLAB_OT_end(Asking, bpy.types.Operator):
    """End a run"""

    bl_idname = "dreamlab.end"
    bl_label = "End Run"

    run: StringProperty(options={"HIDDEN"})
    action: EnumProperty(items=ENDS)

    @classmethod
    def description(cls, context, properties):
        return next(text for action, _, text in ENDS if action == properties.action)

    def carry_out(self, context):
        state.open_session(context).act(self.run, self.action)


class DREAMLAB_OT_refresh(Asking, bpy.types.Operator):
    """Read the newest runs from the server"""

    bl_idname = "dreamlab.refresh"
    bl_label = "Refresh"

    def carry_out(self, context):
        state.open_session(context).refresh()


class DREAMLAB_OT_follow(Asking, bpy.types.Operator):
    """Import the chosen run; one that is not done yet is followed until it is"""

    bl_idname = "dreamlab.follow"
    bl_label = "Import"

    @classmethod
    def poll(cls, context):
        history = context.window_manager.dreamlab
        return history.active < len(history.runs)

    def carry_out(self, context):
        history = context.window_manager.dreamlab
        chosen = history.runs[history.active].run
        session = state.open_session(context)
        session.follow(next(run for run in session.runs if run["name"] == chosen))


class DREAMLAB_OT_bring(Asking, bpy.types.Operator):
    """Bring the model of a run that has been fetched into the scene"""

    bl_idname = "dreamlab.bring"
    bl_label = "Import Model"
    bl_options = {"INTERNAL", "UNDO"}

    run: StringProperty(options={"HIDDEN"})

    def carry_out(self, context):
        followed = state.session.followed[self.run]
        models = importing.import_models(context, followed.model, followed.job)
        refining.replace(context, models, followed.ticket, followed.name)
        importing.show_materials(context)


class DREAMLAB_OT_dismiss(bpy.types.Operator):
    """Hide this message"""

    bl_idname = "dreamlab.dismiss"
    bl_label = "Dismiss"

    def execute(self, context):
        state.session.problem = None
        return {"FINISHED"}


CLASSES = (
    DREAMLAB_OT_connect,
    DREAMLAB_OT_generate,
    DREAMLAB_OT_refine,
    DREAMLAB_OT_end,
    DREAMLAB_OT_refresh,
    DREAMLAB_OT_follow,
    DREAMLAB_OT_bring,
    DREAMLAB_OT_dismiss,
)
