"""The seams between layers: what a field and a representation must offer.

`Prior` and `Guidance` have their protocols in their own folders, since only layers above use them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from dreamlab.core.cameras import Cameras
from dreamlab.core.harmonics import degree_of, harmonics_above_zero
from dreamlab.core.mesh import Mesh
from dreamlab.core.regions import ObjectFrame, Regions
from dreamlab.core.triangles import Triangles

ColorAt = Callable[[Float[Tensor, "points 3"]], Float[Tensor, "points 3"]]
"""Albedo, sRGB in [0, 1], at world points; no gradient."""


@runtime_checkable
class Field(Protocol):
    """A radiance field, as a volume renderer sees it. Points are in world space."""

    half_extent: float
    """The field lives in the cube [-half_extent, half_extent]^3; it is empty outside."""

    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return volume density, 1 / world unit, >= 0; differentiable."""
        ...

    def density_and_color(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Return density and albedo (sRGB in [0, 1]) with one evaluation of the encoding."""
        ...

    def normal(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return unit normals, minus the direction of the density gradient; differentiable."""
        ...


@runtime_checkable
class Shape(Protocol):
    """A mesh with colours, as a mesh renderer sees it. Points are in world space."""

    half_extent: float
    """The mesh lies in the cube [-half_extent, half_extent]^3."""

    def triangles(self) -> Triangles:
        """Return the mesh; differentiable."""
        ...

    def albedo(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo (sRGB in [0, 1]) at points of the surface; differentiable."""
        ...


@dataclass(frozen=True)
class Material:
    """What points of a surface are made of; differentiable."""

    albedo: Float[Tensor, "points 3"]
    """Base colour, sRGB in [0, 1]."""
    metallic: Float[Tensor, "points 1"]
    """0 for plastic, paint or wood, 1 for a bare metal."""
    roughness: Float[Tensor, "points 1"]
    """Perceived, in [0, 1]: 0 mirrors, 1 is matt; its square is the slope of the microfacets."""
    bump: Float[Tensor, "points 3"] | None = None
    """What is added to the unit normal, world space; none: the surface is smooth."""

    def bend(self, normal: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the unit normals with bumps, less than 90 degrees from those given.

        Only what lies in the surface counts: normalise(n + b - (b . n) n).
        """
        if self.bump is None:
            return normal
        along = (self.bump * normal).sum(dim=-1, keepdim=True)
        return torch.nn.functional.normalize(normal + self.bump - along * normal, dim=-1)


@runtime_checkable
class HasMaterial(Protocol):
    """A mesh that can be lit as physics has it, beside its plain albedo."""

    has_material: bool
    """Whether `material` can be asked; a setting."""

    def material(self, points: Float[Tensor, "points 3"]) -> Material:
        """Return the material at points of the surface; differentiable."""
        ...


@dataclass(frozen=True)
class Splats:
    """Gaussians, one a row, in world space; differentiable."""

    means: Float[Tensor, "gaussians 3"]
    quaternions: Float[Tensor, "gaussians 4"]
    """(w, x, y, z), of any length but zero."""
    scales: Float[Tensor, "gaussians 3"]
    """Standard deviations along the own axes, world units."""
    opacities: Float[Tensor, " gaussians"]
    """In [0, 1]."""
    colors: Float[Tensor, "gaussians 3"]
    """Albedo, sRGB in [0, 1]; the mean over all directions."""
    harmonics: Float[Tensor, "gaussians bases 3"] | None = None
    """What is added to the colours by direction, from the camera to the mean, world axes:
    coefficients of `dreamlab.core.harmonics`, by basis; none if colours are the same from all
    sides."""
    shapes: Float[Tensor, " gaussians"] | None = None
    """beta of generalised exponentials (`dreamlab.ops.splat.splat`); none for Gaussians."""
    owner: Int[Tensor, " gaussians"] | None = None
    """Number of the layout's object that each is of; none where that is not known."""

    def colors_from(
        self, positions: Float[Tensor, "batch 3"]
    ) -> Float[Tensor, "batch gaussians 3"]:
        """Return the colours that cameras at these places see, sRGB clamped to [0, 1]."""
        if self.harmonics is None:
            return self.colors.expand(len(positions), -1, -1)
        directions = normalize(self.means[None] - positions[:, None], dim=-1)
        degree = degree_of(self.harmonics.shape[1])
        assert degree is not None
        values = harmonics_above_zero(directions, degree)
        added = torch.einsum("bnk,nkc->bnc", values, self.harmonics)
        return (self.colors + added).clamp(0, 1)


@runtime_checkable
class Splatted(Protocol):
    """Gaussians, as a splatting renderer sees them."""

    def splats(self) -> Splats:
        """Return the Gaussians; differentiable."""
        ...

    def observe(
        self, gradient: Float[Tensor, " gaussians"], seen: Bool[Tensor, " gaussians"]
    ) -> None:
        """Take note of the length of the loss's gradient to each mean on the screen.

        Args:
            gradient: summed over views, per picture height.
            seen: Gaussians ahead of a camera.
        """
        ...


@runtime_checkable
class TellsMedianDepth(Protocol):
    """A renderer of what is translucent, where the mean depth may lie on nothing."""

    def median_depth(
        self, cameras: Cameras, height: int, width: int, *, regions: Regions | None = None
    ) -> Float[Tensor, "batch height width 1"]:
        """Return the distance by which half of what a pixel shows is met, world units; 0: nothing.

        Args:
            cameras: world space.
            height: of the pictures, pixels; also `width`.
            regions: boxes of a layout, to show some of its objects alone.
        """
        ...


@runtime_checkable
class Refining(Protocol):
    """A representation whose parameters change places now and then."""

    def refine(
        self, step: int, progress: float, generator: torch.Generator
    ) -> Int[Tensor, " rows"]:
        """Change parameters after a step; return rows whose optimiser state no longer fits."""
        ...


@runtime_checkable
class Volume(Protocol):
    """What the export finds a surface in, if the representation is no mesh."""

    half_extent: float
    """The object lies in the cube [-half_extent, half_extent]^3, world units."""

    def density_grid(self, resolution: int) -> Float[Tensor, "resolution resolution resolution"]:
        """Sample the density, 1 / world unit, at nodes that span the cube, axes x, y, z.

        The first and the last node of an axis lie on the cube's faces; no gradient. Raises
        `InputError` for fewer than 2 nodes an axis.
        """
        ...


@runtime_checkable
class Picture(Protocol):
    """A picture without an object, as the flat renderer sees it."""

    def picture(self) -> Float[Tensor, "side side 3"]:
        """Return the colours, sRGB in [0, 1]; differentiable."""
        ...


@runtime_checkable
class AdoptingPicture(Protocol):
    """A picture that can become a given one."""

    def adopt_picture(self, picture: Float[Tensor, "height width 3"]) -> None:
        """Take over the colours, sRGB in [0, 1], of the middle square."""
        ...


@runtime_checkable
class Latent(Protocol):
    """A representation that holds the latents of a picture."""

    latents: nn.Parameter
    """`[1 C h w]`."""

    def connect(self, decode: Callable[[Tensor], Tensor]) -> None:
        """Show the latents by this decoder from now on."""
        ...


@runtime_checkable
class Adopting(Protocol):
    """A representation that can become any mesh, which the stage before it ended with."""

    def adopt(self, mesh: Mesh, color_at: ColorAt) -> None:
        """Take over shape and colours of a mesh in the cube of this representation."""
        ...


@runtime_checkable
class Resizing(Protocol):
    """A part whose tensors take the sizes of the state that is loaded into it."""

    def resize(self, num_vertices: int, num_triangles: int, /) -> None:
        """Make room for another mesh."""
        ...


@runtime_checkable
class AdoptingSplats(Protocol):
    """A representation that can become given Gaussians."""

    def adopt_splats(self, splats: Splats) -> None:
        """Take over Gaussians in the cube of this representation.

        Raises `InputError` if there are more than fit.
        """
        ...


@runtime_checkable
class LaidOut(Protocol):
    """A representation that can begin as several bodies, one in each box of a layout."""

    def begin_in(self, regions: Regions) -> None:
        """Begin so; what was drawn at random stays as it is, but for its place.

        A box is to its body what the cube is to the single body that there would be otherwise,
        with objects filling `OBJECT` of the cube's half side but all of a box.
        """
        ...


@runtime_checkable
class Composed(Protocol):
    """Representations of a layout's objects, one for each, put together in the world.

    It answers as a `Field`, `Shape` or `Splatted` for those that are shown; each answers for itself
    in its own frame.
    """

    objects: Any
    """The representations, an `nn.ModuleList` in the order of the boxes."""
    frames: list[ObjectFrame]
    """Where each of them is."""

    def only(self, shown: Sequence[int]) -> Any:
        """Return the same with only these objects shown; it shares their parameters."""
        ...


@runtime_checkable
class ComposedField(Protocol):
    """A `Composed` that is a `Field`."""

    def of_objects(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[
        Float[Tensor, " points"], Float[Tensor, "points 3"], Float[Tensor, "points objects"]
    ]:
        """Return density, albedo and the shares of all objects in the density; differentiable.

        Shares sum to 1 where there is density; those of objects that are not shown are 0.
        """
        ...


@runtime_checkable
class ComposedShape(Protocol):
    """A `Composed` that is a `Shape`; its triangles have owners."""

    def painted_by(self, owner: Int[Tensor, " points"]) -> Any:
        """Return the colours of points that are of these objects, as a `Shape` has them.

        It has `albedo` and, where the objects have one, a `material`, for exactly these points.
        """
        ...


def shown_of(scene: Any, regions: Regions | None) -> Any:
    """Return what of a scene is shown, if it knows its objects; otherwise all of it."""
    if regions is None or not isinstance(scene, Composed):
        return scene
    return scene.only(regions.shown)


def objects_of(representation: Any) -> Sequence[Any]:
    """Return the representations that one is composed of, each in its own frame, or it alone."""
    return (
        list(representation.objects) if isinstance(representation, Composed) else [representation]
    )


@runtime_checkable
class Atlased(Protocol):
    """A mesh that has a texture of its own, which files can hold as it is."""

    def painted_mesh(self) -> Mesh:
        """Return the mesh with normals, UV and texture, cut along its seams."""
        ...


@runtime_checkable
class Representation(Protocol):
    """What is optimised; concrete classes are `nn.Module`s, one file each.

    It is a `Shape` or a `Volume` too, which the export asks for its surface, or a `Picture`, which
    has none.
    """

    half_extent: float
    """The object lies in the cube [-half_extent, half_extent]^3, world units."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the trainable parameters by group name; recipes set a learning rate per group."""
        ...

    def set_progress(self, progress: float) -> None:
        """Move schedules inside the representation (progressive levels, …) to `progress`."""
        ...

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the representation's own unweighted losses by name; recipes set the weights."""
        ...

    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return albedo, sRGB in [0, 1], at world points; no gradient is needed."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...
