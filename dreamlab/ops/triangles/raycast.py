"""Rays against triangles: hits, silhouettes and pictures of a mesh. Nothing here has a gradient.

Glossary: `barycentric` (w0, w1, w2) are the weights of a triangle's corners in the order of its
face row; `n` unit normal, `l` unit vector to a distant light, both in world space; `a` ambient
share. A ray that leaves the mesh from behind a triangle hits it all the same.

Conventions: world coordinates, z up; pixel centres at +0.5; sRGB in [0, 1].

Source: the bounding volume hierarchy and the watertight ray test (Woop, Benthin and Wald 2013) are
those of NVIDIA Warp.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
import warp as wp
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.render import Render
from dreamlab.ops.triangles.paint import Paint
from dreamlab.ops.warp_setup import launch_split

FAR = wp.constant(1.0e6)

wp.set_module_options({"enable_backward": False})


@wp.kernel(enable_backward=False)
@no_type_check
def _cast_kernel(
    start: wp.int32,
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    face_index: wp.array(dtype=wp.int32),
    barycentric: wp.array(dtype=wp.vec3),
    distance: wp.array(dtype=wp.float32),
):
    i = start + wp.tid()
    hit = wp.mesh_query_ray(mesh, origins[i], directions[i], FAR)
    face_index[i] = -1
    barycentric[i] = wp.vec3(0.0, 0.0, 0.0)
    distance[i] = 0.0
    if hit.result:
        face_index[i] = hit.face
        barycentric[i] = wp.vec3(hit.u, hit.v, 1.0 - hit.u - hit.v)
        distance[i] = hit.t


@dataclass(frozen=True)
class Hits:
    """The first triangle that each ray meets; a miss has face -1 and zeros."""

    face_index: Int[Tensor, " rays"]
    barycentric: Float[Tensor, "rays 3"]
    distance: Float[Tensor, " rays"]
    """Along the ray, in lengths of its direction."""


class MeshCaster:
    """A bounding volume hierarchy over the triangles of a mesh.

    Args:
        vertices: world space.
        faces: vertex indices.
        device: where rays come from and hits go to.

    Raises:
        InputError: there is no triangle.
    """

    def __init__(
        self,
        vertices: Float[ndarray, "vertices 3"],
        faces: Int[ndarray, "faces 3"],
        device: torch.device | str = "cpu",
    ) -> None:
        if len(faces) == 0:
            raise InputError("rays cannot be cast at a mesh without triangles.", "check the mesh.")
        self.device = torch.device(device)
        name = str(self.device)
        self._mesh = wp.Mesh(
            points=wp.array(np.ascontiguousarray(vertices, np.float32), dtype=wp.vec3, device=name),
            indices=wp.array(faces.reshape(-1).astype(np.int32), dtype=wp.int32, device=name),
        )

    def cast(self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> Hits:
        """Return the nearest hit of every ray; directions need not be unit vectors."""
        origins, directions = (
            rays.to(self.device, torch.float32).contiguous() for rays in (origins, directions)
        )
        count = len(origins)
        hits = Hits(
            torch.zeros(count, dtype=torch.int32, device=self.device),
            torch.zeros(count, 3, device=self.device),
            torch.zeros(count, device=self.device),
        )
        inputs = [self._mesh.id, origins, directions]
        inputs += [hits.face_index, hits.barycentric, hits.distance]
        launch_split(_cast_kernel, count, inputs, self.device)
        return hits


def silhouette(
    mesh: Mesh, cameras: Cameras, height: int, width: int
) -> Bool[Tensor, "batch height width 1"]:
    """Return which pixel centres see the mesh, on the cameras' device."""
    caster = MeshCaster(mesh.vertices, mesh.faces, cameras.fov_y.device)
    origins, directions = cameras.rays(height, width)
    hits = caster.cast(origins.reshape(-1, 3), directions.reshape(-1, 3))
    return (hits.face_index >= 0).reshape(len(cameras), height, width, 1)


def render_mesh(
    mesh: Mesh,
    cameras: Cameras,
    height: int,
    width: int,
    *,
    supersample: int = 2,
    light_direction: Float[Tensor, "batch 3"] | None = None,
    ambient: float = 1.0,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Render:
    """Draw a painted mesh: albedo * (a + (1 - a) * max(0, n . l)), in sRGB numbers.

    Normals are the mesh's own, interpolated, or those of the triangles if it has none; the side
    that a ray meets counts as the outer one. The texture is sampled bilinearly.

    Args:
        mesh: with a texture and UV, or vertex colours, or neither (`paint.UNPAINTED`).
        supersample: rays along each side of a pixel.
        light_direction: unit vectors to the light, world space; None lights nothing: albedo only.
        ambient: a in [0, 1].
        background: sRGB in [0, 1].

    Returns:
        rgb over the background, alpha, depth and normal as `Render` defines them.

    Raises:
        InputError: the mesh has no triangle, or supersample is below 1.
    """
    if supersample < 1:
        raise InputError(f"supersample must be at least 1, got {supersample}.", "raise it.")
    device = cameras.fov_y.device
    painted = _PaintedMesh(mesh, device)
    views = []
    for view in range(len(cameras)):
        origins, directions = cameras[view : view + 1].rays(
            height * supersample, width * supersample
        )
        light = None if light_direction is None else light_direction[view].to(device)
        views.append(painted.shade(origins[0], directions[0], light, ambient))
    rgb, alpha, depth, normal = (torch.stack(channel) for channel in zip(*views, strict=True))
    rgb, alpha, depth, normal = (_shrink(x, supersample) for x in (rgb, alpha, depth, normal))
    return Render(rgb + (1 - alpha) * torch.tensor(background, device=device), alpha, depth, normal)


def _shrink(image: Float[Tensor, "batch H W C"], factor: int) -> Float[Tensor, "batch h w C"]:
    batch, height, width, channels = image.shape
    blocks = image.reshape(batch, height // factor, factor, width // factor, factor, channels)
    return blocks.mean(dim=(2, 4))


class _PaintedMesh:
    """A mesh on a device, with what is needed to colour a hit."""

    def __init__(self, mesh: Mesh, device: torch.device) -> None:
        self.caster = MeshCaster(mesh.vertices, mesh.faces, device)
        self.paint = Paint(mesh, device)
        self.triangles = torch.as_tensor(mesh.triangles, device=device).float()
        self.normals = None
        if mesh.normals is not None:
            self.normals = torch.as_tensor(mesh.normals, device=device).float()

    def shade(
        self,
        origins: Float[Tensor, "H W 3"],
        directions: Float[Tensor, "H W 3"],
        light: Float[Tensor, " 3"] | None,
        ambient: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return premultiplied rgb, alpha, depth and normal of one picture of rays."""
        shape = origins.shape[:2]
        rays = directions.reshape(-1, 3)
        hits = self.caster.cast(origins.reshape(-1, 3), rays)
        seen = torch.nonzero(hits.face_index >= 0)[:, 0]
        face, weight = hits.face_index[seen].long(), hits.barycentric[seen]
        normal = self._normal(face, weight, rays[seen])
        color = self.paint.at(face, weight)
        if light is not None:
            lambert = (normal @ light).clamp(min=0)[:, None]
            color = color * (ambient + (1 - ambient) * lambert)
        values = (color, torch.ones_like(weight[:, :1]), hits.distance[seen, None], normal)
        pictures = []
        for value in values:
            picture = value.new_zeros(len(rays), value.shape[1])
            picture[seen] = value
            pictures.append(picture.reshape(*shape, value.shape[1]))
        return tuple(pictures)

    def _normal(self, face: Tensor, weight: Tensor, rays: Tensor) -> Tensor:
        a, b, c = self.triangles[face].unbind(1)
        flat = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        smooth = flat
        if self.normals is not None:
            interpolated = self.paint.interpolate(self.normals, face, weight)
            smooth = torch.nn.functional.normalize(interpolated, dim=-1)
        from_behind = (flat * rays).sum(dim=-1, keepdim=True) > 0
        return torch.where(from_behind, -smooth, smooth)
