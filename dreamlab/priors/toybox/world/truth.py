"""The true mesh of an in-world scene, with colours."""

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from skimage.measure import label, marching_cubes

from dreamlab.core.mesh import Mesh
from dreamlab.ops.warp_setup import launch_split
from dreamlab.priors.toybox.world import kernels
from dreamlab.priors.toybox.world.scenes import SCENE_RADIUS, Scene, pack
from dreamlab.priors.toybox.world.tracer import device_parts


def true_mesh(scene: Scene, resolution: int = 128) -> Mesh:
    """Extract the surface of a scene from its signed distance on a grid.

    Args:
        scene: any scene; `captions.parse_prompt` gives that of an in-world prompt.
        resolution: grid points along each axis of a cube around the ball of radius 0.85.

    Returns:
        A closed mesh in world space (z up, front +x), with unit normals and vertex colours (albedo,
        sRGB), patterns included. Hollows that cannot be seen from outside are filled.

    Source: marching cubes after T. Lewiner et al., "Efficient implementation of marching cubes'
    cases with topological guarantees", 2003.
    """
    parts = device_parts(pack([scene]))
    half = SCENE_RADIUS * resolution / (resolution - 4)
    axis = np.linspace(-half, half, resolution, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    distance = torch.zeros(len(grid))
    surroundings = [parts, torch.from_numpy(grid), distance]
    launch_split(kernels.scene_distances, len(grid), surroundings, "cpu")
    volume = _fill_cavities(distance.numpy().reshape((resolution,) * 3))
    step = float(axis[1] - axis[0])
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(step,) * 3)
    vertices = (vertices - half).astype(np.float32)
    color, normal = np.zeros((2, len(vertices), 3), np.float32)
    surface = [parts, *(torch.from_numpy(array) for array in (vertices, color, normal))]
    launch_split(kernels.scene_surface, len(vertices), surface, "cpu")
    return Mesh(vertices=vertices, faces=faces.astype(np.int64), colors=color, normals=normal)


def _fill_cavities(
    volume: Float[ndarray, "depth height width"],
) -> Float[ndarray, "depth height width"]:
    """Turn regions of positive distance that the corner of the grid does not reach into inside."""
    regions = np.asarray(label(volume > 0, connectivity=1))
    hidden = (regions > 0) & (regions != regions[0, 0, 0])
    return np.where(hidden, -volume, volume)
