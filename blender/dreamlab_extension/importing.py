"""Models of runs as objects of the scene: at the 3D cursor, in colours, with their origin noted.

A GLB of dreamlab holds one object, or one for each part of a layout: upright, facing -Y, in metres,
with one origin below the middle of them all. They are placed together.
"""

import bpy
from mathutils import Matrix, Vector

from .client import ServerError

ORIGIN = ("prompt", "negative_prompt", "recipe", "quality", "seed", "name")
"""Of a job; kept on the object as `dreamlab_prompt`, …; the name is that of the run."""
KEPT = (
    "parent_type",
    "parent_bone",
    "matrix_parent_inverse",
    "rotation_mode",
    "location",
    "rotation_euler",
    "rotation_quaternion",
    "rotation_axis_angle",
    "scale",
    "delta_location",
    "delta_rotation_euler",
    "delta_rotation_quaternion",
    "delta_scale",
)
"""What makes up the transform of an object."""


def import_models(context, path, job):
    """Import a GLB to the active collection; return its objects, then the only selected ones.

    Raises:
        ServerError: the file holds no mesh.
    """
    before = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=str(path))
    new = [item for item in bpy.data.objects if item not in before]
    models = [item for item in new if item.type == "MESH"]
    if not models:
        for item in new:
            bpy.data.objects.remove(item)
        raise ServerError(f"The model of {job['name']} holds no mesh.", "Export the run again.")
    for key in ORIGIN:
        value = job.get(key)
        for model in models if value is not None else ():
            model[f"dreamlab_{'run' if key == 'name' else key}"] = value
    for item in context.view_layer.objects:
        item.select_set(item in models)
    context.view_layer.objects.active = models[0]
    return models


def place_at_cursor(context, models):
    """Stand the models on the 3D cursor."""
    for model in models:
        model.location = context.scene.cursor.location


def place_like(models, parts, low, high):
    """Put the models where `parts` are: same transform, same size and middle of their bounds.

    Args:
        models: just imported, without a transform.
        parts: the objects that it replaces; the transform is that of the first.
        low: lowest corner of the bounds of all parts, in coordinates of the first; also `high`.
    """
    own = [Vector(corner) for model in models for corner in model.bound_box]
    own_low = Vector(min(corner[k] for corner in own) for k in range(3))
    own_high = Vector(max(corner[k] for corner in own) for k in range(3))
    low, high = Vector(low), Vector(high)
    scale = (high - low).length / max((own_high - own_low).length, 1e-9)
    shift = (low + high) / 2 - scale * (own_low + own_high) / 2
    for model in models:
        model.data.transform(Matrix.Translation(shift) @ Matrix.Scale(scale, 4))
        model.data.update()
        model.parent = parts[0].parent
        for key in KEPT:
            setattr(model, key, getattr(parts[0], key))


def show_materials(context):
    """Switch 3D views that show no textures to Material Preview."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            for space in area.spaces:
                if space.type == "VIEW_3D" and space.shading.type in ("WIREFRAME", "SOLID"):
                    space.shading.type = "MATERIAL"
