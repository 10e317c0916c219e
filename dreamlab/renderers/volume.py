"""Volume rendering of a radiance field: rays, samples where the field is not empty, compositing.

    T_i = prod_{j<i} (1 - a_j),  a_i = 1 - exp(-density_i dt_i),  w_i = T_i a_i
    rgb = sum w_i c_i + (1 - alpha) background,  alpha = sum w_i,  depth = sum w_i t_i
    normal = sum w_i n_i,  orientation = sum stopgrad(w_i) max(0, n_i . d)^2
    depth_variance = sum w_i t_i^2 / alpha - (sum w_i t_i / alpha)^2

Glossary: `t` distance along the ray, world units; `d` unit direction of the ray; `dt` length of a
sample; `w` weight; `c` colour, lit by `shading`; `n` unit normal. `R` rays, `N` samples of all
rays, packed one ray after the other.

Where the field is empty is known from an occupancy grid, refreshed every few steps. Samples behind
an opaque surface are dropped by a density pass without gradient before the pass with gradient.
Normals cost several evaluations of the field, so they are computed only for samples whose weight
exceeds `NORMAL_WEIGHT`; the others count as having none.

Source: Max 1995; Mildenhall et al. 2020 (NeRF); sampling: Li et al. 2023 (nerfacc); orientation:
Ref-NeRF (Verbin et al. 2022) eq. 11 with DreamFusion's stopped weights; variance: HiFA (Zhu et
al. 2023) section 3.3.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamlab.core.cameras import Cameras
from dreamlab.core.protocols import Field
from dreamlab.core.render import Render
from dreamlab.ops.composite import composite
from dreamlab.ops.march import Samples, march
from dreamlab.ops.occupancy import OccupancyGrid
from dreamlab.renderers.background import Background, BackgroundConfig
from dreamlab.renderers.shading import Shading, shade
from dreamlab.renderers.visibility import (
    OPAQUE_DEPTH,
    one_empty_sample,
    optical_depth_before,
)

NORMAL_WEIGHT = 1e-3
"""Samples that weigh less get no normal; a ray of 100 samples loses at most a tenth of its light,
in practice a thousandth, and rays through fog pay for all of theirs."""
EVALUATION_RAYS = 4096
"""Rays traced at once without gradient; bounds memory to about 300 MB whatever the image size."""
EMPTY_ALPHA = 1e-5
"""Opacity below which a ray has no meaningful depth variance."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the volume renderer."""

    steps_per_diagonal: int = 128
    """Samples that would fit on the diagonal of the field's cube; sets the step along rays."""
    occupancy_resolution: int = 64
    """Cells of the occupancy grid along an axis."""
    refresh_every: int = 16
    """Steps between two refreshes of the occupancy grid."""
    warm_up_until: float = 0.1
    """Fraction of the stage during which a refresh visits every cell, not a sample of them."""
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    """What is behind the object."""

    def __post_init__(self) -> None:
        for name in ("steps_per_diagonal", "occupancy_resolution", "refresh_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warm_up_until <= 1:
            raise ValueError(f"warm_up_until must be in [0, 1], got {self.warm_up_until}")


@dataclass(frozen=True)
class Rays:
    """Rays of all views, one after the other."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    view_index: Int[Tensor, " rays"]
    jitter: Float[Tensor, " rays"] | None
    """Shift of each ray's samples in [0, 1), in steps; None: no shift."""

    def __getitem__(self, index: slice) -> "Rays":
        jitter = None if self.jitter is None else self.jitter[index]
        return Rays(self.origins[index], self.directions[index], self.view_index[index], jitter)


@dataclass(frozen=True)
class Wanted:
    """Which of the optional images a call computes."""

    normals: bool
    depth_variance: bool


class VolumeRenderer(nn.Module):
    """Renders a `Field`; owns the occupancy grid and the background, not the field."""

    def __init__(
        self, config: Config, field: Field, generator: torch.Generator | None = None
    ) -> None:
        """Build the renderer; `generator` (CPU) draws the initial background network."""
        super().__init__()
        self.config = config
        # In a tuple, so that the field's parameters do not count as the renderer's.
        self._field = (field,)
        self.step_size = 2 * 3**0.5 * field.half_extent / config.steps_per_diagonal
        self.occupancy = OccupancyGrid(config.occupancy_resolution, field.half_extent)
        self.background = Background(config.background, generator)

    @property
    def field(self) -> Field:
        return self._field[0]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the group "background" if the background is learned."""
        parameters = list(self.background.parameters())
        return {"background": parameters} if parameters else {}

    @torch.no_grad()
    def update(self, step: int, progress: float, generator: torch.Generator) -> None:
        """Refresh the occupancy grid if it is due at `step`; call before rendering each step."""
        if step % self.config.refresh_every == 0:
            self.occupancy.update(
                self.field.density,
                step_size=self.step_size,
                warm_up=progress <= self.config.warm_up_until,
                generator=generator,
            )

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
        depth_variance: bool = False,
    ) -> Render:
        """Render all views.

        Args:
            cameras: world space.
            height: of the images, pixels; also `width`.
            shading: one entry for each camera.
            training: jitter samples, draw backgrounds and keep gradients; otherwise the call is
                deterministic, needs bounded memory and returns tensors without gradient.
            generator: CPU generator, needed in training.
            background: colours instead of the renderer's own, sRGB, broadcast over the images.
            normals: also return `normal` and `orientation`; implied by a lit shading.
            depth_variance: also return `depth_variance`.

        Gradients: rgb to density, colour, normals and background; alpha, depth and its variance
            to density; orientation to normals only; nothing to the cameras.
        """
        origins, directions = cameras.rays(height, width)
        num_rays = directions[..., 0].numel()
        jitter = None
        if training:
            if generator is None:
                raise ValueError("rendering for training draws random numbers: give a generator")
            jitter = torch.rand(num_rays, generator=generator).to(directions)
        behind = self.background(directions, generator=generator, training=training)
        if background is not None:
            behind = background.to(directions).expand_as(directions)
        views = torch.arange(len(cameras), device=directions.device)
        rays = Rays(
            origins.reshape(-1, 3),
            directions.reshape(-1, 3),
            views.repeat_interleave(height * width),
            jitter,
        )
        wanted = Wanted(normals or shading.needs_normals, depth_variance)
        if training:
            columns = self._trace(rays, shading, wanted)
        else:
            columns = self._trace_in_chunks(rays, shading, wanted)
        images = {
            name: column.reshape(*directions.shape[:3], -1) for name, column in columns.items()
        }
        color = images.pop("color")
        return Render(rgb=color + (1 - images["alpha"]) * behind, **images)

    @torch.no_grad()
    def _trace_in_chunks(self, rays: Rays, shading: Shading, wanted: Wanted) -> dict[str, Tensor]:
        starts = range(0, len(rays.origins), EVALUATION_RAYS)
        parts = [
            self._trace(rays[start : start + EVALUATION_RAYS], shading, wanted) for start in starts
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _trace(self, rays: Rays, shading: Shading, wanted: Wanted) -> dict[str, Tensor]:
        """Return per ray: color (not yet over a background), alpha, depth, and what is wanted."""
        samples = self._samples(rays)
        points = samples.points(rays.origins, rays.directions)
        density, albedo = self.field.density_and_color(points)
        features = {"color": albedo}
        result = {}
        if wanted.normals:
            normal, result["orientation"] = self._normals(points, density, rays, samples)
            views = rays.view_index[samples.ray_index]
            features = {"color": shade(albedo, normal, shading.of(views)), "normal": normal}
        if wanted.depth_variance:
            features["moments"] = _moments(rays, samples)
        widths = [feature.shape[1] for feature in features.values()]
        image = composite(density, torch.cat(list(features.values()), dim=-1), samples)
        result |= dict(zip(features, image.features.split(widths, dim=-1), strict=True))
        if wanted.depth_variance:
            result["depth_variance"] = _variance(result.pop("moments"), image.alpha)
        return result | {"alpha": image.alpha, "depth": image.depth}

    @torch.no_grad()
    def _samples(self, rays: Rays) -> Samples:
        """Return the samples where the field is not empty and still to be seen."""
        samples = march(
            rays.origins,
            rays.directions,
            self.occupancy.binary,
            half_extent=self.field.half_extent,
            step_size=self.step_size,
            jitter=rays.jitter,
        )
        if len(samples) == 0:
            return one_empty_sample(samples)
        density = self.field.density(samples.points(rays.origins, rays.directions))
        return samples.keep(optical_depth_before(density, samples) < OPAQUE_DEPTH)

    def _normals(
        self, points: Tensor, density: Tensor, rays: Rays, samples: Samples
    ) -> tuple[Tensor, Tensor]:
        """Return the samples' normals [N 3] (zero for light ones) and the rays' orientation [R].

        Gradients: through the normals only.
        """
        with torch.no_grad():
            weights = composite(density, torch.zeros_like(points[:, :1]), samples).weights
            heavy = torch.nonzero(weights > NORMAL_WEIGHT)[:, 0]
            ray_index = samples.ray_index[heavy]
        normal = self.field.normal(points[heavy])
        away = (normal * rays.directions[ray_index]).sum(-1).clamp(min=0)
        orientation = torch.zeros_like(rays.origins[:, 0])
        orientation = orientation.index_add(0, ray_index, weights[heavy] * away.square())
        return torch.zeros_like(points).index_copy(0, heavy, normal), orientation


def build(config: Config, field: Field, generator: torch.Generator | None = None) -> VolumeRenderer:
    """Make the renderer; `generator` (CPU) draws the initial background network."""
    return VolumeRenderer(config, field, generator)


def _moments(rays: Rays, samples: Samples) -> Float[Tensor, "samples 2"]:
    """Return (t - s) and its square, where s is the ray's point nearest to the origin.

    Near the object t - s is small, so the variance suffers less from cancellation.
    """
    nearest = -(rays.origins * rays.directions).sum(-1)
    t = samples.t_mid - nearest.index_select(0, samples.ray_index)
    return torch.stack([t, t.square()], dim=-1)


def _variance(moments: Float[Tensor, "rays 2"], alpha: Float[Tensor, " rays"]) -> Tensor:
    mean, square = (moments / alpha[:, None].clamp(min=EMPTY_ALPHA)).unbind(-1)
    return (square - mean.square()).clamp(min=0)
