"""Which object of a layout a point belongs to.

With a point x in the frame of box k, turned by psi_k about z around its centre c_k, half sizes h_k:

    x_k = R_z(-psi_k) (x - c_k),      q = |x_k| - h_k
    d_k = |max(q, 0)| + min(max_i q_i, 0)              signed distance, negative inside
    m_k = exp(-d_k / w) / sum_j exp(-d_j / w)          share of object k,  sum_k m_k = 1
    excess = max(min_k d_k, 0)                         how far x lies outside of all boxes

Every point belongs to the nearest box, softly within about w of where two boxes are as near; inside
of two boxes that overlap, to the one it is deeper in. What is composited with these shares as
colours are soft masks that sum to the opacity, whatever the representation is.

Where only some objects are *shown*, the others are not there: opacity is multiplied by the presence
sum_{k shown} m_k, and shares are those among the shown ones.

Where it is known what each object is made of (`core.protocols.Composed`), shares m_k are given
instead, and excess = sum_k m_k max(d_k, 0), how far x lies outside of the boxes of what is there.

Source: SemanticSDS (Yang et al. 2024), section 3.3, splats an embedding of each Gaussian's object
and classifies pixels; shares of points are the same without a classifier, for any representation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from dreamlab.core.layout import Layout
from dreamlab.core.mesh import Mesh

OBJECT = 0.8
"""What a single object fills of the cube's half side, and of the unit box of `to_unit`."""
SOFTNESS = 0.02
"""w, world units: less than a pixel of a 64 pixels wide view."""


@dataclass(frozen=True)
class ObjectFrame:
    """The frame of one object, in which its box lies as a single object lies in the world:

        x = s R_z(psi) u + c,    s = max_i h_i / OBJECT

    u in the object's frame, x in the world. Angles and proportions are kept.
    """

    center: Float[Tensor, "3"]
    half_sizes: Float[Tensor, "3"]
    yaw: Float[Tensor, ""]
    """psi, degrees."""

    @property
    def scale(self) -> Float[Tensor, ""]:
        """World units in a unit of the frame, s."""
        return self.half_sizes.amax() / OBJECT

    @property
    def box(self) -> "Regions":
        """The box of the object in its own frame; its longest side ends at `OBJECT`."""
        half_sizes = (self.half_sizes / self.scale)[None]
        return Regions(
            torch.zeros_like(half_sizes), half_sizes, torch.zeros_like(self.yaw[None]), (0,)
        )

    def to_local(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return u of points of the world; differentiable."""
        return turned(points - self.center, -self.yaw) / self.scale

    def to_world(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return x of points of the frame; differentiable."""
        return turned(points, self.yaw) * self.scale + self.center

    def turn(self, vectors: Float[Tensor, "vectors 3"]) -> Float[Tensor, "vectors 3"]:
        """Return directions of the frame in the world, of the same lengths; differentiable."""
        return turned(vectors, self.yaw)

    def place(self, mesh: Mesh) -> Mesh:
        """Return a mesh with normals that lies in the frame, in the world."""
        assert mesh.normals is not None
        vertices, normals = (
            torch.from_numpy(np.asarray(column, dtype=np.float32)).to(self.center.device)
            for column in (mesh.vertices, mesh.normals)
        )
        return replace(
            mesh,
            vertices=self.to_world(vertices).cpu().numpy(),
            normals=self.turn(normals).cpu().numpy(),
        )


@dataclass(frozen=True)
class Regions:
    """The boxes of a layout as tensors, and which of them are shown."""

    centers: Float[Tensor, "boxes 3"]
    half_sizes: Float[Tensor, "boxes 3"]
    yaw: Float[Tensor, " boxes"]
    """Degrees."""
    shown: tuple[int, ...]
    """Numbers of the objects that are drawn, rising."""

    @classmethod
    def of(cls, layout: Layout, device: torch.device | str = "cpu") -> "Regions":
        """Return the boxes of a layout, all of them shown."""

        def stack(rows: Sequence[object]) -> Tensor:
            return torch.tensor(rows, dtype=torch.float32, device=device)

        boxes = layout.boxes
        return cls(
            stack([box.center for box in boxes]),
            stack([box.size for box in boxes]) / 2,
            stack([box.yaw for box in boxes]),
            tuple(range(len(boxes))),
        )

    def __len__(self) -> int:
        return len(self.centers)

    def only(self, objects: Sequence[int]) -> "Regions":
        """Return the same boxes with only these objects shown."""
        return replace(self, shown=tuple(sorted(objects)))

    def frames(self) -> list[ObjectFrame]:
        """Return the frame of each object."""
        rows = zip(self.centers, self.half_sizes, self.yaw, strict=True)
        return [ObjectFrame(center, half_sizes, yaw) for center, half_sizes, yaw in rows]

    @property
    def is_whole(self) -> bool:
        """Whether all objects are shown."""
        return len(self.shown) == len(self)

    def to_local(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points boxes 3"]:
        """Return points of the world in the frame of each box; differentiable."""
        return turned(points[:, None] - self.centers, -self.yaw)

    def to_unit(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points boxes 3"]:
        """Return points in the frame of each box, scaled so that its sides lie at `OBJECT`."""
        return self.to_local(points) * (OBJECT / self.half_sizes)

    def from_unit(
        self, points: Float[Tensor, "points 3"], box: Int[Tensor, " points"]
    ) -> Float[Tensor, "points 3"]:
        """Return where points in the frames of `to_unit` are in the world, each of its own box."""
        scaled = points * (self.half_sizes[box] / OBJECT)
        return turned(scaled, self.yaw[box]) + self.centers[box]

    def distances(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points boxes"]:
        """Return the signed distances d_k, world units; differentiable."""
        q = self.to_local(points).abs() - self.half_sizes
        outside = q.clamp(min=0).square().sum(dim=-1)
        # the root has no slope at 0, where nothing lies outside
        away = torch.where(outside > 0, outside, 1.0).sqrt().where(outside > 0, 0.0)
        return away + q.amax(dim=-1).clamp(max=0)

    @torch.no_grad()
    def labels(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points boxes"]:
        """Return the shares among the shown objects; rows sum to 1, those not shown have 0."""
        logits = -self.distances(points) / SOFTNESS
        if not self.is_whole:
            hidden = torch.ones(len(self), dtype=torch.bool, device=logits.device)
            hidden[list(self.shown)] = False
            logits = logits.masked_fill(hidden, -torch.inf)
        return logits.softmax(dim=-1)

    @torch.no_grad()
    def presence(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return how much of what is at each point is drawn, in [0, 1]."""
        shares = (-self.distances(points) / SOFTNESS).softmax(dim=-1)
        return shares[:, list(self.shown)].sum(dim=-1).clamp(max=1)

    @torch.no_grad()
    def is_drawn(self, points: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Return whether a point's object is shown, for what cannot be half there."""
        nearest = self.distances(points).argmin(dim=-1)
        return torch.isin(nearest, torch.tensor(self.shown, device=points.device))

    def excess(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 1"]:
        """Return the distance to the nearest box, 0 inside, world units; differentiable."""
        return self.distances(points).amin(dim=-1, keepdim=True).clamp(min=0)

    def shares_of(self, owner: Int[Tensor, " points"]) -> Float[Tensor, "points boxes"]:
        """Return the shares of points that are of one object each, given by its number."""
        return one_hot(owner.long(), len(self)).to(self.centers)

    def marks(
        self,
        points: Float[Tensor, "points 3"],
        shares: Float[Tensor, "points boxes"] | None = None,
    ) -> dict[str, Float[Tensor, "points _"]]:
        """Return what renderers composite like colours: `regions` [N K] and `excess` [N 1].

        Args:
            points: in the world.
            shares: of the objects, where they are known; else they follow from the boxes.

        Gradients: of excess to the points and to given shares; none of regions.
        """
        if shares is None:
            return {"regions": self.labels(points), "excess": self.excess(points)}
        outside = self.distances(points).clamp(min=0)
        return {
            "regions": shares.detach(),
            "excess": (shares * outside).sum(dim=-1, keepdim=True),
        }


def turned(
    vectors: Float[Tensor, "*shape 3"], degrees: Float[Tensor, "*angles"]
) -> Float[Tensor, "*shape 3"]:
    """Turn vectors about the z axis, counter-clockwise seen from above; angles are broadcast."""
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos(), angle.sin()
    x, y, z = vectors.unbind(dim=-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=-1)
