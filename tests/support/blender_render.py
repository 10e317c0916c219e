"""Render a GLB in Blender, unlit: `python blender_render.py MODEL.glb VIEWS.json FOLDER`.

Needs the bpy package. VIEWS.json has `size` (pixels), `fov_y` (degrees) and `cameras`, each a
matrix from camera to Blender's world. Every base colour becomes the light that the surface sends
out, on white, so what is seen is the texture alone; Cycles on the CPU, one PNG a view.
"""

import json
import math
import sys
from pathlib import Path

import bpy
from mathutils import Matrix

SAMPLES = 16


def unlit(material) -> None:
    """Let the surface send out its base colour."""
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = next(node for node in nodes if node.bl_idname == "ShaderNodeBsdfPrincipled")
    output = next(node for node in nodes if node.bl_idname == "ShaderNodeOutputMaterial")
    (base,) = shader.inputs["Base Color"].links
    emission = nodes.new("ShaderNodeEmission")
    links.new(base.from_socket, emission.inputs["Color"])
    links.new(emission.outputs["Emission"], output.inputs["Surface"])


def settle(scene, size: int) -> None:
    """Set what the picture is made with: no light is scattered, no colours are graded."""
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = SAMPLES
    scene.cycles.max_bounces = 0
    scene.cycles.use_denoising = False
    scene.cycles.pixel_filter_type = "BOX"
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.view_settings.view_transform = "Standard"
    scene.world = bpy.data.worlds.new("white")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1, 1, 1, 1)


def main(model: str, views: str, folder: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=model)
    for material in bpy.data.materials:
        unlit(material)
    asked = json.loads(Path(views).read_text())
    scene = bpy.context.scene
    settle(scene, asked["size"])
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.data.sensor_fit = "VERTICAL"
    camera.data.angle_y = math.radians(asked["fov_y"])
    for number, matrix in enumerate(asked["cameras"]):
        camera.matrix_world = Matrix(matrix)
        scene.render.filepath = str(Path(folder) / f"{number}.png")
        bpy.ops.render.render(write_still=True)
    sys.stdout.write(f"\nREPORT {len(asked['cameras'])}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
