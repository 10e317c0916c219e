"""The heartbeat on Blender's main thread: takes answers, brings models, draws the panel anew."""

import time
import traceback

import bpy

from . import pictures
from .client import ServerError
from .properties import show_runs
from .state import session

INTERVAL = 0.25
"""Seconds between two beats."""


def begin():
    """Start to beat; goes on when another file is opened."""
    session.on_problem = _pop_up
    bpy.app.timers.register(beat, first_interval=INTERVAL, persistent=True)


def end():
    """Beat no longer, and close the session."""
    if bpy.app.timers.is_registered(beat):
        bpy.app.timers.unregister(beat)
    session.close()
    pictures.close()


def beat():
    """Do what is due; return when to come again. An error must not end the heartbeat."""
    try:
        _beat()
    except Exception:
        traceback.print_exc()
    return INTERVAL


def _beat():
    seen = session.version
    session.step(time.monotonic())
    if bpy.context.mode == "OBJECT":
        for run in [run for run in session.followed.values() if run.model is not None]:
            _bring(run)
    history = bpy.context.window_manager.dreamlab
    if session.version != seen or len(history.runs) != len(session.runs):
        show_runs(history, session.runs)
        _redraw()


def _bring(run):
    windows = bpy.context.window_manager.windows
    try:
        # a timer has no window of its own, which importing and undo need
        with bpy.context.temp_override(window=bpy.context.window or windows[0]):
            bpy.ops.dreamlab.bring("EXEC_DEFAULT", True, run=run.name)
    except RuntimeError as error:  # what an operator reports as an error arrives as this
        session.report(ServerError(f"{run.name} cannot be imported: {error}", "", 500))
    finally:
        session.let_go(run.name)


def _redraw():
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "PREFERENCES"):
                area.tag_redraw()


def _pop_up(error):
    if bpy.app.background:
        return

    def draw(self, context):
        self.layout.label(text=error.message)
        if error.fix:
            self.layout.label(text=error.fix, icon="INFO")

    manager = bpy.context.window_manager
    with bpy.context.temp_override(window=bpy.context.window or manager.windows[0]):
        manager.popup_menu(draw, title="dreamlab", icon="ERROR")
