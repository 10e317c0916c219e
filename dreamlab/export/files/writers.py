"""Mesh files: GLB, OBJ + MTL, PLY, STL, written through trimesh and always atomically.

What users stumble over is settled here once: metallic and roughness factors are written (their
glTF defaults look like a mirror), both sides of a triangle are visible, normals are smooth, the
texture travels inside the GLB, a model is one node with one mesh and one material, and its
transform is the identity. Colours are sRGB bytes, in textures as in the vertex colours of a PLY.
Where a model has parts, each is a node with a mesh in a GLB and an object in an OBJ; they share the
material, its textures and the origin. A PLY and an STL hold all of them as one mesh.

Where the object has a material, the GLB carries its roughness and metallic as a texture, whose
numbers then stand alone (both factors 1), and its bumps as a normal map with the tangents it was
painted for; the other formats carry the base colour alone.

Meshes come in world coordinates with a `Placement`; see `placement.py` for the axes of each format.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import to_bytes
from dreamlab.core.run_folder import atomic_path, write_text
from dreamlab.core.version import VERSION
from dreamlab.export.files.placement import Placement
from dreamlab.export.parts import Part, whole
from dreamlab.ops.mesh.tangents import vertex_tangents

METALLIC = 0.0
ROUGHNESS = 0.9
"""Of a mesh without a material of its own."""
TANGENT = "_TANGENT"
"""Name of an attribute under which trimesh writes tangents; glTF has no underscore there."""
GENERATOR = f"dreamlab {VERSION}"
LICENCE = (
    "Made from a text prompt with a diffusion model; the licence of that model may bind its output."
)
"""Note for files whose maker gives no other."""

LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
"""Numbers of OpenGL that glTF uses for texture filters, wrapping and buffer targets."""


def write_glb(
    path: Path,
    mesh: Mesh,
    placement: Placement,
    *,
    name: str,
    extras: Mapping[str, Any],
    parts: Sequence[Part] | None = None,
) -> None:
    """Write a binary glTF 2.0 file.

    Args:
        path: of the file.
        mesh: world coordinates; with normals, UV and texture.
        placement: world to file.
        name: of the material and, if there are no parts, of the node and the mesh.
        extras: what `asset.extras` shall hold; plain values. The generator, a licence note if
            there is none, and the placement are added.
        parts: which triangles are a node and a mesh of their own; none: all together.
    """
    model = _textured(placement.apply(mesh, "y up"), name)
    scene = trimesh.Scene()
    for part in parts or whole(mesh, name):
        scene.add_geometry(_piece(model, part), geom_name=part.name, node_name=part.name)
    everything = {
        "licence": LICENCE,
        **extras,
        "generator": GENERATOR,
        "placement": {"scale": placement.scale, "origin": list(placement.origin)},
    }

    def complete(tree: dict[str, Any]) -> None:
        tree["asset"] = {"version": "2.0", "generator": GENERATOR, "extras": everything}
        tree["samplers"] = [
            {
                "magFilter": LINEAR,
                "minFilter": LINEAR_MIPMAP_LINEAR,
                "wrapS": CLAMP_TO_EDGE,
                "wrapT": CLAMP_TO_EDGE,
            }
        ]
        for texture in tree["textures"]:
            texture["sampler"] = 0
        for role, texture in texture_roles(tree).items():
            suffix = "" if role == "baseColorTexture" else f"-{role.removesuffix('Texture')}"
            tree["images"][tree["textures"][texture]["source"]]["name"] = name + suffix
        for primitive in (part for mesh in tree["meshes"] for part in mesh["primitives"]):
            if TANGENT in primitive["attributes"]:
                primitive["attributes"]["TANGENT"] = primitive["attributes"].pop(TANGENT)
            for accessor in primitive["attributes"].values():
                view = tree["accessors"][accessor]["bufferView"]
                tree["bufferViews"][view]["target"] = ARRAY_BUFFER
            view = tree["accessors"][primitive["indices"]]["bufferView"]
            tree["bufferViews"][view]["target"] = ELEMENT_ARRAY_BUFFER
        # trimesh puts several nodes below one that holds nothing
        tree["nodes"] = [node for node in tree["nodes"] if "mesh" in node]
        tree["scenes"][tree["scene"]]["nodes"] = list(range(len(tree["nodes"])))

    content = export_glb(scene, include_normals=True, tree_postprocessor=complete)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_obj(
    path: Path,
    mesh: Mesh,
    placement: Placement,
    *,
    name: str,
    parts: Sequence[Part] | None = None,
) -> list[Path]:
    """Write OBJ, MTL and PNG beside each other; return their paths, the OBJ first.

    Args:
        path: of the OBJ.
        mesh: world coordinates; with normals, UV and texture.
        placement: world to file.
        name: of the object, if there are no parts.
        parts: which triangles are an object of their own; none: all together.
    """
    parts = parts or whole(mesh, name)
    sorted_mesh = replace(mesh, faces=mesh.faces[np.concatenate([part.faces for part in parts])])
    model = _textured(placement.apply(sorted_mesh, "y up"), path.stem)
    material, picture = path.with_suffix(".mtl"), path.with_suffix(".png")
    text = export_obj(model, include_normals=True, mtl_name=material.name, header=GENERATOR)
    assert mesh.texture is not None
    with atomic_path(picture) as temporary:
        Image.fromarray(mesh.texture).save(temporary)
    write_text(material, _mtl(path.stem, picture.name))
    write_text(path, _with_objects(text, parts))
    return [path, material, picture]


def _with_objects(text: str, parts: Sequence[Part]) -> str:
    """Begin an object before the triangles of each part; they stand in order at the end."""
    begin = text.index("usemtl")
    first = text.index("\nf ", begin) + 1
    material, lines = text[begin : text.index("\n", begin) + 1], text[first:].splitlines(True)
    pieces, start = [text[:begin], f"o {parts[0].name}\n", text[begin:first]], 0
    for part in parts:
        if start > 0:
            pieces.append(f"o {part.name}\n{material}")
        pieces += lines[start : start + len(part.faces)]
        start += len(part.faces)
    return "".join([*pieces, *lines[start:]])


def _mtl(name: str, texture: str) -> str:
    """Return a material that shows its texture as it is: viewers multiply it by Kd.

    Pr and Pm, roughness and metallic, are an extension that Blender reads; others use Ks.
    """
    lines = [f"# {GENERATOR}", f"newmtl {name}", "Kd 1 1 1", "Ks 0 0 0", "illum 1"]
    return "\n".join([*lines, f"Pr {ROUGHNESS}", f"Pm {METALLIC}", f"map_Kd {texture}"]) + "\n"


def write_ply(path: Path, mesh: Mesh, placement: Placement) -> None:
    """Write a binary PLY with vertex colours as sRGB bytes, upright (z up), facing -y."""
    if mesh.colors is None:
        raise InputError("a PLY needs vertex colours.", "give the mesh colours.")
    placed = placement.apply(mesh, "z up")
    model = trimesh.Trimesh(
        placed.vertices,
        placed.faces,
        vertex_normals=placed.normals,
        vertex_colors=to_bytes(mesh.colors),
        process=False,
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(export_ply(model, vertex_normal=True))


def write_stl(path: Path, mesh: Mesh, placement: Placement) -> None:
    """Write a binary STL, upright (z up), facing -y, without paint; one unit is one metre."""
    placed = placement.apply(mesh, "z up")
    model = trimesh.Trimesh(placed.vertices, placed.faces, process=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(export_stl(model))


def _textured(mesh: Mesh, name: str) -> trimesh.Trimesh:
    """Turn a placed mesh into a trimesh with one physically based material."""
    if mesh.uv is None or mesh.texture is None or mesh.normals is None:
        raise InputError(
            "a textured file needs UV, a texture and normals.", "unwrap and bake the mesh first."
        )
    has_map = mesh.metallic_roughness is not None
    material = PBRMaterial(
        name=name,
        baseColorTexture=Image.fromarray(mesh.texture),
        metallicRoughnessTexture=_picture(mesh.metallic_roughness),
        normalTexture=_picture(mesh.normal_map),
        metallicFactor=1.0 if has_map else METALLIC,
        roughnessFactor=1.0 if has_map else ROUGHNESS,
        doubleSided=True,
    )
    return trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.normals,
        visual=TextureVisuals(uv=mesh.uv.astype(np.float32), material=material),
        vertex_attributes={} if mesh.normal_map is None else {TANGENT: vertex_tangents(mesh)},
        process=False,
    )


def _piece(model: trimesh.Trimesh, part: Part) -> trimesh.Trimesh:
    """Return some triangles of a model, with everything at their vertices and its material."""
    visual: Any = model.visual
    used, faces = np.unique(model.faces[part.faces], return_inverse=True)
    return trimesh.Trimesh(
        model.vertices[used],
        faces.reshape(-1, 3),
        vertex_normals=model.vertex_normals[used],
        visual=TextureVisuals(uv=visual.uv[used], material=visual.material),
        vertex_attributes={key: values[used] for key, values in model.vertex_attributes.items()},
        process=False,
    )


def _picture(texels: UInt8[ndarray, "height width 3"] | None) -> Image.Image | None:
    return None if texels is None else Image.fromarray(texels)


def texture_roles(tree: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of each texture of a glTF's first material, by the key that names it."""
    material = (tree.get("materials") or [{}])[0]
    keys = {**material, **material.get("pbrMetallicRoughness", {})}
    return {key: value["index"] for key, value in keys.items() if key.endswith("Texture")}


def read_gltf_json(path: Path) -> dict[str, Any]:
    """Read the JSON chunk of a GLB file.

    Raises:
        InputError: the file cannot be read or is not a GLB.
    """
    refused = InputError(f"{path} is not a GLB file.", "give the path of an exported model.glb.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}.", "check the path."
        ) from None
    length = int.from_bytes(content[12:16], "little")
    if content[:4] != b"glTF" or content[16:20] != b"JSON" or len(content) < 20 + length:
        raise refused
    try:
        tree = json.loads(content[20 : 20 + length])
    except ValueError:
        raise refused from None
    if not isinstance(tree, dict):
        raise refused
    return tree
