"""Judge a written GLB by reading it back: every promise made to Blender users is a check here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from dreamlab.core.errors import DreamlabError
from dreamlab.core.mesh import Mesh
from dreamlab.export.files.reload import load_model
from dreamlab.export.files.writers import read_gltf_json, texture_roles
from dreamlab.ops.mesh.clean import SLIVER, drop_components, remove_degenerate
from dreamlab.ops.mesh.texels import rasterize

HEIGHT_TOLERANCE = 0.01
MAX_METALLIC = 0.05
MIN_ROUGHNESS = 0.3
MAX_OVERLAP = 0.005
MIN_COMPONENT_SHARE = 0.01
PROVENANCE = ("prompt", "seed", "config_hash", "licence", "generator")


@dataclass(frozen=True)
class Check:
    """One promise, whether it is kept, and what was found."""

    name: str
    passed: bool
    found: str


def check_glb(path: Path, *, names: Sequence[str], height: float, texture_size: int) -> list[Check]:
    """Check a GLB against the Blender contract.

    Args:
        path: of the file.
        names: that the nodes must have, one for each part.
        height: metres that it must be tall.
        texture_size: texels along each side that its texture must have.

    Returns:
        One entry a promise; a file that cannot even be opened fails the first and only one.
    """
    try:
        tree, model = read_gltf_json(path), load_model(path)
    except DreamlabError as error:
        return [Check("opens as one mesh", False, error.message)]
    checks = [Check("opens as one mesh", True, f"{len(model.faces)} faces")]

    def add(promise: str, passed: Any, found: Any) -> None:
        checks.append(Check(promise, bool(passed), str(found)))

    _check_structure(tree, names, add)
    _check_shape(model, height, add)
    _check_normals(tree, model, add)
    _check_material(tree, model, texture_size, add)
    return checks


Add = Callable[[str, Any, Any], None]


def _check_structure(tree: dict[str, Any], names: Sequence[str], add: Add) -> None:
    nodes, counts = tree.get("nodes", []), {}
    for part in ("nodes", "meshes", "materials", "textures", "images"):
        counts[part] = len(tree.get(part, []))
    roles = texture_roles(tree)
    expected = dict.fromkeys(("nodes", "meshes"), len(names)) | {"materials": 1}
    expected |= dict.fromkeys(("textures", "images"), len(roles))
    once = "baseColorTexture" in roles and len(set(roles.values())) == len(roles)
    once &= sorted(node.get("mesh", -1) for node in nodes) == list(range(len(names)))
    each = "one node, mesh and" if len(names) == 1 else "a node and mesh an object, one"
    add(f"{each} material, one texture a map", once and counts == expected, counts)
    found = [node.get("name") for node in nodes]
    add("named after the prompt", found == list(names), found)
    moved = [key for node in nodes for key in node if key not in ("name", "mesh")]
    add("identity transform", not moved, moved)
    extras = tree.get("asset", {}).get("extras", {})
    missing = [key for key in PROVENANCE if key not in extras]
    add("provenance in asset.extras", not missing, f"missing {missing}" if missing else "complete")


def _check_shape(model: trimesh.Trimesh, height: float, add: Add) -> None:
    vertices, faces = np.asarray(model.vertices), np.asarray(model.faces)
    finite = bool(np.isfinite(vertices).all())
    add("finite positions", finite, finite)
    if not finite:
        return
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    tall = float(high[1] - low[1])
    add("requested height", abs(tall - height) <= HEIGHT_TOLERANCE * height, f"{tall:.4f} m")
    off = [float((low + high)[0] / 2), float(low[1]), float((low + high)[2] / 2)]
    add("stands on the ground, centred", np.abs(off).max() <= 1e-4 * height, np.round(off, 6))
    mesh = Mesh(vertices.astype(np.float32), faces.astype(np.int64))
    smallest = float(mesh.face_areas.min()) / float((high - low).max()) ** 2
    add("no triangle without area", smallest > SLIVER / 10, f"{smallest:.2e} of the squared size")
    _, kept, dropped = drop_components(remove_degenerate(mesh), MIN_COMPONENT_SHARE)
    add("no floaters", dropped == 0, f"{kept} components, {dropped} below 1 % or hidden")


def _check_normals(tree: dict[str, Any], model: trimesh.Trimesh, add: Add) -> None:
    primitives = [part for mesh in tree.get("meshes", []) for part in mesh.get("primitives", [])]
    stored = all("NORMAL" in part.get("attributes", {}) for part in primitives)
    length = np.linalg.norm(np.asarray(model.vertex_normals), axis=1)
    unit = stored and bool((np.abs(length - 1) < 1e-3).all())
    add("unit normals", unit, f"lengths {length.min():.4f} to {length.max():.4f}")


def _check_material(
    tree: dict[str, Any], model: trimesh.Trimesh, texture_size: int, add: Add
) -> None:
    material = (tree.get("materials") or [{}])[0]
    factors = material.get("pbrMetallicRoughness", {})
    metallic, roughness = factors.get("metallicFactor", 1.0), factors.get("roughnessFactor", 1.0)
    if "metallicRoughnessTexture" in factors:
        add("metallic and rough as its map says", metallic == roughness == 1, (metallic, roughness))
    else:
        add("not metallic", metallic <= MAX_METALLIC, metallic)
        add("rough", MIN_ROUGHNESS <= roughness <= 1 and "roughnessFactor" in factors, roughness)
    add("double-sided", material.get("doubleSided") is True, material.get("doubleSided"))
    embedded = all("bufferView" in image for image in tree.get("images", []))
    surface = getattr(model.visual, "material", None)
    images = [getattr(surface, role, None) for role in texture_roles(tree)]
    sizes = {None if image is None else image.size for image in images}
    add("embedded texture", embedded and sizes == {(texture_size, texture_size)}, sizes)
    uv = getattr(model.visual, "uv", None)
    if uv is None:
        add("UV inside [0, 1]", False, "no UV")
        return
    uv = np.asarray(uv)
    inside = np.isfinite(uv).all() and uv.min() >= -1e-6 and uv.max() <= 1 + 1e-6
    add("UV inside [0, 1]", inside, f"{uv.min():.4f} to {uv.max():.4f}")
    if inside:
        overlap = rasterize(uv, np.asarray(model.faces), texture_size).overlap
        add("no overlapping charts", overlap <= MAX_OVERLAP, f"{overlap:.3%}")
