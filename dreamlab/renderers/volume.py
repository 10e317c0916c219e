"""Volume rendering of a radiance field: rays, samples where the field is not empty, compositing.

    T_i = prod_{j<i} (1 - a_j),  a_i = 1 - exp(-density_i dt_i),  w_i = T_i a_i
    rgb = sum w_i c_i + (1 - alpha) background,  alpha = sum w_i,  depth = sum w_i t_i
    depth_variance = sum w_i t_i^2 / alpha - (sum w_i t_i / alpha)^2

Glossary: `t` distance along the ray, world units; `d` unit direction of the ray; `dt` length of a
sample; `w` weight; `c` colour, lit by `shading`; `n` unit normal. `R` rays, `N` samples of all
rays, packed one ray after the other.

Where the field is empty is known from an occupancy grid, refreshed every few steps. Samples hidden
behind an opaque surface weigh nothing; when the last training step found that they are many, they
are dropped by a density pass without gradient first, which changes no image.

Where some objects of a layout are shown alone, rays are clipped to where these can be: samples in
the others' places are dropped before the field is asked.

Normals, and with them shading, come from one of two places:

- depth: one normal n a pixel, from its neighbours' depth; normal = alpha n, and the composited
  colour is lit. Free.
- density: n_i of every sample from the field; normal = sum w_i n_i, every c_i is lit, and
  orientation = sum stopgrad(w_i) max(0, n_i . d)^2. That is several evaluations of the field, so
  samples that weigh less than `NORMAL_WEIGHT` count as having none.

On a ball fitted to its pictures (softplus, 64x64) depth normals were wrong by 8 to 10 degrees in
the median and density normals by 42 to 67, since the inside of the ball is fog; a lit training step
took as long as an unlit one with the former, and 2.3 (analytic) to 4 times as long with the latter.

Source: Max 1995; Mildenhall et al. 2020 (NeRF); sampling: Li et al. 2023 (nerfacc); orientation:
Ref-NeRF (Verbin et al. 2022) eq. 11 with DreamFusion's stopped weights; variance: HiFA (Zhu et
al. 2023) section 3.3; rays clipped to an object's box: LucidDreaming (Wang et al. 2023).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import ComposedField, Field
from dreamlab.core.regions import Regions
from dreamlab.core.render import Render
from dreamlab.ops.volume.composite import composite
from dreamlab.ops.volume.march import Samples, march
from dreamlab.ops.volume.occupancy import OccupancyGrid
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.base import RendererBase
from dreamlab.renderers.depth_normals import depth_normals
from dreamlab.renderers.median_depth import median_of_samples
from dreamlab.renderers.shading import Shading, shade
from dreamlab.renderers.visibility import is_hidden, one_empty_sample

NORMAL_WEIGHT = 1e-3
"""Samples that weigh less hardly show; without their normals a lit step is a fifth shorter."""
WORTH_PRUNING = 0.4
"""Share of hidden samples from which on a density pass costs less than it saves: it takes about a
third of the time of a pass with gradient. Soft fields (softplus) hide a tenth of their samples,
hard ones (trunc_exp) four fifths."""
UNSEEN = 1e-4
"""Presence of the shown objects below which a sample is dropped: no opacity that it adds shows."""
EVALUATION_RAYS = 4096
"""Rays traced at once without gradient; bounds memory to about 300 MB whatever the image size."""
EMPTY_ALPHA = 1e-5
"""Opacity below which a ray has no meaningful depth variance."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the volume renderer."""

    steps_per_diagonal: int = 96
    """Samples that would fit on the diagonal of the field's cube; sets the step along rays. With 96
    a step is as long as a pixel of a 64x64 view is wide; time grows with it."""
    occupancy_resolution: int = 32
    """Cells of the occupancy grid along an axis; a refresh costs its third power."""
    refresh_every: int = 8
    """Steps between two refreshes of the occupancy grid."""
    warm_up_until: float = 0.1
    """Fraction of the stage during which a refresh visits every cell, not a sample of them."""
    normals: Literal["depth", "density"] = "depth"
    """Where normals come from: neighbouring pixels' depth, or the field's density gradient, which
    makes lit steps 2 to 4 times as long, suits hard densities, and gives `orientation`."""
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    """What is behind the object."""
    backend: Literal["auto", "reference", "warp"] = "auto"
    """Which kernels march along rays and composite samples."""

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
    """What is computed per sample beside color, alpha and depth, and for whom."""

    normals: bool
    albedo: bool
    depth_variance: bool
    training: bool
    regions: Regions | None


class VolumeRenderer(RendererBase[Field]):
    """Renders a `Field`; owns the occupancy grid and the background, not the field."""

    hidden_share: Tensor
    """Share of samples that the last training step found hidden."""

    def __init__(
        self, config: Config, field: Field, generator: torch.Generator | None = None
    ) -> None:
        """Build the renderer; `generator` (CPU) draws the initial background network."""
        super().__init__(field, config.background, generator)
        self.config = config
        self.step_size = 2 * 3**0.5 * field.half_extent / config.steps_per_diagonal
        self.occupancy = OccupancyGrid(config.occupancy_resolution, field.half_extent)
        # Saved, because a resumed run must decide as an uninterrupted one about pruning.
        self.register_buffer("hidden_share", torch.zeros(()))

    @torch.no_grad()
    def update(self, step: int, progress: float, generator: torch.Generator) -> None:
        """Refresh the occupancy grid if it is due at `step`; call before rendering each step."""
        if step % self.config.refresh_every == 0:
            self.occupancy.update(
                self.scene.density,
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
        albedo: bool = False,
        depth_variance: bool = False,
        regions: Regions | None = None,
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
            normals: also return `normal`, and `orientation` if normals come from the density;
                implied by a lit shading.
            albedo: also return `albedo`.
            depth_variance: also return `depth_variance`.
            regions: boxes of a layout: also return `regions`, `excess` and `shown`, and draw the
                shown objects alone.

        Gradients: rgb to density, colour, normals and background, albedo to all of these but
            normals; alpha, depth, its variance, regions, excess and depth normals to density;
            orientation to normals only; nothing to the cameras.
        """
        normals = normals or shading.needs_normals
        of_density = normals and self.config.normals == "density"
        wanted = Wanted(of_density, albedo, depth_variance, training, regions)
        with torch.set_grad_enabled(training and torch.is_grad_enabled()):
            origins, directions = cameras.rays(height, width)
            rays = _pack(origins, directions, generator if training else None)
            behind = self.behind(directions, background, generator=generator, training=training)
            columns = (self._trace if training else self._trace_in_chunks)(rays, shading, wanted)
            images: dict[str, Any] = {
                name: column.reshape(*directions.shape[:3], -1) for name, column in columns.items()
            }
            beyond = (1 - images["alpha"]) * behind
            if albedo:
                images["albedo"] = images.get("albedo", images["color"]) + beyond
            if normals and self.config.normals == "depth":
                images |= _lit_by_depth(origins, directions, images, shading)
            color = images.pop("color")
            shown = None if regions is None else regions.shown
            return Render(rgb=color + beyond, **images, shown=shown)

    @torch.no_grad()
    def median_depth(
        self, cameras: Cameras, height: int, width: int, *, regions: Regions | None = None
    ) -> Float[Tensor, "batch height width 1"]:
        """Return the median distance along each pixel's ray; see `renderers.median_depth`."""
        rays = _pack(*cameras.rays(height, width), None)
        starts = range(0, len(rays.origins), EVALUATION_RAYS)
        medians = [self._median(rays[start : start + EVALUATION_RAYS], regions) for start in starts]
        return torch.cat(medians).reshape(-1, height, width, 1)

    def _median(self, rays: Rays, regions: Regions | None) -> Float[Tensor, " rays"]:
        samples = self._march(rays, regions)
        density = self._density(samples.points(rays.origins, rays.directions), regions)
        nothing = torch.zeros_like(density)[:, None]
        image = composite(density, nothing, samples, backend=self.config.backend)
        return median_of_samples(image.weights, samples)

    def _trace_in_chunks(self, rays: Rays, shading: Shading, wanted: Wanted) -> dict[str, Tensor]:
        starts = range(0, len(rays.origins), EVALUATION_RAYS)
        parts = [
            self._trace(rays[start : start + EVALUATION_RAYS], shading, wanted) for start in starts
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _trace(self, rays: Rays, shading: Shading, wanted: Wanted) -> dict[str, Tensor]:
        """Return per ray: color (not yet over a background), alpha, depth, and what is wanted."""
        samples = self._march(rays, wanted.regions)
        hidden = None
        if self.hidden_share > WORTH_PRUNING:
            hidden = self._hidden(rays, samples, wanted.regions)
            samples = samples.keep(~hidden)
        points = samples.points(rays.origins, rays.directions)
        density, albedo, shares = self._evaluate(points, wanted.regions)
        if wanted.training:
            hidden = is_hidden(density.detach(), samples) if hidden is None else hidden
            self.hidden_share.copy_(hidden.float().mean())
        features = {"color": albedo}
        result = {}
        if wanted.normals:
            normal, result["orientation"] = self._normals(points, density, rays, samples, wanted)
            views = rays.view_index[samples.ray_index]
            features = {"color": shade(albedo, normal, shading.of(views)), "normal": normal}
            if wanted.albedo:
                features["albedo"] = albedo
        if wanted.depth_variance:
            features["moments"] = _moments(rays, samples)
        if wanted.regions is not None:
            features |= wanted.regions.marks(points, shares)
        widths = [feature.shape[1] for feature in features.values()]
        columns = torch.cat(list(features.values()), dim=-1)
        image = composite(density, columns, samples, backend=self.config.backend)
        result |= dict(zip(features, image.features.split(widths, dim=-1), strict=True))
        if wanted.depth_variance:
            result["depth_variance"] = _variance(result.pop("moments"), image.alpha)
        return result | {"alpha": image.alpha, "depth": image.depth}

    def _evaluate(
        self, points: Float[Tensor, "samples 3"], regions: Regions | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return density and albedo of what is shown, and the objects' shares where known."""
        scene = self.shown(regions)
        if regions is not None and isinstance(scene, ComposedField):
            return scene.of_objects(points)
        density, albedo = scene.density_and_color(points)
        return _of_shown(density, points, regions), albedo, None

    def _march(self, rays: Rays, regions: Regions | None) -> Samples:
        """Return the samples where what is shown may be; there is always at least one."""
        samples = march(
            rays.origins,
            rays.directions,
            self.occupancy.binary,
            half_extent=self.scene.half_extent,
            step_size=self.step_size,
            jitter=rays.jitter,
            backend=self.config.backend,
        )
        if _hides_some(regions) and not isinstance(self.scene, ComposedField):
            points = samples.points(rays.origins, rays.directions)
            samples = samples.keep(regions.presence(points) > UNSEEN)
        return samples if len(samples) else one_empty_sample(samples)

    @torch.no_grad()
    def _hidden(
        self, rays: Rays, samples: Samples, regions: Regions | None
    ) -> Bool[Tensor, " samples"]:
        """Return which samples are hidden, from a pass that evaluates only the density."""
        return is_hidden(
            self._density(samples.points(rays.origins, rays.directions), regions), samples
        )

    def _density(
        self, points: Float[Tensor, "samples 3"], regions: Regions | None
    ) -> Float[Tensor, " samples"]:
        """Return the density of what is shown, without colours."""
        scene = self.shown(regions)
        density = scene.density(points)
        return density if isinstance(scene, ComposedField) else _of_shown(density, points, regions)

    def _normals(
        self, points: Tensor, density: Tensor, rays: Rays, samples: Samples, wanted: Wanted
    ) -> tuple[Tensor, Tensor]:
        """Return the samples' normals [N 3] (zero for light ones) and the rays' orientation [R].

        Gradients: through the normals only.
        """
        with torch.no_grad():
            nothing = torch.zeros_like(points[:, :1])
            weights = composite(density, nothing, samples, backend=self.config.backend).weights
            heavy = torch.nonzero(weights > NORMAL_WEIGHT)[:, 0]
            ray_index = samples.ray_index[heavy]
        normal = self.shown(wanted.regions).normal(points[heavy])
        away = (normal * rays.directions[ray_index]).sum(-1).clamp(min=0)
        orientation = torch.zeros_like(rays.origins[:, 0])
        orientation = orientation.index_add(0, ray_index, weights[heavy] * away.square())
        return torch.zeros_like(points).index_copy(0, heavy, normal), orientation


def build(config: Config, field: Any, generator: torch.Generator | None = None) -> VolumeRenderer:
    """Make the renderer; `generator` (CPU) draws the initial background network.

    Raises:
        InputError: the representation is no field.
    """
    if not isinstance(field, Field):
        raise InputError(
            f"the renderer volume cannot draw a {type(field).__name__}, which has no density.",
            "use a field such as hashgrid, or the renderer mesh.",
        )
    return VolumeRenderer(config, field, generator)


def _of_shown(
    density: Float[Tensor, " samples"],
    points: Float[Tensor, "samples 3"],
    regions: Regions | None,
) -> Float[Tensor, " samples"]:
    """Return the density of the objects that are shown."""
    return density * regions.presence(points) if _hides_some(regions) else density


def _hides_some(regions: Regions | None) -> TypeGuard[Regions]:
    """Return whether there are objects that are not shown."""
    return regions is not None and not regions.is_whole


def _pack(
    origins: Float[Tensor, "batch height width 3"],
    directions: Float[Tensor, "batch height width 3"],
    generator: torch.Generator | None,
) -> Rays:
    """Put the rays of all views one after the other, with jitter if there is a generator."""
    num_views, height, width = directions.shape[:3]
    views = torch.arange(num_views, device=directions.device).repeat_interleave(height * width)
    jitter = None
    if generator is not None:
        jitter = torch.rand(len(views), generator=generator).to(directions)
    return Rays(origins.reshape(-1, 3), directions.reshape(-1, 3), views, jitter)


def _lit_by_depth(
    origins: Tensor, directions: Tensor, images: dict[str, Tensor], shading: Shading
) -> dict[str, Tensor]:
    """Return the opacity-weighted normals, and the color lit by them."""
    alpha = images["alpha"]
    normal = depth_normals(origins, directions, alpha, images["depth"])
    color = shade(images["color"], normal, shading, white=alpha)
    return {"normal": alpha * normal, "color": color}


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
