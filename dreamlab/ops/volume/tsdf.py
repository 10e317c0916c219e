"""A surface out of depth pictures: their signed distances along rays, truncated and averaged.

    s_i(x) = d_i(x) - |x - o_i|                 > 0 in front of what view i sees, < 0 behind it
    w_i(x) = clamp(2 (1 + s_i / T), h, 1)       1 down to s = -T/2, h from about -T on: hidden
             c                                  from s = T on: seen through
    F(x) = sum_i w_i clamp(s_i / T, -1, 1) / sum_i w_i

F = 0 is the surface; F < 0 is inside; nodes outside of all pictures are outside. A ray that meets
nothing has s = T along all its length, and so carves the outline. c is small, since a ray that
grazes the object sees through what is just outside of it and is silent about what is just inside,
which would wear the surface off. Where there is no surface near, c and h decide alone: what more
than one view in ten sees through is outside, so that a pinhole in one view does not hollow the
object out. Nothing here has a gradient.

Glossary: `d_i(x)` depth, the distance along the ray, at the pixel where view i shows x, world
units; `o_i` its camera; `T` truncation. Depth is read bilinearly between pixels of one surface and
from the nearest pixel across its edges (where depths differ by more than about T).

T trades noise for detail: depth may be wrong by less than T, parts may be as thin as T. Depth of
what is translucent should be the median along the ray: the mean lies behind its front, and so would
this surface.

Source: Curless and Levoy 1996, "A volumetric method for building complex models from range
images", sections 3 and 4 (weights that fall behind the surface, space carving).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.triangles.isosurface import extract
from dreamlab.ops.volume.threshold import SilhouetteReference

TRUNCATION = 3.0
"""T in spacings of the grid."""
CARVING = 0.05
"""c, the weight of rays that pass through."""
HIDDEN = CARVING / 10
"""h, the weight of rays that end before."""
CHUNK = 1 << 20
"""Nodes that are looked up at once; bounds memory to about 100 MB."""


def fused_surface(reference: SilhouetteReference, half_extent: float, resolution: int) -> Mesh:
    """Return the closed surface that the depth of some views agrees on.

    Args:
        reference: with depth.
        half_extent: of the cube that the object lies in, world units.
        resolution: nodes along each axis of the grid.

    Raises:
        InputError: there is no depth, nothing is opaque in the views, or no node is inside.
    """
    if reference.depth is None:
        raise InputError("depth cannot be fused: none was rendered.", "render it with the views.")
    if not bool(reference.mask.any()):
        raise InputError(
            "there is no surface: no rendered pixel is opaque.",
            "optimise for more steps, or start again with another seed.",
        )
    truncation = TRUNCATION * 2 * half_extent / (resolution - 1)
    depth = torch.where(reference.mask, reference.depth, 0.0)
    fused = fuse_depth(
        depth,
        reference.cameras,
        half_extent=half_extent,
        resolution=resolution,
        truncation=truncation,
    )
    return extract(-fused, 0.0, half_extent)


@torch.no_grad()
def fuse_depth(
    depth: Float[Tensor, "views height width 1"],
    cameras: Cameras,
    *,
    half_extent: float,
    resolution: int,
    truncation: float,
) -> Float[Tensor, "resolution resolution resolution"]:
    """Return F at the nodes of the cube [-half_extent, half_extent]^3, axes in order x, y, z.

    Args:
        depth: distance along the ray, world units; 0 where the ray meets nothing.
        cameras: of the views.
        half_extent: of the cube, world units.
        resolution: nodes along each axis, at least 2.
        truncation: T, world units.

    Returns:
        F in [-1, 1], on the device of `depth`.
    """
    axis = torch.linspace(-half_extent, half_extent, resolution, device=depth.device)
    nodes = torch.cartesian_prod(axis, axis, axis)
    cameras = cameras.to(depth.device)
    pieces = [_fuse(points, depth, cameras, truncation) for points in nodes.split(CHUNK)]
    return torch.cat(pieces).reshape(resolution, resolution, resolution)


def _fuse(
    points: Float[Tensor, "nodes 3"], depth: Tensor, cameras: Cameras, truncation: float
) -> Float[Tensor, " nodes"]:
    """Return F at some points."""
    total = points.new_zeros(len(points))
    weight = torch.zeros_like(total)
    for view in range(len(cameras)):
        camera = cameras[view : view + 1]
        place, in_frame = _project(points, camera, depth.shape[2] / depth.shape[1])
        found = _read_depth(depth[view, ..., 0], place, truncation)
        s = (found - (points - camera.position[0]).norm(dim=-1)) / truncation
        s = torch.where(found > 0, s, 1.0)
        w = torch.where(s < 1, (2 * (1 + s)).clamp(HIDDEN, 1), CARVING) * in_frame
        total += w * s.clamp(-1, 1)
        weight += w
    return torch.where(weight > 0, total / weight.clamp(min=1e-12), 1.0)


def _project(
    points: Float[Tensor, "nodes 3"], camera: Cameras, aspect: float
) -> tuple[Float[Tensor, "nodes 2"], Tensor]:
    """Return places in the picture, in [-1, 1] right and down, and which points lie in it."""
    rows = camera.world_to_clip(aspect)[0, [0, 1, 3]]
    x, y, w = (points @ rows[:, :3].T + rows[:, 3]).unbind(dim=-1)
    place = torch.stack([x, -y], dim=-1) / w.clamp(min=1e-6)[:, None]
    return place, (w > 0) & (place.abs() <= 1).all(dim=-1)


def _read_depth(
    depth: Float[Tensor, "height width"], place: Float[Tensor, "nodes 2"], truncation: float
) -> Float[Tensor, " nodes"]:
    """Return the depth at places of a picture, 0 where there is nothing."""
    channels = torch.stack([(depth > 0).to(depth), depth, depth.square()])[None]
    between = _sample(channels, place, "bilinear")
    covered, mean, square = between
    is_one_surface = (covered > 1 - 1e-4) & (square - mean.square() < (truncation / 2) ** 2)
    return torch.where(is_one_surface, mean, _sample(channels[:, 1:2], place, "nearest")[0])


def _sample(channels: Tensor, place: Tensor, mode: str) -> Tensor:
    grid = place[None, None]
    read = grid_sample(channels, grid, mode=mode, padding_mode="border", align_corners=False)
    return read[0, :, 0]
