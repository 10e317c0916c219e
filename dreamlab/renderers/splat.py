"""Rendering of Gaussians: project, splat, and the rest as other renderers do.

Colour, depth and, where asked for, normals and squared depth are features of the Gaussians. A
normal is the Gaussian's shortest axis, turned to the camera. Depth is the distance to the mean, not
normalised. A Gaussian belongs to the object of a layout that its mean belongs to, or to its owner
if it has one.

Source: Kerbl et al. 2023 (3D Gaussian splatting); normals as in Guédon and Lepetit 2024 (SuGaR).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Splats, Splatted
from dreamlab.core.regions import Regions
from dreamlab.core.render import Render
from dreamlab.ops.splat.project import Projected, project, rotation_matrices
from dreamlab.ops.splat.splat import splat
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.base import RendererBase
from dreamlab.renderers.median_depth import depth_bins, median_of_bins
from dreamlab.renderers.shading import Shading, shade

EMPTY_ALPHA = 1e-5
"""Opacity below which a ray has no meaningful depth variance."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the splatting renderer."""

    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    """What is behind the object."""
    backend: Literal["auto", "reference", "warp", "gsplat"] = "auto"
    """Which kernels splat."""


class SplatRenderer(RendererBase[Splatted]):
    """Renders `Splatted` objects."""

    def __init__(
        self, config: Config, gaussians: Splatted, generator: torch.Generator | None = None
    ) -> None:
        """Build the renderer; `generator` (CPU) draws the initial background network."""
        super().__init__(gaussians, config.background, generator)
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
            training: draw backgrounds, keep gradients, and let the Gaussians observe theirs.
            generator: CPU generator, needed in training.
            background: colours instead of the renderer's own, sRGB, broadcast over the images.
            normals: also return `normal` and `orientation` (zero).
            albedo: also return `albedo`.
            depth_variance: also return `depth_variance`.
            regions: boxes of a layout: also return `regions`, `excess` and `shown`, and draw the
                shown objects alone.

        Gradients: all images to the Gaussians, rgb and albedo to the background.
        """
        normals = normals or shading.needs_normals
        with torch.set_grad_enabled(training and torch.is_grad_enabled()):
            directions = cameras.rays(height, width)[1]
            behind = self.behind(directions, background, generator=generator, training=training)
            scene, backend = self.shown(regions), self.config.backend
            s = _of_shown(scene.splats(), regions)
            projected = self._project(s, cameras, height, width)
            if projected.mean.requires_grad:
                _report(projected, scene, height)
            normal = _normals(s, cameras) if normals else None
            unlit = s.colors_from(cameras.position.to(s.means))
            color = unlit if normal is None else shade(unlit, normal, shading)
            features = {"color": color, "depth": projected.distance[..., None]}
            if albedo:
                features["albedo"] = unlit
            if normal is not None:
                features["normal"] = normal
            if depth_variance:
                features["square"] = projected.distance[..., None].square()
            if regions is not None:
                shares = None if s.owner is None else regions.shares_of(s.owner)
                marks = regions.marks(s.means, shares)
                features |= {n: mark.expand(len(cameras), -1, -1) for n, mark in marks.items()}
            widths = [feature.shape[-1] for feature in features.values()]
            columns = torch.cat(list(features.values()), dim=-1)
            picture, alpha = splat(projected, columns, height, width, backend=backend)
            images = dict(zip(features, picture.split(widths, dim=-1), strict=True))
            beyond = (1 - alpha) * behind
            return Render(
                rgb=images["color"] + beyond,
                alpha=alpha,
                depth=images["depth"],
                normal=images.get("normal"),
                albedo=images["albedo"] + beyond if albedo else None,
                regions=images.get("regions"),
                excess=images.get("excess"),
                shown=None if regions is None else regions.shown,
                depth_variance=_variance(images, alpha) if depth_variance else None,
                orientation=torch.zeros_like(alpha) if normals else None,
            )

    @torch.no_grad()
    def median_depth(
        self, cameras: Cameras, height: int, width: int, *, regions: Regions | None = None
    ) -> Float[Tensor, "batch height width 1"]:
        """Return the median distance along each pixel's ray; see `renderers.median_depth`."""
        s = _of_shown(self.shown(regions).splats(), regions)
        projected = self._project(s, cameras, height, width)
        bins = depth_bins(projected.distance, projected.is_visible)
        return median_of_bins(*splat(projected, bins, height, width, backend=self.config.backend))

    def _project(self, s: Splats, cameras: Cameras, height: int, width: int) -> Projected:
        geometry = (s.means, s.quaternions, s.scales, s.opacities)
        projected = project(*geometry, cameras, height, width, backend=self.config.backend)
        if s.shapes is None:
            return projected
        return replace(projected, shape=s.shapes.expand(len(cameras), -1))


def _of_shown(splats: Splats, regions: Regions | None) -> Splats:
    """Return the Gaussians with the opacity that they have where some objects alone are shown.

    Those with owners are of no others.
    """
    if regions is None or regions.is_whole or splats.owner is not None:
        return splats
    return replace(splats, opacities=splats.opacities * regions.presence(splats.means))


def _report(projected: Projected, gaussians: Splatted, height: int) -> None:
    """Tell the Gaussians, when it is known, how long dL/dmean is, in picture heights."""

    def tell(gradient: Tensor) -> None:
        length = (gradient * height).norm(dim=-1) * projected.is_visible
        gaussians.observe(length.sum(dim=0), projected.is_visible.any(dim=0))

    projected.mean.register_hook(tell)


def _normals(s: Splats, cameras: Cameras) -> Float[Tensor, "batch gaussians 3"]:
    """Return the shortest axis of every Gaussian, turned to each camera."""
    shortest = s.scales.argmin(dim=1)
    axis = rotation_matrices(s.quaternions)[torch.arange(len(shortest)), :, shortest]
    toward = cameras.position[:, None] - s.means[None]
    facing = (axis[None] * toward).sum(dim=-1, keepdim=True)
    return torch.where(facing < 0, -axis, axis)


def _variance(images: dict[str, Tensor], alpha: Tensor) -> Tensor:
    mean, square = (images[n] / alpha.clamp(min=EMPTY_ALPHA) for n in ("depth", "square"))
    return (square - mean.square()).clamp(min=0)


def build(
    config: Config, gaussians: Any, generator: torch.Generator | None = None
) -> SplatRenderer:
    """Make the renderer; `generator` (CPU) draws the initial background network.

    Raises:
        InputError: the representation has no Gaussians.
    """
    if not isinstance(gaussians, Splatted):
        raise InputError(
            f"the renderer splat cannot draw a {type(gaussians).__name__}, which has no Gaussians.",
            "use the representation gaussians, or another renderer.",
        )
    return SplatRenderer(config, gaussians, generator)
