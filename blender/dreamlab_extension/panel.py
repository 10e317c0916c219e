"""The tab "dreamlab" in the sidebar of the 3D view (key N)."""

import textwrap

import bpy

from . import pictures
from .operators import ENDS
from .state import session

ICONS = {
    "queued": "TIME",
    "running": "PLAY",
    "paused": "PAUSE",
    "done": "CHECKMARK",
    "stopped": "SNAP_FACE",
    "cancelled": "X",
    "failed": "ERROR",
}
PIXELS_PER_LETTER = 7.0
PICTURE_SCALE = 8.0


def _write(layout, context, text, icon="NONE"):
    """Write a text over as many lines as the sidebar needs; labels do not wrap by themselves."""
    width = context.region.width / (context.preferences.system.ui_scale or 1.0)
    lines = textwrap.wrap(text, max(20, int(width / PIXELS_PER_LETTER) - 4))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for number, line in enumerate(lines):
        column.label(text=line, icon=icon if number == 0 else "BLANK1" if icon != "NONE" else icon)


def _duration(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Tab:
    """Where the panels are."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "dreamlab"


class DREAMLAB_PT_server(Tab, bpy.types.Panel):
    """Which server is asked, and what went wrong last."""

    bl_label = "dreamlab"

    def draw(self, context):
        layout = self.layout
        preferences = context.preferences.addons[__package__].preferences
        layout.prop(preferences, "address", text="")
        layout.operator("dreamlab.connect", icon="LINKED" if session.health else "UNLINKED")
        if session.busy:
            layout.label(text=session.busy + "…", icon="SORTTIME")
        if session.health:
            about = f"Connected to dreamlab {session.health['version']}"
            _write(layout, context, f"{about}, {len(session.recipes)} recipes", "CHECKMARK")
        if session.problem:
            box = layout.box()
            _write(box, context, session.problem.message, "ERROR")
            if session.problem.fix:
                _write(box, context, session.problem.fix, "INFO")
            if session.problem.status == 401:
                where = "in Preferences > Add-ons > dreamlab."
                _write(box, context, f"Type the server's token, or user and password, {where}")
            box.operator("dreamlab.dismiss")


class DREAMLAB_PT_form(Tab, bpy.types.Panel):
    """What to make."""

    bl_label = "Generate"

    def draw(self, context):
        layout, form = self.layout, context.scene.dreamlab
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(form, "prompt")
        layout.prop(form, "negative_prompt")
        layout.prop(form, "quality")
        layout.prop(form, "seed")
        layout.prop(form, "recipe")
        _summary(layout, context, form.recipe)
        layout.operator("dreamlab.generate", icon="OUTLINER_OB_MESH")
        layout.separator()
        layout.prop(form, "refine_recipe")
        layout.operator("dreamlab.refine", icon="BRUSH_DATA")


def _summary(layout, context, name):
    """Say what a recipe does, once the server has said it."""
    recipe = next((recipe for recipe in session.recipes if recipe["name"] == name), None)
    if recipe is not None:
        _write(layout, context, recipe["summary"])


class DREAMLAB_PT_runs(Tab, bpy.types.Panel):
    """The runs that are followed."""

    bl_label = "Progress"

    @classmethod
    def poll(cls, context):
        return bool(session.followed)

    def draw(self, context):
        for run in session.followed.values():
            _draw_run(self.layout.box(), context, run)


def _draw_run(box, context, run):
    job = run.job
    _write(box, context, job["prompt"], ICONS.get(job["state"], "NONE"))
    if run.picture is not None:
        box.template_icon(icon_value=pictures.icon_of(run.picture), scale=PICTURE_SCALE)
    doing = job.get("phase") if job["state"] == "running" else None
    progress = job.get("progress") or 0.0
    box.progress(factor=progress, type="BAR", text=f"{doing or job['state']} {progress:.0%}")
    if job.get("eta_s") is not None and job["state"] == "running":
        box.label(text=f"About {_duration(job['eta_s'])} left")
    if run.trouble:
        _write(box, context, f"{run.trouble} Trying again.", "ERROR")
    if run.model is not None and context.mode != "OBJECT":
        _write(box, context, "Go to Object Mode to import the model.", "INFO")
    row = box.row(align=True)
    for action, label, _ in ENDS:
        icon = ICONS["stopped" if action == "stop" else "cancelled"]
        button = row.operator("dreamlab.end", text=label, icon=icon)
        button.run, button.action = run.name, action


class DREAMLAB_UL_history(bpy.types.UIList):
    """Runs, one a line: state and prompt."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property):
        layout.label(text=item.prompt, icon=ICONS.get(item.state, "NONE"))
        row = layout.row()
        row.alignment = "RIGHT"
        row.label(text=item.state)


class DREAMLAB_PT_history(Tab, bpy.types.Panel):
    """The newest runs on the server."""

    bl_label = "History"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout, history = self.layout, context.window_manager.dreamlab
        layout.template_list("DREAMLAB_UL_history", "", history, "runs", history, "active", rows=4)
        row = layout.row(align=True)
        row.operator("dreamlab.follow", icon="IMPORT")
        row.operator("dreamlab.refresh", icon="FILE_REFRESH")


CLASSES = (
    DREAMLAB_PT_server,
    DREAMLAB_PT_form,
    DREAMLAB_PT_runs,
    DREAMLAB_UL_history,
    DREAMLAB_PT_history,
)
