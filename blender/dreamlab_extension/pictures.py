"""Previews of runs as icons, which is how Blender draws pictures in a panel."""

import bpy.utils.previews

_loaded = {}
"""The collection of icons, once there is one, under "icons"."""


def icon_of(path):
    """Return the icon of a picture; each file is read once."""
    if not _loaded:
        _loaded["icons"] = bpy.utils.previews.new()
    icons, key = _loaded["icons"], str(path)
    return (icons[key] if key in icons else icons.load(key, key, "IMAGE")).icon_id


def close():
    """Free all icons."""
    if _loaded:
        bpy.utils.previews.remove(_loaded.pop("icons"))
