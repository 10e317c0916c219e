"""3D Gaussians: ellipsoids of colour that are splatted.

A Gaussian has a mean, standard deviations exp(l) along its own axes, a rotation q, an opacity
sigmoid(a) and an albedo sigmoid(c), sRGB. The colour does not depend on the view, since that lets
score distillation cheat, unless `color_degree` D asks for spherical harmonics, whose coefficients h
are added to the albedo by direction (`core/harmonics.py`). They are zero at first, and those of
degree k <= D stay as they are until progress k/D `all_degrees_at`.

Parameters have room for `max_count` Gaussians, of which the `alive` ones are drawn; density control
(`density_control.py`) moves dead ones to where more are needed. So shapes of tensors never change,
and neither do checkpoints and optimiser states.

With the kernel `exponential` each Gaussian learns a shape beta = 1 + 7 sigmoid(b) and is drawn as
the generalised exponential of `ops.splat.splat`; it starts as a Gaussian, beta = 2.

For the export the object is the volume of the local density; see `ops.splat.query`. Its colour is
the albedo alone, the mean over all directions.

Regularisers, means over living Gaussians: `opacity_mean`, `scale_mean` (world units), `anisotropy`,
the logarithm of the largest over the middle standard deviation, which pulls needles to discs.

Source: Kerbl et al. 2023 (3D Gaussian splatting; degrees one after another: section 7.1); Tang et
al. 2024 (DreamGaussian) for text to 3D.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.harmonics import MAX_DEGREE, bases_above_zero
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import ColorAt, Splats
from dreamlab.core.regions import OBJECT, Regions
from dreamlab.ops.splat.query import GaussianIndex, build_index
from dreamlab.ops.triangles.distance import sample_faces
from dreamlab.representations.density_control import Control, DensityControl

LEAST_SHAPE, MOST_SHAPE = 1.0, 8.0
"""Between which the beta of generalised exponentials lies."""
CHUNK = 1 << 18
"""Points asked at once; bounds memory."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the Gaussians."""

    count: int = 3000
    """Gaussians to start with."""
    max_count: int = 8000
    """Gaussians there may be."""
    half_extent: float = 1.0
    """Half the side of the cube that the object lies in, world units."""
    radius: float = 0.4
    """Radius of the ball that they start in, world units."""
    opacity: float = 0.1
    """Opacity to start with, in (0, 1)."""
    color_degree: int = 0
    """Degree of the spherical harmonics that colours depend on the view with, 0 to 3; 0 for colours
    that are the same from all sides."""
    all_degrees_at: float = 0.0
    """Fraction of the stage from which all degrees are learned; before, one more after another.
    0 for all from the beginning."""
    kernel: Literal["gaussian", "exponential"] = "gaussian"
    """What is drawn: Gaussians, or generalised exponentials whose sharpness is learned."""
    control: Control = field(default_factory=Control)
    """How Gaussians are added, moved and removed."""
    per_object: bool = False
    """Whether each object of a layout has Gaussians of its own, with these settings, in a frame in
    which its box is where a single object would be; see `representations.composed`."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.max_count:
            raise ValueError(
                f"count must be from 1 to max_count ({self.max_count}), got {self.count}"
            )
        if not 0 < self.radius < self.half_extent:
            raise ValueError(
                f"radius must lie between 0 and half_extent ({self.half_extent}), got {self.radius}"
            )
        if not 0 < self.opacity < 1:
            raise ValueError(f"opacity must be in (0, 1), got {self.opacity}")
        if not 0 <= self.color_degree <= MAX_DEGREE:
            raise ValueError(f"color_degree must be 0 to {MAX_DEGREE}, got {self.color_degree}")
        if not 0 <= self.all_degrees_at <= 1:
            raise ValueError(f"all_degrees_at must be in [0, 1], got {self.all_degrees_at}")


class Gaussians(nn.Module):
    """Gaussians with density control; satisfies `Splatted`, `Volume` and `Representation`."""

    alive: Tensor

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        """Fill the ball with grey Gaussians; `generator` (CPU) draws their places."""
        super().__init__()
        self.config, self.half_extent = config, config.half_extent
        room = config.max_count
        direction = torch.nn.functional.normalize(torch.randn(room, 3, generator=generator), dim=-1)
        radius = config.radius * torch.rand(room, 1, generator=generator) ** (1 / 3)
        # as far apart as their number leaves them in the ball
        gap = config.radius * (4 / 3 * math.pi / config.count) ** (1 / 3)
        self.mean = nn.Parameter(direction * radius)
        self.log_scale = nn.Parameter(torch.full((room, 3), math.log(0.6 * gap)))
        self.quaternion = nn.Parameter(torch.randn(room, 4, generator=generator))
        self.opacity_logit = nn.Parameter(torch.full((room,), _logit(config.opacity)))
        self.color_logit = nn.Parameter(torch.zeros(room, 3))
        self.harmonics: nn.Parameter | None = None
        if config.color_degree > 0:
            bases = bases_above_zero(config.color_degree)
            self.harmonics = nn.Parameter(torch.zeros(room, bases, 3))
        self._learned_degree = config.color_degree
        self.shape_logit: nn.Parameter | None = None
        if config.kernel == "exponential":
            start = (2 - LEAST_SHAPE) / (MOST_SHAPE - LEAST_SHAPE)
            self.shape_logit = nn.Parameter(torch.full((room,), _logit(start)))
        self.register_buffer("alive", torch.arange(room) < config.count)
        self.control = DensityControl(config.control, room)
        self._index: GaussianIndex | None = None

    @torch.no_grad()
    def begin_in(self, regions: Regions) -> None:
        """Fill a ball in each box, stretched as the box is, each with as many Gaussians."""
        box = torch.arange(len(self.mean), device=self.mean.device) % len(regions)
        self.mean.copy_(regions.from_unit(self.mean, box))
        # as far apart as their number, now divided, leaves them
        stretch = (regions.half_sizes / OBJECT).log().mean(dim=1) + math.log(len(regions)) / 3
        self.log_scale.add_(stretch[box][:, None])
        self._index = None

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "mean", "scale", "rotation", "opacity", "color", "harmonics", "shape".

        The last two are there if colours depend on the view and for generalised exponentials.
        """
        groups: dict[str, list[nn.Parameter]] = {
            "mean": [self.mean],
            "scale": [self.log_scale],
            "rotation": [self.quaternion],
            "opacity": [self.opacity_logit],
            "color": [self.color_logit],
        }
        if self.harmonics is not None:
            groups["harmonics"] = [self.harmonics]
        if self.shape_logit is not None:
            groups["shape"] = [self.shape_logit]
        return groups

    def set_progress(self, progress: float) -> None:
        """Open degrees for `progress` in [0, 1], and forget what was indexed: it may have moved."""
        self._index = None
        most, until = self.config.color_degree, self.config.all_degrees_at
        share = 1.0 if progress >= until else progress / until
        self._learned_degree = math.floor(most * share + 1e-9)

    def splats(self) -> Splats:
        """Return the living Gaussians; differentiable."""
        rows = torch.nonzero(self.alive)[:, 0]
        shapes = None
        if self.shape_logit is not None:
            span = MOST_SHAPE - LEAST_SHAPE
            shapes = LEAST_SHAPE + span * self.shape_logit[rows].sigmoid()
        return Splats(
            self.mean[rows],
            self.quaternion[rows],
            self.log_scale[rows].exp(),
            self.opacity_logit[rows].sigmoid(),
            self.color_logit[rows].sigmoid(),
            None if self.harmonics is None else self._partly_learned(self.harmonics[rows]),
            shapes,
        )

    def _partly_learned(
        self, harmonics: Float[Tensor, "gaussians bases 3"]
    ) -> Float[Tensor, "gaussians bases 3"]:
        """Return the same coefficients, with a gradient to those of open degrees alone."""
        learned = bases_above_zero(self._learned_degree)
        return torch.cat([harmonics[:, :learned], harmonics[:, learned:].detach()], dim=1)

    def observe(
        self, gradient: Float[Tensor, " gaussians"], seen: Bool[Tensor, " gaussians"]
    ) -> None:
        """Take note of the living Gaussians' gradients on the screen."""
        self.control.observe(torch.nonzero(self.alive)[:, 0], gradient, seen)

    @torch.no_grad()
    def refine(
        self, step: int, progress: float, generator: torch.Generator
    ) -> Int[Tensor, " rows"]:
        """Add, move and remove Gaussians if that is due; return the rows that are new."""
        self._index = None
        return self.control.refine(self, step, progress, generator)

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of the module docstring."""
        rows = torch.nonzero(self.alive)[:, 0]
        ordered = self.log_scale[rows].sort(dim=1).values
        return {
            "opacity_mean": self.opacity_logit[rows].sigmoid().mean(),
            "scale_mean": self.log_scale[rows].exp().mean(),
            "anisotropy": (ordered[:, 2] - ordered[:, 1]).mean(),
        }

    @torch.no_grad()
    def density_grid(self, resolution: int) -> Float[Tensor, "resolution resolution resolution"]:
        """Sample the local density at nodes that span the cube, axes in order x, y, z.

        Raises:
            InputError: fewer than 2 nodes an axis.
        """
        if resolution < 2:
            raise InputError(f"resolution must be at least 2, got {resolution}.", "raise it.")
        device = self.mean.device
        axis = torch.linspace(-self.half_extent, self.half_extent, resolution, device=device)
        points = torch.cartesian_prod(axis, axis, axis)
        density = torch.cat([self._local().density(chunk) for chunk in points.split(CHUNK)])
        return density.reshape(resolution, resolution, resolution)

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; no gradient."""
        return torch.cat([self._local().features_at(chunk) for chunk in points.split(CHUNK)])

    def _local(self) -> GaussianIndex:
        """Return the Gaussians listed by place, made anew when they have moved."""
        if self._index is None:
            s = self.splats()
            parts = (s.means, s.quaternions, s.scales, s.opacities, s.colors)
            self._index = build_index(*parts, self.half_extent, s.shapes)
        return self._index

    @torch.no_grad()
    def adopt(self, mesh: Mesh, color_at: ColorAt) -> None:
        """Become a mesh: cover its surface with flat, nearly opaque Gaussians."""
        count, device = self.config.count, self.mean.device
        points, normals = _surface_points(mesh, count)
        gap = math.sqrt(float(mesh.face_areas.sum()) / count)
        self.mean[:count] = points.to(device)
        self.quaternion[:count] = _turned_to(normals).to(device)
        flat = torch.tensor([0.6 * gap, 0.6 * gap, 0.15 * gap])
        self.log_scale[:count] = flat.log().to(device)
        self.opacity_logit[:count] = _logit(0.9)
        self.color_logit[:count] = color_at(points.to(device)).clamp(0.01, 0.99).logit()
        if self.harmonics is not None:
            self.harmonics.zero_()
        self._shape_as(torch.full((count,), 2.0))
        self._let_live(count)

    @torch.no_grad()
    def adopt_splats(self, splats: Splats) -> None:
        """Become given Gaussians; harmonics above `color_degree` are left out.

        Raises:
            InputError: there are more than `max_count`, or they have shapes and the kernel has not.
        """
        count, device = len(splats.means), self.mean.device
        if not 1 <= count <= self.config.max_count:
            raise InputError(
                f"there are {count} Gaussians to start from, and the representation has room for "
                f"1 to {self.config.max_count}.",
                f"set the representation's max_count to {count}, or give a file with fewer.",
            )
        if splats.shapes is not None and self.shape_logit is None:
            raise InputError(
                "the Gaussians to start from are generalised exponentials.",
                "set the representation's kernel to exponential.",
            )
        self.mean[:count] = splats.means.to(device)
        self.quaternion[:count] = splats.quaternions.to(device)
        self.log_scale[:count] = splats.scales.to(device).log()
        self.opacity_logit[:count] = splats.opacities.to(device).clamp(1e-4, 1 - 1e-4).logit()
        self.color_logit[:count] = splats.colors.to(device).clamp(1e-3, 1 - 1e-3).logit()
        if self.harmonics is not None:
            self.harmonics.zero_()
            if splats.harmonics is not None:
                bases = min(self.harmonics.shape[1], splats.harmonics.shape[1])
                self.harmonics[:count, :bases] = splats.harmonics[:, :bases].to(device)
        self._shape_as(torch.full((count,), 2.0) if splats.shapes is None else splats.shapes)
        self._let_live(count)

    def _shape_as(self, shapes: Float[Tensor, " count"]) -> None:
        """Give the first rows these betas, if they have any."""
        if self.shape_logit is not None:
            share = (shapes - LEAST_SHAPE) / (MOST_SHAPE - LEAST_SHAPE)
            share = share.clamp(1e-3, 1 - 1e-3).to(self.shape_logit)
            self.shape_logit[: len(shapes)] = share.logit()

    def _let_live(self, count: int) -> None:
        """Bring the first `count` to life, and no others."""
        self.alive.copy_(torch.arange(len(self.alive), device=self.alive.device) < count)
        self._index = None


def _logit(value: float) -> float:
    return math.log(value / (1 - value))


def _surface_points(mesh: Mesh, count: int) -> tuple[Tensor, Tensor]:
    """Return points on the surface and the normals of their triangles."""
    points, faces = sample_faces(mesh, count, seed=0)
    a, b, c = np.moveaxis(mesh.triangles[faces].astype(np.float64), 1, 0)
    normals = torch.from_numpy(np.cross(b - a, c - a)).float()
    return torch.from_numpy(points).float(), torch.nn.functional.normalize(normals, dim=-1)


def _turned_to(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Return quaternions that turn the z axis to unit vectors: the half-way rotation."""
    x, y, z = normals.unbind(dim=-1)
    quaternion = torch.stack([1 + z, -y, x, torch.zeros_like(z)], dim=-1)
    upside_down = normals.new_tensor([0.0, 1.0, 0.0, 0.0])
    return torch.where((z < -0.9999)[:, None], upside_down, quaternion)


def build(config: Config, generator: torch.Generator | None = None) -> Gaussians:
    """Make the representation; `generator` (CPU) draws where the Gaussians start."""
    return Gaussians(config, generator)
