"""Analytic representations: densities with a soft edge around signed distances, known colours."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dreamlab.core.cameras import Cameras, turntable_cameras
from dreamlab.core.mesh import Mesh
from dreamlab.ops.volume.surface import extract_surface
from dreamlab.ops.volume.threshold import SilhouetteReference

Distance = Callable[[Tensor], Tensor]

EXTRAS = {"prompt": "A red statue!", "seed": 7, "config_hash": "0123abcd"}
"""Provenance of the exported test model."""


@dataclass
class SoftShape:
    """density = peak * sigmoid(-distance / softness), so it is peak / 2 on the surface."""

    distance: Distance
    color: Callable[[Tensor], Tensor]
    peak: float = 400.0
    softness: float = 0.01
    half_extent: float = 1.0

    def density(self, points: Tensor) -> Tensor:
        return self.peak * torch.sigmoid(-self.distance(points) / self.softness)

    def density_grid(self, resolution: int) -> Tensor:
        axis = torch.linspace(-self.half_extent, self.half_extent, resolution)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        return self.density(points.reshape(-1, 3)).reshape(points.shape[:3])

    def color_at(self, points: Tensor) -> Tensor:
        return self.color(points)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {}

    def set_progress(self, progress: float) -> None: ...

    def regularisers(self) -> dict[str, Tensor]:
        return {}

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state_dict: dict) -> None: ...

    def surface(self, threshold: float, resolution: int) -> Mesh:
        """Extract the surface: for tests of what comes after it."""
        return extract_surface(self.density_grid(resolution), threshold, self.half_extent)


def octant_color(points: Tensor) -> Tensor:
    """Dark or bright in each channel by the sign of x, y, z: eight colours."""
    return torch.where(points > 0, 0.9, 0.2)


def ball(radius: float = 0.6, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Distance:
    return lambda p: (p - torch.tensor(center)).norm(dim=-1) - radius


def torus(radius: float = 0.55, tube: float = 0.2) -> Distance:
    def distance(p: Tensor) -> Tensor:
        ring = p[:, :2].norm(dim=-1) - radius
        return torch.stack([ring, p[:, 2]], dim=-1).norm(dim=-1) - tube

    return distance


def union(*shapes: Distance) -> Distance:
    return lambda p: torch.stack([shape(p) for shape in shapes]).amin(dim=0)


def statue() -> Distance:
    """A body with a nose on +x and an ear on +y: no rotation leaves it unchanged."""
    return union(
        ball(0.5), ball(0.2, (0.55, 0.0, 0.1)), ball(0.12, (0.0, 0.55, 0.2)), ball(0.3, (0, 0, 0.5))
    )


def views(num_views: int = 8) -> Cameras:
    return turntable_cameras(num_views, elevation=20.0, distance=3.0, fov_y=42.0)


def render_alpha(shape: SoftShape, cameras: Cameras, size: int, samples: int = 96) -> Tensor:
    """Integrate the density along the rays."""
    origins, directions = cameras.rays(size, size)
    t = torch.linspace(1.3, 4.7, samples)
    views = []
    for origin, direction in zip(origins, directions, strict=True):
        points = origin[..., None, :] + direction[..., None, :] * t[:, None]
        density = shape.density(points.reshape(-1, 3)).reshape(points.shape[:-1])
        density = density * (points.abs() <= shape.half_extent).all(dim=-1)
        views.append(1 - torch.exp(-density.sum(dim=-1) * (t[1] - t[0])))
    return torch.stack(views)[..., None]


def reference_of(shape: SoftShape, size: int = 64) -> SilhouetteReference:
    cameras = views()
    return SilhouetteReference(cameras, render_alpha(shape, cameras, size))
