"""The one session of this Blender."""

import bpy

from .client import ServerError, full_address, is_loopback
from .session import Session

session = Session()


def open_session(context):
    """Return the session, asking the server that the preferences name.

    Raises:
        ServerError: the address is none, or Blender may not use the network for it.
    """
    preferences = context.preferences.addons[__package__].preferences
    if not is_loopback(full_address(preferences.address)) and not bpy.app.online_access:
        raise ServerError(
            "Blender may not use the network to reach other computers.",
            "Turn on Allow Online Access in Preferences > System, or use a server on this one.",
        )
    session.use(preferences.address, preferences.token, preferences.user)
    return session
