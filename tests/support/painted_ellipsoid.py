"""An ellipsoid in two colours as each representation, in a stage of its own."""

from typing import Any

import torch
import trimesh
from torch import Tensor
from toy_run import toy_stage

from dreamlab.core.mesh import Mesh
from dreamlab.systems.stage import Stage

GRID = {"num_levels": 4, "log2_table_size": 12, "base_resolution": 4, "finest_resolution": 24}
MESH = {"name": "mesh", "background": {"name": "solid"}}
SPLAT = {"name": "splat", "background": {"name": "solid"}}
COUNT = {"count": 1500, "max_count": 1500, "control": {"name": "none"}}
PARTS: dict[str, dict[str, Any]] = {
    "hashgrid": {"representation": toy_stage().representation | {"blob_scale": 80.0}},
    "dmtet": {
        "representation": {"name": "dmtet", "resolution": 16, "grid": GRID},
        "renderer": MESH,
    },
    "gaussians": {"representation": {"name": "gaussians", **COUNT}, "renderer": SPLAT},
    "textured_mesh": {"representation": {"name": "textured_mesh", "grid": GRID}, "renderer": MESH},
    "uv_mesh": {
        "representation": {"name": "uv_mesh", "texture_size": 128, "unwrap": "box"},
        "renderer": MESH,
    },
}
"""Every representation that objects can have."""
RADII = (0.35, 0.6, 0.45)


def made(name: str, which: str = "first", **changes: Any) -> Stage:
    """Return a stage of this kind as it begins; stages of other names draw other numbers."""
    config = toy_stage(**{"losses": {}, **PARTS[name], **changes})
    return Stage(which, config, None, seed=0, device=torch.device("cpu"))


def painted(name: str, **changes: Any) -> Stage:
    """Return a stage of this kind with the ellipsoid; a field, which adopts nothing, has a ball."""
    stage = made(name, **changes)
    representation: Any = stage.representation
    if name == "hashgrid":
        with torch.no_grad():
            representation.features.table.fill_(3.0)
    else:
        representation.adopt(ellipsoid(), halves)
    return stage


def ellipsoid() -> Mesh:
    model = trimesh.creation.icosphere(subdivisions=3)
    return Mesh((model.vertices * RADII).astype("float32"), model.faces)


def halves(points: Tensor) -> Tensor:
    """Orange at the object's left, blue at its right, grey between."""
    share = (0.5 + 2 * points[:, 1:2]).clamp(0, 1)
    orange, blue = points.new_tensor([0.9, 0.5, 0.1]), points.new_tensor([0.1, 0.5, 0.9])
    return share * blue + (1 - share) * orange
