"""Which server is asked; kept with Blender's preferences, so it holds for all files."""

import bpy
from bpy.props import StringProperty

from . import state


def _changed(self, context):
    """Another server has not been asked yet who it is."""
    state.session.health = None


class DREAMLAB_AP_preferences(bpy.types.AddonPreferences):
    """Address of the server, and what opens it."""

    bl_idname = __package__

    address: StringProperty(
        name="Server",
        description="Where the dreamlab server answers, such as http://127.0.0.1:7860",
        default="http://127.0.0.1:7860",
        update=_changed,
    )
    user: StringProperty(
        name="User",
        description="Of a server that was started with --auth USER:PASSWORD; empty for a token",
        update=_changed,
    )
    token: StringProperty(
        name="Token or Password",
        description="Of the server, if it was started with --token or --auth",
        subtype="PASSWORD",
        update=_changed,
    )

    def draw(self, context):
        self.layout.prop(self, "address")
        self.layout.prop(self, "user")
        self.layout.prop(self, "token")
        self.layout.operator("dreamlab.connect")


CLASSES = (DREAMLAB_AP_preferences,)
