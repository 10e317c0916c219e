"""One representation for each object of a layout, put together in the world.

Object k has a frame of its own, x = s_k R_z(psi_k) u_k + c_k (`core.regions.ObjectFrame`), in which
its box is where a single object would be. There it is made as a single object is, with the same
settings. What is seen of all objects together:

    fields:     sigma(x) = sum_k sigma_k(u_k) / s_k        a child is empty outside of its cube
                m_k(x) = sigma_k(u_k) / (s_k sigma(x)),    sum_k m_k = 1
                c(x) = sum_k m_k c_k(u_k),                 n(x) ~ sum_k m_k R_z(psi_k) n_k(u_k)
    meshes:     all triangles, each coloured by its own object
    Gaussians:  all of them; mean s_k R_z(psi_k) mu + c_k, rotation R_z(psi_k) R, deviations s_k l

Glossary: `sigma` density, 1 / world unit, which the factor 1 / s_k makes as opaque in the box as
the object is in its own frame; `c_k` albedo, or in a frame its origin in the world; `n` normal;
`m_k` the share of object k. What belongs to whom is known: shares are these m_k of fields, and 0 or
1 for triangles and Gaussians. Objects that are not shown are not evaluated and take no gradient.

Regularisers are means over the objects that are shown. The harmonics of Gaussians are about axes of
the world, since directions are.

Source: densities add and features mix by density as in GIRAFFE (Niemeyer and Geiger 2021), section
3.2; one NeRF for each box of a layout: CompoNeRF (Lin et al. 2023), Set-the-Scene (Cohen-Bar et al.
2023); Gaussians in frames that are similar to the world: SemanticSDS (Yang et al. 2024).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Field, HasMaterial, LaidOut, Material, Shape, Splats, Splatted
from dreamlab.core.regions import OBJECT, ObjectFrame, Regions
from dreamlab.core.triangles import Triangles
from dreamlab.representations.features import CHUNK

EMPTY = 1e-12
"""Density below which shares mean nothing; they are then less than they should be."""


class Composition(nn.Module):
    """What is common to all kinds; satisfies `Composed` and `Representation`."""

    def __init__(
        self, objects: Sequence[Any], regions: Regions, shown: Sequence[int] | None = None
    ) -> None:
        """Put objects together that have begun in the boxes of their own frames.

        Args:
            objects: one for each box, in their order.
            regions: of the layout, on the device of the objects.
            shown: numbers of the objects that are there; all by default.
        """
        super().__init__()
        self.objects = nn.ModuleList(objects)
        self.regions = regions
        self.frames = regions.frames()
        self.shown = tuple(range(len(objects)) if shown is None else sorted(shown))
        self.half_extent: float = objects[0].half_extent

    def only(self, shown: Sequence[int]) -> Any:
        """Return the same with only these objects shown; it shares their parameters."""
        return type(self)(list(self.objects), self.regions, shown)

    def _shown_objects(self) -> Iterator[tuple[int, Any, ObjectFrame]]:
        for k in self.shown:
            yield k, self.objects[k], self.frames[k]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups that one object has, with the parameters of all."""
        groups: dict[str, list[nn.Parameter]] = {}
        for each in self.objects:
            child: Any = each
            for name, parameters in child.parameter_groups().items():
                groups.setdefault(name, []).extend(parameters)
        return groups

    def set_progress(self, progress: float) -> None:
        """Move the schedules inside all objects to `progress`."""
        for each in self.objects:
            child: Any = each
            child.set_progress(progress)

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses that one object has, as means over those that are shown."""
        losses = [child.regularisers() for _, child, _ in self._shown_objects()]
        return {name: torch.stack([own[name] for own in losses]).mean() for name in losses[0]}

    def _owner_by_box(self, points: Float[Tensor, "points 3"]) -> Int[Tensor, " points"]:
        """Return the shown object whose box each point belongs to."""
        return self.regions.only(self.shown).labels(points).argmax(dim=-1)


class ComposedFields(Composition):
    """Fields in their boxes; satisfies `Field` and `ComposedField`.

    Gradients: as of its objects; a point's reach those whose cubes it lies in, and no others.
    """

    def of_objects(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[
        Float[Tensor, " points"], Float[Tensor, "points 3"], Float[Tensor, "points objects"]
    ]:
        """Return density, albedo (sRGB in [0, 1]) and the shares of all objects."""
        shares = [points.new_zeros(len(points))] * len(self.objects)
        color = torch.zeros_like(points)
        for k, child, frame in self._shown_objects():
            local, here = _inside(child, frame, points)
            density, albedo = child.density_and_color(local)
            density = density / frame.scale
            shares[k] = points.new_zeros(len(points)).index_copy(0, here, density)
            color = color.index_add(0, here, density[:, None] * albedo)
        densities = torch.stack(shares, dim=1)
        total = densities.sum(dim=1)
        divisor = total.clamp(min=EMPTY)[:, None]
        return total, color / divisor, densities / divisor

    def density_and_color(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Return density and albedo, sRGB in [0, 1]."""
        density, color, _ = self.of_objects(points)
        return density, color

    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return the sum of the densities, 1 / world unit."""
        total = points.new_zeros(len(points))
        for _, child, frame in self._shown_objects():
            local, here = _inside(child, frame, points)
            total = total.index_add(0, here, child.density(local) / frame.scale)
        return total

    def normal(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return unit normals, those of the objects mixed by their shares (without gradient)."""
        total = torch.zeros_like(points)
        for _, child, frame in self._shown_objects():
            local, here = _inside(child, frame, points)
            with torch.no_grad():
                density = child.density(local)[:, None] / frame.scale
            total = total.index_add(0, here, density * frame.turn(child.normal(local)))
        return normalize(total, dim=-1, eps=EMPTY)

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return albedo, sRGB in [0, 1], at world points; no gradient."""
        return torch.cat([self.density_and_color(chunk)[1] for chunk in points.split(CHUNK)])


class ComposedShapes(Composition):
    """Meshes in their boxes; satisfies `Shape`, `HasMaterial` and `ComposedShape`.

    They may cross one another. Gradients: as of its objects.
    """

    def triangles(self) -> Triangles:
        """Return all meshes as one, whose triangles have owners."""
        vertices, faces, owners = [], [], []
        count = 0
        for k, child, frame in self._shown_objects():
            mesh = child.triangles()
            vertices.append(frame.to_world(mesh.vertices))
            faces.append(mesh.tri + count)
            owners.append(torch.full_like(mesh.tri[:, 0], k))
            count += len(mesh.vertices)
        return Triangles(torch.cat(vertices), torch.cat(faces), owner=torch.cat(owners))

    def painted_by(self, owner: Int[Tensor, " points"]) -> "Paint":
        """Return the colours of points that are of these objects."""
        return Paint(self, owner)

    def albedo(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo of the objects whose boxes the points belong to; differentiable."""
        return self.painted_by(self._owner_by_box(points)).albedo(points)

    @property
    def has_material(self) -> bool:
        """Whether the objects have more than an albedo."""
        first: Any = self.objects[0]
        return isinstance(first, HasMaterial) and first.has_material

    def material(self, points: Float[Tensor, "points 3"]) -> Material:
        """Return the material of the objects whose boxes the points belong to; differentiable."""
        return self.painted_by(self._owner_by_box(points)).material(points)

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return albedo, sRGB in [0, 1], at world points, by their boxes; no gradient."""
        return torch.cat([self.albedo(chunk) for chunk in points.split(CHUNK)])


class Paint:
    """Colours of points of surfaces, each of a known object; satisfies `HasMaterial`."""

    def __init__(self, scene: ComposedShapes, owner: Int[Tensor, " points"]) -> None:
        self._scene, self._owner = scene, owner
        self.has_material = scene.has_material

    def albedo(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo, sRGB in [0, 1]; differentiable."""
        color = torch.zeros_like(points)
        for child, frame, rows in self._by_object():
            local = frame.to_local(points[rows])
            color = color.index_copy(0, rows, child.albedo(local))
        return color

    def material(self, points: Float[Tensor, "points 3"]) -> Material:
        """Return the material, bumps in the world; differentiable."""
        nothing = torch.zeros_like(points)
        albedo, bump = nothing, nothing
        metallic, roughness = nothing[:, :1], nothing[:, :1]
        has_bumps = False
        for child, frame, rows in self._by_object():
            own = child.material(frame.to_local(points[rows]))
            albedo = albedo.index_copy(0, rows, own.albedo)
            metallic = metallic.index_copy(0, rows, own.metallic)
            roughness = roughness.index_copy(0, rows, own.roughness)
            if own.bump is not None:
                has_bumps = True
                bump = bump.index_copy(0, rows, frame.turn(own.bump))
        return Material(albedo, metallic, roughness, bump if has_bumps else None)

    def _by_object(self) -> Iterator[tuple[Any, ObjectFrame, Int[Tensor, " rows"]]]:
        for k, child, frame in self._scene._shown_objects():
            yield child, frame, torch.nonzero(self._owner == k)[:, 0]


class ComposedSplats(Composition):
    """Gaussians in their boxes; satisfies `Splatted`. Each object has density control of its own.

    Gradients: as of its objects.
    """

    def splats(self) -> Splats:
        """Return the living Gaussians of all objects, with owners."""
        placed = [_placed(child.splats(), frame, k) for k, child, frame in self._shown_objects()]
        self._counts = [len(each.means) for each in placed]

        def joined(name: str) -> Any:
            columns = [getattr(each, name) for each in placed]
            return None if columns[0] is None else torch.cat(columns)

        return Splats(**{name: joined(name) for name in Splats.__dataclass_fields__})

    def observe(
        self, gradient: Float[Tensor, " gaussians"], seen: Bool[Tensor, " gaussians"]
    ) -> None:
        """Let each object take note of the gradients of those that `splats` returned last."""
        parts = zip(gradient.split(self._counts), seen.split(self._counts), strict=True)
        for (_, child, _), part in zip(self._shown_objects(), parts, strict=True):
            child.observe(*part)

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return albedo, sRGB in [0, 1], at world points, by their boxes; no gradient."""
        owner, color = self._owner_by_box(points), torch.zeros_like(points)
        for k, child, frame in self._shown_objects():
            rows = torch.nonzero(owner == k)[:, 0]
            if len(rows):
                color[rows] = child.color_at(frame.to_local(points[rows]))
        return color


def compose(objects: Sequence[Any], regions: Regions) -> Composition:
    """Let each object begin in its box, and put them together.

    Args:
        objects: of one kind, one for each box of the layout, on their device.
        regions: of the layout, on that device.

    Raises:
        InputError: objects of this kind cannot be put together, or their cubes are too small.
    """
    first, half_extent = objects[0], float(objects[0].half_extent)
    kinds = ((Field, ComposedFields), (Shape, ComposedShapes), (Splatted, ComposedSplats))
    composition = next((ours for kind, ours in kinds if isinstance(first, kind)), None)
    if composition is None or not isinstance(first, LaidOut):
        raise InputError(
            f"there cannot be a {type(first).__name__} for each object of a layout.",
            "set the representation's per_object to false, or use hashgrid, dmtet or gaussians.",
        )
    if half_extent <= OBJECT:
        raise InputError(
            f"with per_object, boxes reach to {OBJECT} in the cube of their object, and "
            f"half_extent is {half_extent}.",
            "set the representation's half_extent to 1.",
        )
    for child, frame in zip(objects, regions.frames(), strict=True):
        child.begin_in(frame.box)
    return composition(objects, regions)


def _inside(
    child: Any, frame: ObjectFrame, points: Float[Tensor, "points 3"]
) -> tuple[Float[Tensor, "inside 3"], Int[Tensor, " inside"]]:
    """Return the points that lie in a child's cube, in its frame, and their numbers."""
    local = frame.to_local(points)
    here = torch.nonzero((local.detach().abs() <= child.half_extent).all(dim=-1))[:, 0]
    return local[here], here


def _placed(own: Splats, frame: ObjectFrame, number: int) -> Splats:
    """Return the Gaussians of an object in the world."""
    half = torch.deg2rad(frame.yaw) / 2
    c, s = half.cos(), half.sin()
    w, x, y, z = own.quaternions.unbind(dim=1)
    turned = torch.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], dim=1)
    return Splats(
        frame.to_world(own.means),
        turned,
        own.scales * frame.scale,
        own.opacities,
        own.colors,
        own.harmonics,
        own.shapes,
        torch.full_like(own.opacities, number, dtype=torch.int64),
    )
