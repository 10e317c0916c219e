"""Read an exported GLB back, to look at what users get and not at what was meant."""

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from numpy import ndarray

from dreamlab.core.errors import InputError
from dreamlab.core.frames import to_world_axes
from dreamlab.core.mesh import Mesh
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.writers import read_gltf_json


def load_model(path: Path) -> trimesh.Trimesh:
    """Load the one mesh of a GLB as it is in the file: nothing merged, y up.

    Raises:
        InputError: the file is no readable GLB, or does not hold exactly one mesh.
    """
    read_gltf_json(path)
    try:
        scene = trimesh.load_scene(path, file_type="glb", process=False)
    except Exception as error:  # trimesh raises whatever a broken buffer leads to
        raise InputError(f"{path} is broken: {error}.", "export the model again.") from None
    models = list(scene.geometry.values())
    if len(models) != 1 or not isinstance(models[0], trimesh.Trimesh):
        raise InputError(
            f"{path} holds {len(models)} objects, one mesh is expected.",
            "give a file that dreamlab exported.",
        )
    return models[0]


def load_glb(path: Path, *, undo_placement: bool = False) -> Mesh:
    """Load an exported GLB with its textures, turned to the project's axes (z up, front +x).

    Args:
        path: a file that `write_glb` made.
        undo_placement: also undo scale and origin, so that the mesh lies where the representation
            was; otherwise it stands on the ground at its height in metres.

    Raises:
        InputError: the file cannot be read, holds other than one textured mesh, or has no record
            of its placement though that is to be undone.
    """
    model = load_model(path)
    uv = getattr(model.visual, "uv", None)
    material = getattr(model.visual, "material", None)
    texture = _texels(material, "baseColorTexture")
    if uv is None or texture is None:
        raise InputError(f"{path} has no base colour texture.", "export the model again.")
    mesh = Mesh(
        np.asarray(model.vertices, dtype=np.float32),
        np.asarray(model.faces, dtype=np.int64),
        normals=np.asarray(model.vertex_normals, dtype=np.float32),
        uv=np.asarray(uv, dtype=np.float64),
        texture=texture,
        metallic_roughness=_texels(material, "metallicRoughnessTexture"),
        normal_map=_texels(material, "normalTexture"),
    )
    if undo_placement:
        return _placement(path).undo(mesh, "y up")
    return to_world_axes(mesh, "y up")


def _texels(material: object, name: str) -> UInt8[ndarray, "height width 3"] | None:
    image = getattr(material, name, None)
    return None if image is None else np.asarray(image.convert("RGB"))


def read_extras(path: Path) -> dict[str, Any]:
    """Read `asset.extras` of a GLB: prompt, seed, config hash, licence, generator, placement."""
    extras = read_gltf_json(path).get("asset", {}).get("extras", {})
    return extras if isinstance(extras, dict) else {}


def _placement(path: Path) -> Placement:
    record = read_extras(path).get("placement")
    if not isinstance(record, dict) or not {"scale", "origin"} <= record.keys():
        raise InputError(
            f"{path} has no record of its placement.", "load it without undoing the placement."
        )
    x, y, z = (float(value) for value in record["origin"])
    return Placement(float(record["scale"]), (x, y, z))
