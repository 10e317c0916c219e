"""Refine selected meshes: out as one GLB, back as one model in their place.

All parts become one mesh in the coordinates of the active object, modifiers applied. A server fits
models into its own views and returns them standing on the ground, so size and place are restored
from the bounds that are noted here. If the objects were moved in the meantime, the result follows.
"""

from uuid import uuid4

import bpy
from mathutils import Vector

from .client import ServerError
from .importing import place_at_cursor, place_like


def selected_meshes(context):
    """Return the selected meshes, the active one first."""
    meshes = [item for item in context.selected_objects if item.type == "MESH"]
    return sorted(meshes, key=lambda item: item != context.view_layer.objects.active)


def export_parts(context, parts, path):
    """Write objects to one GLB, as seen from the first; return the corners of their bounds.

    Raises:
        ServerError: they have no faces, or no extent.
    """
    copies = _copies(context, parts)
    try:
        corners = [vertex.co for copy in copies for vertex in copy.data.vertices]
        if not any(len(copy.data.polygons) for copy in copies):
            raise ServerError("The selection has no faces.", "Select a mesh with faces.")
        low = Vector(min(corner[k] for corner in corners) for k in range(3))
        high = Vector(max(corner[k] for corner in corners) for k in range(3))
        if min(high - low) < 1e-6 * max(high - low):
            raise ServerError("The selection is flat.", "Give it some thickness.")
        _write(context, copies, path)
        return low, high
    finally:
        for copy in copies:
            bpy.data.meshes.remove(copy.data)


def remember(scene, parts, low, high):
    """Note in the scene where the result belongs; return the ticket of the note."""
    note = scene.dreamlab.refinements.add()
    note.ticket = uuid4().hex
    note.low, note.high = low, high
    for part in parts:
        note.parts.add().item = part
    return note.ticket


def settle(ticket, run):
    """Note which run it became; without one, as the server refused it, the note is removed."""
    for scene in bpy.data.scenes:
        notes = scene.dreamlab.refinements
        for index in reversed(range(len(notes))):
            if notes[index].ticket == ticket and run is not None:
                notes[index].run = run
            elif notes[index].ticket == ticket:
                notes.remove(index)


def replace(context, models, ticket, run):
    """Put the objects of a model in the place of those that it refines and hide those.

    The note is found by its ticket, which survives an undo, or by the run, which is saved with the
    file. Where the note or all objects are gone, the model stands at the 3D cursor.
    """
    notes = context.scene.dreamlab.refinements
    note = next((note for note in notes if ticket == note.ticket or run == note.run), None)
    parts = [] if note is None else [part.item for part in note.parts if part.item is not None]
    parts = [part for part in parts if part.name in context.view_layer.objects]
    if not parts:
        place_at_cursor(context, models)
        return
    place_like(models, parts, note.low, note.high)
    for part in parts:
        part.hide_set(True)
        part.hide_render = True
    settle(note.ticket, None)


def _copies(context, parts):
    """Return temporary objects: the meshes as they look, in coordinates of the first."""
    graph = context.evaluated_depsgraph_get()
    into = parts[0].matrix_world.inverted_safe()
    copies = []
    for part in parts:
        mesh = bpy.data.meshes.new_from_object(
            part.evaluated_get(graph), preserve_all_data_layers=True, depsgraph=graph
        )
        mesh.transform(into @ part.matrix_world)
        copies.append(bpy.data.objects.new(part.name, mesh))
    return copies


def _write(context, copies, path):
    """Export objects that are in no collection, leaving the selection as it was."""
    layer, root = context.view_layer, context.scene.collection
    selected, active = list(context.selected_objects), layer.objects.active
    for item in selected:
        item.select_set(False)
    try:
        for copy in copies:
            root.objects.link(copy)
            copy.select_set(True)
        bpy.ops.export_scene.gltf(
            filepath=str(path),
            export_format="GLB",
            use_selection=True,
            export_animations=False,
            export_skins=False,
            export_morph=False,
        )
    finally:
        for copy in copies:
            root.objects.unlink(copy)
        for item in selected:
            item.select_set(True)
        layer.objects.active = active
