"""A given mesh with a picture as its colours: a texture on an atlas, texel by texel.

    albedo(x) = S(u(x)),  S = sigmoid(T)

Glossary: `S` texture, sRGB in (0, 1), n x n texels, read bilinearly; `T` its logits, the parameter;
`u(x)` texture coordinates of the point of the mesh that is nearest to x.

The mesh is that of the stage before or of a file, repaired, simplified and unwrapped as for an
export, and S begins as its colours; until it is known, a grey ball. The export writes mesh, atlas
and texture as they are.

Texels are independent of each other, so what guidance never looks at, or looks at through noise,
stays as it was or becomes noise. Two regularisers tie them together, and two more are those of
`given_mesh.py`:

    texture_variation    n mean |S_i - S_j| over neighbouring texels i, j of one chart
    seams                mean (S(u_a) - S(u_b))^2 over points of seams, which lie at u_a and at u_b

The first is the total variation of the texture as a picture of side 1, over the share of it that
charts cover, so that its weight does not depend on n.

Source: texture refinement of DreamGaussian (Tang et al. 2024), section 3.3; atlas: `ops.mesh`.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.pictures import to_bytes
from dreamlab.core.protocols import ColorAt
from dreamlab.core.topology import build_topology
from dreamlab.core.triangles import Triangles
from dreamlab.ops.mesh.bake import bake, dilate
from dreamlab.ops.mesh.clean import drop_components, remove_degenerate, smooth, vertex_normals
from dreamlab.ops.mesh.settings import MIN_FACES, Method
from dreamlab.ops.mesh.simplify import simplify
from dreamlab.ops.mesh.texels import Texels, rasterize
from dreamlab.ops.mesh.unwrap import unwrap
from dreamlab.ops.triangles.distance import Nearest, NearestFinder
from dreamlab.ops.triangles.texture import texture
from dreamlab.representations.given_mesh import GivenMesh, ball, check_place

logger = logging.getLogger(__name__)

CHUNK = 1 << 18
"""Points asked at once; bounds memory."""
DARKEST = 1 / 256
"""Colours are kept this far from 0 and 1 when they are taken over: the sigmoid never gets there."""
ALONG_SEAM = (0.125, 0.375, 0.625, 0.875)
"""Where along an edge of a seam both sides are compared."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the mesh and of its texture."""

    half_extent: float = 1.0
    """Half the side of the cube that the mesh lies in, world units."""
    texture_size: int = 512
    """n, texels along each side of the texture."""
    reach: float = 0.0
    """d, how far a vertex may move along each axis, world units; 0 keeps the shape."""
    max_faces: int = 20_000
    """Triangles; a mesh with more is simplified."""
    min_component_share: float = 0.01
    """Loose pieces with less than this share of the surface are dropped."""
    smoothing: int = 0
    """Rounds of smoothing of the mesh that is taken over."""
    unwrap: Method = "xatlas"
    """xatlas (fewer, less distorted charts) or box (about a second at any size)."""
    unwrap_time_limit: float = 60.0
    """Seconds xatlas may take before the box projection stands in for it."""

    def __post_init__(self) -> None:
        check_place(self.half_extent, self.reach)
        if not 64 <= self.texture_size <= 8192:
            raise ValueError(f"texture_size must be from 64 to 8192, got {self.texture_size}")
        if self.max_faces < MIN_FACES:
            raise ValueError(f"max_faces must be at least {MIN_FACES}, got {self.max_faces}")
        if not 0 <= self.min_component_share < 1:
            raise ValueError(
                f"min_component_share must be in [0, 1), got {self.min_component_share}"
            )
        if self.smoothing < 0:
            raise ValueError(f"smoothing must not be negative, got {self.smoothing}")
        if self.unwrap_time_limit <= 0:
            raise ValueError(f"unwrap_time_limit must be positive, got {self.unwrap_time_limit}")


class Atlas(nn.Module):
    """Where triangles lie in the texture; its state holds that, the rest is worked out from it.

    Texture coordinates are those of `core.mesh`: (0, 0) is the bottom left corner.
    """

    source: Tensor
    """Corner of the mesh that each corner of the cut mesh comes from, `[corners]`."""
    tri: Tensor
    """Triangles of the cut mesh, in the order of the mesh's, `[triangles 3]`."""
    uv: Tensor
    """`[corners 2]`."""

    def __init__(self, size: int) -> None:
        """Hold no triangle yet, in a texture of `size` texels along each side."""
        super().__init__()
        self.size = size
        self.register_buffer("source", torch.zeros(0, dtype=torch.long))
        self.register_buffer("tri", torch.zeros(0, 3, dtype=torch.long))
        self.register_buffer("uv", torch.zeros(0, 2))
        self.register_load_state_dict_pre_hook(_make_room)

    def resize(self, num_corners: int, num_triangles: int) -> None:
        """Make room for other charts."""
        self.source = self.source.new_zeros(num_corners)
        self.tri = self.tri.new_zeros(num_triangles, 3)
        self.uv = self.uv.new_zeros(num_corners, 2)
        for name in ("texels", "seams", "neighbours"):
            self.__dict__.pop(name, None)

    def take(self, cut: Mesh, source: np.ndarray) -> None:
        """Take over the charts of a mesh that has been cut and unwrapped."""
        assert cut.uv is not None
        self.resize(len(source), len(cut.faces))
        for own, given in ((self.source, source), (self.tri, cut.faces), (self.uv, cut.uv)):
            own.copy_(torch.from_numpy(np.ascontiguousarray(given)))

    @cached_property
    def texels(self) -> Texels:
        """Texels of all triangles."""
        return rasterize(self.uv.cpu().double().numpy(), self.tri.cpu().numpy(), self.size)

    @cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """Numbers of texels of charts and of their neighbours to the right and below."""
        inside = torch.zeros(self.size**2, dtype=torch.bool)
        inside[torch.from_numpy(self.texels.index)] = True
        inside = inside.reshape(self.size, self.size)
        number = torch.arange(self.size**2).reshape(self.size, self.size)
        across, down = inside[:, 1:] & inside[:, :-1], inside[1:] & inside[:-1]
        first = torch.cat([number[:, :-1][across], number[:-1][down]])
        second = torch.cat([number[:, 1:][across], number[1:][down]])
        return first.to(self.uv.device), second.to(self.uv.device)

    @cached_property
    def seams(self) -> Float[Tensor, "points 2 2"]:
        """Points of seams: their texture coordinates on one side and on the other."""
        mesh_tri = self.source[self.tri]
        topology = build_topology(mesh_tri)
        inner = (topology.triangles >= 0).all(dim=1)
        edges, pairs = topology.edges[inner], topology.triangles[inner]
        sides = []
        for k in range(2):
            of_triangle = mesh_tri[pairs[:, k]]
            ends = [(of_triangle == edges[:, e : e + 1]).long().argmax(dim=1) for e in range(2)]
            corner = torch.stack(ends, dim=1)
            sides.append(self.uv[self.tri[pairs[:, k]].gather(1, corner)])
        both = torch.stack(sides, dim=1)  # [edges, side, end, 2]
        cut = both[(both[:, 0] - both[:, 1]).abs().amax(dim=(1, 2)) > 1e-6]
        share = torch.tensor(ALONG_SEAM, device=cut.device)[:, None, None, None]
        return (cut[None, :, :, 0] * (1 - share) + cut[None, :, :, 1] * share).flatten(0, 1)


class UVMesh(nn.Module):
    """A mesh with a texture; satisfies `Shape`, `Adopting`, `Atlased` and `Representation`.

    Gradients: vertices to offsets, if they have a reach; the albedo to the texture alone.
    """

    def __init__(self, config: Config) -> None:
        """Start as a grey ball."""
        super().__init__()
        self.config, self.half_extent = config, config.half_extent
        self.body = GivenMesh(ball(), config.reach)
        self.atlas = Atlas(config.texture_size)
        self.texture = nn.Parameter(torch.zeros(config.texture_size, config.texture_size, 3))
        self._finder: tuple[Tensor, NearestFinder] | None = None
        self.register_load_state_dict_post_hook(_forget)
        self._unwrap(ball(), "box")

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "offset" and "texture"."""
        return {**self.body.parameter_groups(), "texture": [self.texture]}

    def set_progress(self, progress: float) -> None:
        """Do nothing: no setting changes over the stage."""

    def triangles(self) -> Triangles:
        """Return the mesh, without the cuts of its seams."""
        return self.body.triangles()

    def albedo(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; differentiable to the texture."""
        nearest = self._nearest(points)
        corners = self.atlas.uv[self.atlas.tri[nearest.face.long()]]
        return self._read((corners * nearest.weight[..., None]).sum(dim=1))

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; no gradient."""
        return torch.cat([self.albedo(chunk) for chunk in points.split(CHUNK)])

    def adopt(self, mesh: Mesh, color_at: ColorAt) -> None:
        """Become a mesh, repaired and simplified, and paint its colours on a new atlas.

        Raises:
            InputError: the mesh cannot be brought to `max_faces`, or a colour is not finite.
        """
        config = self.config
        mesh = remove_degenerate(Mesh(mesh.vertices, mesh.faces))
        mesh = drop_components(mesh, config.min_component_share)[0]
        if config.smoothing:
            mesh = remove_degenerate(smooth(mesh, config.smoothing))
        cut = self._unwrap(simplify(mesh, config.max_faces), config.unwrap)
        painted, _ = bake(cut, color_at, config.texture_size, device=self.texture.device)
        colors = torch.from_numpy(painted).float() / 255
        with torch.no_grad():
            self.texture.copy_(colors.clamp(DARKEST, 1 - DARKEST).logit())

    def painted_mesh(self) -> Mesh:
        """Return the mesh with normals, UV and texture, cut along its seams.

        Texels outside of charts take the colour of the nearest one inside.
        """
        whole = self.triangles().to_mesh()
        source = self.atlas.source.cpu().numpy()
        colors = to_bytes(self.texture.detach().sigmoid().cpu().numpy())
        return Mesh(
            whole.vertices[source],
            self.atlas.tri.cpu().numpy(),
            normals=vertex_normals(whole)[source],
            uv=self.atlas.uv.cpu().double().numpy(),
            texture=dilate(colors, self.atlas.texels),
        )

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of the module docstring."""
        first, second = self.atlas.neighbours
        picture = self.texture.sigmoid().flatten(0, 1)
        variation = (picture[first] - picture[second]).abs().mean()
        seams = self.atlas.seams
        one, other = self._read(seams.flatten(0, 1)).unflatten(0, (len(seams), 2)).unbind(dim=1)
        return {
            **self.body.regularisers(),
            "texture_variation": self.config.texture_size * variation,
            "seams": (one - other).square().sum() / max(1, one.numel()),
        }

    def _read(self, uv: Float[Tensor, "points 2"]) -> Float[Tensor, "points 3"]:
        """Read the texture; its row 0 is the top one, at v = 1."""
        flipped = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=-1)
        return texture(self.texture.sigmoid()[None], flipped[None, None])[0, 0]

    def _unwrap(self, mesh: Mesh, method: Method) -> Mesh:
        """Become a mesh with a new atlas; return it cut along its seams."""
        config = self.config
        found = unwrap(
            mesh,
            method=method,
            texture_size=config.texture_size,
            time_limit=config.unwrap_time_limit,
        )
        if found.warning:
            logger.warning("%s", found.warning)
        self.body.become(mesh)
        self.atlas.take(found.mesh, found.source)
        self._finder = None
        return found.mesh

    def _nearest(self, points: Tensor) -> Nearest:
        surface = self.triangles()
        now = surface.vertices.detach()
        known = self._finder[0] if self._finder else None
        # optimisers may change parameters without a trace in their version: compare values
        if known is None or known.device != now.device or not torch.equal(known, now):
            self._finder = (now.clone(), NearestFinder(surface.to_mesh(), now.device))
        assert self._finder is not None
        return self._finder[1](points)


def _make_room(module: Atlas, state: dict[str, Any], prefix: str, *_: object) -> None:
    source, tri = state.get(f"{prefix}source"), state.get(f"{prefix}tri")
    if source is not None and tri is not None:
        module.resize(len(source), len(tri))


def _forget(module: UVMesh, _: object) -> None:
    module._finder = None


def build(config: Config, generator: torch.Generator | None = None) -> UVMesh:
    """Make the representation; nothing about it is drawn."""
    return UVMesh(config)
