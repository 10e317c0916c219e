"""Convert a GLB with Blender, as a program: `python convert_model.py MODEL.glb TARGET...`.

Each target is a .blend, .fbx or .usdz; all hold the textures. Needs the bpy package. A .blend opens
in Material Preview. An FBX and a USDZ have y up and the front on +Z, which their readers turn as
they need.
"""

import sys
from pathlib import Path

import bpy


def write_blend(path: str) -> None:
    """Write Blender's own format."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            for space in area.spaces:
                if space.type == "VIEW_3D":
                    space.shading.type = "MATERIAL"
    bpy.ops.wm.save_as_mainfile(filepath=path, compress=True)


def write_fbx(path: str) -> None:
    """Write a binary FBX in metres."""
    bpy.ops.export_scene.fbx(
        filepath=path,
        object_types={"MESH"},
        apply_scale_options="FBX_SCALE_UNITS",
        path_mode="COPY",
        embed_textures=True,
        add_leaf_bones=False,
        bake_anim=False,
    )


def write_usdz(path: str) -> None:
    """Write a packed USD."""
    bpy.ops.wm.usd_export(
        filepath=path,
        export_animation=False,
        export_materials=True,
        export_textures_mode="NEW",
        convert_orientation=True,
        export_global_forward_selection="NEGATIVE_Z",
        export_global_up_selection="Y",
    )


WRITERS = {".blend": write_blend, ".fbx": write_fbx, ".usdz": write_usdz}


def main(model: str, *targets: str) -> None:
    """Read the model into an empty file and write every target."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=model)
    for target in targets:
        WRITERS[Path(target).suffix](target)


if __name__ == "__main__":
    main(*sys.argv[1:])
