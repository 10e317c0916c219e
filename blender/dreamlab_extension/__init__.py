"""dreamlab in Blender: prompts go to a dreamlab server, models come back to the 3D cursor.

    panel, operators ── what is asked ──▶ session ──▶ worker (a thread) ──▶ client ──▶ server
    importing, refining ◀── models ── timer (main thread) ◀── answers ──┘

`client`, `worker` and `session` know nothing of Blender; all others run on its main thread alone.
"""


def _parts():
    # imported here, so that the three that know nothing of Blender can be used without it
    from . import operators, panel, preferences, properties

    return [*properties.CLASSES, *preferences.CLASSES, *operators.CLASSES, *panel.CLASSES]


def register():
    """Begin: called by Blender."""
    import bpy

    from . import properties, timer

    for part in _parts():
        bpy.utils.register_class(part)
    properties.attach()
    timer.begin()


def unregister():
    """End: called by Blender; nothing of the extension stays."""
    import bpy

    from . import properties, timer

    timer.end()
    properties.detach()
    for part in reversed(_parts()):
        bpy.utils.unregister_class(part)
