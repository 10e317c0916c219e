"""Read an exported GLB back, to look at what users get and not at what was meant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from numpy import ndarray
from trimesh.visual.texture import TextureVisuals

from dreamlab.core.errors import InputError
from dreamlab.core.frames import to_world_axes
from dreamlab.core.mesh import Mesh
from dreamlab.export.files.placement import Placement
from dreamlab.export.files.writers import read_gltf_json


def load_model(path: Path) -> trimesh.Trimesh:
    """Load the one mesh of a GLB as it is in the file: nothing merged, y up.

    Meshes of one material, as the parts of a model are, become one mesh in their order.

    Raises:
        InputError: the file is no readable GLB, or holds no mesh or several of other materials.
    """
    materials = read_gltf_json(path).get("materials", [])
    try:
        scene = trimesh.load_scene(path, file_type="glb", process=False)
    except Exception as error:  # trimesh raises whatever a broken buffer leads to
        raise InputError(f"{path} is broken: {error}.", "export the model again.") from None
    models = [item for item in scene.geometry.values() if isinstance(item, trimesh.Trimesh)]
    is_one = len(models) == 1 or (len(models) > 1 and len(materials) == 1)
    if not is_one or len(models) != len(scene.geometry):
        raise InputError(
            f"{path} holds {len(scene.geometry)} objects, one mesh is expected.",
            "give a file that dreamlab exported.",
        )
    return models[0] if len(models) == 1 else _joined(models)


def _joined(models: Sequence[Any]) -> trimesh.Trimesh:
    """Put meshes of one material beside each other."""
    starts = np.cumsum([0, *(len(model.vertices) for model in models)])
    uv: list[Any] = [getattr(model.visual, "uv", None) for model in models]
    visual = None
    if all(values is not None for values in uv):
        visual = TextureVisuals(uv=np.concatenate(uv), material=models[0].visual.material)
    return trimesh.Trimesh(
        np.concatenate([model.vertices for model in models]),
        np.concatenate([model.faces + start for model, start in zip(models, starts, strict=False)]),
        vertex_normals=np.concatenate([model.vertex_normals for model in models]),
        visual=visual,
        process=False,
    )


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
