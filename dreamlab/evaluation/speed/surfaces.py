"""Meshes and Gaussians against plain torch on one thread, and on two threads against one.

The mesh is a sphere of about 20,000 triangles, the Gaussians cover one; pictures are 128 pixels
wide. A mesh step is rasterizing, interpolating, antialiasing and the way back; it is compared with
plain torch's z-buffer alone. Marching tetrahedra, forward and backward, are compared with making
rows of edges unique.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.triangles import Triangles
from dreamlab.evaluation.speed.figures import (
    CAN_TIME_THREADS,
    Figure,
    medians_in_a_row,
    scaling,
    speedup,
)
from dreamlab.evaluation.speed.kernels import SCALING_GOAL
from dreamlab.ops.backends import Backend
from dreamlab.ops.splat.project import project
from dreamlab.ops.splat.splat import splat
from dreamlab.ops.triangles.antialias import antialias
from dreamlab.ops.triangles.interpolate import interpolate
from dreamlab.ops.triangles.rasterize import rasterize
from dreamlab.ops.triangles.tetrahedra import TetrahedralGrid, marching_tetrahedra
from dreamlab.ops.triangles.tetrahedra_reference import all_tetrahedra
from dreamlab.ops.triangles.tetrahedra_reference import marching_tetrahedra as by_rows

SIZE = 128
"""Height and width of pictures, pixels."""
MESH_CELLS = 32
"""Cells an axis of the grid that the sphere comes from."""
MESH_GOAL, SPLAT_GOAL, TETRAHEDRA_GOAL = 5.0, 10.0, 8.0


def surface_figures(num_gaussians: int, cells: int, repeats: int) -> Iterator[Figure]:
    """Time triangles, Gaussians and tetrahedra; torch must be on one thread.

    Args:
        num_gaussians: Gaussians that are splatted.
        cells: cells an axis of the tetrahedral grid that is marched.
        repeats: timed calls a figure, at least.
    """
    mesh = sphere(MESH_CELLS)
    step, depth = mesh_step(mesh, SIZE), _depth_only(mesh)
    what = f"rasterize + interpolate + antialias, forward + backward, {len(mesh.tri)} triangles"
    what += ", against a z-buffer alone"
    yield speedup(what, step, depth, MESH_GOAL, repeats)
    what += ", each in a row"
    yield speedup(what, step, depth, MESH_GOAL, repeats, medians_in_a_row)
    call = splat_call(num_gaussians, SIZE)
    what = f"splat, forward + backward, {num_gaussians} Gaussians, {SIZE} px"
    yield speedup(what, partial(call, "warp"), partial(call, "reference"), SPLAT_GOAL, repeats)
    ours, rows = _tetrahedra_calls(cells)
    what = f"marching tetrahedra, forward + backward, {12 * cells**3} tetrahedra"
    yield speedup(what, ours, rows, TETRAHEDRA_GOAL, repeats)
    if CAN_TIME_THREADS:
        yield scaling(f"mesh step on two threads, {SIZE} px", step, SCALING_GOAL, repeats)
        what = f"splat on two threads, {num_gaussians} Gaussians, {SIZE} px"
        yield scaling(what, partial(call, "warp"), SCALING_GOAL, repeats)


def _distances(grid: TetrahedralGrid) -> Tensor:
    return grid.positions.norm(dim=1) - 0.7


def sphere(cells: int, device: torch.device | str = "cpu") -> Triangles:
    """Return a sphere out of a tetrahedral grid with that many cells an axis."""
    grid = TetrahedralGrid(cells)
    surface = marching_tetrahedra(_distances(grid), grid.positions, grid)
    return Triangles(surface.vertices.to(device), surface.tri.to(device))


def _seen(vertices: Tensor) -> Tensor:
    """Return clip-space positions from a distance of 3."""
    camera = turntable_cameras(1, distance=3.0, fov_y=45.0).to(vertices.device)
    matrix = camera.world_to_clip()
    return torch.nn.functional.pad(vertices, (0, 1), value=1.0) @ matrix.transpose(1, 2)


def mesh_step(mesh: Triangles, size: int) -> Callable[..., object]:
    """Return a function that draws a mesh on a given backend, size x size pixels, and goes back."""
    pos = _seen(mesh.vertices).requires_grad_()
    color = (mesh.vertices * 0.5 + 0.5).requires_grad_()
    topology = mesh.topology
    cotangent = torch.rand(1, size, size, 3, generator=torch.Generator().manual_seed(0))
    cotangent = cotangent.to(pos.device)

    def call(backend: Backend = "auto") -> object:
        rast = rasterize(pos, mesh.tri, (size, size), backend=backend)
        colors = interpolate(color, rast, mesh.tri, backend=backend)
        picture = antialias(colors, rast, pos, mesh.tri, topology, backend=backend)
        return torch.autograd.grad(picture, (pos, color), cotangent)

    return call


def _depth_only(mesh: Triangles) -> Callable[[], object]:
    pos = _seen(mesh.vertices)
    return lambda: rasterize(pos, mesh.tri, (SIZE, SIZE), backend="reference")


def splat_call(count: int, size: int, device: torch.device | str = "cpu") -> Callable[..., object]:
    """Return a function that splats Gaussians on a sphere and goes back, on a given backend."""
    generator = torch.Generator().manual_seed(0)
    means = 0.7 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    quaternions = torch.randn(count, 4, generator=generator)
    scales = torch.full((count, 3), 0.7 * 2 * math.sqrt(math.pi / count) * 0.6)
    opacities = 0.2 + 0.7 * torch.rand(count, generator=generator)
    colors = torch.rand(1, count, 3, generator=generator)
    parts = [x.to(device).requires_grad_() for x in (means, quaternions, scales, opacities, colors)]
    camera = turntable_cameras(1, distance=3.0, fov_y=45.0).to(device)

    def call(backend: Backend = "auto") -> object:
        means, quaternions, scales, opacities, colors = parts
        projected = project(
            means, quaternions, scales, opacities, camera, size, size, backend=backend
        )
        picture, alpha = splat(projected, colors, size, size, backend=backend)
        return torch.autograd.grad(picture.square().sum() + alpha.sum(), parts)

    return call


def _tetrahedra_calls(cells: int) -> tuple[Callable[[], object], Callable[[], object]]:
    grid = TetrahedralGrid(cells)
    tetrahedra = all_tetrahedra(grid)
    distance = _distances(grid).requires_grad_()
    positions = grid.positions.requires_grad_()

    def ours() -> object:
        surface = marching_tetrahedra(distance, positions, grid)
        return torch.autograd.grad(surface.vertices.square().sum(), (distance, positions))

    def rows() -> object:
        surface = by_rows(distance, positions, tetrahedra)
        return torch.autograd.grad(surface.vertices.square().sum(), (distance, positions))

    return ours, rows
