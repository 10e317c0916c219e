"""Import a model into an empty Blender scene and print what arrived, as one line of JSON.

Run as a program with the path of a .glb, .obj, .ply, .stl, .blend, .fbx or .usdz file; needs the
bpy package.
"""

import json
import sys
from pathlib import Path

import bpy

bpy.ops.wm.read_factory_settings(use_empty=True)
path = sys.argv[1]
operator = {
    ".glb": bpy.ops.import_scene.gltf,
    ".obj": bpy.ops.wm.obj_import,
    ".ply": bpy.ops.wm.ply_import,
    ".stl": bpy.ops.wm.stl_import,
    ".blend": bpy.ops.wm.open_mainfile,
    ".fbx": bpy.ops.import_scene.fbx,
    ".usdz": bpy.ops.wm.usd_import,
}[Path(path).suffix]
operator(filepath=path)


def linked(socket) -> str | None:
    return socket.links[0].from_node.bl_idname if socket.links else None


def mean_color(image) -> list[float]:
    values = image.pixels[:]
    return [sum(values[channel::4]) * 4 / len(values) for channel in range(3)]


def material(slot) -> dict:
    found = slot.material
    nodes = found.node_tree.nodes
    shader = next(node for node in nodes if node.bl_idname == "ShaderNodeBsdfPrincipled")
    base = shader.inputs["Base Color"]
    image = base.links[0].from_node.image if linked(base) == "ShaderNodeTexImage" else None
    return {
        "metallic": shader.inputs["Metallic"].default_value,
        "metallic_linked": linked(shader.inputs["Metallic"]),
        "roughness": shader.inputs["Roughness"].default_value,
        "base_color_from": linked(base),
        "image_packed": image is not None and image.packed_file is not None,
        "image_size": None if image is None else list(image.size),
        "color_space": None if image is None else image.colorspace_settings.name,
        "mean_color": None if image is None else mean_color(image),
        "backface_culling": found.use_backface_culling,
    }


def describe(item) -> dict:
    if item.type != "MESH":
        return {"name": item.name, "type": item.type}
    mesh = item.data
    world = [item.matrix_world @ vertex.co for vertex in mesh.vertices]
    return {
        "name": item.name,
        "type": item.type,
        "parent": item.parent is not None,
        "matrix": [list(row) for row in item.matrix_world],
        "low": [min(point[k] for point in world) for k in range(3)],
        "high": [max(point[k] for point in world) for k in range(3)],
        "front": list(min(world, key=lambda point: point[1])),
        "faces": len(mesh.polygons),
        "smooth": all(polygon.use_smooth for polygon in mesh.polygons),
        "custom_normals": mesh.has_custom_normals,
        "uv_layers": len(mesh.uv_layers),
        "materials": [material(slot) for slot in item.material_slots],
    }


report = json.dumps([describe(item) for item in bpy.data.objects])
sys.stdout.write(f"\nREPORT {report}\n")
