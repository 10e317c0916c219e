"""Points on surfaces: drawing them, and their distance to another surface.

Distances are exact, to the nearest point of the nearest triangle, found through the bounding volume
hierarchy of NVIDIA Warp; so a mesh has the distance 0 to itself however few points are drawn. A
point is inside where the mesh winds around it (generalised winding number above 1/2), which holes
and triangles that cut through each other hardly disturb.

Source: winding number: Barill et al. 2018, "Fast winding numbers for soups and clouds".
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
import warp as wp
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from dreamlab.core.mesh import Mesh
from dreamlab.ops.warp_setup import launch_split

FAR = wp.constant(1.0e6)

wp.set_module_options({"enable_backward": False})


@wp.kernel
@no_type_check
def _nearest_kernel(
    start: wp.int32,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    distance: wp.array(dtype=wp.float32),
    face: wp.array(dtype=wp.int32),
    weight: wp.array(dtype=wp.vec3),
):
    i = start + wp.tid()
    nearest = wp.mesh_query_point_no_sign(mesh, points[i], FAR)
    if nearest.result:
        surface = wp.mesh_eval_position(mesh, nearest.face, nearest.u, nearest.v)
        distance[i] = wp.length(surface - points[i])
        face[i] = nearest.face
        weight[i] = wp.vec3(nearest.u, nearest.v, 1.0 - nearest.u - nearest.v)


@wp.kernel
@no_type_check
def _signed_kernel(
    start: wp.int32,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    distance: wp.array(dtype=wp.float32),
):
    i = start + wp.tid()
    nearest = wp.mesh_query_point_sign_winding_number(mesh, points[i], FAR)
    if nearest.result:
        surface = wp.mesh_eval_position(mesh, nearest.face, nearest.u, nearest.v)
        distance[i] = nearest.sign * wp.length(surface - points[i])


def sample_surface(mesh: Mesh, count: int, seed: int) -> Float[ndarray, "count 3"]:
    """Draw points uniformly by area."""
    return sample_faces(mesh, count, seed)[0]


def sample_faces(
    mesh: Mesh, count: int, seed: int
) -> tuple[Float[ndarray, "count 3"], Int[ndarray, " count"]]:
    """Draw points uniformly by area; return them and the numbers of their triangles.

    Source: barycentric weights after Osada et al. 2002, "Shape distributions", eq. 1.
    """
    rng = np.random.default_rng(seed)
    areas = mesh.face_areas.astype(np.float64)
    face = rng.choice(len(areas), size=count, p=areas / areas.sum())
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weight = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    return np.einsum("nkc,nk->nc", mesh.triangles[face].astype(np.float64), weight), face


def distances_to(mesh: Mesh, points: Float[ndarray, "points 3"]) -> Float[ndarray, " points"]:
    """Return the distance of every point to the surface of a mesh, world units."""
    return nearest_to(mesh, points).distance.numpy().astype(np.float64)


@dataclass(frozen=True)
class Nearest:
    """The points of a surface that are nearest to others."""

    distance: Float[Tensor, " points"]
    """World units."""
    face: Int[Tensor, " points"]
    """Numbers of their triangles."""
    weight: Float[Tensor, "points 3"]
    """Barycentric, of the triangle's corners in the order of its face row."""


class NearestFinder:
    """A bounding volume hierarchy over the triangles of a mesh, to be asked again and again.

    Args:
        mesh: its shape alone matters.
        device: where points come from and answers go to.
    """

    def __init__(self, mesh: Mesh, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._mesh = _on_device(mesh, str(self.device), winding=False)

    def __call__(self, points: Float[Tensor, "points 3"]) -> Nearest:
        """Find the point of the mesh that is nearest to each point; no gradient."""
        points = points.detach().to(self.device, torch.float32).contiguous()
        count = len(points)
        found = Nearest(
            torch.zeros(count, device=self.device),
            torch.zeros(count, dtype=torch.int32, device=self.device),
            torch.zeros(count, 3, device=self.device),
        )
        inputs = [self._mesh.id, points, found.distance, found.face, found.weight]
        launch_split(_nearest_kernel, count, inputs, self.device)
        return found


def nearest_to(mesh: Mesh, points: Float[ndarray, "points 3"]) -> Nearest:
    """Find the point of a mesh that is nearest to each point."""
    return NearestFinder(mesh)(_as_tensor(points))


def signed_distances(mesh: Mesh, points: Float[ndarray, "points 3"]) -> Float[ndarray, " points"]:
    """Return the distance to the surface, negative inside, world units."""
    surface = _on_device(mesh, "cpu", winding=True)
    distance = torch.zeros(len(points))
    inputs = [surface.id, _as_tensor(points), distance]
    launch_split(_signed_kernel, len(points), inputs, "cpu")
    return distance.numpy().astype(np.float64)


def _on_device(mesh: Mesh, device: str, *, winding: bool) -> wp.Mesh:
    return wp.Mesh(
        points=wp.array(mesh.vertices.astype(np.float32), dtype=wp.vec3, device=device),
        indices=wp.array(mesh.faces.reshape(-1).astype(np.int32), dtype=wp.int32, device=device),
        support_winding_number=winding,
    )


def _as_tensor(points: ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(points, np.float32))
