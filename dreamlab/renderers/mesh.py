"""Rendering of triangle meshes: rasterize, look up what is seen, light it, smooth the outline.

    seen pixels -> position x, normal n -> albedo(x) -> light -> antialias -> over the background

or, in physically based views, material(x) instead of the albedo (see `pbr.py`); its bumps change
the light, not the normals that are returned.

Positions and normals are interpolated between vertices, the albedo is evaluated at every seen
pixel. Antialiasing blends colour (premultiplied), alpha, depth and normal alike, and is what gives
the outline a gradient; see `ops.triangles.antialias`. So are the marks of a layout, evaluated at
every seen pixel; a triangle is drawn with the object that its middle belongs to. Triangles that
have owners (`core.protocols.ComposedShape`) are drawn, marked and coloured as theirs.

`orientation` and `depth_variance` do not exist for a surface and are zero.

Source: deferred shading of rasterized meshes as in nvdiffrec (Munkberg et al. 2022), section 3.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Shape
from dreamlab.core.regions import Regions
from dreamlab.core.render import Render
from dreamlab.core.triangles import Triangles
from dreamlab.ops.triangles.antialias import antialias
from dreamlab.ops.triangles.interpolate import interpolate
from dreamlab.ops.triangles.normals import vertex_normals
from dreamlab.ops.triangles.rasterize import rasterize, triangle_index
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.base import RendererBase
from dreamlab.renderers.pbr import check_material, shade_material
from dreamlab.renderers.shading import Shading, shade


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the mesh renderer."""

    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    """What is behind the object."""
    backend: Literal["auto", "reference", "warp", "nvdiffrast"] = "auto"
    """Which kernels rasterize, interpolate and antialias."""


@dataclass(frozen=True)
class Seen:
    """What the centre of each pixel sees of a surface, unblended; zero where there is none.

    Gradients: positions and normals to the vertices.
    """

    face: Int[Tensor, "batch height width"]
    """Number of the triangle, -1 for none."""
    position: Float[Tensor, "batch height width 3"]
    """World space."""
    normal: Float[Tensor, "batch height width 3"]
    """World space, unit length, interpolated between vertices."""


class MeshRenderer(RendererBase[Shape]):
    """Renders a `Shape`."""

    def __init__(
        self, config: Config, shape: Shape, generator: torch.Generator | None = None
    ) -> None:
        """Build the renderer; `generator` (CPU) draws the initial background network."""
        super().__init__(shape, config.background, generator)
        self.config = config

    def forward(
        self,
        cameras: Cameras,
        height: int,
        width: int,
        *,
        shading: Shading,
        training: bool,
        generator: torch.Generator | None = None,
        background: Float[Tensor, "*shape 3"] | None = None,
        normals: bool = False,
        albedo: bool = False,
        depth_variance: bool = False,
        regions: Regions | None = None,
    ) -> Render:
        """Render all views.

        Args:
            cameras: world space.
            height: of the images, pixels; also `width`.
            shading: one entry for each camera.
            training: draw backgrounds and keep gradients.
            generator: CPU generator, needed in training.
            background: colours instead of the renderer's own, sRGB, broadcast over the images.
            normals: also return `normal` and `orientation`.
            albedo: also return `albedo`.
            depth_variance: also return `depth_variance`.
            regions: boxes of a layout: also return `regions`, `excess` and `shown`, and draw the
                shown objects alone.

        Raises:
            InputError: the shading is physically based and the shape has no material.

        Gradients: all images to the shape's vertices, rgb and albedo to its albedo (or material)
            and the background.
        """
        with torch.set_grad_enabled(training and torch.is_grad_enabled()):
            origins, directions = cameras.rays(height, width)
            behind = self.behind(directions, background, generator=generator, training=training)
            images = self._draw(cameras, origins, shading, regions, albedo=albedo)
            widths = [3, 1, 1, 3, *([3] if albedo else [])]
            widths += [] if regions is None else [len(regions), 1]
            color, alpha, depth, normal, *others = images.split(widths, dim=-1)
            unlit, marks = (others[0], others[1:]) if albedo else (None, others)
            nothing, beyond = torch.zeros_like(alpha), (1 - alpha) * behind
            return Render(
                rgb=color + beyond,
                alpha=alpha,
                depth=depth,
                normal=normal if normals or shading.needs_normals else None,
                albedo=None if unlit is None else unlit + beyond,
                depth_variance=nothing if depth_variance else None,
                orientation=nothing if normals else None,
                regions=marks[0] if marks else None,
                excess=marks[1] if marks else None,
                shown=None if regions is None else regions.shown,
            )

    def look(self, cameras: Cameras, height: int, width: int) -> Seen:
        """Return triangles, positions and normals that pictures of this size see."""
        mesh = self.scene.triangles()
        rast, surface, _ = self._surface(mesh, cameras, height, width)
        position, normal = surface.split(3, dim=-1)
        return Seen(triangle_index(rast), position, normalize(normal, dim=-1))

    def _surface(
        self, mesh: Triangles, cameras: Cameras, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `rasterize` finds, positions and normals there, and clip-space vertices."""
        backend = self.config.backend
        pos = _to_clip(mesh.vertices, cameras, width / height)
        rast = rasterize(pos, mesh.tri, (height, width), backend=backend)
        attributes = torch.cat([mesh.vertices, vertex_normals(mesh.vertices, mesh.tri)], dim=1)
        return rast, interpolate(attributes, rast, mesh.tri, backend=backend), pos

    def _draw(
        self,
        cameras: Cameras,
        origins: Tensor,
        shading: Shading,
        regions: Regions | None,
        *,
        albedo: bool,
    ) -> Float[Tensor, "batch height width channels"]:
        """Return premultiplied colour, alpha, depth, normal and, if asked for, albedo and marks."""
        scene: Any = self.shown(regions)
        mesh = _of_shown(scene.triangles(), regions)
        height, width = origins.shape[1:3]
        rast, surface, pos = self._surface(mesh, cameras, height, width)
        seen = torch.nonzero(rast[..., 3].flatten() > 0)[:, 0]
        point, normal = surface.flatten(end_dim=2).index_select(0, seen).split(3, dim=1)
        normal = normalize(normal, dim=-1)
        shares = None
        if mesh.owner is not None:
            owner = mesh.owner[triangle_index(rast).flatten().index_select(0, seen)]
            scene = scene.painted_by(owner)
            shares = None if regions is None else regions.shares_of(owner)
        origin = origins.flatten(end_dim=2).index_select(0, seen)
        lights = shading.of(seen // (height * width))
        color, unlit = _colors(scene, point, normal, origin, lights)
        distance = (point - origin).norm(dim=-1, keepdim=True)
        columns = [color, torch.ones_like(distance), distance, normal]
        columns += [unlit] if albedo else []
        if regions is not None:
            columns += regions.marks(point, shares).values()
        values = torch.cat(columns, dim=1)
        images = values.new_zeros(rast[..., 0].numel(), values.shape[1]).index_copy(0, seen, values)
        images = images.view(*rast.shape[:3], -1)
        return antialias(images, rast, pos, mesh.tri, mesh.topology, backend=self.config.backend)


def _colors(
    scene: Any, point: Tensor, normal: Tensor, origin: Tensor, shading: Shading
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3"]]:
    """Return the lit colour of points, each with its own shading, and the albedo; sRGB."""
    if shading.mode != "pbr":
        albedo = scene.albedo(point)
        return shade(albedo, normal, shading), albedo
    assert shading.surroundings is not None  # `sample_shading` gives this mode its light
    material = check_material(scene, "the shading pbr").material(point)
    view = normalize(origin - point, dim=-1)
    return shade_material(material, normal, view, shading.surroundings), material.albedo


def _of_shown(mesh: Triangles, regions: Regions | None) -> Triangles:
    """Return the triangles of the objects that are shown; those with owners are of no others."""
    if regions is None or regions.is_whole or mesh.owner is not None:
        return mesh
    middle = mesh.vertices.detach()[mesh.tri.long()].mean(dim=1)
    return Triangles(mesh.vertices, mesh.tri[regions.is_drawn(middle)])


def _to_clip(
    vertices: Float[Tensor, "vertices 3"], cameras: Cameras, aspect: float
) -> Float[Tensor, "batch vertices 4"]:
    """Return clip-space positions with y down, so that row 0 is the top of the picture."""
    matrix = cameras.world_to_clip(aspect)
    matrix = matrix * matrix.new_tensor([1.0, -1.0, 1.0, 1.0])[:, None]
    return vertices @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]


def build(config: Config, shape: Any, generator: torch.Generator | None = None) -> MeshRenderer:
    """Make the renderer; `generator` (CPU) draws the initial background network.

    Raises:
        InputError: the representation is no mesh.
    """
    if not isinstance(shape, Shape):
        raise InputError(
            f"the renderer mesh cannot draw a {type(shape).__name__}, which has no triangles.",
            "use a mesh representation such as dmtet, or the renderer volume.",
        )
    return MeshRenderer(config, shape, generator)
